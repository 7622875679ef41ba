"""The database: one engine, short transactions, one writer at a time, and errors that say what to do next."""

import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from json import JSONDecodeError
from pathlib import Path
from threading import Lock, local
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlmodel import Session

from karkas.policies.errors import StorageError

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

BUSY_SECONDS = 30
"""How long a transaction waits for another writer before it gives up."""

SILENT_SECONDS = 20
"""After that PostgreSQL ends the session of a writer that asks nothing: its host is stopped or has vanished, and all
others wait for it. Shorter than what they wait.
"""

WRITER_LOCK = 0x6B61726B6173
"""The PostgreSQL advisory lock that every writing transaction takes first ("karkas" in ASCII)."""


class Database:
    """SQLite by default, PostgreSQL by URL. Safe to share between threads, not across a fork.

    Writers are serialised on both: `BEGIN IMMEDIATE` on SQLite, an advisory lock on PostgreSQL. So a transaction
    reads what it then changes, no two of them can deadlock, and the audit chain cannot fork.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.after_commit: list[Callable[[Session], None]] = []
        self._here = local()
        self._turn = Lock()
        self._engine, self._writing = _sqlite_engines(url) if self.is_sqlite else _postgres_engines(url)

    @contextmanager
    def read(self) -> Iterator[Session]:
        group = self._group
        with self._translated():
            if group is None:
                with Session(self._engine, expire_on_commit=False) as session:
                    yield session
                return
            try:
                with group.part(writes=False) as session:
                    yield session
            except SQLAlchemyError:
                group.spoil()
                raise

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises. In `together`, a part of it."""
        group = self._group
        if group is not None:
            with self._translated(), group.part(writes=True) as session:
                yield session
            return
        with self._translated(), self._in_turn(), Session(self._writing, expire_on_commit=False) as session:
            with session.begin():
                session.connection()  # waits its turn now, so that what follows sees its own time and rows
                yield session
            for hook in self.after_commit:
                hook(session)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What this thread reads and writes in the block is one transaction, committed at its end.

        Nothing that was changed may be told to anybody before that. Raises `SpoiltError` where a part of it raised:
        then nothing was written, and each part is to be done by itself. `StorageError` where the commit failed.
        """
        with _Group(self._engine, self._writing, self._in_turn) as group:
            self._here.group = group
            try:
                with self._translated():
                    yield
                    group.commit()
            finally:
                self._here.group = None
            if group.writes:
                for hook in self.after_commit:
                    hook(group.session)

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Lets the writers of this process wait for one another in turn; SQLite has each look again and again."""
        if not self.is_sqlite:
            yield
            return
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise StorageError(SQLITE_TROUBLE["locked"].format(where=self.url.database))
        try:
            yield
        finally:
            self._turn.release()

    @property
    def _group(self) -> "_Group | None":
        return getattr(self._here, "group", None)

    @contextmanager
    def connection(self, *, write: bool = False) -> Iterator[Connection]:
        engine = self._writing if write else self._engine
        with self._translated(), engine.begin() as connection:
            yield connection

    @contextmanager
    def detached(self) -> Iterator[Connection]:
        """A connection of its own that is in no transaction and is closed, not kept, afterwards."""
        with self._translated(), self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            try:
                yield connection
            finally:
                connection.invalidate()

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise StorageError(_explained(error, self.url)) from error
        except JSONDecodeError as error:
            raise StorageError(
                f"{self.url.render_as_string()} holds a row that karkas did not write: {error}; restore a backup"
            ) from error


class SpoiltError(StorageError):
    """A part of a transaction raised, so that all of it was undone; each part is to be done by itself."""


class _Group:
    """One transaction of several parts: begun as a reading one, anew as a writing one when the first part writes.

    They share a session, for making one takes longer than most of what is asked in it; each begins without the rows
    of the one before, since a part may write past the session.
    """

    def __init__(
        self, reading: Engine, writing: Engine, in_turn: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._engines, self._in_turn = (reading, writing), in_turn
        self._open = ExitStack()
        self._session: Session | None = None
        self._spoilt = False
        self._depth = 0
        self.writes = False

    @property
    def session(self) -> Session:
        """The one of the parts. What they know in its `info` holds as long as the transaction."""
        if self._session is None:
            connection = self._open.enter_context(self._engines[self.writes].connect())
            connection.begin()
            self._session = self._open.enter_context(
                Session(connection, expire_on_commit=False, join_transaction_mode="rollback_only")
            )
        return self._session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()  # rolls back what was not committed

    @contextmanager
    def part(self, *, writes: bool) -> Iterator[Session]:
        session = self._to_write() if writes else self.session
        self._depth += 1
        try:
            yield session
            if writes:
                session.flush()
        except BaseException:
            self._spoilt |= writes
            raise
        finally:
            self._depth -= 1
            if not self._depth:
                session.expunge_all()

    def spoil(self) -> None:
        """A statement failed, whatever becomes of its error. PostgreSQL then undoes the transaction when it is
        committed, and says nothing; SQLite may have undone it already.
        """
        self._spoilt = True

    def commit(self) -> None:
        if self._spoilt:
            raise SpoiltError("a part of the transaction failed; nothing was written")
        if self.writes:
            connection = self.session.connection()
            self._check(connection)
            connection.commit()

    def _to_write(self) -> Session:
        if not self.writes:
            self._open.close()
            self._session, self.writes = None, True
            self._open.enter_context(self._in_turn())
        if self._spoilt:
            raise SpoiltError("an earlier part of the transaction failed")
        return self.session

    @staticmethod
    def _check(connection: Connection) -> None:
        """Some faults make SQLite undo a whole transaction; what is written after that would be in none. PostgreSQL
        undoes one in which something failed, and calls that a commit.
        """
        driver: Any = None if connection.invalidated else connection.connection.driver_connection
        if isinstance(driver, sqlite3.Connection):
            sound = driver.in_transaction
        else:
            sound = driver is not None and driver.info.transaction_status.name == "INTRANS"
        if not sound:
            raise StorageError("the transaction was broken off; nothing was half written, repeat it")


def database_url(folder: Path, url: str | None) -> URL:
    """The URL in use: `folder/karkas.db` where none is given; PostgreSQL always through psycopg 3."""
    if url is None:
        return URL.create("sqlite", database=str(folder / "karkas.db"))
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StorageError(f"the database URL {url!r} cannot be read: {error}") from error
    match parsed.get_backend_name():
        case "sqlite" if parsed.database and parsed.database != ":memory:":
            return parsed
        case "postgresql":
            return parsed.set(drivername="postgresql+psycopg")
        case other:
            raise StorageError(
                f"karkas keeps its records in a SQLite file or in PostgreSQL, not in {other!r}"
                f" ({parsed.render_as_string()}); give sqlite:///FILE or postgresql://USER@HOST/NAME"
            )


def enter_wal(execute: Callable[[str], object]) -> None:
    """Puts a SQLite file in WAL mode. Where another process does so now, SQLite fails at once instead of waiting."""
    give_up = monotonic() + BUSY_SECONDS
    while True:
        try:
            execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or monotonic() > give_up:
                raise
            sleep(0.02)
        else:
            return


def conninfo(url: URL) -> str:
    """For libpq, whose URLs are not those of SQLAlchemy: it takes a `+` as it stands. Named as all connections of this
    process, so that they end when it is declared dead.
    """
    from psycopg.conninfo import make_conninfo

    parts = {**url.translate_connect_args(username="user", database="dbname"), **url.query}
    return make_conninfo(**parts, application_name=f"karkas {worker_name()}")


def worker_name() -> str:
    """How other processes see this one: `HOST:PID`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _sqlite_engines(url: URL) -> tuple[Engine, Engine]:
    """For what reads, and for what writes; both take their connections from one pool."""
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    # The driver would begin transactions by itself, late and deferred: a reader that then writes could not wait
    # for another writer and would fail at once. So it is told not to, and the dialect says it.
    @event.listens_for(engine, "connect")
    def configure(connection: "DBAPIConnection", _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        # FULL: a decision and a started action must survive a power cut; measured, it costs 0.4 ms a transaction.
        enter_wal(cursor.execute)
        for pragma in ("synchronous = FULL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    # Not as an event of the engine: with one of those, every statement is announced to everybody.
    writing = create_engine(url, pool=engine.pool)
    for one, statement in ((engine, "BEGIN"), (writing, "BEGIN IMMEDIATE")):
        setattr(one.dialect, "do_begin", _says(statement))  # noqa: B010
    return engine, writing


def _says(statement: str) -> Callable[[PoolProxiedConnection], None]:
    def begin(connection: PoolProxiedConnection) -> None:
        cursor = connection.cursor()
        cursor.execute(statement)
        cursor.close()

    return begin


_TURN = text(
    "SELECT set_config('idle_in_transaction_session_timeout', :silent, true), pg_advisory_xact_lock(:key)"
)


def _postgres_engines(url: URL) -> tuple[Engine, Engine]:
    """For what reads, and for what writes."""
    options = {
        "application_name": f"karkas {worker_name()}",
        "connect_timeout": 10,
        "options": f"-c lock_timeout={BUSY_SECONDS}s {url.query.get('options', '')}",
    }
    try:
        engine = create_engine(
            url, connect_args=options, isolation_level="READ COMMITTED", pool_pre_ping=True
        )
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise StorageError("PostgreSQL needs a driver: `pip install 'karkas[postgres]'`") from error

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("karkas_write", False):
            connection.execute(_TURN, {"key": WRITER_LOCK, "silent": f"{SILENT_SECONDS}s"})

    # A reader sees one state of the store, as on SQLite; a writer must see what was there when its turn came.
    reading = engine.execution_options(isolation_level="REPEATABLE READ")
    return reading, engine.execution_options(karkas_write=True)


SQLITE_TROUBLE = {
    "file is not a database": "{where} is not a karkas database; move it away, or restore it from a backup",
    "malformed": "{where} is damaged; restore it from a backup (`sqlite3 {where} .recover` saves what is left)",
    "disk is full": "the disk that holds {where} is full; free some space and repeat: nothing was half written",
    "readonly database": "{where} cannot be written; check the permissions of the file and of its folder",
    "unable to open": "{where} cannot be opened; check that its folder exists and may be written",
    "locked": f"{{where}} has been busy for {BUSY_SECONDS} seconds; see which other process is at work",
    "disk i/o error": "{where} cannot be read or written (I/O error); check the disk and the folder's permissions",
}


def _explained(error: SQLAlchemyError, url: URL) -> str:
    cause = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    if isinstance(error, DBAPIError) and isinstance(error.orig, sqlite3.Error):
        for sign, words in SQLITE_TROUBLE.items():
            if sign in cause.lower():
                return words.format(where=url.database)
    where = url.database if url.get_backend_name() == "sqlite" else url.render_as_string()
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return f"the connection to {where} was lost: {cause.strip()}; nothing was half written, repeat it"
    if "connection" in cause.lower():
        return f"{where} cannot be reached: {cause.strip()}; check that the server runs and the URL is right"
    return f"the database {where} refused: {cause.strip()}"
