"""Deciding from the screen: a verdict holds for the gate exactly as it was shown, or not at all."""

from karkas.policies.actions import Digest
from karkas.policies.errors import VerdictError
from karkas.policies.verdicts import Verdict
from karkas.project import Project
from karkas.queue.standing import sight_of
from karkas.storage import Gate


def decide(project: Project, gate: str, sight: Digest, verdict: Verdict, *, by: str) -> Gate:
    """Records the verdict where the gate is as it was shown; else `VerdictError`, which says what became of it.

    What a gate shows is under its seal and does not change; its status does, and storage lets only one decider win.
    """
    now = project.store.gates.get(gate)
    if now.status.waits and sight_of(now) != sight:
        raise VerdictError(
            f"gate {now.id} changed since it was shown ({changed(now)}), so nothing was decided; read it again"
        )
    return project.store.gates.decide(now.id, verdict, by=by)


def changed(gate: Gate) -> str:
    """What became of a gate meanwhile, by whom and when."""
    by = f" by {gate.decided_by}" if gate.decided_by else ""
    at = f" at {gate.decided_at.astimezone():%H:%M:%S}" if gate.decided_at else ""
    return f"{gate.status}{by}{at}"
