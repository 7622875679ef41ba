"""The store: everything that a project remembers, behind one door."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

from pydantic import JsonValue

from karkas.policies.actions import Digest
from karkas.policies.errors import StorageError
from karkas.storage import replay
from karkas.storage.artifacts import Artifacts, SharedArtifacts
from karkas.storage.audit import Audit, newest
from karkas.storage.checkpoints import Checkpointers
from karkas.storage.database import Database, database_url
from karkas.storage.desk import Desk
from karkas.storage.doing import Doings
from karkas.storage.gates import Gates
from karkas.storage.grants import Grants
from karkas.storage.happened import Happened
from karkas.storage.journal import Journal
from karkas.storage.keys import KEY, SigningKey
from karkas.storage.lastwords import LastWords
from karkas.storage.ledger import Ledger
from karkas.storage.locks import FileLocks, Locks
from karkas.storage.nights import Nights
from karkas.storage.purses import Purses
from karkas.storage.records import Clock, Records
from karkas.storage.runs import Runs
from karkas.storage.schedules import Schedules
from karkas.storage.schema import migrate
from karkas.storage.sessions import SessionLocks
from karkas.storage.slots import Slots
from karkas.storage.waiting import Waiting
from karkas.storage.workers import Workers
from karkas.storage.zones import Zones

P = ParamSpec("P")
T = TypeVar("T")


class Store:
    """Synchronous and safe to share between threads. Every public method of its parts is one transaction.

    Async callers call them by `aside`. A process that forks opens its own.
    """

    def __init__(self, folder: Path, database: Database, key: SigningKey, clock: Clock) -> None:
        self.folder, self.key, self.clock = folder, key, clock
        self.database = database
        self.artifacts, self._shared = Artifacts(folder / "artifacts"), None
        if not database.is_sqlite:
            self._shared = Database(database.url)
            self.artifacts = SharedArtifacts(folder / "artifacts", self._shared)
        self.audit = Audit(database, key, folder / "audit.head")
        self.locks: Locks = FileLocks(folder) if database.is_sqlite else SessionLocks(database.url)
        words = LastWords(self.audit, key, folder / "audit.words")
        records = Records(folder, database, clock, key, self.artifacts, self.audit, self.locks, words)
        self._records = records
        self.zones, self.runs = Zones(records), Runs(records)
        self.gates, self.ledger, self.grants = Gates(records), Ledger(records), Grants(records)
        self.waiting, self.schedules, self.workers = Waiting(records), Schedules(records), Workers(records)
        self.slots = Slots(self.locks)
        self.happened, self.doings = Happened(records), Doings(records)
        self.journal, self.purses, self.nights = Journal(records), Purses(records), Nights(records)
        self.checkpoints = Checkpointers(folder, key, database.url)
        self.prompts: dict[str, Digest] = {}
        """Texts that agents were asked with and this process has stored: all runs are asked with the same few."""
        self._desk = Desk(database.together, name="store")
        others = {id(self.artifacts), id(self.slots), id(self.locks)}
        mine = [
            one for one in vars(self).values() if one is not None
        ]  # `None` is what plain functions belong to
        self._parts = {id(one) for one in mine if id(one) not in others}

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        url: str | None = None,
        clock: Clock = lambda: datetime.now(UTC),
        create: bool = False,
    ) -> "Store":
        """Opens the store in `folder` (a project's `.karkas`), bringing its schema up to date.

        `create` makes what is missing; without it a missing folder, key or database is a `StorageError`.
        """
        location = database_url(folder, url)
        file = Path(location.database or "") if location.get_backend_name() == "sqlite" else None
        try:
            if create:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif not folder.is_dir():
                raise StorageError(f"there is no store at {folder}; `karkas init` makes one")
            elif file is not None and not file.is_file():
                raise StorageError(
                    f"the database {file} is missing; restore a backup, or make a new one: `karkas init`"
                )
        except OSError as error:
            raise StorageError(
                f"{folder} cannot be opened: {error.strerror}; check its permissions"
            ) from error
        key_path = folder / KEY
        fresh = create and not key_path.exists()
        key = SigningKey.create(key_path) if fresh else SigningKey.load(key_path)
        database = Database(location)
        try:
            migrate(database)
            store = cls(folder, database, key, clock)
            if fresh:
                store._refuse_another_key()
        except BaseException:
            database.close()
            raise
        return store

    def verify(self) -> list[str]:
        """Names every break of the audit log, and every zone, run, gate, permit and grant that is not as it was signed,
        or not as the log left it.
        """
        parts: dict[str, Callable[[], Iterable[str]]] = {
            "the audit log": self.audit.verify,
            "the zones": self.zones.breaks,
            "the runs": self.runs.breaks,
            "the gates": self.gates.breaks,
            "the permits": self.ledger.breaks,
            "the grants": self.grants.breaks,
            "the rows beside the log": self._unlike_the_record,
        }
        found: list[str] = []
        for name, breaks in parts.items():
            try:
                found.extend(breaks())
            except Exception as error:  # noqa: BLE001  whatever a hand wrote there, it is a break and hides no other
                found.append(f"{name} cannot be read to the end: {type(error).__name__}: {error}")
        return found

    def _unlike_the_record(self) -> list[str]:
        with self.database.read() as session:
            return list(replay.breaks(session))

    def note(self, event: str, subject: str, *, actor: str, data: JsonValue = None) -> None:
        """Puts something on the record that changes nothing else here."""
        with self._records.change() as change:
            change.note(event, subject, actor=actor, data=data)

    def note_unless_lately(
        self, event: str, subject: str, *, within: timedelta, actor: str, data: JsonValue = None
    ) -> bool:
        """As `note`, where no such event is on the record since `within`, whichever process or host wrote it; tells
        whether it was noted.
        """
        with self._records.change() as change:
            last = newest(change.session, subject, event)
            if last is not None and datetime.fromisoformat(last.at) > change.now - within:
                return False
            change.note(event, subject, actor=actor, data=data)
            return True

    async def aside(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a method of the store, or anything else that waits, while the other coroutines go on. What is asked of
        the database at the same time is one transaction; whoever asked goes on when it is on the disk.
        """
        if id(getattr(call, "__self__", None)) in self._parts or call == self.note:
            return await self._desk.do(partial(call, *args, **kwargs))
        return await asyncio.to_thread(call, *args, **kwargs)

    async def at_once(self, call: Callable[[], T], *, lapses: bool = False) -> T:
        """What `call` gives, which asks the database several times in a row: one transaction, unless something in it
        fails. It must do nothing else that takes long, and may be called twice; where it `lapses`, it is not called
        once whoever asked was cancelled.
        """
        return await self._desk.do(call, lapses=lapses)

    def close(self) -> None:
        self.doings.close()
        self._desk.close()
        self.checkpoints.close()
        self.locks.close()
        self.database.close()
        if self._shared is not None:
            self._shared.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_another_key(self) -> None:
        """A new key beside old decisions would make all of them unprovable."""
        if not self.audit.ours():
            self.key.path.unlink()
            raise StorageError(
                f"{self.database.url.render_as_string()} was written with another signing key; restore that one to"
                f" {self.key.path}, from a backup or from the host that uses it"
            )
