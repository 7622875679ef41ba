"""Statements given to the driver itself: they say, give and fail as SQLAlchemy's own way does."""

import gc
import weakref
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import BindParameter, bindparam, create_engine, delete, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, col

from karkas.policies.errors import StorageError
from karkas.policies.permits import PermitStatus
from karkas.storage import Permit, Run, RunStatus, Store
from karkas.storage.prepared import Prepared
from karkas.storage.records import amend, find, look, made, put
from karkas.storage.tables import PermitRow, RunRow, Table, WorkerRow, ZoneRow, table_of

EAST = timezone(timedelta(hours=9))
OF: BindParameter[str] = bindparam("of")
AT = datetime(2026, 3, 1, 23, 30, tzinfo=EAST)
VALUES: dict[str, Any] = {
    "workflow": "nul \x00, surrogate \ud800, ключ",
    "zone": None,
    "input": {"deep": [1, 2.5, None, {"ü": True}]},
    "options": {},
    "budget": {},
    "spent": {},
    "deadline": AT,
    "status": RunStatus.QUEUED.value,
    "result": None,
    "created_at": AT,
    "changed_at": AT,
}


@pytest.mark.parametrize("row", [RunRow, PermitRow, ZoneRow, WorkerRow])
def test_a_row_is_found_as_sqlalchemy_finds_it(
    store: Store, permitted: Callable[..., Permit], row: type[Table]
) -> None:
    permitted("a.md")
    store.workers.join(3)
    table = table_of(row)
    for query in (select(*table.c), select(*table.c).limit(1)):
        with store.database.read() as session:
            plain = [tuple(one) for one in session.connection().execute(query)]
            assert Prepared(query).rows(session) == plain


def test_values_go_in_and_come_out_by_their_types(store: Store) -> None:
    with store.database.write() as session:
        put(session, made(RunRow, id="r-1", **VALUES))
    with store.database.read() as session:
        found, plain = look(session, RunRow, "r-1"), find(session, RunRow, "r-1")
        for name in table_of(RunRow).c.keys():  # noqa: SIM118
            assert getattr(found, name) == getattr(plain, name), name
        assert found.workflow == r"nul \x00, surrogate \ud800, ключ"
        assert (found.deadline, found.deadline and found.deadline.tzinfo) == (AT, UTC)
        assert found.result is None
        (null,) = session.connection().execute(text("SELECT result IS NULL FROM run")).one()
        assert null, "no result is NULL, not the JSON text of it"


def test_a_time_without_a_zone_goes_nowhere(store: Store, run: Run) -> None:
    with pytest.raises(ValueError, match="no time zone"), store.database.write() as session:
        amend(session, look(session, RunRow, run.id), deadline=datetime(2026, 3, 1))  # noqa: DTZ001


def test_of_two_that_found_a_row_one_changes_it(store: Store, permitted: Callable[..., Permit]) -> None:
    permit = permitted("a.md")
    claimed = {"status": PermitStatus.CLAIMED.value, "claims": 1}
    with store.database.write() as session:
        first, second = look(session, PermitRow, permit.id), look(session, PermitRow, permit.id)
        object_ = find(session, PermitRow, permit.id)
        assert amend(session, first, "status", "claims", **claimed)
        assert not amend(session, second, "status", "claims", worker="late")
        assert not amend(session, object_, "status", worker="later")
        for row in (first, second, object_, look(session, PermitRow, permit.id)):
            assert (row.status, row.claims, row.worker) == (PermitStatus.CLAIMED, 1, None)


def test_what_was_only_looked_at_is_not_set(store: Store, run: Run) -> None:
    with store.database.write() as session:
        row = look(session, RunRow, run.id)
        with pytest.raises(AttributeError, match="amend"):
            row.status = RunStatus.DONE.value
    assert store.runs.get(run.id).status is RunStatus.RUNNING


def test_what_the_session_changed_before_is_seen(store: Store, run: Run) -> None:
    with store.database.write() as session:
        find(session, RunRow, run.id).tries = 7
        assert look(session, RunRow, run.id).tries == 7


def test_constants_of_a_statement_stay_and_a_value_that_is_missing_is_no_null(store: Store, run: Run) -> None:
    statement = update(RunRow).where(col(RunRow.id) == OF, col(RunRow.status) == RunStatus.RUNNING.value)
    to_nothing = Prepared(statement.values(engine=None, priority=3))
    with store.database.write() as session:
        amend(session, look(session, RunRow, run.id), engine="offline/1")
        with pytest.raises((KeyError, DBAPIError), match="of"):
            to_nothing.change(session)
        assert to_nothing.change(session, of="r-none") == 0
        assert to_nothing.change(session, of=run.id) == 1
        assert (look(session, RunRow, run.id).engine, look(session, RunRow, run.id).priority) == (None, 3)
        assert Prepared(delete(RunRow).where(col(RunRow.id) == OF)).change(session, of="r-none") == 0


def _twice(session: Session) -> None:
    for _ in range(2):
        put(session, made(RunRow, id="r-1", **VALUES))


@pytest.mark.parametrize("at_once", [True, False])
def test_what_the_database_refuses_is_told_and_undone(store: Store, at_once: bool) -> None:  # noqa: FBT001
    def write() -> None:
        with store.database.write() as session:
            _twice(session)

    with pytest.raises(StorageError) as refused, store.database.together() if at_once else nullcontext():
        write()
    assert "unique" in str(refused.value.__cause__).lower()
    assert store.runs.list() == []
    with store.database.write() as session:
        put(session, made(RunRow, id="r-1", **VALUES))
    assert [one.id for one in store.runs.list()] == ["r-1"]


def test_nothing_is_written_behind_a_transaction_that_was_undone(store: Store, run: Run) -> None:
    twice = {**VALUES, "id": run.id}

    def write() -> None:
        with store.database.write() as session:
            with suppress(StorageError), store.database.write() as inner:
                inner.add(RunRow(**twice))
            put(session, made(RunRow, id="r-1", **VALUES))

    with pytest.raises(StorageError), store.database.together():
        write()
    assert [one.id for one in store.runs.list()] == [run.id]


def test_a_row_that_the_driver_cannot_read_is_told(store: Store, run: Run) -> None:
    if not store.database.is_sqlite:
        pytest.skip("PostgreSQL keeps no text that is none")
    with store.database.write() as session:
        session.connection().execute(text("UPDATE run SET reason = CAST(X'FF' AS TEXT)"))
    for read in (nullcontext, store.database.together):
        with pytest.raises(StorageError, match="UTF-8"), read():
            store.runs.get(run.id)


def test_what_is_known_of_a_database_goes_with_it() -> None:
    query = Prepared(select(col(RunRow.id), col(RunRow.created_at)))
    engine = create_engine("sqlite://")
    dialect = weakref.ref(engine.dialect)
    with engine.connect() as connection:
        Table.metadata.create_all(connection)
        with Session(connection) as session:
            assert query.rows(session) == []
    engine.dispose()
    del engine, connection, session
    gc.collect()
    assert dialect() is None


def test_a_connection_that_was_lost_is_told_and_the_next_is_another(store: Store, run: Run) -> None:
    if store.database.is_sqlite:
        pytest.skip("SQLite has no connection to lose")

    def cut_off(session: Session) -> None:
        (backend,) = session.connection().execute(text("SELECT pg_backend_pid()")).one()
        with store.database.detached() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})
        look(session, RunRow, run.id)

    with pytest.raises(StorageError, match="terminat"), store.database.write() as session:
        cut_off(session)
    assert store.runs.get(run.id).id == run.id
    store.runs.take_up(run.id)
