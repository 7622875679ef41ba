"""What waits, line by line, and what ran meanwhile: as much of it as a list shows, however much there is.

A line is read without proving its gate, so nothing is decided by one: whoever decides reads the gate itself
(`Gates.get`), which is proven.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy import func
from sqlmodel import col, select

from karkas.policies.budgets import Spent
from karkas.policies.gates import GateId, GateKind, GateStatus
from karkas.policies.permits import PermitStatus
from karkas.storage.endings import WAITING
from karkas.storage.records import Records
from karkas.storage.runs import RunId, RunStatus
from karkas.storage.tables import AuditRow, GateRow, PermitRow, RunRow

PORTION = 500
"""Rows that are held as the database gives them, which takes several times the memory of their lines."""


class WaitingLine(NamedTuple):
    """A gate as a list shows it. `siblings` counts the gates that its run waits at, itself included."""

    id: GateId
    run: RunId
    kind: GateKind
    status: GateStatus
    zones: tuple[str, ...]
    level: str
    title: str
    effect: str
    opened_at: datetime
    deferred_until: datetime | None
    decided_by: str | None
    approvals: int
    """How many people said yes so far, where it takes more than one."""
    siblings: int


class Worked(NamedTuple):
    """What the runs of one zone and workflow that stand alike have come to, and spent, since then."""

    zone: str
    workflow: str
    status: RunStatus
    runs: int
    spent: Spent


class Waiting:
    def __init__(self, records: Records) -> None:
        self._records = records

    def lines(
        self, *, zone: str | None = None, run: str | None = None, limit: int | None = None
    ) -> list[WaitingLine]:
        """All that waits, the oldest first; `limit` takes the oldest so many."""
        query = self._query().where(col(GateRow.status).in_(WAITING))
        if run is not None:
            query = query.where(col(GateRow.run) == run)
        query = query.order_by(col(GateRow.opened_at), col(GateRow.id))
        return list(self._read(query, zone, limit, run))[:limit]

    def each(self) -> Iterator[WaitingLine]:
        """All that waits, in no order, for whoever keeps few of many. It holds a session open until the last."""
        return self._read(self._query().where(col(GateRow.status).in_(WAITING)))

    def decided(self, *, zone: str | None = None, limit: int = 200) -> list[WaitingLine]:
        """What no longer waits, the last decided first."""
        query = self._query().where(col(GateRow.status).not_in(WAITING))
        query = query.order_by(col(GateRow.decided_at).desc(), col(GateRow.id))
        return list(self._read(query, zone, limit))[:limit]

    def count(self) -> int:
        """How many gates wait for a person."""
        query = select(func.count()).where(col(GateRow.status).in_(WAITING))
        with self._records.database.read() as session:
            return session.exec(query).one()

    def pulse(self) -> int:
        """The number of the last row on the record: where it is the same as before, nothing happened."""
        with self._records.database.read() as session:
            return session.exec(select(func.max(AuditRow.seq))).one() or 0

    def last_word(self, actor: str) -> datetime | None:
        """When this person last did anything that is on the record."""
        query = select(AuditRow.at).where(AuditRow.actor == actor).order_by(col(AuditRow.seq).desc())
        with self._records.database.read() as session:
            at = session.exec(query.limit(1)).first()
        return None if at is None else datetime.fromisoformat(at)

    def performed(self, since: datetime) -> int:
        """How many actions took effect since then."""
        query = select(func.count()).where(
            col(PermitRow.status) == PermitStatus.COMMITTED.value, col(PermitRow.changed_at) >= since
        )
        with self._records.database.read() as session:
            return session.exec(query).one()

    def expired(self, *, limit: int) -> list[tuple[GateId, RunId]]:
        """Gates that expired since their run was parked, so that it does not know yet; the last first."""
        query = (
            sqlalchemy.select(col(GateRow.id), col(GateRow.run))
            .join(RunRow, col(RunRow.id) == col(GateRow.run))
            .where(
                col(GateRow.status) == GateStatus.EXPIRED.value,
                col(RunRow.status) == RunStatus.PARKED.value,
                col(GateRow.decided_at) > col(RunRow.changed_at),
            )
            .order_by(col(GateRow.decided_at).desc(), col(GateRow.id))
        )
        with self._records.database.read() as session:
            found = session.connection().execute(query.limit(limit)).all()
        return [(GateId(gate), RunId(run)) for gate, run in found]

    def worked(self, since: datetime) -> list[Worked]:
        """The runs that changed since then and were taken up, or failed, added up by the database: how many there are,
        and what those spent that were begun since. What others spent since stands in no row (`report.spending`).
        """
        kinds = (col(RunRow.zone), col(RunRow.workflow), col(RunRow.status))
        begun = col(RunRow.created_at) >= since
        spent = [
            func.sum(sqlalchemy.case((begun, col(RunRow.spent)[name].as_float()), else_=0.0))
            for name in Spent.model_fields
        ]
        query = sqlalchemy.select(*kinds, func.count(), *spent).where(*_moved(since)).group_by(*kinds)
        with self._records.database.read() as session:
            rows = session.connection().execute(query.order_by(*kinds)).all()
        return [
            Worked(
                zone or "",
                workflow,
                RunStatus(status),
                runs,
                Spent.model_validate(
                    {name: value or 0 for name, value in zip(Spent.model_fields, sums, strict=True)}
                ),
            )
            for zone, workflow, status, runs, *sums in map(tuple[Any, ...], rows)
        ]

    def begun_before(self, since: datetime) -> list[RunId]:
        """Those of them that were begun earlier."""
        query = select(RunRow.id).where(*_moved(since), col(RunRow.created_at) < since)
        with self._records.database.read() as session:
            return [RunId(name) for name in session.exec(query)]

    def troubled(self, since: datetime, *, limit: int) -> tuple[list[RunId], int]:
        """The runs that failed or parked for a reason since then, the newest first, and how many there are."""
        parked = sqlalchemy.and_(col(RunRow.status) == RunStatus.PARKED.value, col(RunRow.reason) != "")
        query = sqlalchemy.select(col(RunRow.id), func.count().over()).where(
            *_moved(since), sqlalchemy.or_(parked, func.coalesce(RunRow.error, "") != "")
        )
        query = query.order_by(col(RunRow.created_at).desc(), col(RunRow.id)).limit(limit)
        with self._records.database.read() as session:
            rows = session.connection().execute(query).all()
        return [RunId(name) for name, _ in rows], rows[0][1] if rows else 0

    @staticmethod
    def _query() -> Any:
        facts = col(GateRow.facts)
        return sqlalchemy.select(
            col(GateRow.id),
            col(GateRow.run),
            col(GateRow.kind),
            col(GateRow.status),
            # The whole of `facts` would be parsed for each row; the database takes out what a line needs.
            facts["zones"].as_string(),
            facts["level"].as_string(),
            facts["title"].as_string(),
            facts["effect"].as_string(),
            col(GateRow.opened_at),
            col(GateRow.deferred_until),
            col(GateRow.decided_by),
            col(GateRow.approvals),
        )

    def _read(
        self, query: Any, zone: str | None = None, limit: int | None = None, run: str | None = None
    ) -> Iterator[WaitingLine]:
        with self._records.database.read() as session:
            counting = select(col(GateRow.run), func.count()).where(col(GateRow.status).in_(WAITING))
            counting = counting if run is None else counting.where(col(GateRow.run) == run)
            counted = dict(session.connection().execute(counting.group_by(col(GateRow.run))).fetchall())
            query = query.limit(limit) if zone is None else query
            rows = session.connection().execute(query.execution_options(yield_per=PORTION))
            found = (_line(row, counted) for row in rows)
            yield from found if zone is None else (line for line in found if zone in line.zones)


def _moved(since: datetime) -> tuple[Any, ...]:
    begun = sqlalchemy.or_(col(RunRow.segment) > 0, col(RunRow.status) == RunStatus.FAILED.value)
    return col(RunRow.changed_at) >= since, begun


@lru_cache(maxsize=1024)
def _zones(text: str | None) -> tuple[str, ...]:
    return tuple(json.loads(text or "[]"))


_KINDS = {kind.value: kind for kind in GateKind}
_STATES = {status.value: status for status in GateStatus}


def _line(row: Sequence[Any], counted: dict[str, int]) -> WaitingLine:
    run = row[1]
    return WaitingLine(
        id=row[0],
        run=run,
        kind=_KINDS[row[2]],
        status=_STATES[row[3]],
        zones=_zones(row[4]),
        level=row[5] or "",
        title=row[6] or "",
        effect=row[7] or "",
        opened_at=row[8],
        deferred_until=row[9],
        decided_by=row[10],
        approvals=len(row[11] or ()),
        siblings=counted.get(run, 0),
    )
