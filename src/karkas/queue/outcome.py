"""How long a gate waits, and what came of one that was decided."""

from datetime import datetime, timedelta

from karkas.policies.approvals import FEWEST, MOST
from karkas.policies.gates import GateId
from karkas.project import Project
from karkas.storage import Gate

MINUTES, HOURS = 60, 48
ELSEWHERE = "decided and on the record; a worker has the run in hand, and goes on with it by itself"
"""Where a run is not taken up here after a decision, since another process is at work on it."""


def put_off(gate: Gate) -> str | None:
    """Until when a deferred gate is put off, in the person's own time."""
    if gate.status.value != "deferred" or gate.deferred_until is None:
        return None
    return until(gate.deferred_until)


def until(moment: datetime) -> str:
    return f"until {moment.astimezone():%Y-%m-%d %H:%M}"


def so_far(gate: Gate) -> str | None:
    """Where two people decide: who said what, and that another one is needed."""
    if not gate.approvals:
        return None
    said = "; ".join(f"{one.told} by {one.by}" for one in gate.approvals)
    return f"{len(gate.approvals)} of {MOST}: {said}" if gate.status.waits else said


def by_two(gate: Gate) -> bool:
    return gate.policy.approvers > FEWEST or bool(gate.approvals)


def became(project: Project, gate: Gate) -> list[str]:
    """What came of a decided gate: the variant, what its action did, and whether that was taken back."""
    permit = project.store.ledger.for_gate(gate.id)
    if permit is None:
        return []
    which = f"variant {permit.variant + 1}, " if len(gate.variants) > 1 else ""
    shown = (permit.result or {}).get("shown")
    said = [f"{which}{permit.status}", permit.reason, str(shown or "").split("\n", 1)[0]]
    return [one for one in (*said, taken_back(project, gate.id)) if one]


def can_take_back(project: Project, gate: Gate) -> bool:
    permit = project.store.ledger.for_gate(gate.id)
    return permit is not None and permit.undo is not None and taken_back(project, gate.id) is None


def taken_back(project: Project, gate: GateId) -> str | None:
    """Who took back what was performed under the gate, where somebody did."""
    permit = project.store.ledger.for_gate(gate)
    if permit is None:
        return None
    for entry in reversed(project.store.audit.log(subject=f"permit:{permit.id}")):
        if entry.event.startswith("undo_"):
            return f"taken back by {entry.actor}" if entry.event == "undo_done" else None
    return None


def since(waited: timedelta) -> str:
    minutes = int(waited.total_seconds() // 60)
    if minutes < MINUTES:
        return f"{minutes} min"
    if minutes < HOURS * 60:
        return f"{minutes // 60} h"
    return f"{minutes // (24 * 60)} days"
