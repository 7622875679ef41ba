"""The ledger: permits, each for one action, once, and what became of it."""

from collections.abc import Iterator
from dataclasses import InitVar, dataclass
from datetime import datetime
from typing import Any, final

from pydantic import BaseModel, ConfigDict, JsonValue
from sqlmodel import col, select

from karkas.policies.actions import Action, Digest
from karkas.policies.errors import PermitError
from karkas.policies.gates import GateId
from karkas.policies.permits import Binding, LedgerError, PermitId, PermitStatus, step
from karkas.storage.audit import newest
from karkas.storage.decisions import Gate, permit_terms, read_gate, signed_decision, stored_actions
from karkas.storage.grants import NOUN, Grants
from karkas.storage.grounds import check_run, lapsed, proven_action, unlike_its_last
from karkas.storage.leases import Lease
from karkas.storage.records import SYSTEM, Change, Records, amend, look, look_by
from karkas.storage.runs import RunId
from karkas.storage.tables import GateRow, PermitRow
from karkas.storage.zones import Zones

_MINT = object()


class Permit(BaseModel):
    """`worker` is whoever claimed it last. Times are aware, in UTC."""

    model_config = ConfigDict(frozen=True)

    id: PermitId
    gate: GateId
    run: RunId
    variant: int
    action: Digest
    binding: Binding
    status: PermitStatus
    issued_at: datetime
    changed_at: datetime
    worker: str | None
    claims: int
    result: dict[str, JsonValue] | None
    undo: dict[str, JsonValue] | None
    reason: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A permit in hand: what the tool gateway demands. Only the ledger makes one."""

    permit_id: PermitId
    run: RunId
    gate: GateId
    action: Action
    binding: Binding
    idempotency_key: str
    """The same for every attempt under this permit."""
    claim: int
    again: bool
    """Whether it was begun before, by a worker that died; only an idempotent tool may then begin it again."""
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise PermitError("a claimed permit comes from the ledger alone: `store.ledger.claim(...)`")


class Ledger:
    """`approved → claimed → started → committed | failed | unknown`, each step once.

    Two rules for what a dead worker leaves behind, both under the lease of the run, which proves that it is dead:
    `claimed` means that nothing was begun, so it may be claimed again; `started` means that nobody knows, so it
    goes to a person (`doubt`, then `resolve`), unless the tool is idempotent and gets the same key.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._zones, self._grants = Zones(records), Grants(records)

    def get(self, name: str) -> Permit:
        with self._records.database.read() as session:
            return _permit(look(session, PermitRow, name))

    def for_gate(self, gate: str) -> Permit | None:
        with self._records.database.read() as session:
            row = look_by(session, PermitRow, "gate", gate)
            return None if row is None else _permit(row)

    def lapsed(self, gate: Gate) -> str | None:
        """Why the grant that passed a gate covers it no longer; None where it does, or a person or a critic passed
        it.
        """
        if not (gate.decided_by or "").startswith(f"{NOUN}/"):
            return None
        with self._records.database.read() as session:
            return lapsed(
                self._records, session, signed_decision(self._records, look(session, GateRow, gate.id))
            )

    def in_flight(self, run: str | None = None) -> list[Permit]:
        """Claimed or started and not finished; what a crash leaves behind."""
        query = select(PermitRow).where(
            col(PermitRow.status).in_([PermitStatus.CLAIMED.value, PermitStatus.STARTED.value])
        )
        if run is not None:
            query = query.where(PermitRow.run == run)
        with self._records.database.read() as session:
            return [_permit(row) for row in session.exec(query.order_by(col(PermitRow.issued_at)))]

    def claim(self, permit: str, *, worker: str) -> Claimed:
        """Takes the permit, after checking that it is what was decided and signed; only one caller ever gets it."""
        with self._records.change() as change:
            row = look(change.session, PermitRow, permit)
            if row.status != PermitStatus.APPROVED:
                raise PermitError(_became(row))
            action = proven_action(self._records, change, row)
            self._take(change, row, worker=worker)
            return _claimed(row, action, again=False)

    def reclaim(self, permit: str, *, worker: str, lease: Lease, idempotent: bool = False) -> Claimed:
        """Takes over what a dead worker claimed, under the lease of the run.

        A permit that was started already is given out only for a tool that is declared `idempotent`.
        """
        with self._records.change() as change:
            row = look(change.session, PermitRow, permit)
            if not lease.held or lease.run != row.run:
                raise PermitError(f"permit {row.id} can be taken over only under the lease of run {row.run}")
            started = row.status == PermitStatus.STARTED
            if not (row.status == PermitStatus.CLAIMED or (started and idempotent)):
                raise PermitError(_became(row))
            action = proven_action(self._records, change, row)
            self._take(change, row, worker=worker)
            return _claimed(row, action, again=started)

    def start(self, claimed: Claimed) -> Permit:
        """Says that the effect begins now. Raises `PermitError` for a claim that was taken over, or a stopped run."""
        with self._records.change() as change:
            row = look(change.session, PermitRow, claimed.permit_id)
            check_run(change, row)
            before = PermitStatus.STARTED if claimed.again else PermitStatus.CLAIMED
            begun = (row.status, row.claims) == (before, claimed.claim) and amend(
                change.session,
                row,
                "status",
                "claims",
                status=PermitStatus.STARTED.value,
                changed_at=change.now,
            )
            if not begun:
                raise PermitError(_became(row))
            change.note("permit_started", f"permit:{row.id}", actor=row.worker or SYSTEM)
            return _permit(row)

    def commit(
        self,
        permit: str,
        result: dict[str, JsonValue],
        undo: dict[str, JsonValue] | None = None,
        *,
        claim: int | None = None,
    ) -> Permit:
        """Records that the effect happened. `result` and `undo` are small; what is large stands there by hash.

        Raises `PermitError`, as `fail` and `doubt` do, where it was taken over since it was given out as `claim`: how
        it ended is for that one to say.
        """
        with self._records.change() as change:
            row = look(change.session, PermitRow, permit)
            return self._step(change, row, PermitStatus.COMMITTED, claim=claim, result=result, undo=undo)

    def fail(self, permit: str, error: str, *, claim: int | None = None) -> Permit:
        """Records that the effect did not happen."""
        with self._records.change() as change:
            row = look(change.session, PermitRow, permit)
            return self._step(change, row, PermitStatus.FAILED, claim=claim, reason=error)

    def doubt(self, permit: str, reason: str, *, claim: int | None = None) -> Permit:
        """Records that nobody knows whether the effect happened; a person resolves it. Where no person had passed its
        gate, its zones leave autonomy, and the grant that passed it ends.
        """
        with self._records.change() as change:
            row = look(change.session, PermitRow, permit)
            doubtful = self._step(change, row, PermitStatus.UNKNOWN, claim=claim, reason=reason)
            self._mishap(change, row, "ended in doubt")
            return doubtful

    def void(self, permit: str, reason: str) -> Permit:
        """Ends a permit that was not begun, for instance because what it bound is stale."""
        with self._records.change() as change:
            row = look(change.session, PermitRow, permit)
            return self._step(change, row, PermitStatus.VOID, reason=reason)

    def resolve(self, permit: str, *, committed: bool, by: str, reason: str) -> Permit:
        """A person's word on what became of a permit in doubt."""
        if not by.strip() or not reason.strip():
            raise PermitError(
                "resolving a permit in doubt needs a person's name and a reason, for the record"
            )
        with self._records.change() as change:
            row = look(change.session, PermitRow, permit)
            after = PermitStatus.COMMITTED if committed else PermitStatus.FAILED
            return self._step(change, row, after, reason=reason, actor=by, doubtful=True)

    def begin_undo(self, permit: str, *, by: str) -> tuple[Action, dict[str, JsonValue]]:
        """A person's act: the action of a committed permit, and what its tool recorded to take it back; given once.

        Both come from what was signed. Raises `PermitError` where there is nothing to take back, or it was begun.
        """
        with self._records.change() as change:
            row = look(change.session, PermitRow, permit)
            committed = change.audit.proven(change.session, f"permit:{row.id}", "permit_committed")
            record = committed.get("undo") if isinstance(committed, dict) else None
            if row.status != PermitStatus.COMMITTED or not isinstance(record, dict):
                raise PermitError(f"there is nothing under permit {row.id} that can be taken back")
            last = newest(change.session, f"permit:{row.id}", "undo_")
            if last is not None and not (last.event == "undo_failed" and change.audit.wrote(last)):
                raise PermitError(
                    f"permit {row.id}: taking it back was begun already ({last.event} by {last.actor}); look how it"
                    " stands"
                )
            gate_row = look(change.session, GateRow, row.gate)
            decision = signed_decision(self._records, gate_row)
            if decision is None or decision["permit"] != permit_terms(row):
                raise PermitError(
                    f"permit {row.id} is not the one that was signed when gate {row.gate} passed; `karkas audit verify`"
                )
            gate = read_gate(self._records, gate_row)
            action = stored_actions(self._records.artifacts, gate).variants[row.variant].action
            change.note("undo_begun", f"permit:{row.id}", actor=by)
            return action, record

    def end_undo(self, permit: str, *, by: str, done: str = "", error: str = "") -> tuple[str, ...]:
        """Records how taking it back ended: with an `error` nothing was changed, and it may be tried again.

        Where no person had passed its gate, its zones leave autonomy, and the grant that passed it ends; returns what
        came of that, in words.
        """
        with self._records.change() as change:
            row = look(change.session, PermitRow, permit)
            data: dict[str, JsonValue] = {"error": error} if error else {"done": done}
            change.note("undo_failed" if error else "undo_done", f"permit:{row.id}", actor=by, data=data)
            return () if error else self._mishap(change, row, f"was taken back by {by}")

    def _mishap(self, change: Change, row: PermitRow, how: str) -> tuple[str, ...]:
        """What let an action pass that no person had looked at, and that went wrong, lets no other one pass."""
        gate = read_gate(self._records, look(change.session, GateRow, row.gate))
        if gate.verdict is not None:
            return ()
        why = f"the action of gate {gate.id}, which no person had looked at, {how}"
        ended = [
            f"zone {zone} is out of autonomy"
            for zone in gate.zones
            if self._zones.fall(change, zone, why=why)
        ]
        if self._grants.withdraw(change, gate, why=why):
            ended.append(f"{gate.decided_by} is revoked")
        return tuple(ended)

    def breaks(self) -> Iterator[str]:
        """Names every permit that is not as it was signed, or whose use is on the record and not in its row."""
        with self._records.database.read() as session:
            for row, gate in session.exec(
                select(PermitRow, GateRow).where(col(PermitRow.gate) == col(GateRow.id))
            ):
                decision = signed_decision(self._records, gate)
                if decision is None or (decision["permit"], decision["run"]) != (permit_terms(row), row.run):
                    yield f"permit {row.id}: it is not the one that was signed when gate {gate.id} passed"
                elif other := unlike_its_last(self._records, session, row):
                    yield f"permit {row.id}: {other}"

    def _take(self, change: Change, row: PermitRow, *, worker: str) -> None:
        """One conditional UPDATE: of several workers, one gets the permit."""
        after = PermitStatus.CLAIMED if row.status == PermitStatus.APPROVED else PermitStatus(row.status)
        event = "permit_claimed" if row.status == PermitStatus.APPROVED else "permit_reclaimed"
        taken = amend(
            change.session,
            row,
            "status",
            "claims",
            status=after.value,
            worker=worker,
            claims=row.claims + 1,
            changed_at=change.now,
        )
        if not taken:
            raise PermitError(_became(row))
        change.note(event, f"permit:{row.id}", actor=worker, data={"action": row.action, "claim": row.claims})

    def _step(
        self,
        change: Change,
        row: PermitRow,
        after: PermitStatus,
        *,
        reason: str = "",
        actor: str = SYSTEM,
        doubtful: bool = False,
        claim: int | None = None,
        **outcome: Any,
    ) -> Permit:
        if claim is not None and row.claims != claim:
            raise PermitError(f"{_became(row)}: it was taken over from here, so nothing is said of it here")
        # Out of doubt there are the same steps as out of `started`, but only a person takes them.
        if (row.status == PermitStatus.UNKNOWN) is not doubtful:
            raise LedgerError(f"{_became(row)}; it cannot become {after} so")
        try:
            status = step(PermitStatus(row.status), after)
        except LedgerError as error:
            raise LedgerError(f"{_became(row)}: {error}") from error
        values = {"status": status.value, "reason": reason, "changed_at": change.now, **outcome}
        if not amend(change.session, row, "status", "claims", **values):
            raise LedgerError(_became(row))
        data: dict[str, JsonValue] = {"reason": reason, **outcome}
        change.note(f"permit_{after}", f"permit:{row.id}", actor=actor, data=data)
        return _permit(row)


def _became(row: PermitRow) -> str:
    worker = f" by {row.worker}" if row.worker else ""
    why = f" ({row.reason})" if row.reason else ""
    return f"permit {row.id} is {row.status}{worker} since {row.changed_at:%F %H:%M:%S} UTC{why}"


def _claimed(row: PermitRow, action: Action, *, again: bool) -> Claimed:
    return Claimed(
        permit_id=PermitId(row.id),
        run=RunId(row.run),
        gate=GateId(row.gate),
        action=action,
        binding=Binding.model_validate(row.binding),
        idempotency_key=f"karkas-{row.id}",
        claim=row.claims,
        again=again,
        mint=_MINT,
    )


def _permit(row: PermitRow) -> Permit:
    return Permit.model_validate(row, from_attributes=True)
