"""Gates: what waits for a verdict, and the signed record of each decision."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import update
from sqlmodel import col, or_, select

from karkas.policies.actions import canonical
from karkas.policies.errors import PermitError, VerdictError
from karkas.policies.gates import (
    Adopt,
    Choose,
    CriticReport,
    Defer,
    GateKind,
    GateStatus,
    Stop,
    Verdict,
    critic_releases,
)
from karkas.policies.gates import decide as decide_by_policy
from karkas.policies.permits import PermitStatus
from karkas.storage.audit import newest
from karkas.storage.decisions import (
    CLOSED,
    TAMPERED,
    Gate,
    NewGate,
    ShownVariant,
    decision_of,
    intact,
    read_gate,
    seal,
    stored_actions,
)
from karkas.storage.endings import WAITING, close_gate, undecide, void_permit
from karkas.storage.records import SYSTEM, Change, Records, find, fresh_id
from karkas.storage.runs import RunStatus, move
from karkas.storage.tables import GateRow, PermitRow, RunRow


class Gates:
    def __init__(self, records: Records) -> None:
        self._records = records

    def open(self, new: NewGate, *, by: str = SYSTEM) -> Gate:
        """Opens a gate, or returns the one that this key opened before, unchanged.

        Raises `PermitError` where the stored proposal is not what the gate would show.
        """
        with self._records.change() as change:
            row = change.session.exec(select(GateRow).where(GateRow.key == new.key)).first()
            if row is not None:
                return read_gate(self._records, row)
            if new.kind is GateKind.ACTION:
                stored_actions(self._records.artifacts, new)
            run = find(change.session, RunRow, new.run)
            if RunStatus(run.status).ended:
                raise VerdictError(f"run {run.id} is {run.status}; no gate can be opened in it any more")
            row = GateRow(
                id=fresh_id(GateRow),
                key=new.key,
                run=run.id,
                kind=new.kind,
                status=GateStatus.OPEN,
                facts=NewGate.model_validate(new, from_attributes=True).model_dump(mode="json"),
                opened_at=change.now,
                expires_at=new.expires_at,
            )
            seal(self._records, row)
            change.session.add(row)
            change.session.flush()
            data: dict[str, JsonValue] = {
                "kind": new.kind.value,
                "run": run.id,
                "zones": list(new.zones),
                "level": new.level.value,
                "policy": new.policy.verdict.value,
                "proposal": new.proposal,
                "actions": [variant.digest for variant in new.variants],
            }
            change.note("gate_opened", f"gate:{row.id}", actor=by, data=data)
            return read_gate(self._records, row)

    def get(self, name: str) -> Gate:
        """By id, or by the beginning of one."""
        with self._records.database.read() as session:
            return read_gate(self._records, find(session, GateRow, name))

    def list(
        self,
        *,
        status: GateStatus | Sequence[GateStatus] | None = None,
        zone: str | None = None,
        run: str | None = None,
    ) -> list[Gate]:
        """The oldest first, as a queue is worked off."""
        query = select(GateRow).order_by(col(GateRow.opened_at), col(GateRow.id))
        if status is not None:
            wanted = [status] if isinstance(status, GateStatus) else status
            query = query.where(col(GateRow.status).in_([one.value for one in wanted]))
        if run is not None:
            query = query.where(GateRow.run == run)
        with self._records.database.read() as session:
            gates = [read_gate(self._records, row) for row in session.exec(query)]
        return [gate for gate in gates if zone is None or zone in gate.zones]

    def decide(self, gate: str, verdict: Verdict, *, by: str) -> Gate:
        """A person's verdict, in one transaction with its signed record and with what follows from it.

        A passed action gate issues its permit; `Stop` stops the run; `Edit` leaves the new action in `verdict`, for
        the workflow to open its own gate. Raises `VerdictError` where it is not possible, or somebody was faster.
        """
        if not by.strip():
            raise VerdictError("a verdict needs the name of the person who gives it")
        with self._records.change() as change:
            row = find(change.session, GateRow, gate)
            before = read_gate(self._records, row)
            _still_waits(change, before, row)
            status = decide_by_policy(before.facts, verdict)
            if isinstance(verdict, Defer) and verdict.until <= change.now:
                raise VerdictError(f"a gate is deferred to a later time, not to {verdict.until:%F %H:%M %Z}")
            document = verdict.model_dump(mode="json")
            self._settle(change, row, status, verdict=document, by=by, reason=getattr(verdict, "reason", ""))
            if isinstance(verdict, Defer):
                row.deferred_until = verdict.until
            if status is GateStatus.PASSED and before.kind is GateKind.ACTION:
                chosen = verdict.variant if isinstance(verdict, Choose | Adopt) else 0
                self._issue(change, row, before.variants[chosen], chosen, verdict=document)
            else:
                self._sign(row, verdict=document)
            change.note("gate_decided", f"gate:{row.id}", actor=by, data=_summary(row, document))
            if isinstance(verdict, Stop):
                run = find(change.session, RunRow, row.run)
                if not RunStatus(run.status).ended:
                    move(
                        change, run, RunStatus.STOPPED, reason=verdict.reason or f"stopped by {by}", actor=by
                    )
            return read_gate(self._records, row)

    def pass_by_critic(self, gate: str, report: CriticReport) -> Gate:
        """Lets a critic pass a gate alone, where policy allows it on the stored proposal; else `PermitError`."""
        with self._records.change() as change:
            row = find(change.session, GateRow, gate)
            before = read_gate(self._records, row)
            _still_waits(change, before, row)
            if before.status is GateStatus.DEFERRED:
                raise PermitError(
                    f"gate {row.id} was put off by {before.decided_by}; no critic passes it meanwhile"
                )
            proposal = stored_actions(self._records.artifacts, before)
            if before.kind is not GateKind.ACTION or not critic_releases(
                before.policy, proposal.variants, report, proposer=proposal.proposer
            ):
                raise PermitError(
                    f"gate {row.id} cannot be passed by {report.critic or 'a critic'} alone: that takes one reversible"
                    " action which policy allows, judged and passed by somebody other than its proposer;"
                    f" a person decides it: `karkas queue show {row.id}`"
                )
            document: dict[str, JsonValue] = {"kind": "critic", "report": report.model_dump(mode="json")}
            self._settle(change, row, GateStatus.PASSED, verdict=None, by=report.critic, reason=report.reason)
            row.facts = {**row.facts, "critic": report.model_dump(mode="json")}
            seal(self._records, row)
            self._issue(change, row, before.variants[0], 0, verdict=document)
            change.note(
                "gate_passed_by_critic", f"gate:{row.id}", actor=report.critic, data=_summary(row, document)
            )
            return read_gate(self._records, row)

    def close(self, gate: str, status: GateStatus, reason: str, *, by: str = SYSTEM) -> Gate:
        """The system's own end of a gate: expired, superseded, stale or cancelled.

        A passed gate can still become stale; that voids its permit, unless the action was begun already.
        """
        if status not in CLOSED:
            raise VerdictError(f"{status} is a person's to say; `decide` takes the verdict")
        with self._records.change() as change:
            row = find(change.session, GateRow, gate)
            if row.status == GateStatus.PASSED and status is GateStatus.STALE:
                permit = change.session.exec(select(PermitRow).where(PermitRow.gate == row.id)).first()
                if permit is not None and permit.status != PermitStatus.VOID:
                    void_permit(change, permit, reason=reason)
            elif not GateStatus(row.status).waits:
                raise VerdictError(_meanwhile(read_gate(self._records, row)))
            close_gate(change, row, status, reason=reason, actor=by)
            return read_gate(self._records, row)

    def supersede_by(self, old: str, new: str, *, by: str = SYSTEM) -> Gate:
        """Links a gate to the one that took its place, and closes it where it still waits."""
        with self._records.change() as change:
            row, successor = find(change.session, GateRow, old), find(change.session, GateRow, new)
            if row.status == GateStatus.PASSED or row.id == successor.id:
                raise VerdictError(
                    f"gate {row.id} is {row.status} and cannot be superseded by {successor.id}"
                )
            if GateStatus(row.status).waits:
                close_gate(change, row, GateStatus.SUPERSEDED, reason=f"by {successor.id}", actor=by)
            row.superseded_by = successor.id
            change.note("gate_superseded", f"gate:{row.id}", actor=by, data={"by": successor.id})
            return read_gate(self._records, row)

    def wake_due(self, now: datetime | None = None) -> tuple[Gate, ...]:
        """Expires what is over its time and reopens what was deferred until now; returns the gates it moved."""
        at = now or self._records.clock()
        due = select(GateRow).where(
            col(GateRow.status).in_(WAITING),
            or_(col(GateRow.expires_at) <= at, col(GateRow.deferred_until) <= at),
        )
        with self._records.database.read() as session:
            if session.exec(due).first() is None:
                return ()
        with self._records.change() as change:
            # What was set to waiting by hand is left as it is: reopening it would make it look as if it had waited.
            rows = [row for row in change.session.exec(due) if self._waits(change, row)]
            for row in rows:
                if row.expires_at is not None and row.expires_at <= at:
                    reason = f"nobody decided by {row.expires_at:%F %H:%M} UTC"
                    close_gate(change, row, GateStatus.EXPIRED, reason=reason, actor=SYSTEM)
                else:
                    undecide(row)
                    row.status = GateStatus.OPEN
                    change.note("gate_reopened", f"gate:{row.id}", actor=SYSTEM)
            return tuple(read_gate(self._records, row) for row in rows)

    def breaks(self) -> Iterator[str]:
        """Names every gate that is not as it was opened and decided."""
        with self._records.database.read() as session:
            for row in session.exec(select(GateRow)):
                if not intact(self._records, row):
                    yield f"gate {row.id}: {TAMPERED}"

    def _waits(self, change: Change, row: GateRow) -> bool:
        return intact(self._records, row) and _waits_on_record(change, row)

    def _settle(
        self,
        change: Change,
        row: GateRow,
        status: GateStatus,
        *,
        verdict: dict[str, JsonValue] | None,
        by: str,
        reason: str,
    ) -> None:
        """The one place at which a gate is decided: one conditional UPDATE, so that only one decider wins."""
        # Writers are serialised already; the condition holds even where that is broken from outside.
        settled = change.session.connection().execute(
            update(GateRow)
            .where(col(GateRow.id) == row.id, col(GateRow.status).in_(WAITING))
            .values(
                status=status.value,
                decided_at=change.now,
                decided_by=by,
                verdict=verdict,
                reason=reason,
                deferred_until=None,
            )
        )
        change.session.refresh(row)
        if settled.rowcount != 1:
            raise VerdictError(_meanwhile(read_gate(self._records, row)))

    def _issue(
        self, change: Change, row: GateRow, variant: ShownVariant, index: int, *, verdict: JsonValue
    ) -> None:
        permit = PermitRow(
            id=fresh_id(PermitRow),
            gate=row.id,
            run=row.run,
            variant=index,
            action=variant.digest,
            binding=variant.binding.model_dump(mode="json"),
            status=PermitStatus.APPROVED,
            issued_at=change.now,
            changed_at=change.now,
        )
        self._sign(row, verdict=verdict, permit=permit)
        change.session.add(permit)
        change.session.flush()
        data: dict[str, JsonValue] = {"gate": row.id, "action": permit.action, "binding": permit.binding}
        change.note("permit_issued", f"permit:{permit.id}", actor=row.decided_by or SYSTEM, data=data)

    def _sign(self, row: GateRow, *, verdict: JsonValue, permit: PermitRow | None = None) -> None:
        row.decision = canonical(decision_of(row, verdict=verdict, permit=permit)).decode()
        row.signature = self._records.key.sign(row.decision.encode())


def _summary(row: GateRow, verdict: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {
        "status": row.status,
        "verdict": verdict,
        "proposal": row.facts.get("proposal"),
        "signature": row.signature,
    }


def _still_waits(change: Change, gate: Gate, row: GateRow) -> None:
    if not gate.status.waits:
        raise VerdictError(_meanwhile(gate))
    if not _waits_on_record(change, row):
        raise VerdictError(f"gate {gate.id} was decided or closed before: {TAMPERED}")
    if gate.expires_at is not None and gate.expires_at <= change.now:
        raise VerdictError(
            f"gate {gate.id} expired at {gate.expires_at:%F %H:%M} UTC; nothing can be decided any more"
        )


def _waits_on_record(change: Change, row: GateRow) -> bool:
    """Whether the last on the record is that the gate waits; one that was set back to waiting by hand has another."""
    last = newest(change.session, f"gate:{row.id}", "gate_")
    if last is None or not change.audit.wrote(last):
        return False
    if row.status == GateStatus.OPEN:
        return last.event in {"gate_opened", "gate_reopened"}
    decided = json.loads(last.data)
    return last.event == "gate_decided" and (decided["status"], decided["signature"]) == (
        row.status,
        row.signature,
    )


def _meanwhile(gate: Gate) -> str:
    when = f" at {gate.decided_at:%F %H:%M:%S} UTC" if gate.decided_at else ""
    why = f" ({gate.reason})" if gate.reason else ""
    return f"gate {gate.id} is {gate.status} already: decided by {gate.decided_by or 'nobody'}{when}{why}"
