"""`karkas queue list`: what waits, line by line, and what was decided."""

from typing import TYPE_CHECKING

from karkas.cli import gateview, screen
from karkas.policies.gates import GateStatus

if TYPE_CHECKING:
    from karkas.project import Project

LAST = 200
"""Decided gates and expired ones that are listed, the newest first; `--json --all` gives every gate."""


def print_list(
    project: "Project", *, zone: str | None = None, everything: bool = False, json: bool = False
) -> None:
    """Lines are read without proving their gates, many at once; what `--json` gives was proven, each gate."""
    store = project.store
    store.gates.wake_due()
    if zone is not None:
        project.zone(zone)
    if json:
        status = None if everything else [one for one in GateStatus if one.waits]
        gates = store.gates.list(status=status, zone=zone)
        screen.as_json([gateview.as_json(project, gate) for gate in gates])
        return
    now = store.clock()
    rows = [gateview.waiting_row(project, line, now) for line in store.waiting.lines(zone=zone)]
    decided = store.waiting.decided(zone=zone, limit=LAST) if everything else []
    rows += [gateview.decided_row(project, line) for line in decided]
    if not rows:
        there = f" in zone {zone}" if zone else ""
        screen.say(f"there are no gates{there}" if everything else f"nothing waits for you{there}")
    else:
        screen.table(gateview.COLUMNS, rows)
        if len(decided) == LAST:
            screen.say(f"of what was decided, the last {LAST}; karkas queue list --all --json has every gate")
        screen.say("karkas queue show GATE has all that you need to decide")
    for gate, run in store.waiting.expired(limit=LAST):
        screen.say(f"gate {gate} expired; its run goes on by: karkas runs resume {run}")
