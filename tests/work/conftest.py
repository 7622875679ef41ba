"""A real project with a user's workflows in it, and workers as processes of their own."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from sqlalchemy.engine import make_url

from karkas.project import Project
from karkas.runner import begin
from karkas.storage import Run, RunStatus

NOW = datetime(2026, 11, 30, 22, 59, 30, tzinfo=UTC)
KARKAS = Path(sys.executable).with_name("karkas")
POSTGRES = os.environ.get("KARKAS_TEST_POSTGRES_URL")
needs_postgres = pytest.mark.skipif(POSTGRES is None, reason="KARKAS_TEST_POSTGRES_URL is not set")
on_both = pytest.mark.parametrize(
    "stored", ["sqlite", pytest.param("postgresql", marks=needs_postgres)], indirect=True
)
"""For a test that is to hold on SQLite and on PostgreSQL; the others run on SQLite."""
FLOW = r'''
import asyncio
from pathlib import Path

from karkas import END, START, Workflow, WorkflowState


class State(WorkflowState, total=False):
    name: str


def note(what: str, state: State) -> None:
    with open("seen", "a") as file:
        file.write(f"{what} {state.get('name')}\n")


async def think(state: State) -> dict[str, object]:
    """Leaves a line when it begins and when it ends, and waits between while there is a file `wait`."""
    note("begins", state)
    while Path("wait").exists():
        await asyncio.sleep(0.05)
    note("ends", state)
    return {}


async def fail(state: State) -> dict[str, object]:
    note("fails", state)
    raise RuntimeError("its own fault")


steps = Workflow(State)
steps.add_node("think", think)
steps.add_edge(START, "think").add_edge("think", END)

fails = Workflow(State)
fails.add_node("fail", fail)
fails.add_edge(START, "fail").add_edge("fail", END)

asks = Workflow(State, zones=("notes",))
asks.add_question("colour", lambda _: "Which colour?")
asks.add_edge(START, "colour").add_edge("colour", END)
'''


@pytest.fixture
def database() -> Iterator[str]:
    """A new database in PostgreSQL."""
    assert POSTGRES is not None
    name = f"karkas_test_{secrets.token_hex(4)}"
    with psycopg.connect(POSTGRES, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}".encode())
    yield make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(POSTGRES, autocommit=True) as server:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def stored(request: pytest.FixtureRequest) -> str:
    """What karkas.toml says of where the record is kept; see `on_both`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return ""
    return f'[storage]\nurl = "{request.getfixturevalue("database")}"\n'


@pytest.fixture
def root(tmp_path: Path, stored: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "karkas.toml").write_text(f"[zones.notes]\nunderstanding = 3\n{stored}")
    Project.init(root).close()
    (root / "flows.py").write_text(FLOW)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def opened(root: Path) -> Iterator[Callable[[], Project]]:
    """Opens the project; what was added to karkas.toml before counts."""
    projects: list[Project] = []

    def open_() -> Project:
        projects.append(Project.open(root))
        return projects[-1]

    yield open_
    for project in projects:
        project.close()


def queue(project: Project, flow: str, *names: str, zone: str | None = None) -> list[Run]:
    now = project.store.clock()
    return [begin(project, f"flows.py:{flow}", {"name": name}, zone=zone, due_at=now) for name in names]


def standing(project: Project, runs: list[Run]) -> list[RunStatus]:
    return [project.store.runs.get(run.id).status for run in runs]


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def command(*args: str) -> Ended:
    """`karkas` in the current folder, to its end."""
    done = subprocess.run([KARKAS, *args], capture_output=True, text=True, check=False, timeout=120)
    return Ended(done.returncode, done.stdout, done.stderr)


@contextmanager
def worker(*args: str) -> "Iterator[subprocess.Popen[str]]":
    """A worker in a process of its own; it is killed at the end, if it still lives."""
    process = subprocess.Popen(
        [KARKAS, "work", *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def telling(out: Path, *args: str) -> "Iterator[subprocess.Popen[bytes]]":
    """`karkas` in a process of its own, which says what it says in a file; it is killed at the end, if it still lives."""
    with out.open("wb") as file:
        process = subprocess.Popen([KARKAS, *args], stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(holds: Callable[[], object], *, within_s: float = 180.0) -> None:
    give_up = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < give_up, "it did not come true in time"
        time.sleep(0.05)


def seen() -> list[str]:
    """What the workflows left behind, in order."""
    file = Path("seen")
    return file.read_text().splitlines() if file.exists() else []
