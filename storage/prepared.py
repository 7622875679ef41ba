"""Statements that every step of every run executes: put into SQL once, then given to the driver itself.

SQLAlchemy takes three to six times as long to execute one as SQLite. What it knows of a statement is kept: its words in
the database's dialect, and how values go in and come out.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Delete, Dialect, Insert, Select, Update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine
from sqlmodel import Session

Conversion = Callable[[Any], Any]

_WORDED = "karkas_worded"
"""Under which a dialect keeps the statements that were put into its words."""


class Prepared:
    """A statement whose words do not depend on its values, so without an `IN` of a list. `columns` are those that an
    INSERT or UPDATE without values is given, by their names.
    """

    def __init__(self, statement: Select[*tuple[Any, ...]] | Insert | Update | Delete, *columns: str) -> None:
        self._statement, self._columns = statement, columns

    def rows(self, session: Session, **values: Any) -> list[tuple[Any, ...]]:
        """What a SELECT finds. What the session has changed and not written is not seen."""
        connection = _connection(session)
        worded, cursor = self._execute(connection, values)
        try:
            found: list[tuple[Any, ...]] = cursor.fetchall()
        except connection.dialect.loaded_dbapi.Error as error:
            raise _told(connection, worded.sql, values, error) from error
        finally:
            cursor.close()
        if not any(worded.coming_out):
            return found
        return [
            tuple(
                value if convert is None or value is None else convert(value)
                for convert, value in zip(worded.coming_out, row, strict=True)
            )
            for row in found
        ]

    def first(self, session: Session, **values: Any) -> tuple[Any, ...] | None:
        return next(iter(self.rows(session, **values)), None)

    def change(self, session: Session, **values: Any) -> int:
        """Executes an INSERT, UPDATE or DELETE; how many rows it changed."""
        _, cursor = self._execute(_connection(session), values)
        try:
            return int(cursor.rowcount)
        finally:
            cursor.close()

    def _execute(self, connection: Connection, values: Mapping[str, Any]) -> "tuple[_Worded, Any]":
        worded = self._worded(connection.dialect)
        given = {**worded.given, **values}
        for name, convert in worded.going_in:
            given[name] = convert(given[name])
        driver, cursor = connection.connection, None
        try:
            cursor = driver.cursor()
            cursor.execute(
                worded.sql, given if worded.order is None else [given[name] for name in worded.order]
            )
        except connection.dialect.loaded_dbapi.Error as error:
            if cursor is not None:
                cursor.close()
            raise _told(connection, worded.sql, given, error) from error
        return worded, cursor

    def _worded(self, dialect: Dialect) -> "_Worded":
        """Kept with the dialect, which its conversions hold on to: so both go with the engine."""
        kept: dict[Prepared, _Worded] = vars(dialect).setdefault(_WORDED, {})
        if self not in kept:
            kept[self] = _worded(self._statement, self._columns, dialect)
        return kept[self]


def _told(connection: Connection, sql: str, given: Mapping[str, Any], error: Any) -> BaseException:
    """A driver's error as SQLAlchemy tells it, so that whoever handles its errors handles this one."""
    dialect = connection.dialect
    lost = dialect.is_disconnect(error, connection.connection.dbapi_connection, None)
    if lost:
        connection.invalidate(error)
    told: BaseException = DBAPIError.instance(
        sql,
        dict(given),
        error,
        dialect.loaded_dbapi.Error,
        connection_invalidated=lost,
        dialect=dialect,
    )
    return told


def _connection(session: Session) -> Connection:
    """That of the session; one that was made for a connection need not be asked, which takes as long as a statement.
    Unless its transaction is undone already: what is written then would be in none, and the session refuses.
    """
    bound = session.bind
    return bound if isinstance(bound, Connection) and bound.in_transaction() else session.connection()


class _Worded(NamedTuple):
    """A statement in a dialect."""

    sql: str
    order: tuple[str, ...] | None
    """The names of the values, where the driver takes them in a row."""
    given: dict[str, Any]
    """The values that the statement itself holds."""
    going_in: tuple[tuple[str, Conversion], ...]
    coming_out: tuple[Conversion | None, ...]


def _worded(
    statement: Select[*tuple[Any, ...]] | Insert | Update | Delete, columns: tuple[str, ...], dialect: Dialect
) -> _Worded:
    compiled: Any = statement.compile(dialect=dialect, column_keys=list(columns) or None)
    values: dict[str, Any] = {name: bound for bound, name in compiled.bind_names.items()}
    going_in = {name: _of(bound.type, dialect).bind_processor(dialect) for name, bound in values.items()}
    selected = statement.selected_columns if isinstance(statement, Select) else ()
    return _Worded(
        sql=str(compiled),
        order=tuple(compiled.positiontup) if compiled.positional else None,
        given={name: bound.effective_value for name, bound in values.items() if not bound.required},
        going_in=tuple((name, convert) for name, convert in going_in.items() if convert is not None),
        coming_out=tuple(_of(column.type, dialect).result_processor(dialect, None) for column in selected),
    )


def _of(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    return type_.dialect_impl(dialect)
