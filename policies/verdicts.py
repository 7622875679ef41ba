"""Verdicts: what a person may say at a gate, and what it leads to."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from karkas.policies.actions import Action, Digest
from karkas.policies.approvals import Said
from karkas.policies.errors import VerdictError
from karkas.policies.gates import GateKind, GateStatus, PolicyVerdict


class _Verdict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Approve(_Verdict):
    kind: Literal["approve"] = "approve"


class Choose(_Verdict):
    kind: Literal["choose"] = "choose"
    variant: int = Field(ge=0)


class Edit(_Verdict):
    """Replaces the proposal by a new action, which passes policy, critic and gate again."""

    kind: Literal["edit"] = "edit"
    action: Action


class Adopt(_Verdict):
    """The person becomes the author of a draft, or of a frame. An adopted edit is a new action with its own gate."""

    kind: Literal["adopt"] = "adopt"
    variant: int = Field(default=0, ge=0)
    frame: Digest | None = None
    """The artifact that holds the person's frame, at a gate that frames a zone."""


class Retry(StrEnum):
    NEVER = "never"
    REVISED = "revised"


class Reject(_Verdict):
    kind: Literal["reject"] = "reject"
    reason: Said
    retry: Retry = Retry.NEVER


class Answer(_Verdict):
    kind: Literal["answer"] = "answer"
    text: Said


class Defer(_Verdict):
    kind: Literal["defer"] = "defer"
    until: AwareDatetime


class Stop(_Verdict):
    """Stops the whole run; all its open gates are cancelled."""

    kind: Literal["stop"] = "stop"
    reason: str = ""


Verdict = Annotated[
    Approve | Choose | Edit | Adopt | Reject | Answer | Defer | Stop, Field(discriminator="kind")
]


class GateFacts(BaseModel):
    """What a verdict is checked against."""

    model_config = ConfigDict(frozen=True)

    kind: GateKind
    status: GateStatus
    policy: PolicyVerdict
    variants: int = 0
    choices: tuple[str, ...] = ()
    """The answers that a question accepts; any text where it is empty."""


def possible(gate: GateFacts) -> tuple[str, ...]:
    """The verdicts that a person may give at this gate, in the order in which they are offered."""
    if not gate.status.waits:
        return ()
    match gate.kind:
        case GateKind.ACTION if gate.policy is PolicyVerdict.DENY or gate.variants < 1:
            deciding: tuple[str, ...] = ()
        case GateKind.ACTION if gate.policy is PolicyVerdict.DRAFT:
            deciding = ("adopt", "edit", "reject")
        case GateKind.ACTION:
            deciding = ("approve" if gate.variants == 1 else "choose", "edit", "reject")
        case GateKind.FRAME:
            deciding = ("adopt", "reject")
        case GateKind.QUESTION | GateKind.OUTCOME:
            deciding = ("answer",)
    return (*deciding, "defer", "stop")


def decide(gate: GateFacts, verdict: Verdict) -> GateStatus:
    """The status that a person's verdict leads to, or `VerdictError` with what is possible instead."""
    if not gate.status.waits:
        raise VerdictError(f"the gate is {gate.status} already; nothing more can be decided at it")
    allowed = possible(gate)
    if verdict.kind not in allowed:
        raise VerdictError(f"{verdict.kind!r} is not possible at this gate; possible: {', '.join(allowed)}")
    fault = _fault(gate, verdict)
    if fault is not None:
        raise VerdictError(fault)
    return LEADS_TO[verdict.kind]


LEADS_TO = {
    "approve": GateStatus.PASSED,
    "choose": GateStatus.PASSED,
    "adopt": GateStatus.PASSED,
    "edit": GateStatus.SUPERSEDED,
    "reject": GateStatus.REJECTED,
    "answer": GateStatus.ANSWERED,
    "defer": GateStatus.DEFERRED,
    "stop": GateStatus.CANCELLED,
}


def _fault(gate: GateFacts, verdict: Verdict) -> str | None:
    """What is wrong with a verdict of a possible kind."""
    match verdict:
        case Adopt(frame=None) if gate.kind is GateKind.FRAME:
            return "a frame must be given: `karkas frame ZONE`"
        case Adopt(frame=str()) if gate.kind is not GateKind.FRAME:
            return "this gate is about an action; a frame is adopted with `karkas frame ZONE`"
        case Choose(variant=index) | Adopt(variant=index) if index >= gate.variants and (
            gate.kind is GateKind.ACTION
        ):
            return f"there is no variant {index + 1}; there are {gate.variants}"
        case Answer(text=text) if gate.choices and text not in gate.choices:
            return f"the answer must be one of: {', '.join(gate.choices)}"
        case _:
            return None
