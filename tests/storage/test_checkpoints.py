import asyncio
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pytest

from karkas.policies.errors import StorageError
from karkas.storage import open_checkpointer


class State(TypedDict):
    gate: str
    answer: NotRequired[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
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
            async with saver.conn.execute(f"PRAGMA {name}") as cursor:  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
                pragmas.append(await cursor.fetchone())
    assert pragmas == [("wal",), (1,)]


async def test_broken_checkpoints_say_what_to_do(folder: Path) -> None:
    (folder / "checkpoints.db").write_text("nothing of the kind " * 100)
    with pytest.raises(StorageError, match="move the file away"):
        async with open_checkpointer(folder):
            pass
