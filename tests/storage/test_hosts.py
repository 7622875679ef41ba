"""Several hosts, each with a folder of its own, one PostgreSQL and one signing key."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from karkas.policies.errors import NotFoundError, StorageError
from karkas.policies.verdicts import Approve
from karkas.storage import Gate, Run, Store, database

WRITER = """
import sys
from pathlib import Path
from karkas.storage import Store, database
database.SILENT_SECONDS = 2
with Store.open(Path(sys.argv[1]), url=sys.argv[2]) as store:
    with store.database.write():
        print("writes", flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def here(store: Store) -> Store:
    if store.database.is_sqlite:
        pytest.skip("SQLite is one host")
    return store


@pytest.fixture
def there(here: Store, tmp_path: Path, url: str | None) -> Iterator[Store]:
    """The store as another host has it, which was given the key and nothing else."""
    folder = tmp_path / "elsewhere" / ".karkas"
    folder.mkdir(parents=True, mode=0o700)
    shutil.copy2(here.key.path, folder)
    with Store.open(folder, url=url, clock=here.clock) as there:
        yield there


def test_a_gate_that_one_host_opened_is_decided_and_performed_on_another(
    here: Store, there: Store, run: Run, open_gate: Callable[..., Gate]
) -> None:
    gate = open_gate("a.md")
    there.workers.join(1)
    there.gates.decide(gate.id, Approve(), by="anna")
    permit = there.ledger.for_gate(gate.id)
    assert permit is not None
    there.ledger.start(there.ledger.claim(permit.id, worker="w"))
    there.ledger.commit(permit.id, {})
    assert here.verify() == there.verify() == []


def test_an_artifact_is_there_on_every_host(here: Store, there: Store) -> None:
    digest = here.artifacts.put_text("ключ")
    assert there.artifacts.find(digest[:8]) == digest
    assert there.artifacts.text(digest) == "ключ"
    assert there.artifacts.find(digest[:8]) == digest
    with pytest.raises(NotFoundError):
        there.artifacts.text("0" * 64)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError):
        there.artifacts.find("0" * 8)


def test_what_was_changed_by_hand_is_nowhere_taken_for_what_it_was(here: Store, there: Store) -> None:
    digest = here.artifacts.put_text("as it was")
    here.artifacts.path(digest).write_text("changed")
    with pytest.raises(StorageError, match="broken"):
        here.artifacts.text(digest)
    with here.database.connection(write=True) as connection:
        connection.execute(text("UPDATE artifact SET data = 'changed'"))
    with pytest.raises(NotFoundError):
        there.artifacts.text(digest)


def test_the_same_artifact_is_put_by_many_at_once(here: Store, there: Store) -> None:
    faults: list[Exception] = []

    def put(store: Store) -> None:
        try:
            for number in range(20):
                store.artifacts.put_text(f"text {number}")
        except StorageError as error:
            faults.append(error)

    threads = [threading.Thread(target=put, args=(store,)) for store in (here, there) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    with here.database.connection() as connection:
        assert connection.execute(text("SELECT count(*) FROM artifact")).scalar_one() == 20


def test_a_host_with_another_key_takes_no_part(here: Store, tmp_path: Path, url: str | None) -> None:
    here.workers.join(1)
    folder = tmp_path / "stranger" / ".karkas"
    with pytest.raises(StorageError, match="another signing key"):
        Store.open(folder, url=url, create=True)
    shutil.copytree(tmp_path / ".karkas", folder, dirs_exist_ok=True)
    (folder / "signing.key").unlink()
    from karkas.storage import SigningKey

    SigningKey.create(folder / "signing.key")
    with Store.open(folder, url=url) as stranger, pytest.raises(StorageError, match="copy that of the host"):
        stranger.workers.join(1)
    assert here.verify() == []


def test_a_host_that_vanishes_in_the_middle_of_a_write_holds_nobody_up_for_long(
    here: Store, folder: Path, url: str | None
) -> None:
    assert database.SILENT_SECONDS < database.BUSY_SECONDS, "or all others would give up before"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(url)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writes\n"
        os.kill(writer.pid, signal.SIGSTOP)
        began = time.monotonic()
        here.runs.create("act")
        assert time.monotonic() - began < 10
    finally:
        os.kill(writer.pid, signal.SIGCONT)
        _, said = writer.communicate("\n", timeout=30)
    assert "nothing was half written" in said
    assert here.verify() == []
