"""Workers: the processes that take up runs, on one host or on many; who lives, who is dead, and who says so."""

import os
import secrets
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, update
from sqlmodel import col, delete, or_, select

from karkas.policies.errors import StorageError
from karkas.policies.runs import RunStatus
from karkas.storage.leases import lease_name
from karkas.storage.locks import FileLocks, Lock
from karkas.storage.records import SYSTEM, Records
from karkas.storage.sessions import TRUST_S, SessionLock, SessionLocks, now_s
from karkas.storage.tables import RunRow, WorkerRow

BEAT_S = 2.0
"""How often a worker says that it lives."""

DEAD_S = 20.0
"""So long without a beat, and a worker counts as dead."""

KEPT = timedelta(days=7)
"""How long a worker that is gone stays listed."""

FREED_S = 5.0

BEAT = """
    UPDATE worker w SET beats = w.beats + 1, beat_at = clock_timestamp(), session = a.pid, since = a.backend_start,
        address = a.client_addr::text, server = extract(epoch FROM pg_postmaster_start_time())::text
    FROM pg_stat_activity a
    WHERE a.pid = pg_backend_pid() AND w.id = %(id)s AND w.left_at IS NULL AND w.buried_at IS NULL
    RETURNING w.id
"""
"""On the session that holds its locks, so that one answer proves both."""

BURY = """
    WITH buried AS (
        UPDATE worker SET buried_at = clock_timestamp(), buried_by = %(by)s
        WHERE id = %(id)s AND beats = %(beats)s AND left_at IS NULL AND buried_at IS NULL
        RETURNING session, since, address, 'karkas ' || host || ':' || pid AS name
    )
    SELECT (SELECT count(*) FROM buried), count(pg_terminate_backend(a.pid))
    FROM buried b JOIN pg_stat_activity a
        ON (a.pid = b.session AND a.backend_start = b.since)
        OR (a.application_name = b.name AND length(b.name) < 64  -- longer ones are cut off, and name several processes
            AND a.datname = current_database() AND a.client_addr::text IS NOT DISTINCT FROM b.address)
"""
"""One statement that waits for no writer, since the worker may have been stopped in the middle of a write. It ends all
sessions of that process: what it had begun to write is undone, and its locks are free."""


class BuriedError(StorageError):
    """The worker was declared dead, and others go on with its runs; stop it, and start a new one."""


class Worker(BaseModel):
    """A process that takes up runs. `silent_s` are the seconds since its last beat, by the database's clock."""

    model_config = ConfigDict(frozen=True)

    id: str
    host: str
    pid: int
    concurrency: int
    started_at: datetime
    beat_at: datetime
    beats: int
    silent_s: float = 0.0
    left_at: datetime | None
    buried_at: datetime | None
    buried_by: str | None
    runs: tuple[str, ...] = ()
    """What it is at work on."""

    @property
    def name(self) -> str:
        return f"{self.host}:{self.pid}"

    @property
    def gone(self) -> bool:
        return self.left_at is not None or self.buried_at is not None


class Workers:
    """One process joins once; the others it watches.

    A worker that died is seen by its lock, which ended with it. One that was stopped, or whose host is cut off, is seen
    by PostgreSQL's end of its session, or by beats that stop. Silence is counted by whoever watches, look by look, so
    no clock of any host or database has a say in it, and neither has a pause of the watcher or the database. On
    SQLite, which is one host, a worker that is stopped keeps its runs until it goes on or is killed.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._own: str | None = None
        self._lock: Lock | None = None
        self._watched: dict[str, _Watch] = {}

    def join(self, concurrency: int) -> Worker:
        """Enters this process; it beats every `BEAT_S` from now on, and leaves at its end."""
        if self._own is not None:
            raise StorageError(f"this process is worker {self._own} already")
        if not self._records.audit.ours():
            raise StorageError(
                f"the record was written with another signing key than {self._records.key.path}; copy that of the host"
                " that began the project (docs/scale.md)"
            )
        own = f"w-{secrets.token_hex(6)}"
        self._lock = self._take(own)
        with self._records.change() as change:
            long_ago = change.now - KEPT
            gone = or_(col(WorkerRow.left_at) < long_ago, col(WorkerRow.buried_at) < long_ago)
            change.session.connection().execute(delete(WorkerRow).where(gone))
            row = WorkerRow(
                id=own,
                host=socket.gethostname(),
                pid=os.getpid(),
                concurrency=concurrency,
                started_at=change.now,
                beat_at=change.now,
            )
            change.session.add(row)
            change.note("worker_joined", f"worker:{own}", actor=own, data={"host": row.host, "pid": row.pid})
        self._own = own
        self.beat()
        return _worker(row)

    def beat(self) -> None:
        """Says that this process lives. Raises `BuriedError` where it was declared dead: it must do nothing more.

        Where the session of its locks was lost, it opens a new one and lives on; the leases of the old one stay lost.
        """
        own = self._joined()
        if self._lock is None or not self._lock.held:
            self._lock = self._take(own)
        if isinstance(self._lock, SessionLock):
            known = bool(self._lock.ask(BEAT, id=own))
        else:
            with self._records.change() as change:
                lives = (col(WorkerRow.id) == own, *_alive())
                beaten = change.session.connection().execute(
                    update(WorkerRow).where(*lives).values(beats=WorkerRow.beats + 1, beat_at=change.now)
                )
                known = beaten.rowcount == 1
        if not known:
            raise BuriedError(
                f"worker {own} was declared dead after it was not heard of, and others go on with its runs; stop this"
                " process and start a new one"
            )

    def leave(self) -> None:
        """It takes up no more runs, and holds no lease any longer."""
        own, self._own = self._joined(), None
        with self._records.change() as change:
            mine = (col(WorkerRow.id) == own, *_alive())
            change.session.connection().execute(update(WorkerRow).where(*mine).values(left_at=change.now))
            change.note("worker_left", f"worker:{own}", actor=own)
        if self._lock is not None:
            self._lock.free()
            self._lock = None
        self._forget(own)

    def dead(self, after_s: float = DEAD_S) -> list[Worker]:
        """Those whose lock ended, at once; and those that were seen silent for `after_s` here, look by look.

        Call it every few seconds: however long ago the last look was, it counts for a quarter of `after_s` at most.
        """
        if after_s < 2 * TRUST_S:
            raise StorageError(f"nobody is declared dead before {2 * TRUST_S:.0f} seconds")
        rows = [
            row
            for row in self._rows()
            if row.id != self._own and row.left_at is None and row.buried_at is None
        ]
        ended = self._records.locks.free_of([_lock_name(row.id) for row in rows]) if rows else set()
        here = self._server()
        self._watched = {row.id: self._watched.get(row.id) or _Watch(row.beats) for row in rows}
        found: list[Worker] = []
        for row in rows:
            silent_s = self._watched[row.id].look(row.beats, longest_s=after_s / 4)
            # After the server's own end all locks are gone, and their workers take them anew with their next beat.
            gone = _lock_name(row.id) in ended and row.server == here
            if gone or (silent_s >= after_s and not self._records.database.is_sqlite):
                found.append(_worker(row))
        return found

    def bury(self, worker: Worker) -> bool:
        """Declares it dead, unless it has beaten since it was looked at. True for one caller over all hosts: who takes
        over its work. Its sessions are ended and its locks free when this returns.
        """
        if self._records.database.is_sqlite:
            won = self._bury_row(worker)
        else:
            values = {"id": worker.id, "beats": worker.beats, "by": self._own or SYSTEM}
            ((won, _),) = self._ask(BURY, **values)
        if won:
            self._await_end(worker.id)
            self._forget(worker.id)
            with self._records.change() as change:
                data: dict[str, Any] = {"host": worker.host, "pid": worker.pid}
                change.note("worker_buried", f"worker:{worker.id}", actor=self._own or SYSTEM, data=data)
        return bool(won)

    def all(self, *, gone: bool = False) -> list[Worker]:
        """The oldest first, and what each is at work on; those that are `gone` too, for some days."""
        rows = [row for row in self._rows() if gone or (row.left_at is None and row.buried_at is None)]
        runs = [lease_name(run) for run in self._running()]
        at_work: dict[str, list[str]] = {}
        for name, holder in self._records.locks.holders(runs).items() if runs else ():
            at_work.setdefault(holder, []).append(name.rpartition("/")[2])
        now = self._now()
        return [_worker(row, now=now, runs=at_work.get(f"{row.host}:{row.pid}", ())) for row in rows]

    def _joined(self) -> str:
        if self._own is None:
            raise StorageError("this process is no worker; it has to join first")
        return self._own

    def _take(self, own: str) -> Lock:
        """Its own lock. Who looks whether it is free has it for the time of the look."""
        give_up = time.monotonic() + FREED_S
        while (lock := self._records.locks.take(_lock_name(own))) is None:
            if time.monotonic() > give_up:
                raise BuriedError(
                    f"worker {own} finds its lock in other hands; stop this process and start a new one"
                )
            time.sleep(0.05)
        return lock

    def _bury_row(self, worker: Worker) -> bool:
        with self._records.change() as change:
            as_seen = (col(WorkerRow.id) == worker.id, col(WorkerRow.beats) == worker.beats, *_alive())
            buried = change.session.connection().execute(
                update(WorkerRow).where(*as_seen).values(buried_at=change.now, buried_by=self._own or SYSTEM)
            )
            return buried.rowcount == 1

    def _await_end(self, worker: str) -> None:
        give_up = time.monotonic() + FREED_S
        while not self._records.locks.free_of([_lock_name(worker)]) and time.monotonic() < give_up:
            time.sleep(0.02)

    def _forget(self, worker: str) -> None:
        if isinstance(self._records.locks, FileLocks):
            with suppress(OSError):
                self._records.locks.path(_lock_name(worker)).unlink()

    def _rows(self) -> list[WorkerRow]:
        with self._records.database.read() as session:
            return list(
                session.exec(select(WorkerRow).order_by(col(WorkerRow.started_at), col(WorkerRow.id)))
            )

    def _running(self) -> list[str]:
        with self._records.database.read() as session:
            return list(session.exec(select(RunRow.id).where(RunRow.status == RunStatus.RUNNING)))

    def _server(self) -> str | None:
        if self._records.database.is_sqlite:
            return None
        ((server,),) = self._ask("SELECT extract(epoch FROM pg_postmaster_start_time())::text")
        return str(server)

    def _now(self) -> datetime:
        if self._records.database.is_sqlite:
            return self._records.clock()
        ((now,),) = self._ask("SELECT clock_timestamp()")
        assert isinstance(now, datetime)
        return now

    def _ask(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        locks = self._records.locks
        assert isinstance(locks, SessionLocks)
        return locks.question(query, **values)


class _Watch:
    """How long a worker has been silent, as far as it was looked at."""

    def __init__(self, beats: int) -> None:
        self._beats, self._at, self._silent_s = beats, now_s(), 0.0

    def look(self, beats: int, *, longest_s: float) -> float:
        now = now_s()
        same = beats == self._beats
        self._silent_s = self._silent_s + min(now - self._at, longest_s) if same else 0.0
        self._beats, self._at = beats, now
        return self._silent_s


def _alive() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return col(WorkerRow.left_at).is_(None), col(WorkerRow.buried_at).is_(None)


def _lock_name(worker: str) -> str:
    return f"workers/{worker}"


def _worker(row: WorkerRow, *, now: datetime | None = None, runs: Iterable[str] = ()) -> Worker:
    silent_s = max((now - row.beat_at).total_seconds(), 0.0) if now else 0.0
    facts = {name: getattr(row, name) for name in Worker.model_fields if name not in {"silent_s", "runs"}}
    return Worker(**facts, silent_s=silent_s, runs=tuple(sorted(runs)))
