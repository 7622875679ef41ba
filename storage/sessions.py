"""Locks over many hosts: one PostgreSQL session for all of a process, whose end is the end of its locks."""

import select
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from threading import RLock
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import URL

from karkas.policies.errors import StorageError
from karkas.storage.database import conninfo

if TYPE_CHECKING:
    from psycopg import Connection

TRUST_S = 5.0
"""So long after its last answer a session counts as alive without being asked. Nobody is declared dead as early."""

HANG_UP = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR

SETTINGS = {
    # A host that vanished loses its locks after 10 + 3 * 5 seconds.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
"""What PostgreSQL is told for this session; names that its version does not know are left out."""

CLIENT = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""The same for our side, so that a question to a server that vanished ends (libpq's parameters)."""

log = structlog.get_logger("karkas.locks")


def now_s() -> float:
    """Seconds that no setting of a clock changes and no suspension stops (clock_gettime(2), CLOCK_BOOTTIME)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class _Session:
    """A PostgreSQL session, whose end is the end of its locks."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection
        self._socket = connection.fileno()
        self._lost = False
        self.heard_at = now_s()
        """When the last question that was answered was sent."""
        self.taken: dict[str, int] = {}
        """How often this process has each lock; an exclusive one once."""
        self.exclusive: set[str] = set()

    @property
    def alive(self) -> bool:
        if self._lost:
            return False
        line = select.poll()
        line.register(self._socket, HANG_UP)
        if line.poll(0):
            self.lose("the server hung up")
        return not self._lost

    def ask(self, query: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Raises `StorageError`; `alive` says whether the session is lost."""
        from psycopg import Error

        sent_at = now_s()
        try:
            cursor = self._connection.execute(query.encode(), values)
            rows = cursor.fetchall() if cursor.description else []
        except Error as error:
            if self._lost or self._connection.closed or self._connection.broken:
                self.lose(str(error).strip())
                raise StorageError(
                    f"the session that holds this process's locks was lost: {str(error).strip()}"
                ) from error
            raise StorageError(f"PostgreSQL gives no locks: {str(error).strip()}") from error
        self.heard_at = sent_at
        return rows

    def lose(self, why: str) -> None:
        if not self._lost:
            self._lost = True
            log.warning("locks_lost", locks=sorted(self.taken), reason=why)
        self.close()

    def close(self) -> None:
        self._lost = True
        with suppress(Exception):
            self._connection.close()


class SessionLock:
    def __init__(self, locks: "SessionLocks", session: _Session, name: str) -> None:
        self._locks, self._session, self._name = locks, session, name
        self._freed = False

    @property
    def held(self) -> bool:
        return not self._freed and self._session.alive

    def sure(self) -> bool:
        if not self.held:
            return False
        if now_s() - self._session.heard_at < TRUST_S:
            return True
        try:
            self.ask("SELECT 1")
        except StorageError:
            return False
        return True

    def ask(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Asks on the very session that holds the lock: where that answers, the lock is held."""
        return self._locks.ask(self._session, query, values)

    def free(self) -> None:
        if not self._freed:
            self._freed = True
            self._locks.give_back(self._session, self._name)


class SessionLocks:
    """Advisory locks of one session, which is opened with the first and anew after it was lost."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._mutex = RLock()
        self._session: _Session | None = None

    def take(self, name: str, *, shared: bool = False) -> SessionLock | None:
        with self._mutex:
            session = self._open()
            if name in session.exclusive or (name in session.taken and not shared):
                return None
            if name not in session.taken:
                mode = "_shared" if shared else ""
                query = f"SELECT pg_try_advisory_lock{mode}(%(key)s)"
                session, ((got,),) = self._ask(query, {"key": _key(name)})
                if not got:
                    return None
            return self._taken(session, name, shared=shared)

    def take_one(self, names: Sequence[str], *, unless: str | None = None) -> SessionLock | None:
        with self._mutex:
            session = self._open()
            if unless is not None and unless in session.taken:
                return None
            keys = {_key(name): name for name in names if name not in session.taken}
            query = "SELECT key FROM unnest(%(keys)s::bigint[]) key WHERE pg_try_advisory_lock(key) LIMIT 1"
            if unless is not None:
                # The tester's own lock ends with the statement.
                query = query.replace(
                    "WHERE pg", "WHERE CASE WHEN pg_try_advisory_xact_lock(%(unless)s) THEN pg"
                ).replace(" LIMIT", " ELSE false END LIMIT")
            session, rows = self._ask(query, {"keys": list(keys), "unless": _key(unless or "")})
            return self._taken(session, keys[rows[0][0]], shared=False) if rows else None

    def free_of(self, names: Collection[str]) -> set[str]:
        keys = {_key(name): name for name in names}
        query = "SELECT key FROM unnest(%(keys)s::bigint[]) key WHERE pg_try_advisory_xact_lock(key)"
        with self._mutex:
            session, rows = self._ask(query, {"keys": list(keys)})
            return {keys[key] for (key,) in rows} - session.taken.keys()

    def holders(self, names: Collection[str]) -> Mapping[str, str]:
        keys = {_key(name): name for name in names}
        query = (
            "SELECT (l.classid::bigint << 32) | l.objid::bigint AS key, a.application_name"
            " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.datname = current_database()"
        )
        with self._mutex:
            _, rows = self._ask(query, {})
        return {keys[key]: name.removeprefix("karkas ") for key, name in rows if key in keys}

    def question(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Asks outside of every transaction, on whatever session is alive."""
        with self._mutex:
            return self._ask(query, values)[1]

    def ask(self, session: _Session, query: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        with self._mutex:
            if not session.alive:
                raise StorageError("the session that holds this process's locks was lost")
            return session.ask(query, values)

    def give_back(self, session: _Session, name: str) -> None:
        with self._mutex:
            session.taken[name] -= 1
            if session.taken[name]:
                return
            del session.taken[name]
            shared = "" if name in session.exclusive else "_shared"
            session.exclusive.discard(name)
            if session.alive:
                with suppress(StorageError):  # then it is free, since the session is gone
                    session.ask(f"SELECT pg_advisory_unlock{shared}(%(key)s)", {"key": _key(name)})

    def close(self) -> None:
        with self._mutex:
            if self._session is not None:
                self._session.close()

    def _taken(self, session: _Session, name: str, *, shared: bool) -> SessionLock:
        session.taken[name] = session.taken.get(name, 0) + 1
        if not shared:
            session.exclusive.add(name)
        return SessionLock(self, session, name)

    def _ask(self, query: str, values: Mapping[str, Any]) -> tuple[_Session, list[tuple[Any, ...]]]:
        """Asks on the session of now; where that is found dead, on a new one, which has no locks yet."""
        session = self._open()
        try:
            return session, session.ask(query, values)
        except StorageError:
            if session.alive:
                raise
        session = self._open()
        return session, session.ask(query, values)

    def _open(self) -> _Session:
        if self._session is None or not self._session.alive:
            self._session = _Session(_connected(self._url))
        return self._session


def _connected(url: URL) -> "Connection[Any]":
    try:
        from psycopg import Error, connect
        from psycopg.conninfo import make_conninfo
    except ModuleNotFoundError as error:
        raise StorageError("PostgreSQL needs a driver: `pip install 'karkas[postgres]'`") from error
    try:
        connection = connect(make_conninfo(conninfo(url), **CLIENT), autocommit=True)
        for setting, value in SETTINGS.items():
            connection.execute(
                "SELECT set_config(name, %s, false) FROM pg_settings WHERE name = %s", (value, setting)
            )
    except Error as error:
        raise StorageError(
            f"{url.render_as_string()} cannot be reached: {str(error).strip()}; check that the server runs and has"
            " connections left"
        ) from error
    return connection


def _key(name: str) -> int:
    return int.from_bytes(sha256(f"karkas {name}".encode()).digest()[:8], "big", signed=True)
