import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from karkas.storage import Store
from karkas.storage.schema import HEAD, VERSION_TABLE, alembic_config, version
from karkas.storage.tables import Table


def test_the_migrations_make_what_the_models_describe(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with store.database.connection() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": _kinds_differ}
        )
        assert compare_metadata(context, Table.metadata) == []
        assert set(inspect(connection).get_table_names()) == {*Table.metadata.tables, VERSION_TABLE}


def _kinds_differ(
    _context: object, inspected: object, _metadata: object, there: object, here: object
) -> bool | None:
    """Compares what the database keeps; `Words` and `UtcDateTime` are Python's view of it."""
    from sqlalchemy import types

    assert isinstance(here, types.TypeEngine)
    kept = here.impl_instance if isinstance(here, types.TypeDecorator) else here
    return not isinstance(there, types.DateTime) if isinstance(kept, types.DateTime) else None


def test_the_head_is_the_newest_migration(store: Store) -> None:
    from alembic.script import ScriptDirectory

    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == HEAD
    with store.database.connection() as connection:
        assert version(connection) == HEAD


def test_opening_a_store_that_is_up_to_date_needs_no_alembic(folder: Path) -> None:
    Store.open(folder, create=True).close()
    code = (
        "import sys; from pathlib import Path; from karkas.storage import Store\n"
        "Store.open(Path(sys.argv[1])).close()\n"
        "print(sorted(m for m in ('alembic', 'langgraph', 'psycopg', 'aiosqlite') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_migration_that_fails_leaves_the_schema_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic import op

    real = op.create_index

    def fail(name: str, table: str, *rest: object, **more: object) -> None:
        if table == "permit":
            raise RuntimeError("the power went")
        real(name, table, *rest, **more)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(op, "create_index", fail)
    with pytest.raises(RuntimeError):
        Store.open(folder, create=True)
    monkeypatch.undo()
    with Store.open(folder, create=True) as store, store.database.connection() as connection:
        assert connection.execute(text("SELECT count(*) FROM permit")).scalar_one() == 0
