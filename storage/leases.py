"""Leases: one process at a time advances a run. A lease ends with its process, so a crash leaves none behind."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from sqlalchemy import text

from karkas.policies.errors import StorageError
from karkas.storage.database import Database


class LeaseError(StorageError):
    """The run is being advanced by another process; wait for it, or stop that process."""


class Lease:
    """Held while `held` is true; the ledger asks for it where a dead worker's claim is taken over."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.held = True


@contextmanager
def file_lease(folder: Path, run: str) -> Iterator[Lease]:
    """A `flock` on `folder/RUN.lock`, which holds the pid of the process that advances the run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / f"{run}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageError(f"no lease can be written in {folder}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise LeaseError(f"run {run} is being advanced by another process (pid {holder})") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield from _held(run)
    finally:
        os.close(descriptor)


@contextmanager
def postgres_lease(database: Database, run: str) -> Iterator[Lease]:
    """A session's advisory lock, on a connection of its own."""
    key = int.from_bytes(sha256(f"karkas lease {run}".encode()).digest()[:8], "big", signed=True)
    with database.detached() as connection:
        if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar_one():
            holder = connection.execute(
                text(
                    "SELECT a.application_name || ', pid ' || a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                    " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
                    " AND ((l.classid::bigint << 32) | l.objid::bigint) = :key"
                ),
                {"key": key},
            ).scalar()
            raise LeaseError(f"run {run} is being advanced by another process ({holder or 'unknown'})")
        yield from _held(run)


def _held(run: str) -> Iterator[Lease]:
    lease = Lease(run)
    try:
        yield lease
    finally:
        lease.held = False
