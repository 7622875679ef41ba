"""LangGraph's checkpoints, in a database of their own beside the domain's."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, cast

from karkas.policies.errors import StorageError
from karkas.storage.database import BUSY_SECONDS, database_url, enter_wal
from karkas.storage.keys import KEY, SigningKey

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from psycopg import AsyncConnection

SETUP_LOCK = 0x6B61726B6370


@asynccontextmanager
async def open_checkpointer(
    folder: Path, url: str | None = None
) -> "AsyncIterator[BaseCheckpointSaver[str]]":
    """`folder/checkpoints.db`, or the tables that opening the store made in PostgreSQL; sealed with the signing key."""
    from karkas.storage.sealing import SealedSerializer

    serde = SealedSerializer(SigningKey.load(folder / KEY))
    if url is None or database_url(folder, url).get_backend_name() == "sqlite":
        import aiosqlite
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        path = folder / "checkpoints.db"
        try:
            with closing(sqlite3.connect(path)) as first:
                enter_wal(first.execute)
            async with aiosqlite.connect(path, timeout=BUSY_SECONDS) as connection:
                # NORMAL: a power cut may repeat nodes, which the ledger makes harmless, at five times the rate.
                await connection.execute("PRAGMA synchronous = NORMAL")
                saver = AsyncSqliteSaver(connection, serde=serde)
                await saver.setup()
                yield saver
        except sqlite3.DatabaseError as error:
            raise StorageError(
                f"the checkpoints {path} cannot be used: {error}; restore them from a backup, or move the file away"
                " and begin the runs anew (decisions and permits are not in it)"
            ) from error
    else:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

        async with AsyncPostgresSaver.from_conn_string(libpq_url(folder, url), serde=serde) as postgres:
            await _set_up(postgres)
            yield postgres


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


def libpq_url(folder: Path, url: str) -> str:
    return database_url(folder, url).set(drivername="postgresql").render_as_string(hide_password=False)
