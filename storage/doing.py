"""What runs are doing now, as those in other processes and on other hosts see it: a line a run, overwritten."""

from datetime import datetime
from threading import Lock, Timer
from time import monotonic

import structlog
from pydantic import BaseModel, ConfigDict
from sqlalchemy import bindparam, insert, update
from sqlmodel import col, select

from karkas.policies.errors import StorageError
from karkas.storage.database import worker_name
from karkas.storage.prepared import Prepared
from karkas.storage.records import Records
from karkas.storage.tables import DoingRow

PAUSE_S = 2.0
"""Seconds between two writes of one process, of all its runs together."""
LONGEST = 300
"""Characters of a line that are kept."""


class Doing(BaseModel):
    """`done` of `total`, where it is known how much there is. `worker` is `HOST:PID`."""

    model_config = ConfigDict(frozen=True)

    run: str
    text: str
    done: int
    total: int | None
    at: datetime
    worker: str

    def __str__(self) -> str:
        return self.text if self.total is None else f"{self.text} {self.done:,} of {self.total:,}"


_AGAIN = Prepared(update(DoingRow).where(col(DoingRow.run) == bindparam("of")), *Doing.model_fields)
_FIRST = Prepared(insert(DoingRow).inline(), *Doing.model_fields)


class Doings:
    """Nothing waits for a line to be written, and nothing fails where it cannot be."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._worker = worker_name()
        self._lock = Lock()
        self._told: dict[str, Doing] = {}
        self._timer: Timer | None = None
        self._written = float("-inf")
        self._closed = False

    def tell(self, run: str, text: str, *, done: int = 0, total: int | None = None) -> None:
        """Remembers the line; a thread writes it at once, or when the pause since the last time is over."""
        now = self._records.clock()
        told = Doing(run=run, text=text[:LONGEST], done=done, total=total, at=now, worker=self._worker)
        with self._lock:
            if self._closed:
                return
            self._told[run] = told
            if self._timer is None:
                self._write_in(self._written + PAUSE_S - monotonic())

    def now(self) -> dict[str, Doing]:
        """The last line of each run, whether or not it is still at work."""
        with self._records.database.read() as session:
            rows = session.exec(select(DoingRow)).all()
        return {row.run: Doing.model_validate(row, from_attributes=True) for row in rows}

    def close(self) -> None:
        """Writes what is left."""
        with self._lock:
            self._closed = True
            timer = self._timer
        if timer is not None:
            timer.cancel()
            timer.join()
        self._write()

    def _write(self) -> None:
        with self._lock:
            told, self._told = list(self._told.values()), {}
            self._written = monotonic()
        try:
            if told:
                with self._records.database.write() as session:
                    for one in told:
                        values = one.model_dump()
                        if not _AGAIN.change(session, of=one.run, **values):
                            _FIRST.change(session, **values)
        except StorageError as error:
            structlog.get_logger("karkas.runs").warning("doing_not_written", error=str(error))
        finally:
            with self._lock:
                self._timer = None
                if self._told and not self._closed:
                    self._write_in(PAUSE_S)

    def _write_in(self, pause_s: float) -> None:
        self._timer = Timer(max(pause_s, 0.0), self._write)
        self._timer.daemon = True
        self._timer.start()
