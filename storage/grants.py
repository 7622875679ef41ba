"""Standing grants on the record: given by a person, counted as they are used, revoked at once."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NewType

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from sqlalchemy import update
from sqlmodel import Session, col, select

from karkas.policies.approvals import FEWEST
from karkas.policies.errors import NotFoundError, VerdictError
from karkas.policies.gates import GateKind, GateStatus
from karkas.policies.grants import Grant, refusal
from karkas.storage.audit import Noted, kept, newest
from karkas.storage.decisions import Gate, read_gate, stored_actions
from karkas.storage.endings import UNUSED, void_permit
from karkas.storage.prepared import Prepared
from karkas.storage.records import SYSTEM, Change, Records, find, fresh_id
from karkas.storage.settling import issue, put_off_unseen, settle, still_waits, summary
from karkas.storage.tables import AuditRow, GateRow, GrantRow, PermitRow
from karkas.storage.verdicts import needed
from karkas.storage.zones import ruled_since

GrantId = NewType("GrantId", str)

NOUN = "grant"
CHANGED = "its row was changed outside karkas; `karkas audit verify`"


class StandingGrant(BaseModel):
    """A grant as it stands. `ended` says why it releases nothing any more; empty while it is in force."""

    model_config = ConfigDict(frozen=True)

    id: GrantId
    terms: Grant
    used: int
    created_at: datetime
    revoked_at: datetime | None
    revoked_by: str | None
    ended: str

    @property
    def name(self) -> str:
        """Who passed a gate, where this grant did."""
        return f"{NOUN}/{self.id}"


_ANY = Prepared(select(GrantRow.id).where(col(GrantRow.revoked_at).is_(None)).limit(1))


class Grants:
    """A row that karkas did not write, or whose uses are not those on the record, releases nothing."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def add(self, terms: Grant) -> StandingGrant:
        """A person's act. Raises `VerdictError` where it would be over before it began."""
        with self._records.change() as change:
            if terms.expires_at <= change.now:
                raise VerdictError(f"a grant ends at a later time, not at {terms.expires_at:%F %H:%M %Z}")
            row = GrantRow(
                id=fresh_id(GrantRow),
                zone=terms.zone,
                tool=terms.tool,
                terms=terms.model_dump(mode="json"),
                at_most=terms.limit,
                expires_at=terms.expires_at.astimezone(UTC),
                created_at=change.now.astimezone(UTC),
            )
            row.seal = self._records.key.sign(kept(_sealed(row)).encode())
            change.session.add(row)
            change.session.flush()
            change.note("grant_added", f"grant:{row.id}", actor=terms.author, data=_sealed(row))
            return self._read(change.session, row, change.now)

    def get(self, name: str) -> StandingGrant:
        """By id, or by the beginning of one."""
        with self._records.database.read() as session:
            return self._read(session, find(session, GrantRow, name), self._records.clock())

    def list(self) -> "list[StandingGrant]":
        """The newest first."""
        query = select(GrantRow).order_by(col(GrantRow.created_at).desc(), col(GrantRow.id))
        with self._records.database.read() as session:
            return [self._read(session, row, self._records.clock()) for row in session.exec(query)]

    def revoke(self, name: str, *, by: str, reason: str) -> StandingGrant:
        """A person's act: it releases nothing from now on, and what it released and was not begun is void."""
        if not by.strip() or not reason.strip():
            raise VerdictError("revoking a grant needs a person's name and a reason, for the record")
        with self._records.change() as change:
            row = find(change.session, GrantRow, name)
            if row.revoked_at is not None:
                raise VerdictError(f"grant {row.id} was revoked already")
            _revoke(change, row, by=by, reason=reason)
            return self._read(change.session, row, change.now)

    def withdraw(self, change: Change, gate: Gate, *, why: str) -> bool:
        """Ends the grant that passed a gate whose action went wrong; whether there was one in force."""
        noun, _, name = (gate.decided_by or "").partition("/")
        row = change.session.get(GrantRow, name) if noun == NOUN else None
        if row is None or row.revoked_at is not None:
            return False
        _revoke(change, row, by=SYSTEM, reason=why)
        return True

    def release(self, gate: str) -> Gate | None:
        """Passes a gate that a grant covers, and counts the use, in one transaction; None where no grant does."""
        with self._records.database.read() as session:
            if _ANY.first(session) is None:
                return None
        with self._records.change() as change:
            row = find(change.session, GateRow, gate)
            before = read_gate(self._records, row)
            still_waits(change, before, row)
            if before.status is GateStatus.DEFERRED or put_off_unseen(self._records, change, row) is not None:
                return None
            grant = self._covering(change, before)
            if grant is None:
                return None
            document: dict[str, JsonValue] = {
                "kind": "grant",
                "grant": grant.id,
                "use": grant.used,
                "author": grant.terms.author,
            }
            reason = f"granted in advance by {grant.terms.author}: {grant.terms.reason}"
            passed = GateStatus.PASSED
            settle(self._records, change, row, passed, verdict=None, by=grant.name, reason=reason)
            issue(self._records, change, row, before.variants[0], 0, verdict=document)
            data = summary(row, document) | {"reason": reason}
            change.note("gate_passed_by_grant", f"gate:{row.id}", actor=grant.name, data=data)
            return read_gate(self._records, row)

    def judged(self, terms: Grant, gates: Iterable[Gate]) -> Iterator[tuple[Gate, str | None]]:
        """The action gates of that zone and tool among `gates`, each with why such a grant would not have released it;
        None where it would.
        """
        for gate in gates:
            if gate.kind is GateKind.ACTION and terms.zone in gate.zones:
                proposal = stored_actions(self._records.artifacts, gate)
                if any(variant.action.tool == terms.tool for variant in proposal.variants):
                    why = refusal(
                        terms, policy=gate.policy, zones=gate.zones, proposal=proposal, critic=gate.critic
                    )
                    yield gate, why

    def breaks(self) -> Iterator[str]:
        """Names every grant that is not as it was given and used."""
        with self._records.database.read() as session:
            for row in session.exec(select(GrantRow)):
                if not self._holds(session, row):
                    yield f"grant {row.id}: {CHANGED}"

    def _covering(self, change: Change, gate: Gate) -> StandingGrant | None:
        """The oldest grant in force that covers the gate's action, with this use counted; None where there is none.

        The oldest is the one that stands first on the record: clocks are set back, and its rows do not change places.
        """
        if gate.kind is not GateKind.ACTION or needed(self._records, change, gate) > FEWEST:
            return None
        proposal = stored_actions(self._records.artifacts, gate)
        for row in change.session.exec(
            select(GrantRow)
            .join(AuditRow, col(AuditRow.subject) == "grant:" + col(GrantRow.id))
            .where(
                AuditRow.event == "grant_added",
                col(GrantRow.zone).in_(gate.zones),
                col(GrantRow.revoked_at).is_(None),
            )
            .order_by(col(AuditRow.seq))
        ).all():
            grant = self._read(change.session, row, change.now)
            terms = grant.terms
            if (
                not grant.ended
                and terms.tool_version == gate.variants[0].binding.tool_version
                and refusal(
                    terms, policy=gate.policy, zones=gate.zones, proposal=proposal, critic=gate.critic
                )
                is None
                and self._unbroken(change.session, row)
                and self._count(change, row, gate)
            ):
                return self._read(change.session, row, change.now)
        return None

    def _count(self, change: Change, row: GrantRow, gate: Gate) -> bool:
        """One conditional UPDATE: of several workers, as many as are left get a use."""
        counted = change.session.connection().execute(
            update(GrantRow)
            .where(
                col(GrantRow.id) == row.id,
                col(GrantRow.used) == row.used,
                col(GrantRow.used) < row.at_most,
                col(GrantRow.revoked_at).is_(None),
                col(GrantRow.expires_at) > change.now,
            )
            .values(used=GrantRow.used + 1)
        )
        change.session.refresh(row)
        if counted.rowcount != 1:
            return False
        data: dict[str, JsonValue] = {
            "use": row.used,
            "gate": gate.id,
            "action": gate.variants[0].digest,
        }
        change.note("grant_used", f"grant:{row.id}", actor=f"{NOUN}/{row.id}", data=data)
        return True

    def _unbroken(self, session: Session, row: GrantRow) -> bool:
        """Whether nothing was taken from the record since it was given: no use, no end, no ruling of its zone."""
        subject = f"grant:{row.id}"
        last = newest(session, subject, "grant_")
        return last is not None and self._records.words.unlike(session, {subject: last.hash}) is None

    def _added(self, session: Session, row: GrantRow) -> Noted | None:
        """Where the record says that it was given; None where that was not karkas."""
        added = newest(session, f"grant:{row.id}", "grant_added")
        return added if added is not None and self._records.audit.wrote(added) else None

    def _read(self, session: Session, row: GrantRow, now: datetime) -> StandingGrant:
        try:
            terms = Grant.model_validate(row.terms)
        except ValidationError as error:
            raise NotFoundError(f"grant {row.id} cannot be read: {CHANGED}") from error
        return StandingGrant(
            id=GrantId(row.id),
            terms=terms,
            used=row.used,
            created_at=row.created_at,
            revoked_at=row.revoked_at,
            revoked_by=row.revoked_by,
            ended=self._ended(session, row, terms, now),
        )

    def _ended(self, session: Session, row: GrantRow, terms: Grant, now: datetime) -> str:
        """Why a grant releases nothing. The terms count that were sealed, not the columns beside them."""
        added = self._added(session, row)
        if added is None or not self._holds(session, row):
            return CHANGED
        if row.revoked_at is not None:
            return f"revoked by {row.revoked_by}"
        if terms.expires_at <= now:
            return f"it ended at {terms.expires_at:%F %H:%M} UTC"
        if row.used >= terms.limit:
            return f"it was used {row.used} times"
        if ruled_since(session, terms.zone, added.seq):
            return f"zone {terms.zone} was set, framed or declared anew since"
        return ""

    def _holds(self, session: Session, row: GrantRow) -> bool:
        """Whether the row is as it was given, and as often used and revoked as is on the record."""
        subject, sealed, audit = f"grant:{row.id}", kept(_sealed(row)), self._records.audit
        added = self._added(session, row)
        last = newest(session, subject, "grant_used")
        used = 0 if last is None else json.loads(last.data)["use"] if audit.wrote(last) else None
        revoked = newest(session, subject, "grant_revoked")
        return (
            added is not None
            and added.data == sealed
            and given(self._records, row)
            and row.used == used
            and (row.revoked_at is not None) == (revoked is not None)
        )


def given(records: Records, row: GrantRow) -> bool:
    """Whether its terms are those that were sealed."""
    return records.key.verifies(kept(_sealed(row)).encode(), row.seal)


def _revoke(change: Change, row: GrantRow, *, by: str, reason: str) -> None:
    row.revoked_at, row.revoked_by = change.now, by
    change.note("grant_revoked", f"grant:{row.id}", actor=by, data={"reason": reason})
    for permit in change.session.exec(
        select(PermitRow)
        .join(GateRow, col(PermitRow.gate) == col(GateRow.id))
        .where(GateRow.decided_by == f"{NOUN}/{row.id}", col(PermitRow.status).in_(UNUSED))
    ):
        void_permit(change, permit, reason=f"grant {row.id} was revoked: {reason}", actor=by)


def _sealed(row: GrantRow) -> dict[str, JsonValue]:
    return {
        "id": row.id,
        "zone": row.zone,
        "tool": row.tool,
        "at_most": row.at_most,
        "expires_at": row.expires_at.isoformat(),
        "created_at": row.created_at.isoformat(),
        "terms": row.terms,
    }
