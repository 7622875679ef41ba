"""LangGraph's checkpoints in a SQLite file, for all runs of a process: what they write at once is one transaction."""

import asyncio
import copy
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.sqlite import SqliteSaver

from karkas.storage.database import BUSY_SECONDS, enter_wal
from karkas.storage.desk import Desk
from karkas.storage.keys import SigningKey
from karkas.storage.sealing import SealedSerializer

T = TypeVar("T")


class SqliteCheckpoints(SqliteSaver):
    """LangGraph's own saver and tables, asked through a desk."""

    def __init__(self, path: Path, key: SigningKey) -> None:
        connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        super().__init__(connection, serde=SealedSerializer(key))
        try:
            enter_wal(connection.execute)
            # NORMAL: a power cut may repeat nodes, which the ledger makes harmless, at five times the rate.
            connection.execute("PRAGMA synchronous = NORMAL")
            self.setup()
            self._file = _identity(path)
        except BaseException:
            connection.close()
            raise
        self._desk = Desk(self._together, name="checkpoints")
        self._writing: defaultdict[str, list[asyncio.Future[None]]] = defaultdict(list)

    def is_at(self, path: Path) -> bool:
        """Whether this is still the file at `path`."""
        return _identity(path) == self._file

    @asynccontextmanager
    async def for_one(self) -> "AsyncIterator[SqliteCheckpoints]":
        """The same for one user, who alone is told that a write of theirs failed. Who is let go of writes no more."""
        mine = copy.copy(self)
        mine._writing = defaultdict(list)  # noqa: SLF001
        try:
            yield mine
        except BaseException:
            with suppress(Exception):  # what failed first is told
                await self._desk.do(lambda: None)  # done when all that was asked before is
            raise

    def close(self) -> None:
        self._desk.close()
        self.conn.close()

    @contextmanager
    def cursor(self, transaction: bool = True) -> Iterator[sqlite3.Cursor]:  # noqa: FBT001, FBT002
        del transaction  # the desk commits
        with closing(self.conn.cursor()) as cursor:
            yield cursor

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await self._do(config, partial(self.get_tuple, config))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return await self._do(config, partial(self.put, config, checkpoint, metadata, new_versions))

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Nobody waits for it: whoever reads or writes this run's next checkpoint does, or ends with an error."""
        written = self._desk.ask(partial(self.put_writes, config, writes, task_id, task_path))
        written.add_done_callback(_heard)
        self._writing[_thread(config)].append(written)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        listed: Callable[[], list[CheckpointTuple]] = lambda: list(  # noqa: E731
            self.list(config, filter=filter, before=before, limit=limit)
        )
        for found in await self._desk.do(listed):
            yield found

    async def adelete_thread(self, thread_id: str) -> None:
        await self._desk.do(partial(self.delete_thread, thread_id))

    async def _do(self, config: RunnableConfig, call: Callable[[], T]) -> T:
        before = self._writing.pop(_thread(config), ())
        found = await self._desk.do(call)
        for written in before:
            written.result()  # it is done, since it was asked before; here it is raised if it failed
        return found

    @contextmanager
    def _together(self) -> Iterator[None]:
        self.conn.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.conn.rollback()
            raise
        if not self.conn.in_transaction:  # some faults make SQLite undo all of it
            raise sqlite3.OperationalError("the transaction was broken off")
        self.conn.commit()


def _heard(written: "asyncio.Future[None]") -> None:
    """Whoever ended with an error was told of that one; asyncio need not tell of this one too."""
    if not written.cancelled():
        written.exception()


def _thread(config: RunnableConfig) -> str:
    return str(config["configurable"]["thread_id"])


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
