"""Gates: what waits at them, how they stand, what policy said there, and what a critic reported."""

from enum import StrEnum
from typing import NewType

from pydantic import BaseModel, ConfigDict

from karkas.policies.actions import Digest, Evidence, digest_of
from karkas.policies.approvals import FEWEST

GateId = NewType("GateId", str)

POLICY_VERSION: Digest = digest_of({"policy": "karkas", "version": 3})
"""Bound by every permit: change `version` whenever a rule in this folder changes what may pass."""


class GateKind(StrEnum):
    """What a gate waits for: a verdict on an action, a frame, an answer, or what became of a crashed action."""

    ACTION = "action"
    FRAME = "frame"
    QUESTION = "question"
    OUTCOME = "outcome"


class GateStatus(StrEnum):
    """`open` and `deferred` wait; `passed`, `rejected` and `answered` were decided; the rest is the system's."""

    OPEN = "open"
    DEFERRED = "deferred"
    PASSED = "passed"
    REJECTED = "rejected"
    ANSWERED = "answered"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    STALE = "stale"
    CANCELLED = "cancelled"

    @property
    def waits(self) -> bool:
        return self in {GateStatus.OPEN, GateStatus.DEFERRED}


class PolicyVerdict(StrEnum):
    """What policy lets happen to a proposal; a later member is stricter."""

    ALLOW = "allow"
    PROPOSE = "propose"
    DRAFT = "draft"
    DENY = "deny"


class Hold(StrEnum):
    """What keeps a proposal from being done without a person."""

    LEVEL = "level"
    GROUND = "ground"
    FRAME = "frame"
    TOOL = "tool"
    EFFECT = "effect"
    MODEL = "model"
    """A value that a model composed."""
    ORIGIN = "origin"
    """A value from an untrusted source, or from nowhere that was found."""


class PolicyDecision(BaseModel):
    """The strictest verdict that any rule gave, and what every rule said."""

    model_config = ConfigDict(frozen=True)

    verdict: PolicyVerdict
    reasons: tuple[str, ...]
    approvers: int = FEWEST
    """How many different people must pass it: the most that any zone touched asks for."""
    holds: tuple[Hold, ...] = ()
    """Of what kind the reasons against `allow` are."""


class CriticStatus(StrEnum):
    """What a critic's pass came to. Only `passed` releases anything; every other one leaves it to a person."""

    PASSED = "passed"
    OBJECTED = "objected"
    UNSURE = "unsure"
    REFUSED = "refused"
    ERROR = "error"


class CriticFinding(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    quote: str = ""
    """Words of the shown text, where it named some that stand there."""
    evidence: tuple[Evidence, ...] = ()


class CriticReport(BaseModel):
    """A critic's verdict on exactly the actions with these digests. `critic` names agent and engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    critic: str
    status: CriticStatus
    digests: tuple[Digest, ...]
    reason: str
    findings: tuple[CriticFinding, ...] = ()
