"""A verdict from the command line: recorded, then its run goes on, and what came of it is told."""

from typing import TYPE_CHECKING, Any

from karkas.cli import ending, screen
from karkas.queue.outcome import ELSEWHERE, put_off, so_far
from karkas.storage import LeaseError

if TYPE_CHECKING:
    from karkas.policies.verdicts import Verdict
    from karkas.project import Project
    from karkas.storage import Run

PATIENCE_S = 5.0
"""How long a decision waits for another process to let go of its run, so that it is taken up at once."""


def decide(project: "Project", gate: str, verdict: "Verdict", *, json: bool) -> None:
    from karkas.project import person

    decided = project.store.gates.decide(gate, verdict, by=person())
    told: dict[str, Any] = {"gate": decided.id, "status": decided.status.value, "verdict": verdict.kind}
    if not json:
        until = f" {moment}" if (moment := put_off(decided)) else ""
        if decided.decided_by is None:
            screen.say(f"gate {decided.id}: {so_far(decided)}; another person decides")
        else:
            screen.say(f"gate {decided.id}: {decided.status}{until}, decided by {decided.decided_by}")
    run = project.store.runs.get(decided.run)
    if decided.status.waits or run.status.ended:
        if json:
            screen.as_json(told)
        elif run.status.ended:
            screen.say(f"run {run.id}: {run.status}")
        return
    driven = go_on(project, run, quiet=json)
    if json:
        screen.as_json(told | ({"run": ending.run_json(driven)} if driven else {}))
        if driven is not None:
            ending.leave(driven)
    elif driven is not None:
        ending.tell(project, driven, json=False)


def go_on(project: "Project", run: "Run", *, quiet: bool) -> "Run | None":
    """Advances a run after a decision; None where another process is at work on it, and goes on by itself."""
    try:
        return ending.drive(project, run, quiet=quiet, patience_s=PATIENCE_S)
    except LeaseError:
        if not quiet:
            screen.say(f"run {run.id}: {ELSEWHERE}")
        return None
