"""Settling a gate within a transaction: that it still waits, who won, the signed record, the permit."""

import json
from typing import Any

from pydantic import JsonValue

from karkas.policies.actions import canonical
from karkas.policies.errors import VerdictError
from karkas.policies.gates import GateStatus
from karkas.policies.permits import PermitStatus
from karkas.storage.audit import newest
from karkas.storage.decisions import (
    TAMPERED,
    Gate,
    ShownVariant,
    approval_signatures,
    decision_of,
    read_gate,
)
from karkas.storage.endings import WAITING, wake
from karkas.storage.records import SYSTEM, Change, Records, amend, made, put
from karkas.storage.tables import WAITED_FOR, GateRow, PermitRow

WAITS = {"gate_opened", "gate_reopened", "gate_approved"}
"""The last on the record of a gate that is open."""


def settle(
    records: Records,
    change: Change,
    row: GateRow,
    status: GateStatus,
    *,
    verdict: dict[str, JsonValue] | None,
    by: str,
    reason: str,
    **also: Any,
) -> None:
    """The one place at which a gate is decided: one conditional UPDATE, so that only one decider wins. It sets `also`
    these columns.
    """
    # Writers are serialised already; the condition holds even where that is broken from outside.
    settled = row.status in WAITING and amend(
        change.session,
        row,
        "status",
        status=status.value,
        decided_at=change.now,
        decided_by=by,
        verdict=verdict,
        reason=reason,
        deferred_until=None,
        **also,
    )
    if not settled:
        raise VerdictError(meanwhile(read_gate(records, row)))
    if not status.waits:
        wake(change, row.run, priority=WAITED_FOR)


def issue(
    records: Records,
    change: Change,
    row: GateRow,
    variant: ShownVariant,
    index: int,
    *,
    verdict: JsonValue,
    batch: JsonValue = None,
) -> None:
    """Signs the decision together with the one permit that it issues."""
    permit = made(
        PermitRow,
        gate=row.id,
        run=row.run,
        variant=index,
        action=variant.digest,
        binding=variant.binding.model_dump(mode="json"),
        status=PermitStatus.APPROVED.value,
        issued_at=change.now,
        changed_at=change.now,
    )
    sign(records, change, row, verdict=verdict, permit=permit, batch=batch)
    put(change.session, permit)
    data: dict[str, JsonValue] = {"gate": row.id, "action": permit.action, "binding": permit.binding}
    change.note("permit_issued", f"permit:{permit.id}", actor=row.decided_by or SYSTEM, data=data)


def sign(
    records: Records,
    change: Change,
    row: GateRow,
    *,
    verdict: JsonValue,
    permit: PermitRow | None = None,
    batch: JsonValue = None,
) -> None:
    decision = decision_of(row, verdict=verdict, permit=permit, batch=batch)
    text = canonical(decision)
    amend(change.session, row, decision=text.decode(), signature=records.key.sign(text))


def summary(row: GateRow, verdict: JsonValue) -> dict[str, JsonValue]:
    return {
        "status": row.status,
        "verdict": verdict,
        "proposal": row.facts.get("proposal"),
        "signature": row.signature,
    }


def still_waits(change: Change, gate: Gate, row: GateRow) -> None:
    """`VerdictError` unless the gate can be decided now, by its row and by the record."""
    if not gate.status.waits:
        raise VerdictError(meanwhile(gate))
    if not waits_on_record(change, row):
        raise VerdictError(f"gate {gate.id} was decided or closed before: {TAMPERED}")
    if gate.expires_at is not None and gate.expires_at <= change.now:
        raise VerdictError(
            f"gate {gate.id} expired at {gate.expires_at:%F %H:%M} UTC; nothing can be decided any more"
        )


def waits_on_record(change: Change, row: GateRow) -> bool:
    """Whether the last on the record is that the gate waits, with just the approvals that it has; one that was set
    back by hand has another.
    """
    subject = f"gate:{row.id}"
    approved = change.audit.proven(change.session, subject, "gate_approved")
    if approval_signatures(row) != (approved["approvals"] if isinstance(approved, dict) else []):
        return False
    last = newest(change.session, subject, "gate_")
    if last is None or not change.audit.wrote(last):
        return False
    if row.status == GateStatus.OPEN:
        return last.event in WAITS
    decided = json.loads(last.data)
    return last.event == "gate_decided" and (decided["status"], decided["signature"]) == (
        row.status,
        row.signature,
    )


def put_off_unseen(records: Records, change: Change, row: GateRow) -> str | None:
    """Why it is not proven that nobody put the gate off or decided it before, or None. To be asked before it is passed
    without a person.
    """
    subject = f"gate:{row.id}"
    opened = newest(change.session, subject, "gate_opened")
    last = newest(change.session, subject, "gate_")
    said = f"{opened.hash} {last.hash}" if opened and last else None
    return records.words.unlike(change.session, {subject: said})


def meanwhile(gate: Gate) -> str:
    when = f" at {gate.decided_at:%F %H:%M:%S} UTC" if gate.decided_at else ""
    why = f" ({gate.reason})" if gate.reason else ""
    return f"gate {gate.id} is {gate.status} already: decided by {gate.decided_by or 'nobody'}{when}{why}"
