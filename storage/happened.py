"""What happened, read off the record by kind of event: for reports, never for decisions, which prove what they read."""

from collections.abc import Collection
from datetime import UTC, datetime

from sqlmodel import col, select

from karkas.storage.audit import AuditEntry, entry
from karkas.storage.records import Records
from karkas.storage.tables import AuditRow

CYCLE = "cycle_ended"
"""The event at the end of each cycle of an exploration. A cycle that is done again after a crash has a second one."""


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
        query = select(AuditRow).where(col(AuditRow.event).in_(names), AuditRow.seq > after)
        if since is not None:
            query = query.where(AuditRow.at >= since.astimezone(UTC).isoformat())
        if until is not None:
            query = query.where(AuditRow.at < until.astimezone(UTC).isoformat())
        if subjects is not None:
            query = query.where(col(AuditRow.subject).in_(subjects))
        with self._records.database.read() as session:
            return [entry(row) for row in session.exec(query.order_by(col(AuditRow.seq)))]
