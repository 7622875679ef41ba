import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, NotRequired, TypedDict

import ormsgpack
import pytest

from karkas.policies.errors import AuditError, StorageError
from karkas.storage import open_checkpointer
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
