"""Gates: what waits for a verdict, and the signed record of each decision."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import and_, bindparam
from sqlmodel import col, or_, select

from karkas.policies.approvals import FEWEST
from karkas.policies.errors import PermitError, VerdictError
from karkas.policies.gates import CriticReport, GateKind, GateStatus
from karkas.policies.judging import critic_releases
from karkas.policies.permits import PermitStatus
from karkas.policies.verdicts import Verdict, possible
from karkas.server import tracing
from karkas.storage.decisions import (
    CLOSED,
    TAMPERED,
    Gate,
    NewGate,
    gate_of,
    intact,
    read_gate,
    sealed,
    stored_actions,
)
from karkas.storage.endings import WAITING, close_gate, undecide, void_permit
from karkas.storage.records import SYSTEM, Change, Records, find, look, look_by, made, put
from karkas.storage.runs import RunStatus
from karkas.storage.settling import (
    issue,
    meanwhile,
    put_off_unseen,
    settle,
    still_waits,
    summary,
    waits_on_record,
)
from karkas.storage.tables import GateRow, PermitRow, RunRow
from karkas.storage.verdicts import Shown, check_alike, give, give_batch, likeness, needed

_IS_DUE = and_(
    col(GateRow.status).in_(WAITING),
    or_(col(GateRow.expires_at) <= bindparam("at"), col(GateRow.deferred_until) <= bindparam("at")),
)
_DUE, _ANY_DUE = select(GateRow).where(_IS_DUE), select(GateRow.id).where(_IS_DUE).limit(1)


class Gates:
    def __init__(self, records: Records) -> None:
        self._records = records

    @tracing.gate
    def open(self, new: NewGate, *, by: str = SYSTEM) -> Gate:
        """Opens a gate, or returns the one that this key opened before, unchanged.

        Raises `PermitError` where the stored proposal is not what the gate would show.
        """
        with self._records.change() as change:
            before = look_by(change.session, GateRow, "key", new.key)
            if before is not None:
                return read_gate(self._records, before)
            if new.kind is GateKind.ACTION:
                stored_actions(self._records.artifacts, new)
            run = look(change.session, RunRow, new.run)
            if RunStatus(run.status).ended:
                raise VerdictError(f"run {run.id} is {run.status}; no gate can be opened in it any more")
            row = made(
                GateRow,
                key=new.key,
                run=run.id,
                kind=new.kind.value,
                status=GateStatus.OPEN.value,
                facts=NewGate.model_validate(new, from_attributes=True).model_dump(mode="json"),
                opened_at=change.now,
                expires_at=new.expires_at,
            )
            put(change.session, row, seal=self._records.sign(sealed(row, row.facts)))
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
            return gate_of(self._records, row)

    def get(self, name: str) -> Gate:
        """By id, or by the beginning of one."""
        with self._records.database.read() as session:
            return read_gate(self._records, look(session, GateRow, name))

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
        the workflow to open its own gate. Where two people are needed the first one's yes is kept in `approvals`, and
        the gate still waits. Raises `VerdictError` where it is not possible, or somebody was faster.
        """
        _needs_name(by)
        with self._records.change() as change:
            row = find(change.session, GateRow, gate)
            give(self._records, change, row, verdict, by=by)
            return read_gate(self._records, row)

    def decide_batch(self, shown: Shown, *, by: str) -> tuple[Gate, ...]:
        """A person's approval of several gates at once: of all, or of none.

        `shown` pairs each gate's whole id with the digest of the one action that the person was shown there. Each
        decision is signed with all pairs. Raises `VerdictError` that names every gate which was changed or decided
        meanwhile, or where there is no approving, or they are not alike.
        """
        _needs_name(by)
        if not shown:
            raise VerdictError(
                "a batch needs the gates that it approves, each with the digest that was shown"
            )
        with self._records.change() as change:
            rows = give_batch(self._records, change, shown, by=by)
            return tuple(read_gate(self._records, row) for row in rows)

    def alike(self, gate: str) -> tuple[Gate, ...]:
        """The open gates that are like this one, itself among them, the oldest first: one variant, and the same zones,
        level, verdict of policy, tool and effect. `VerdictError` where it offers no approving.
        """
        model = self.get(gate)
        if "approve" not in possible(model.facts):
            raise VerdictError(
                f"gate {model.id} offers no approving, so none is like it: `karkas queue show {model.id}`"
            )
        kind = likeness(self._records, model)
        return tuple(
            one
            for one in self.list(status=GateStatus.OPEN)
            if "approve" in possible(one.facts) and likeness(self._records, one) == kind
        )

    def check_batch(self, gates: Sequence[Gate]) -> None:
        """`VerdictError` where these cannot be approved at once, before anybody reads them all."""
        for gate in gates:
            if "approve" not in possible(gate.facts):
                offered = ", ".join(possible(gate.facts)) or "nothing more"
                raise VerdictError(
                    f"nothing was decided: gate {gate.id} is {gate.status}, and no approving is possible at it;"
                    f" possible: {offered}"
                )
        check_alike(self._records, gates)

    def pass_by_critic(self, gate: str, report: CriticReport) -> Gate:
        """Lets a critic pass a gate alone, where policy allows it on the stored proposal; else `PermitError`."""
        with self._records.change() as change:
            row = look(change.session, GateRow, gate)
            before = read_gate(self._records, row)
            still_waits(change, before, row)
            if before.status is GateStatus.DEFERRED:
                raise PermitError(
                    f"gate {row.id} was put off by {before.decided_by}; no critic passes it meanwhile"
                )
            if broken := put_off_unseen(self._records, change, row):
                raise PermitError(
                    f"gate {row.id} is passed by no critic: the record is broken ({broken}), so a person may have"
                    " put it off; `karkas audit verify`"
                )
            proposal = stored_actions(self._records.artifacts, before)
            alone = needed(self._records, change, before) == FEWEST
            if not (before.kind is GateKind.ACTION and alone) or not critic_releases(
                before.policy, proposal.variants, report, proposer=proposal.proposer
            ):
                raise PermitError(
                    f"gate {row.id} cannot be passed by {report.critic or 'a critic'} alone: that takes one reversible"
                    " action which policy allows, judged and passed by somebody other than its proposer;"
                    f" a person decides it: `karkas queue show {row.id}`"
                )
            said = report.model_dump(mode="json")
            document: dict[str, JsonValue] = {"kind": "critic", "report": said}
            facts: dict[str, JsonValue] = {**row.facts, "critic": said}
            settle(
                self._records,
                change,
                row,
                GateStatus.PASSED,
                verdict=None,
                by=report.critic,
                reason=report.reason,
                facts=facts,
                seal=self._records.sign(sealed(row, facts)),
            )
            issue(self._records, change, row, before.variants[0], 0, verdict=document)
            change.note(
                "gate_passed_by_critic", f"gate:{row.id}", actor=report.critic, data=summary(row, document)
            )
            return gate_of(self._records, row)

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
                raise VerdictError(meanwhile(read_gate(self._records, row)))
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
        with self._records.database.read() as session:
            if session.connection().execute(_ANY_DUE, {"at": at}).first() is None:
                return ()
        with self._records.change() as change:
            # What was set to waiting by hand is left as it is: reopening it would make it look as if it had waited.
            rows = [row for row in change.session.scalars(_DUE, {"at": at}) if self._waits(change, row)]
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
        return intact(self._records, row) and waits_on_record(change, row)


def _needs_name(by: str) -> None:
    if not by.strip():
        raise VerdictError("a verdict needs the name of the person who gives it")
