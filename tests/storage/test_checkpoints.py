import asyncio
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, ClassVar, NotRequired, TypedDict

import ormsgpack
import pytest

from karkas.policies.errors import AuditError, StorageError
from karkas.storage import open_checkpointer
from karkas.storage.checkpoints import Checkpointers
from karkas.storage.database import database_url
from karkas.storage.filed import SqliteCheckpoints
from karkas.storage.keys import KEY, SigningKey


class State(TypedDict):
    gate: str
    answer: NotRequired[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SigningKey.create(tmp_path / KEY)
    return tmp_path


def graph() -> Any:
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import interrupt

    def ask(state: State) -> dict[str, str]:
        return {"answer": interrupt({"gate": state["gate"]})}

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    return builder


async def test_a_parked_graph_goes_on_after_its_process_is_gone(folder: Path, url: str | None) -> None:
    from langgraph.types import Command

    builder = graph()
    config = {"configurable": {"thread_id": "r-1"}}
    async with open_checkpointer(folder, url) as saver:
        parked = await builder.compile(checkpointer=saver).ainvoke({"gate": "g-1"}, config)
        assert parked["__interrupt__"][0].value == {"gate": "g-1"}
    async with open_checkpointer(folder, url) as saver:
        done = await builder.compile(checkpointer=saver).ainvoke(Command(resume="yes"), config)
        assert done["answer"] == "yes"


async def test_processes_that_set_up_at_once_do_not_collide(folder: Path, url: str | None) -> None:

    async def once() -> None:
        async with open_checkpointer(folder, url) as saver:
            assert await saver.aget_tuple({"configurable": {"thread_id": "none"}}) is None

    await asyncio.gather(*(once() for _ in range(4)))


async def test_checkpoints_are_quick_and_never_block_readers(folder: Path) -> None:
    async with open_checkpointer(folder) as saver:
        pragmas = []
        for name in ("journal_mode", "synchronous"):
            assert isinstance(saver, SqliteCheckpoints)
            pragmas.append(saver.conn.execute(f"PRAGMA {name}").fetchone())
    assert pragmas == [("wal",), (1,)]


async def test_broken_checkpoints_say_what_to_do(folder: Path) -> None:
    (folder / "checkpoints.db").write_text("nothing of the kind " * 100)
    with pytest.raises(StorageError, match="move the file away"):
        async with open_checkpointer(folder):
            pass


class Trap:
    """Rebuilt out of a checkpoint, it would run code of somebody else's choice."""

    sprung: ClassVar[list[str]] = []

    def __init__(self, by: str) -> None:
        self.sprung.append(by)


async def test_a_checkpoint_that_somebody_wrote_runs_nothing(folder: Path) -> None:
    """Whoever can write the file, but has no key: LangGraph would import and call what is named in it."""
    config: Any = {"configurable": {"thread_id": "r-1"}}
    async with open_checkpointer(folder) as saver:
        await graph().compile(checkpointer=saver).ainvoke({"gate": "g-1"}, config)
    evil = ormsgpack.packb(ormsgpack.Ext(0, ormsgpack.packb((__name__, "Trap", "somebody"))))
    with closing(sqlite3.connect(folder / "checkpoints.db")) as database:
        database.execute("UPDATE checkpoints SET type = 'msgpack', checkpoint = ?", [evil])
        database.commit()
    async with open_checkpointer(folder) as saver:
        with pytest.raises(AuditError, match="changed outside karkas"):
            await saver.aget_tuple(config)
    assert Trap.sprung == []


async def test_a_checkpoint_under_another_projects_key_is_not_read(folder: Path) -> None:
    config: Any = {"configurable": {"thread_id": "r-1"}}
    async with open_checkpointer(folder) as saver:
        await graph().compile(checkpointer=saver).ainvoke({"gate": "g-1"}, config)
    (folder / KEY).unlink()
    SigningKey.create(folder / KEY)
    async with open_checkpointer(folder) as saver:
        with pytest.raises(AuditError):
            await saver.aget_tuple(config)


WRITES: Any = {"configurable": {"thread_id": "r-1", "checkpoint_ns": "", "checkpoint_id": "1"}}


def opened(folder: Path) -> Checkpointers:
    return Checkpointers(folder, SigningKey.load(folder / KEY), database_url(folder, None))


async def test_whoever_looks_at_a_run_does_not_take_the_fault_from_whoever_is_at_work_on_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the run would go on without what was not written: without that it waits at a gate, it looks done."""

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async def look() -> None:
        async with checkpoints() as saver:
            await saver.aget_tuple(WRITES)

    async def go_on() -> None:
        async with checkpoints() as saver:
            with monkeypatch.context() as fault:
                fault.setattr(SqliteCheckpoints, "put_writes", full)
                await saver.aput_writes(WRITES, [("answer", "yes")], "task")
                with suppress(StorageError):
                    await look()
            await saver.aget_tuple(WRITES)

    checkpoints = opened(folder)
    with pytest.raises(StorageError, match="disk is full"):
        await go_on()
    await look()  # whoever takes it up again is not told what failed then
    checkpoints.close()


def fails_while_it_writes(checkpoints: Checkpointers, monkeypatch: pytest.MonkeyPatch) -> None:
    write = SqliteCheckpoints.put_writes

    def slow(*given: Any) -> None:
        time.sleep(0.2)
        write(*given)

    async def fail() -> None:
        async with checkpoints() as saver:
            await saver.aput_writes(WRITES, [("answer", "yes")], "task")
            raise ValueError

    with monkeypatch.context() as disk, suppress(ValueError):
        disk.setattr(SqliteCheckpoints, "put_writes", slow)
        asyncio.run(fail())


def test_a_run_that_fails_is_not_let_go_of_before_all_of_it_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may take it up then, and would find less, or be written into."""
    checkpoints = opened(folder)
    fails_while_it_writes(checkpoints, monkeypatch)
    with closing(sqlite3.connect(folder / "checkpoints.db")) as database:
        assert database.execute("SELECT count(*) FROM writes").fetchone() == (1,)
    checkpoints.close()


def test_a_run_that_failed_while_it_wrote_is_taken_up_in_another_event_loop(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = opened(folder)
    fails_while_it_writes(checkpoints, monkeypatch)

    async def take_up() -> None:
        async with checkpoints() as saver:
            await saver.aget_tuple(WRITES)

    asyncio.run(take_up())
    checkpoints.close()
