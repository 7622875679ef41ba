"""Leases: one process at a time advances a run. A lease ends with its process, so a crash leaves none behind."""

from collections.abc import Iterator
from contextlib import contextmanager

from karkas.policies.errors import StorageError
from karkas.storage.locks import Lock, Locks


class LeaseError(StorageError):
    """The run is being advanced by another process; wait for it, or stop that process."""


class LeaseLostError(StorageError):
    """The lease of the run is lost, so another process may be advancing it; nothing more is done for it here."""


class Lease:
    """Held while `held` is true; the ledger asks for it where a dead worker's claim is taken over."""

    def __init__(self, run: str, lock: Lock) -> None:
        self.run = run
        self._lock = lock

    @property
    def held(self) -> bool:
        return self._lock.held

    def check(self) -> None:
        """Raises `LeaseLostError` unless the run is this process's now. To be called before whatever another process
        must not do too: a checkpoint, a model call, an effect.

        It looks at a clock and at a socket. Only where PostgreSQL was not heard of for `TRUST_S`, because this
        process or its host was stopped, say, it asks; that may take ten seconds where the server is not reached.
        """
        if not self._lock.sure():
            raise LeaseLostError(
                f"the lease of run {self.run} is lost: this process was out of touch, or declared dead. Another one"
                " goes on with the run, so nothing more is done for it here"
            )


def lease_name(run: str) -> str:
    return f"leases/{run}"


@contextmanager
def lease(locks: Locks, run: str) -> Iterator[Lease]:
    """Raises `LeaseError`, which names the process that has it."""
    name = lease_name(run)
    lock = locks.take(name)
    if lock is None:
        holder = locks.holders([name]).get(name, "unknown")
        raise LeaseError(f"run {run} is being advanced by another process ({holder})")
    try:
        yield Lease(run, lock)
    finally:
        lock.free()
