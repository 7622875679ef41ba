"""What is known about each server, in a file each, so that another terminal can see and stop it."""

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from karkas.server.process.command import ServeError
from karkas.server.process.group import Group


class State(StrEnum):
    STARTING = "starting"
    READY = "ready"
    FOUND = "found"
    """It ran already, so it is used and watched, and not stopped."""
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    LEFT = "left behind"
    """Its karkas was killed, and the server or a part of it lives on."""


ENDED = frozenset({State.STOPPED, State.FAILED, State.LEFT})


class Record(BaseModel):
    """One server as it stands. `pid` leads its process group, which began at `started` (ticks since boot)."""

    model_config = ConfigDict(frozen=True)

    name: str
    model: str
    base_url: str
    log: Path
    state: State
    detail: str = ""
    since: datetime
    supervisor: int = Field(gt=0)
    pid: int | None = Field(default=None, gt=1)
    started: int | None = None
    restarts: int = 0

    @property
    def group(self) -> Group | None:
        """None also where the machine was started since: whoever has that number now is somebody else."""
        if self.pid is None or self.since.timestamp() < _booted():
            return None
        return Group(self.pid, self.started)


class Watchbook:
    """The records of the servers of one project, in `folder/serve/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._records = folder / "serve"

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"serve-{quote(name, safe='')}.log"

    def write(self, record: Record) -> None:
        path = self.path(record.name, "json")
        fresh = path.with_suffix(".new")
        fresh.write_text(record.model_dump_json(), "utf-8")
        fresh.replace(path)

    def last(self, name: str) -> Record | None:
        """What was written last, by a karkas that may be gone."""
        try:
            return Record.model_validate_json(self.path(name, "json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def read(self, name: str) -> Record | None:
        """How it stands, seen from a process that does not look after it."""
        record = self.last(name)
        if record is None or record.state in ENDED or self.is_held(name):
            return record
        left = record.group is not None and bool(record.group.members())
        state, detail = (
            (State.LEFT, "its karkas was killed") if left else (State.STOPPED, "karkas was killed")
        )
        return record.model_copy(update={"state": state, "detail": detail})

    def names(self) -> list[str]:
        """Of all servers that were ever looked after here."""
        return sorted(unquote(path.stem) for path in self._records.glob("*.json"))

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """One process at a time looks after a server; the lock goes with the process."""
        self._records.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path(name, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                record = self.read(name)
                by = f" (pid {record.supervisor})" if record else ""
                raise ServeError(
                    f"another karkas serve{by} looks after {name} already; see it with `karkas serve --status`, end it"
                    f" with `karkas serve --stop {name}`"
                ) from error
            yield
        finally:
            os.close(descriptor)

    def is_held(self, name: str) -> bool:
        try:
            descriptor = os.open(self.path(name, "lock"), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def path(self, name: str, kind: str) -> Path:
        return self._records / f"{quote(name, safe='')}.{kind}"


def _booted() -> float:
    """Seconds since the epoch at which this machine was started; 0 where the system does not say."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else 0.0
