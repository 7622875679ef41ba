"""What stands at a gate, and the seals and signatures that prove it: a row changed by hand releases nothing."""

import json
from datetime import datetime
from typing import Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from karkas.policies.actions import Digest, Effect, Proposal, canonical
from karkas.policies.approvals import Approval
from karkas.policies.errors import AuditError, PermitError
from karkas.policies.gates import CriticReport, GateId, GateKind, GateStatus, PolicyDecision
from karkas.policies.permits import Binding
from karkas.policies.verdicts import Adopt, Choose, GateFacts, Verdict
from karkas.policies.zones import ControlLevel, ZoneName
from karkas.storage.artifacts import Artifacts
from karkas.storage.records import SYSTEM, Records
from karkas.storage.runs import RunId
from karkas.storage.tables import GateRow, PermitRow, storable

DECIDED = {GateStatus.PASSED, GateStatus.REJECTED, GateStatus.ANSWERED}
"""What only a signed decision leads to."""

CLOSED = {GateStatus.EXPIRED, GateStatus.SUPERSEDED, GateStatus.STALE, GateStatus.CANCELLED}
"""What the system may make of a gate, decided or not; none of it releases anything."""

APPROVED = "approved"
"""What the signed yes of one person of two says in place of a status, so that it passes for no decision."""

TAMPERED = "its row was changed outside karkas, so nothing passes at it; `karkas audit verify`"


class ShownVariant(BaseModel):
    """One variant as it stands at a gate: the action's digest, the artifact of the exact text shown, the binding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: Digest
    shown: Digest
    binding: Binding

    @model_validator(mode="after")
    def _binds_itself(self) -> Self:
        if self.binding.action != self.digest or self.binding.shown != self.shown:
            raise ValueError("the binding is of another action, or of another text than the one shown")
        return self


class NewGate(BaseModel):
    """A gate as it is opened. `key` names the point in the run, so that a repeated node opens no second gate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    run: RunId
    lane: str = ""
    """The parallel branch of the run that waits here."""
    kind: GateKind
    zones: tuple[ZoneName, ...] = ()
    level: ControlLevel
    level_why: str = ""
    policy: PolicyDecision
    proposal: Digest | None = None
    """The artifact that holds the `Proposal` as JSON."""
    variants: tuple[ShownVariant, ...] = ()
    critic: CriticReport | None = None
    title: str = ""
    """What it is about, in a few words: enough for a line of a list, and never for a decision."""
    effect: Effect | None = None
    """The gravest that may come of passing an action's gate."""
    prompt: str = ""
    choices: tuple[str, ...] = ()
    detail: dict[str, JsonValue] = {}
    """Small, and for the reader; never documents."""
    expires_at: AwareDatetime | None = None


class Gate(NewGate):
    """A gate as it stands. `reason` is the person's, or the system's where it closed the gate."""

    id: GateId
    status: GateStatus
    opened_at: datetime
    decided_at: datetime | None = None
    decided_by: str | None = None
    verdict: Verdict | None = None
    reason: str = ""
    approvals: tuple[Approval, ...] = ()
    """Where two people are needed: who said yes so far."""
    deferred_until: datetime | None = None
    superseded_by: GateId | None = None

    @property
    def facts(self) -> GateFacts:
        return GateFacts(
            kind=self.kind,
            status=self.status,
            policy=self.policy.verdict,
            variants=len(self.variants),
            choices=self.choices,
        )


def read_gate(records: Records, row: GateRow) -> Gate:
    """The gate of a row. One that karkas did not write so is shown as stale and undecided, whatever the row says."""
    return gate_of(records, row, trusted=intact(records, row))


def gate_of(records: Records, row: GateRow, *, trusted: bool = True) -> Gate:
    """The gate of a row that was written just now."""
    try:
        return Gate.model_validate(
            {
                **row.facts,
                "id": row.id,
                "status": row.status if trusted else GateStatus.STALE,
                "opened_at": row.opened_at,
                "decided_at": row.decided_at,
                "decided_by": row.decided_by if trusted else SYSTEM,
                "verdict": row.verdict if trusted else None,
                "reason": row.reason if trusted else TAMPERED,
                "approvals": approvals_of(records, row) or () if trusted else (),
                "deferred_until": row.deferred_until,
                "superseded_by": row.superseded_by,
            }
        )
    except (ValidationError, TypeError) as error:
        raise AuditError(f"gate {row.id} cannot be read: {TAMPERED}") from error


def intact(records: Records, row: GateRow) -> bool:
    """Whether a gate shows what it was opened with, and any decision at it is the one that was signed."""
    if not records.verifies(sealed(row, row.facts), row.seal) or approvals_of(records, row) is None:
        return False
    if not _at_its_times(row):
        return False
    if row.status not in DECIDED and (row.verdict, row.decision, row.signature) == (None, None, None):
        return True
    decision = signed_decision(records, row)
    if decision is None:
        return False
    verdict = decision["verdict"]
    by_nobody = isinstance(verdict, dict) and verdict.get("kind") in {"critic", "grant"}
    now = decision_of(row, verdict=verdict, permit=None)
    return (
        row.verdict == (None if by_nobody else verdict)
        and all(decision[name] == now[name] for name in ("gate", "seal", "run", "by", "at"))
        and decision.get("approvals") == now.get("approvals")
        and (row.status == decision["status"] or row.status in CLOSED)
    )


def _at_its_times(row: GateRow) -> bool:
    """Whether the times that rows are found by are those that were sealed and signed."""
    deferred = row.verdict.get("until") if row.status == GateStatus.DEFERRED and row.verdict else None
    return (row.expires_at, row.deferred_until) == (_moment(row.facts.get("expires_at")), _moment(deferred))


def _moment(text: JsonValue) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def sealed(row: GateRow, facts: JsonValue) -> JsonValue:
    """What a gate shows, from its opening on."""
    return {"id": row.id, "key": row.key, "run": row.run, "kind": row.kind, "facts": facts}


def decision_of(
    row: GateRow, *, verdict: JsonValue, permit: PermitRow | None, batch: JsonValue = None
) -> dict[str, JsonValue]:
    """What is signed when a gate is decided. `seal` stands for all that the gate showed."""
    decision: dict[str, JsonValue] = {
        "gate": row.id,
        "seal": row.seal,
        "run": row.run,
        "status": row.status,
        "by": storable(row.decided_by or ""),
        "at": row.decided_at.isoformat() if row.decided_at else None,
        "verdict": verdict,
        "permit": None if permit is None else permit_terms(permit),
    }
    if row.approvals:
        decision["approvals"] = list(approval_signatures(row))
    if batch is not None:
        decision["batch"] = batch
    return decision


def approved(
    records: Records,
    row: GateRow,
    *,
    verdict: JsonValue,
    by: str,
    at: datetime,
    batch: JsonValue = None,
) -> dict[str, JsonValue]:
    """One person's yes as the row keeps it: the signed text, and its signature."""
    said = decision_of(row, verdict=verdict, permit=None, batch=batch)
    said |= {"status": APPROVED, "by": storable(by), "at": at.isoformat()}
    text = canonical(said).decode()
    return {"said": text, "signature": records.key.sign(text.encode())}


def approval_signatures(row: GateRow) -> list[JsonValue]:
    return [one.get("signature") if isinstance(one, dict) else None for one in row.approvals or []]


def approvals_of(records: Records, row: GateRow) -> tuple[Approval, ...] | None:
    """Who said yes at the gate so far; None where any of it was not signed for just this gate."""
    found: list[Approval] = []
    for one in row.approvals or []:
        kept = one if isinstance(one, dict) else {}
        text, signature = kept.get("said"), kept.get("signature")
        if not isinstance(text, str) or not isinstance(signature, str):
            return None
        if not records.key.verifies(text.encode(), signature):
            return None
        said = json.loads(text)
        if (said["gate"], said["seal"], said["status"]) != (row.id, row.seal, APPROVED):
            return None
        verdict: Verdict = TypeAdapter[Verdict](Verdict).validate_python(said["verdict"])
        found.append(Approval(by=said["by"], at=said["at"], verdict=said["verdict"], told=told(verdict)))
    return tuple(found)


def told(verdict: Verdict) -> str:
    """A verdict in a few words, so that another one is seen to differ."""
    match verdict:
        case Choose(variant=index) | Adopt(variant=index, frame=None):
            return f"{verdict.kind} (variant {index + 1})"
        case Adopt(frame=str(frame)):
            return f"adopt (frame {frame[:12]})"
        case _:
            return verdict.kind


def permit_terms(permit: PermitRow) -> dict[str, JsonValue]:
    return {
        "id": permit.id,
        "variant": permit.variant,
        "action": permit.action,
        "binding": permit.binding,
    }


def signed_decision(records: Records, row: GateRow) -> dict[str, JsonValue] | None:
    """The decision of a gate, where this project's key signed it."""
    if row.decision is None or not records.key.verifies(row.decision.encode(), row.signature):
        return None
    decision: dict[str, JsonValue] = json.loads(row.decision)
    return decision


def stored_actions(artifacts: Artifacts, gate: NewGate) -> Proposal:
    """The stored proposal of an action gate, after checking that its variants are the ones that the gate shows."""
    if gate.proposal is None or not gate.variants:
        raise PermitError("a gate on an action needs a stored proposal and its variants as they are shown")
    try:
        proposal = Proposal.model_validate(artifacts.json(gate.proposal))
    except (ValidationError, ValueError) as error:
        raise PermitError(
            f"artifact {gate.proposal} holds no proposal; store it and open a new gate"
        ) from error
    digests = tuple(variant.action.digest for variant in proposal.variants)
    if digests != tuple(variant.digest for variant in gate.variants):
        raise PermitError("the stored proposal holds other actions than the gate shows; open a new gate")
    return proposal
