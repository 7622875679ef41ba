"""kill -9 at random points of real `karkas` processes: nothing lost, nothing done twice, `unknown` asked."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from karkas.agents.distillate import load
from karkas.policies.gates import GateKind
from karkas.policies.verdicts import Answer, Approve
from karkas.project import Project, person
from karkas.storage import Run, RunStatus

DOCUMENTS = Path(__file__).with_name("documents")
KARKAS = Path(sys.executable).with_name("karkas")
FLOW = '''
import os, time
from karkas.agents.tools import tool
from karkas.policies.actions import Effect
from karkas.server.questions import ToolCall
from karkas.workflows.define import Workflow
from langgraph.graph import END, START


@tool(Effect.IRREVERSIBLE)
def ring(bell: str) -> str:
    """Rings a bell: each ring is a line in a file outside the project."""
    time.sleep(0.05)
    with open(bell, "a") as file:
        file.write("rung\\n")
    time.sleep(0.05)
    return "rung"


flow = Workflow(zones=("tower",))
flow.add_action("ring", lambda state: ToolCall(tool="ring", args={"bell": os.environ["BELL"]}))
flow.add_edge(START, "ring").add_edge("ring", END)
'''


def rows(root: Path) -> int:
    """How many rows the audit log of a running process has; none while it makes its database."""
    try:
        with closing(
            sqlite3.connect(f"file:{root}/.karkas/karkas.db?mode=ro", uri=True, timeout=1)
        ) as connection:
            return int(connection.execute("SELECT count(*) FROM audit").fetchone()[0])
    except sqlite3.Error:
        return 0


def killed(root: Path, *args: str, at: int, late: float = 0.0) -> bool:
    """Starts `karkas`, and kills it `late` seconds after its audit log has `at` rows; False where it ended before."""
    process = subprocess.Popen(
        [KARKAS, *args], cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
    )
    deadline = time.monotonic() + 60
    while process.poll() is None and rows(root) < at and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(late)
    ended = process.poll() is not None
    if not ended:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return not ended


def resumed(root: Path, run: str) -> dict[str, Any]:
    ended = subprocess.run(
        [KARKAS, "runs", "resume", run, "--json"], cwd=root, capture_output=True, text=True, check=False
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    assert found["status"] in {"parked", "done"}, found["error"]
    return found


def only_run(root: Path) -> Run | None:
    with Project.open(root) as project:
        runs = project.store.runs.list()
        assert len(runs) <= 1
        return runs[0] if runs else None


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of the distillate that an exploration gives that nobody kills."""
    root = tmp_path_factory.mktemp("undisturbed")
    Project.init(root).close()
    subprocess.run(
        [KARKAS, "explore", "courier", "-s", DOCUMENTS], cwd=root, check=False, capture_output=True
    )
    return load((root / "zones/courier.distillate.yaml").read_bytes()).id


@pytest.mark.parametrize("seed", range(3))
def test_an_exploration_killed_at_random_points_ends_as_if_nothing_had_happened(
    tmp_path: Path, undisturbed: str, seed: int
) -> None:
    chance, root = random.Random(seed), tmp_path / "killed"
    Project.init(root).close()
    killed(
        root, "explore", "courier", "-s", str(DOCUMENTS), at=chance.randint(2, 12), late=chance.random() / 10
    )
    run = only_run(root)
    assert run is not None
    for _ in range(2):
        killed(
            root, "runs", "resume", run.id, at=rows(root) + chance.randint(1, 8), late=chance.random() / 10
        )
    assert resumed(root, run.id)["status"] == "parked"
    with Project.open(root) as project:
        found = load((root / "zones/courier.distillate.yaml").read_bytes())
        assert found.id == undisturbed
        assert len({source.id for source in found.sources}) == len(found.sources)
        assert [gate.kind for gate in project.store.gates.list() if gate.status.waits] == [GateKind.FRAME]
        assert project.store.audit.verify() == []


@pytest.mark.parametrize("seed", range(5))
def test_an_action_killed_at_random_points_happens_at_most_once_and_doubt_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance, root, bell = random.Random(seed), tmp_path / "project", tmp_path / "bell"
    monkeypatch.setenv("BELL", str(bell))
    with Project.init(root) as project:
        (root / "karkas.toml").write_text("[zones.tower]\nunderstanding = 4\ncritical = true\n")
        (root / "flow.py").write_text(FLOW)
    killed(root, "run", "flow.py:flow", at=chance.randint(2, 5), late=chance.random() / 20)
    run = only_run(root)
    assert run is not None
    resumed(root, run.id)
    with Project.open(root) as project:
        (gate,) = [gate for gate in project.store.gates.list() if gate.status.waits]
        project.store.gates.decide(gate.id, Approve(), by=person())
    before = rows(root)
    for _ in range(2):
        killed(root, "runs", "resume", run.id, at=before + chance.randint(1, 5), late=chance.random() / 8)
    resumed(root, run.id)
    with Project.open(root) as project:
        doubts = [gate for gate in project.store.gates.list() if gate.status.waits]
        for doubt in doubts:
            assert doubt.kind is GateKind.OUTCOME
            happened = bell.exists()
            answer = Answer(text="happened" if happened else "did-not-happen")
            project.store.gates.decide(doubt.id, answer, by=person())
    ended = resumed(root, run.id)
    assert ended["status"] == RunStatus.DONE
    rings = bell.read_text().count("rung") if bell.exists() else 0
    assert ended["result"]["outcomes"]["ring"]["status"] == ("committed" if rings else "failed")
    assert rings <= 1
    assert rings == 1 or doubts, "without a ring, a person was asked"
    with Project.open(root) as project:
        assert project.store.audit.verify() == []
