"""Lanes: the small part of a graph's state that carries an action or a question from proposal to outcome."""

from enum import StrEnum
from typing import Annotated, Any, NotRequired, TypedDict, cast

from karkas.policies.gates import GateStatus

GATE = "karkas_gate"
"""Key of the gate's id in the value of an interrupt that is karkas's own."""


class OutcomeStatus(StrEnum):
    """What became of an action or a question. The middle ones are the system's, never a person's rejection."""

    COMMITTED = "committed"
    ANSWERED = "answered"
    NOTHING = "nothing"
    """Nothing was proposed."""
    DENIED = "denied"
    """Policy lets nothing of it happen."""
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """It was begun, and nobody has said yet whether it took effect."""

    @classmethod
    def of_gate(cls, status: GateStatus) -> "OutcomeStatus":
        """The outcome of a gate that did not pass."""
        return cls(status.value) if status.value in {one.value for one in cls} else cls.CANCELLED


class Outcome(TypedDict):
    """What a workflow's later nodes read, and the run's result shows."""

    status: str
    """One of `OutcomeStatus`, as its plain value: checkpoints hold plain values only."""
    why: NotRequired[str]
    result: NotRequired[dict[str, Any]]
    gate: NotRequired[str]
    permit: NotRequired[str]
    can_undo: NotRequired[bool]
    answer: NotRequired[str]


class Lane(TypedDict, total=False):
    """Ids and digests only; documents and proposals lie in the artifact store."""

    turn: int
    """Counts the proposals and questions of the lane, so that each has a gate of its own."""
    revisions: int
    stale: int
    """How often in a row what was approved was no longer what would run."""
    proposal: str
    gate: str
    feedback: str
    outcome: Outcome | None


def merge(before: dict[str, Lane], after: dict[str, Lane]) -> dict[str, Lane]:
    """Parallel branches each write their own lane."""
    return {
        **before,
        **{name: cast("Lane", {**before.get(name, Lane()), **lane}) for name, lane in after.items()},
    }


class WorkflowState(TypedDict, total=False):
    """The base of a workflow's state: `class State(WorkflowState): ...` lets its nodes read `outcome(...)`."""

    karkas: Annotated[dict[str, Lane], merge]


def lane_of(state: Any, name: str) -> Lane:
    lane: Lane = (state.get("karkas") or {}).get(name, Lane())
    return lane


def outcome(state: Any, name: str) -> Outcome | None:
    """What became of the action or question `name`, or None while it is open."""
    return lane_of(state, name).get("outcome")


def feedback(state: Any, name: str) -> str:
    """The reason of the rejection that asked for a revision of `name`, or an empty text."""
    return lane_of(state, name).get("feedback", "")


def committed(state: Any, name: str) -> bool:
    """Whether the action `name` was performed (of an exploration's `frame`: whether the person framed the zone)."""
    became = outcome(state, name)
    return became is not None and became["status"] == OutcomeStatus.COMMITTED


def answer(state: Any, name: str) -> str:
    """What the person answered to the question `name`, or an empty text."""
    became = outcome(state, name)
    return became.get("answer", "") if became is not None else ""
