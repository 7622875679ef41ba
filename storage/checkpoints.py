"""LangGraph's checkpoints, in a database of their own beside the domain's."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import URL

from karkas.policies.errors import StorageError
from karkas.storage.database import BUSY_SECONDS, conninfo, database_url
from karkas.storage.keys import KEY, SigningKey

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from psycopg import AsyncConnection

    from karkas.storage.filed import SqliteCheckpoints

SETUP_LOCK = 0x6B61726B6370

CONNECTIONS = 8
"""To PostgreSQL, of all runs of a process together. Measured: eight savers on one pool give twice the rate of one."""


class Checkpointers:
    """The checkpointer of all runs of a process: one connection to SQLite, a few to PostgreSQL."""

    def __init__(self, folder: Path, key: SigningKey, url: URL) -> None:
        self._folder, self._key, self._url = folder, key, url
        self._lock = Lock()
        self._file: SqliteCheckpoints | None = None
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}
        self._made = False
        """Whether PostgreSQL has the tables."""

    @asynccontextmanager
    async def __call__(self) -> "AsyncIterator[BaseCheckpointSaver[str]]":
        """`folder/checkpoints.db`, or tables beside the store's; sealed with the signing key."""
        from karkas.storage.sealing import SealedSerializer

        if self._url.get_backend_name() != "sqlite":
            from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

            url, serde = conninfo(self._url), SealedSerializer(self._key)
            async with self._pooled(url) as shared:
                async with shared.first:
                    if not self._made:
                        async with AsyncPostgresSaver.from_conn_string(url) as saver:
                            await _set_up(saver)
                        self._made = True
                # One each, since a saver takes one call at a time.
                yield AsyncPostgresSaver(shared.pool, serde=serde)
            return
        path = self._folder / "checkpoints.db"
        try:
            opened = self._file
            if opened is None or not opened.is_at(path):
                opened = await asyncio.to_thread(self._opened, path)
            async with opened.for_one() as saver:
                yield saver
        except sqlite3.DatabaseError as error:
            raise StorageError(
                f"the checkpoints {path} cannot be used: {error}; restore them from a backup, or move the file away"
                " and begin the runs anew (decisions and permits are not in it)"
            ) from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @asynccontextmanager
    async def _pooled(self, url: str) -> "AsyncIterator[_Pool]":
        """The connections of all runs in this event loop, closed with the last of them."""
        loop = asyncio.get_running_loop()
        with self._lock:
            shared = self._pools.setdefault(loop, _Pool(url))
            shared.users += 1
        try:
            await shared.pool.open()
            yield shared
        finally:
            with self._lock:
                shared.users -= 1
                last = not shared.users
                if last:
                    del self._pools[loop]
            if last:
                await shared.pool.close()

    def _opened(self, path: Path) -> "SqliteCheckpoints":
        from karkas.storage.filed import SqliteCheckpoints

        with self._lock:
            if self._file is not None and not self._file.is_at(path):
                self.close()  # it was moved away, or restored from a backup
            if self._file is None:
                self._file = SqliteCheckpoints(path, self._key)
            return self._file


class _Pool:
    def __init__(self, url: str) -> None:
        from psycopg.rows import dict_row
        from psycopg_pool import AsyncConnectionPool

        self.users = 0
        self.first = asyncio.Lock()
        self.pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=CONNECTIONS,
            timeout=BUSY_SECONDS,
            open=False,
            # As the saver makes its own.
            kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
        )


@asynccontextmanager
async def open_checkpointer(
    folder: Path, url: str | None = None
) -> "AsyncIterator[BaseCheckpointSaver[str]]":
    """The checkpointer of a store that is not open; of an open one there is `Store.checkpoints`."""
    opened = Checkpointers(folder, SigningKey.load(folder / KEY), database_url(folder, url))
    try:
        async with opened() as saver:
            yield saver
    finally:
        opened.close()


async def _set_up(saver: "AsyncPostgresSaver") -> None:
    """Makes the tables. Two at once would fail, so one waits; polling, since a waiting statement would block the
    other's `CREATE INDEX CONCURRENTLY`.
    """
    connection = cast("AsyncConnection[dict[str, bool]]", saver.conn)
    for _ in range(BUSY_SECONDS * 10):
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s) AS free", [SETUP_LOCK])
        answer = await cursor.fetchone()
        if answer is not None and answer["free"]:
            break
        await asyncio.sleep(0.1)
    else:
        raise StorageError(
            f"another process has been making the checkpoint tables for {BUSY_SECONDS} seconds"
        )
    try:
        await saver.setup()
    finally:
        await connection.execute("SELECT pg_advisory_unlock(%s)", [SETUP_LOCK])
