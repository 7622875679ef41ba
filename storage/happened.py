"""What happened, by kind of event, and sums: for reports, never for decisions, which prove what they read."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy
from sqlmodel import col, func, select

from karkas.policies.budgets import Spent
from karkas.storage.audit import NOTED, AuditEntry, entry, found
from karkas.storage.records import Records
from karkas.storage.tables import AuditRow, JournalRow, RunRow

CYCLE = "cycle_ended"
"""The event at the end of each cycle of an exploration. A cycle that is done again after a crash has a second one."""


class Asked(NamedTuple):
    """What one role of one run asked models. `tokens` are those of prompts and answers."""

    run: str
    role: str
    calls: int
    tokens: int
    cached_tokens: int


class Happened:
    def __init__(self, records: Records) -> None:
        self._records = records

    def events(
        self,
        *names: str,
        since: datetime | None = None,
        until: datetime | None = None,
        after: int = 0,
        subjects: Collection[str] | None = None,
    ) -> list[AuditEntry]:
        """The entries of these events, the oldest first; `after` is the number of a row."""
        query: Any = NOTED.where(col(AuditRow.event).in_(names), col(AuditRow.seq) > after)
        if since is not None:
            query = query.where(col(AuditRow.at) >= since.astimezone(UTC).isoformat())
        if until is not None:
            query = query.where(col(AuditRow.at) < until.astimezone(UTC).isoformat())
        if subjects is not None:
            query = query.where(col(AuditRow.subject).in_(subjects))
        with self._records.database.read() as session:
            return [entry(row) for row in found(session, query.order_by(col(AuditRow.seq)))]

    def asked(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        runs: Collection[str] | None = None,
    ) -> list[Asked]:
        """What models answered, summed by run and role."""
        answer = JournalRow
        tokens = col(answer.prompt_tokens) + col(answer.completion_tokens)
        query = sqlalchemy.select(
            col(answer.run),
            col(answer.role),
            func.count(),
            func.sum(tokens),
            func.sum(col(answer.cached_tokens)),
        ).group_by(col(answer.run), col(answer.role))
        if since is not None:
            query = query.where(col(answer.at) >= since)
        if until is not None:
            query = query.where(col(answer.at) < until)
        if runs is not None:
            query = query.where(col(answer.run).in_(runs))
        with self._records.database.read() as session:
            return [Asked(*map(_plain, row)) for row in session.connection().execute(query)]

    def runs_by_status(self) -> dict[str, int]:
        query = select(RunRow.status, func.count()).group_by(col(RunRow.status))
        with self._records.database.read() as session:
            return dict(session.exec(query).all())

    def totals(self) -> Spent:
        """What all runs have spent."""
        spent = col(RunRow.spent)
        sums = [
            func.coalesce(func.sum(spent[name].as_float()), 0.0).label(name) for name in Spent.model_fields
        ]
        with self._records.database.read() as session:
            row = session.connection().execute(sqlalchemy.select(*sums)).mappings().one()
        return Spent(**{name: value if name == "wall_s" else int(value) for name, value in row.items()})


def _plain(value: Any) -> Any:
    """PostgreSQL's sums are decimals."""
    return value if isinstance(value, str) else int(value)
