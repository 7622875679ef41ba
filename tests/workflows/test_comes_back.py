"""A worker that was stopped, declared dead and comes back: another one went on with its run, and it does nothing more."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from karkas.policies.verdicts import Approve
from karkas.project import Project, person
from karkas.runner import advance, begin
from karkas.storage import RunStatus, worker_name

POSTGRES = os.environ.get("KARKAS_TEST_POSTGRES_URL")
pytestmark = pytest.mark.skipif(POSTGRES is None, reason="KARKAS_TEST_POSTGRES_URL is not set")

FLOW = '''
import asyncio, os, time
from pathlib import Path
from karkas.agents.tools import tool
from karkas.policies.actions import Effect
from karkas.server.questions import ToolCall
from karkas.workflows.define import Workflow
from langgraph.graph import END, START


def here() -> Path:
    return Path(os.environ["HERE"])


def holds(at: str) -> bool:
    if os.environ.get("HOLD") == at:
        (here() / "held").touch()
        return not (here() / "go").exists()
    return False


def weather(bell: str) -> dict[str, str]:
    while holds("ring"):
        time.sleep(0.02)
    return {}


@tool(Effect.IRREVERSIBLE, preconditions=weather)
def ring(bell: str) -> str:
    """Rings a bell: each ring is a line in a file outside the project."""
    with open(bell, "a") as file:
        file.write("rung\\n")
    return "rung"


async def think(state):
    while holds("think"):
        await asyncio.sleep(0.02)
    return {}


flow = Workflow(zones=("tower",))
flow.add_node("think", think)
flow.add_action("ring", lambda state: ToolCall(tool="ring", args={"bell": str(here() / "bell")}))
flow.add_edge(START, "think").add_edge("think", "ring").add_edge("ring", END)
'''

WORKER = """
import asyncio, sys
from karkas.logs import log_to
from karkas.project import Project
from karkas.runner import advance
from karkas.workflows.runs import Unattended
project = Project.open(sys.argv[1])
log_to(project.folder)
me = project.store.workers.join(1)
try:
    print(asyncio.run(advance(project, sys.argv[2], unattended=Unattended(me.id))).status)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def database() -> Iterator[str]:
    assert POSTGRES is not None
    server = make_url(POSTGRES).set(drivername="postgresql+psycopg")
    engine, name = create_engine(server, isolation_level="AUTOCOMMIT"), f"karkas_test_{secrets.token_hex(4)}"
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def project(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    root = tmp_path / "project"
    root.mkdir()
    (root / "karkas.toml").write_text(
        f'[zones.tower]\nunderstanding = 4\ncritical = true\n[storage]\nurl = "{database}"\n'
    )
    (root / "flow.py").write_text(FLOW)
    monkeypatch.setenv("HERE", str(tmp_path))
    with Project.init(root) as project:
        yield project


def all_that_counts(project: Project, run: str, here: Path) -> dict[str, Any]:
    with project.store.database.connection() as connection:
        counts = {
            table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in ("checkpoints", "checkpoint_writes", "audit", "artifact", "permit", "gate")
        }
    found = project.store.runs.get(run)
    bell = here / "bell"
    return {
        **counts,
        "run": found.model_dump(),
        "rings": bell.read_text().count("rung") if bell.exists() else 0,
    }


@pytest.mark.parametrize("hold", ["think", "ring"])
def test_it_writes_no_checkpoint_spends_nothing_and_performs_nothing(
    project: Project, tmp_path: Path, hold: str
) -> None:
    run = begin(project, "flow.py:flow", {})
    if hold == "ring":
        asyncio.run(advance(project, run.id))
        approve(project)
    stopped = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(project.root), run.id],
        env={**os.environ, "HOLD": hold},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        give_up = time.monotonic() + 30
        while not (tmp_path / "held").exists() and time.monotonic() < give_up:
            time.sleep(0.02)
        os.kill(stopped.pid, signal.SIGSTOP)
        (worker,) = project.store.workers.all()
        assert worker.runs == (run.id,)
        assert len(sessions_of(project)) > 2  # of its locks, its records and its checkpoints
        assert project.store.workers.bury(worker)
        assert sessions_of(project) == []
        if hold == "think":
            assert asyncio.run(advance(project, run.id)).status is RunStatus.PARKED
            approve(project)
        assert asyncio.run(advance(project, run.id)).status is RunStatus.DONE
        before = all_that_counts(project, run.id, tmp_path)
        assert before["rings"] == 1, before["run"]
    finally:
        (tmp_path / "go").touch()
        os.kill(stopped.pid, signal.SIGCONT)
        said, _ = stopped.communicate(timeout=30)
    assert "LeaseLostError" in said
    assert "locks_lost" in (project.folder / "logs" / "karkas.log").read_text()
    assert all_that_counts(project, run.id, tmp_path) == before
    assert project.store.verify() == []


def sessions_of(project: Project) -> list[int]:
    """All that are not this process's are the worker's."""
    query = text(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
        " AND application_name <> :own"
    )
    with project.store.database.connection() as connection:
        return list(connection.execute(query, {"own": f"karkas {worker_name()}"}).scalars())


def approve(project: Project) -> None:
    (gate,) = [gate for gate in project.store.gates.list() if gate.status.waits]
    project.store.gates.decide(gate.id, Approve(), by=person())
