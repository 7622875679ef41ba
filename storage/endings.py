"""How gates and permits end without a person's verdict on them."""

from pydantic import JsonValue
from sqlalchemy import bindparam, update
from sqlmodel import col, select

from karkas.policies.gates import GateStatus
from karkas.policies.permits import PermitStatus, step
from karkas.policies.runs import RunStatus
from karkas.storage.prepared import Prepared
from karkas.storage.records import SYSTEM, Change
from karkas.storage.tables import UNATTENDED, GateRow, PermitRow, RunRow

WAITING = [status.value for status in GateStatus if status.waits]
_WAKE = Prepared(
    update(RunRow).where(col(RunRow.id) == bindparam("of"), col(RunRow.status) == RunStatus.PARKED.value),
    "due_at",
    "priority",
)
UNUSED = [PermitStatus.APPROVED.value, PermitStatus.CLAIMED.value]


def close_gate(change: Change, row: GateRow, status: GateStatus, *, reason: str, actor: str) -> None:
    """The system's end of a gate. One that was decided keeps its decision on show."""
    if GateStatus(row.status).waits:
        undecide(row)
        row.decided_at, row.decided_by = change.now, actor
    row.status, row.reason = status, reason
    data: dict[str, JsonValue] = {"status": status.value, "reason": reason}
    change.note("gate_closed", f"gate:{row.id}", actor=actor, data=data)
    wake(change, row.run, priority=UNATTENDED)


def undecide(row: GateRow) -> None:
    """A deferral is over: it stays in the audit log, and no longer stands at the gate as a decision."""
    row.verdict = row.decision = row.signature = row.decided_at = row.decided_by = row.deferred_until = None
    row.reason = ""


def void_permit(change: Change, row: PermitRow, *, reason: str, actor: str = SYSTEM) -> None:
    """Raises `LedgerError` for a permit whose action was begun."""
    row.status = step(PermitStatus(row.status), PermitStatus.VOID)
    row.reason, row.changed_at = reason, change.now
    change.note("permit_void", f"permit:{row.id}", actor=actor, data={"reason": reason})


def end_run(change: Change, run: str, *, reason: str, actor: str) -> None:
    """Cancels what a stopped run waits for, and voids its permits that were not begun."""
    for gate in change.session.exec(
        select(GateRow).where(GateRow.run == run, col(GateRow.status).in_(WAITING))
    ):
        close_gate(change, gate, GateStatus.CANCELLED, reason=reason, actor=actor)
    for permit in change.session.exec(
        select(PermitRow).where(PermitRow.run == run, col(PermitRow.status).in_(UNUSED))
    ):
        void_permit(change, permit, reason=reason, actor=actor)


def wake(change: Change, run: str, *, priority: int) -> None:
    """A gate of a parked run waits no longer, so the next worker goes on with it."""
    _WAKE.change(change.session, of=run, due_at=change.now, priority=priority)
