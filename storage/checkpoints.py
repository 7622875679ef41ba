"""LangGraph's checkpoints, in a database of their own beside the domain's."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from karkas.policies.errors import StorageError
from karkas.storage.database import database_url

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver


@asynccontextmanager
async def open_checkpointer(
    folder: Path, url: str | None = None
) -> "AsyncIterator[BaseCheckpointSaver[str]]":
    """`folder/checkpoints.db`, or the tables that opening the store made in PostgreSQL."""
    if url is None or database_url(folder, url).get_backend_name() == "sqlite":
        import aiosqlite
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        path = folder / "checkpoints.db"
        try:
            async with aiosqlite.connect(path) as connection:
                # NORMAL: a power cut may repeat nodes, which the ledger makes harmless, at five times the rate.
                await connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
                saver = AsyncSqliteSaver(connection)
                await saver.setup()
                yield saver
        except sqlite3.DatabaseError as error:
            raise StorageError(
                f"the checkpoints {path} cannot be used: {error}; restore them from a backup, or move the file away"
                " and begin the runs anew (decisions and permits are not in it)"
            ) from error
    else:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

        async with AsyncPostgresSaver.from_conn_string(libpq_url(folder, url)) as saver:
            yield saver


def libpq_url(folder: Path, url: str) -> str:
    return database_url(folder, url).set(drivername="postgresql").render_as_string(hide_password=False)
