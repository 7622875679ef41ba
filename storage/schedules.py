"""Schedules: up to when each was seen to, so that no time is missed or taken twice, by however many workers."""

from datetime import datetime

from sqlmodel import delete, select

from karkas.storage.records import Records
from karkas.storage.tables import ScheduleRow


class Schedules:
    def __init__(self, records: Records) -> None:
        self._records = records

    def since(self, name: str, cron: str) -> datetime:
        """Up to when this schedule was seen to; from now on where it is new, or is another one than it was."""
        with self._records.database.read() as session:
            row = session.get(ScheduleRow, name)
            if row is not None and row.cron == cron:
                return row.since
        with self._records.change() as change:
            row = change.session.get(ScheduleRow, name)
            if row is None or row.cron != cron:
                row = change.session.merge(ScheduleRow(name=name, cron=cron, since=change.now))
            return row.since

    def seen_to(self, name: str, until: datetime) -> None:
        """Says that all its times up to `until` have been queued, or are not to be."""
        with self._records.change() as change:
            row = change.session.get(ScheduleRow, name)
            if row is not None and row.since < until:
                row.since = until

    def keep(self, names: set[str]) -> None:
        """Forgets those that are not in `karkas.toml` any more, so that one that comes back begins anew."""
        with self._records.database.read() as session:
            gone = set(session.exec(select(ScheduleRow.name))) - names
        if gone:
            with self._records.change() as change:
                change.session.exec(delete(ScheduleRow).where(ScheduleRow.name.in_(gone)))  # type: ignore[attr-defined]
