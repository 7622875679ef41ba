"""The desk: what is asked at once is one transaction, and each caller gets what is its own."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from karkas.policies.errors import NotFoundError, StorageError
from karkas.storage import RunStatus, Store
from karkas.storage.filed import SqliteCheckpoints
from karkas.storage.runs import RunStatusError


def test_what_is_asked_at_once_is_committed_together_and_holds(store: Store) -> None:
    commits: list[object] = []
    store.database.after_commit.append(commits.append)

    async def asked() -> list[str]:
        runs = await asyncio.gather(*(store.aside(store.runs.create, "act") for _ in range(40)))
        return [run.id for run in runs]

    made = asyncio.run(asked())
    assert len({*made}) == len(made) == len(store.runs.list())
    assert len(commits) < 20
    assert store.verify() == []


def test_one_that_fails_takes_nothing_of_the_others_with_it(store: Store) -> None:
    done = store.runs.create("act").id
    store.runs.set_status(done, RunStatus.FAILED)

    async def asked() -> list[object]:
        found = await asyncio.gather(
            store.aside(store.runs.create, "act", zone="a"),
            store.aside(store.runs.set_status, done, RunStatus.RUNNING),
            store.aside(store.runs.get, "r-000000000000"),
            store.aside(store.runs.create, "act", zone="b"),
            return_exceptions=True,
        )
        return list(found)

    _, ended, unknown, _ = asyncio.run(asked())
    assert isinstance(ended, RunStatusError)
    assert isinstance(unknown, NotFoundError)
    assert {run.zone for run in store.runs.list()} == {None, "a", "b"}
    assert store.verify() == []


def test_what_a_failing_call_wrote_before_stands_as_if_it_was_alone(store: Store) -> None:
    def both() -> None:
        store.runs.create("act", zone="before")
        store.runs.get("r-000000000000")
        raise AssertionError("not reached")

    with pytest.raises(NotFoundError):
        asyncio.run(store.at_once(both))
    assert [run.zone for run in store.runs.list()] == ["before"]

    def spoilt() -> None:
        store.runs.create("act", zone="after")
        with store.database.write() as session:
            store.audit.append(session, "x", "run:x", actor="ada", at=store.clock())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(store.at_once(spoilt))
    assert {run.zone for run in store.runs.list()} == {"before", "after"}
    assert not store.audit.log(subject="run:x")
    assert store.verify() == []


def test_a_commit_that_fails_is_told_to_everybody(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from karkas.storage import database

    def broken(_: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(database._Group, "commit", broken)

    async def asked() -> Sequence[object]:
        calls = (store.aside(store.runs.create, "act") for _ in range(3))
        return await asyncio.gather(*calls, return_exceptions=True)

    assert all(isinstance(one, StorageError) for one in asyncio.run(asked()))
    monkeypatch.undo()
    assert store.runs.list() == []


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from karkas.storage import Store

store = Store.open(Path(sys.argv[1]), create=True)

async def main():
    async def one(number):
        run = await store.aside(store.runs.create, "act", zone=str(number))
        os.write(1, f"{run.id}\\n".encode())
        if number == 30:
            os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.gather(*map(one, range(60)))

asyncio.run(main())
"""


def test_what_a_caller_was_told_outlives_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / ".karkas"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, os.fspath(folder)], stdout=subprocess.PIPE, check=False
    )
    assert done.returncode == -signal.SIGKILL
    told = done.stdout.decode().split()
    assert told
    with Store.open(folder) as store:
        assert {*told} <= {run.id for run in store.runs.list()}
        assert store.verify() == []


def test_checkpoints_of_many_runs_share_a_connection_that_notices_a_restored_file(tmp_path: Path) -> None:
    with Store.open(tmp_path / ".karkas", create=True) as store:

        async def twice() -> tuple[object, object]:
            async with store.checkpoints() as one:
                pass
            async with store.checkpoints() as other:
                pass
            return one, other

        first, second = asyncio.run(twice())
        assert isinstance(first, SqliteCheckpoints)
        assert isinstance(second, SqliteCheckpoints)
        assert first.conn is second.conn
        file = tmp_path / ".karkas" / "checkpoints.db"
        copy = file.with_suffix(".copy")
        with sqlite3.connect(file) as here, sqlite3.connect(copy) as there:
            here.backup(there)
        here.close()
        there.close()
        copy.replace(file)
        third, _ = asyncio.run(twice())
        assert isinstance(third, SqliteCheckpoints)
        assert third.conn is not first.conn


def test_a_later_call_of_a_transaction_sees_what_an_earlier_one_did(store: Store) -> None:
    run = store.runs.create("act").id

    async def asked() -> Sequence[object]:
        calls = (store.at_once(partial(store.runs.take_up, run)) for _ in range(10))
        return await asyncio.gather(*calls)

    asyncio.run(asked())
    assert store.runs.get(run).segment == 10
