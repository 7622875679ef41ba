"""A person's verdict at a gate, within a transaction: alone, as one of two, or as one of a batch."""

from collections.abc import Sequence

from pydantic import JsonValue

from karkas.policies.actions import Digest, digest_of
from karkas.policies.approvals import FEWEST, most, passes
from karkas.policies.errors import KarkasError, VerdictError
from karkas.policies.gates import GateKind, GateStatus
from karkas.policies.verdicts import Adopt, Approve, Choose, Defer, Stop, Verdict
from karkas.policies.verdicts import decide as decide_by_policy
from karkas.storage.decisions import (
    Gate,
    approval_signatures,
    approved,
    read_gate,
    stored_actions,
    told,
)
from karkas.storage.endings import WAITING, undecide
from karkas.storage.records import Change, Records, amend, find, look
from karkas.storage.runs import RunStatus, move
from karkas.storage.settling import issue, meanwhile, settle, sign, still_waits, summary
from karkas.storage.tables import GateRow, RunRow
from karkas.storage.zones import Zones

Shown = Sequence[tuple[str, Digest]]
"""Gates, each with the digest of the action that was shown there."""


def give(
    records: Records, change: Change, row: GateRow, verdict: Verdict, *, by: str, batch: JsonValue = None
) -> None:
    """Decides the gate, or keeps the verdict as one person's of two. Raises `VerdictError` where it cannot be."""
    before = read_gate(records, row)
    still_waits(change, before, row)
    status = decide_by_policy(before.facts, verdict)
    if isinstance(verdict, Defer) and verdict.until <= change.now:
        raise VerdictError(f"a gate is deferred to a later time, not to {verdict.until:%F %H:%M %Z}")
    if isinstance(verdict, Defer) and before.expires_at is not None and verdict.until >= before.expires_at:
        raise VerdictError(
            f"the gate expires at {before.expires_at:%F %H:%M} UTC, before it would come back; put it off to a time"
            " before that"
        )
    document = verdict.model_dump(mode="json")
    if status is GateStatus.PASSED and not _last_of(records, change, before, verdict, document, by=by):
        _keep(records, change, row, document, by=by, batch=batch)
        return
    settle(records, change, row, status, verdict=document, by=by, reason=getattr(verdict, "reason", ""))
    if isinstance(verdict, Defer):
        row.deferred_until = verdict.until
    if status is GateStatus.PASSED and before.kind is GateKind.ACTION:
        chosen = verdict.variant if isinstance(verdict, Choose | Adopt) else 0
        issue(records, change, row, before.variants[chosen], chosen, verdict=document, batch=batch)
    else:
        sign(records, change, row, verdict=document)
    data = summary(row, document)
    if approvals := approval_signatures(row):
        data["approvals"] = list(approvals)
    if batch is not None:
        data["batch"] = batch
    change.note("gate_decided", f"gate:{row.id}", actor=by, data=data)
    if isinstance(verdict, Stop):
        run = look(change.session, RunRow, row.run)
        if not RunStatus(run.status).ended:
            move(change, run, RunStatus.STOPPED, reason=verdict.reason or f"stopped by {by}", actor=by)


def needed(records: Records, change: Change, gate: Gate) -> int:
    """How many different people pass the gate: what it was opened with, or more where a zone asks for more since."""
    if gate.kind not in {GateKind.ACTION, GateKind.FRAME}:
        return FEWEST
    zones = [Zones(records).within(change.session, name) for name in gate.zones]
    return most((gate.policy.approvers, *(zone.approvers for zone in zones if zone is not None)))


def give_batch(records: Records, change: Change, shown: Shown, *, by: str) -> list[GateRow]:
    """Approves every gate, or none: `VerdictError` names each one that is not as it was shown, or cannot be approved,
    or says that they are not alike.

    Every decision is signed with the whole list.
    """
    listed: list[JsonValue] = [[gate, digest] for gate, digest in shown]
    name = f"b-{digest_of(listed)[:12]}"
    faults: list[str] = []
    rows: list[GateRow] = []
    gates: list[Gate] = []
    for gate, digest in shown:
        try:
            row = _as_shown(records, change, gate, digest, rows)
            gates.append(read_gate(records, row))
            give(records, change, row, Approve(), by=by, batch={"id": name, "shown": listed})
        except KarkasError as error:
            faults.append(f"- {gate}: {error}")
    if faults:
        raise VerdictError("nothing was decided, at none of the gates:\n" + "\n".join(faults))
    check_alike(records, gates)
    change.note("batch_approved", f"batch:{name}", actor=by, data={"shown": listed})
    return rows


def likeness(records: Records, gate: Gate) -> tuple[object, ...]:
    """What the gates of a batch have in common. Raises `PermitError` for one that is not on an action."""
    action = stored_actions(records.artifacts, gate).variants[0].action
    return gate.zones, gate.level, gate.policy.verdict, action.tool, action.effect


def check_alike(records: Records, gates: Sequence[Gate]) -> None:
    """`VerdictError` unless one look is enough to see what all of them are: the same, done several times."""
    first, *others = gates
    for gate in others:
        if likeness(records, gate) != likeness(records, first):
            raise VerdictError(
                f"nothing was decided: gates {first.id} and {gate.id} are not alike (zones, level, verdict of policy,"
                " tool and effect); decide them one by one"
            )


def _as_shown(records: Records, change: Change, gate: str, digest: Digest, before: list[GateRow]) -> GateRow:
    """The row of a gate, after checking that the one action that stands there is the one that was shown."""
    row = find(change.session, GateRow, gate)
    if row.id != gate or row in before:
        raise VerdictError("a batch names each gate once, by its whole id")
    before.append(row)
    found = read_gate(records, row)
    still_waits(change, found, row)
    decide_by_policy(found.facts, Approve())
    if [variant.digest for variant in found.variants] != [digest]:
        raise VerdictError(f"it does not stand there as it was shown (digest {digest[:16]})")
    return row


def _last_of(
    records: Records, change: Change, gate: Gate, verdict: Verdict, document: dict[str, JsonValue], *, by: str
) -> bool:
    people = needed(records, change, gate)
    return passes(gate.approvals, by=by, verdict=document, told=told(verdict), needed=people)


def _keep(
    records: Records,
    change: Change,
    row: GateRow,
    document: dict[str, JsonValue],
    *,
    by: str,
    batch: JsonValue,
) -> None:
    """Signs one person's yes. The gate goes on waiting for another's; one that was put off is open again."""
    signed = approved(records, row, verdict=document, by=by, at=change.now, batch=batch)
    approvals = [*(row.approvals or []), signed]
    if row.status not in WAITING or not amend(change.session, row, "status", approvals=approvals):
        raise VerdictError(meanwhile(read_gate(records, row)))
    undecide(row)
    row.status = GateStatus.OPEN
    data: dict[str, JsonValue] = {
        "verdict": document,
        "proposal": row.facts.get("proposal"),
        "approvals": list(approval_signatures(row)),
    }
    if batch is not None:
        data["batch"] = batch
    change.note("gate_approved", f"gate:{row.id}", actor=by, data=data)
