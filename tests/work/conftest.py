"""A real project whose clock the test sets, and a user's workflow in it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from karkas.project import Project

FLOW = """
import os, time
from pathlib import Path

from karkas import END, START, Effect, Workflow, WorkflowState, call, tool


class State(WorkflowState, total=False):
    name: str


async def think(state: State) -> dict[str, object]:
    import asyncio

    await asyncio.sleep(float(os.environ.get("THINK_S", "0")))
    return {}


steps = Workflow(State)
steps.add_node("think", think)
steps.add_edge(START, "think").add_edge("think", END)

asks = Workflow(State, zones=("notes",))
asks.add_question("colour", lambda _: "Which colour?")
asks.add_edge(START, "colour").add_edge("colour", END)
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    Project.init(root).close()
    with (root / "karkas.toml").open("a") as file:
        file.write("\n[zones.notes]\nunderstanding = 3\n")
    (root / "flows.py").write_text(FLOW)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def opened(root: Path) -> Iterator[Callable[[], Project]]:
    """Opens the project; what is added to karkas.toml before counts."""
    projects: list[Project] = []

    def open_() -> Project:
        projects.append(Project.open(root))
        return projects[-1]

    yield open_
    for project in projects:
        project.close()


NOW = datetime(2026, 11, 30, 22, 59, 30, tzinfo=UTC)
