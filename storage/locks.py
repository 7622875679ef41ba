"""Locks that end with their process: what they promise, and files that keep it on one host."""

import fcntl
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from karkas.policies.errors import StorageError
from karkas.storage.database import worker_name


class Lock(Protocol):
    """One lock in hand."""

    @property
    def held(self) -> bool:
        """Whether it is held for all that is known; asks nobody."""
        ...

    def sure(self) -> bool:
        """Whether it is held now; asks the server where that was not heard of for `TRUST_S`."""
        ...

    def free(self) -> None: ...


class Locks(Protocol):
    """Named locks, exclusive between processes and within one. Thread-safe, and not across a fork."""

    def take(self, name: str, *, shared: bool = False) -> Lock | None:
        """None where somebody has it. Raises `StorageError`."""
        ...

    def take_one(self, names: Sequence[str], *, unless: str | None = None) -> Lock | None:
        """The first of these that is free; none as long as anybody has the lock `unless`."""
        ...

    def free_of(self, names: Collection[str]) -> set[str]:
        """Those that nobody has."""
        ...

    def holders(self, names: Collection[str]) -> Mapping[str, str]:
        """Who has them, as `HOST:PID`."""
        ...

    def close(self) -> None: ...


class FileLock:
    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor: int | None = descriptor
        self._path = path

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def sure(self) -> bool:
        """Not where the file was taken away, so that another process may have locked a new one of that name."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self._path))  # noqa: PTH116  asked 30 times a run
        except OSError:
            return False

    def free(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class FileLocks:
    """A `flock` on `folder/NAME.lock`, which holds the name of the process that has it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        return self._folder / f"{name}.lock"

    def take(self, name: str, *, shared: bool = False) -> FileLock | None:
        path = self.path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(f"no lock can be written in {path.parent}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if not shared:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, worker_name().encode(), 0)
        return FileLock(descriptor, path)

    def take_one(self, names: Sequence[str], *, unless: str | None = None) -> FileLock | None:
        if unless is not None and not self.free_of([unless]):
            return None
        return next(filter(None, map(self.take, names)), None)

    def free_of(self, names: Collection[str]) -> set[str]:
        return {name for name in names if self._is_free(name)}

    def holders(self, names: Collection[str]) -> Mapping[str, str]:
        found = {name: self.path(name) for name in names if not self._is_free(name)}
        return {name: path.read_text("ascii", "replace") or "unknown" for name, path in found.items()}

    def close(self) -> None:
        """Locks end with whoever took them."""

    def _is_free(self, name: str) -> bool:
        try:
            descriptor = os.open(self.path(name), os.O_RDWR)
        except FileNotFoundError:
            return True
        except OSError as error:
            raise StorageError(f"the lock {self.path(name)} cannot be read: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(descriptor)
