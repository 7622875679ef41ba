import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import text

from karkas.policies.errors import StorageError
from karkas.storage import Store


@pytest.fixture
def database(folder: Path, made: Path) -> Path:
    """The file of a store in which something happened."""
    shutil.copytree(made, folder)
    with Store.open(folder) as store:
        for _ in range(50):
            store.runs.create("act", input={"text": "x" * 500})
        with store.database.connection() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder / "karkas.db"


def test_a_store_is_made_only_when_it_is_asked_for(folder: Path) -> None:
    with pytest.raises(StorageError, match="karkas init"):
        Store.open(folder)
    assert not folder.exists()
    Store.open(folder, create=True).close()
    assert {path.name for path in folder.iterdir()} >= {"karkas.db", "signing.key"}
    assert folder.stat().st_mode & 0o777 == 0o700
    Store.open(folder).close()


def test_a_lost_database_is_not_made_anew_in_silence(database: Path) -> None:
    database.unlink()
    with pytest.raises(StorageError, match="is missing"):
        Store.open(database.parent)
    assert not database.exists()


def test_a_file_that_is_no_database_is_refused_and_kept(database: Path) -> None:
    database.write_text("to whom it may concern\n" * 100)
    with pytest.raises(StorageError, match=r"karkas\.db is not a karkas database"):
        Store.open(database.parent)
    assert database.read_text().startswith("to whom")


def test_a_damaged_database_is_said_to_be_damaged(database: Path) -> None:
    size = database.stat().st_size
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    with (
        pytest.raises(StorageError, match="damaged; restore it from a backup"),
        Store.open(database.parent) as store,
    ):
        store.runs.list()


def test_a_database_of_a_newer_karkas_is_refused(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE karkas_schema SET version_num = '9999'")
    connection.close()
    with pytest.raises(StorageError, match=r"newer karkas \(schema 9999"):
        Store.open(database.parent)


def test_a_database_of_another_program_is_refused(folder: Path) -> None:
    folder.mkdir()
    with sqlite3.connect(folder / "other.db") as connection:
        connection.execute("CREATE TABLE run (id TEXT)")
    connection.close()
    with pytest.raises(StorageError, match=r"tables of another program \(run\); give karkas its own"):
        Store.open(folder, url=f"sqlite:///{folder}/other.db", create=True)


def test_a_full_disk_is_said_and_nothing_is_half_written(database: Path) -> None:
    with Store.open(database.parent) as store:
        with store.database.connection() as connection:
            pages = connection.execute(text("PRAGMA page_count")).scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageError, match="is full; free some space"):
            _fill(store)
    with Store.open(database.parent) as store:
        runs, entries = len(store.runs.list()), len(store.audit.log())
        assert runs == entries
        assert store.verify() == []


def _fill(store: Store) -> None:
    for _ in range(20):
        store.runs.create("act", input={"text": "x" * 5000})


READ_ONLY = """
import os, sys
from pathlib import Path
from tempfile import TemporaryDirectory
import alembic.command, cryptography.hazmat.primitives.serialization
from karkas.policies.errors import StorageError
from karkas.storage import Store
store = None
os.setuid(65534)
try:
    with Store.open(Path(sys.argv[1])) as store:
        store.runs.create("act")
except StorageError as error:
    print(error)
"""


@pytest.fixture
def somebody_elses(made: Path) -> Iterator[Path]:
    """A store that everybody may read and only root may write; outside pytest's folders, which are private."""
    with TemporaryDirectory() as outside:
        folder = Path(outside) / ".karkas"
        shutil.copytree(made, folder)
        Path(outside).chmod(0o755)
        folder.chmod(0o755)
        (folder / "karkas.db").chmod(0o644)
        os.chown(folder / "signing.key", 65534, 65534)
        yield folder


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become somebody who may not write")
@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_a_folder_that_may_not_be_written_is_said(somebody_elses: Path, mode: int) -> None:
    somebody_elses.chmod(mode)
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(somebody_elses)], capture_output=True, text=True, check=False
    )
    assert "permissions" in done.stdout, done.stdout + done.stderr


def test_a_busy_database_is_waited_for(database: Path) -> None:
    with Store.open(database.parent) as store, ThreadPoolExecutor(1) as pool:
        with store.database.write():
            waiting = pool.submit(store.runs.create, "act")
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
        assert waiting.result(timeout=10).workflow == "act"


def test_readers_do_not_wait_for_a_writer(database: Path) -> None:
    with Store.open(database.parent) as store, ThreadPoolExecutor(1) as pool, store.database.write():
        assert len(pool.submit(store.runs.list).result(timeout=5)) == 50


def test_the_database_survives_a_power_cut_and_a_crowd(database: Path) -> None:
    with Store.open(database.parent) as store, store.database.connection() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


def test_processes_that_make_one_store_at_once_make_one(folder: Path, url: str | None) -> None:
    code = "import sys; from pathlib import Path; from karkas.storage import Store\n"
    code += "print(Store.open(Path(sys.argv[1]), url=sys.argv[2] or None, create=True).runs.create('act').id)"
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder), url or ""],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    outputs = [maker.communicate() for maker in makers]
    assert [maker.returncode for maker in makers] == [0, 0, 0], outputs
    with Store.open(folder, url=url) as store:
        assert len(store.runs.list()) == 3
        assert store.verify() == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://root@localhost/karkas", "not in 'mysql'"),
        ("sqlite://", "SQLite file or in PostgreSQL"),
        ("sqlite:///:memory:", "SQLite file or in PostgreSQL"),
        ("nonsense", "cannot be read"),
    ],
)
def test_only_a_sqlite_file_or_postgresql_is_taken(folder: Path, url: str, said: str) -> None:
    with pytest.raises(StorageError, match=said):
        Store.open(folder, url=url, create=True)
    assert not folder.exists()


def test_an_unreachable_server_is_said_without_its_password(folder: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StorageError, match="cannot be reached") as raised:
        Store.open(folder, url="postgresql://anna:s3cret@127.0.0.1:1/karkas", create=True)
    assert "s3cret" not in str(raised.value)
