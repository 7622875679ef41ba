"""The command line with a real model behind it: every step works, and a stopped run leaves nothing behind."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from karkas.agents.distillate import load, verify
from karkas.project import Project
from karkas.storage import RunStatus
from karkas.workflows.mapping import distillate_path, text_of

from .conftest import Server

KARKAS = Path(sys.executable).with_name("karkas")
DOCUMENTS = Path(__file__).parents[1] / "workflows" / "documents"
DEADLINE_S = 60.0
SETTINGS = """
[model]
base_url = "{url}"
[roles.critic]
adapter = "{adapter}"
[zones.notes]
understanding = 4
critical = true
scope = {{paths = ["notes"]}}
"""


@pytest.fixture
def root(tmp_path: Path, server: Server) -> Path:
    root = tmp_path / "project"
    Project.init(root).close()
    (root / "karkas.toml").write_text(SETTINGS.format(url=server.base_url, adapter=server.adapters[0]))
    return root


def karkas(root: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [KARKAS, *args], cwd=root, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out + err


def test_an_exploration_ends_with_a_map_that_verifies_and_a_record_of_what_was_asked(root: Path) -> None:
    code, told = ended(karkas(root, "explore", "courier", "--source", str(DOCUMENTS)))
    assert code in {0, 3}, told
    assert "engine: language-model" in told
    with Project.open(root) as project:
        found = load(distillate_path(root, "courier").read_bytes())
        assert verify(found, text_of(project.store)) == []
        assert found.engine.kind == "llm"
        (run,) = project.store.runs.list()
        assert run.engine == str(found.engine)
        assert run.spent.tokens > 0
        events = {entry.event for entry in project.store.audit.log(subject=f"run:{run.id}")}
        assert {"run_engine_pinned", "prompt_used"} <= events
        assert project.store.verify() == []


def test_a_named_action_is_shown_to_the_critic_and_waits_for_a_person(root: Path) -> None:
    args = json.dumps({"path": "notes/a.md", "content": "hello\n"})
    code, told = ended(karkas(root, "act", "notes", "say hello", "--tool", "write_file", "--args", args))
    assert code == 3, told
    with Project.open(root) as project:
        (gate,) = project.store.gates.list()
        assert gate.critic is not None
        assert gate.critic.critic.startswith("critic/language-model")


def test_stopping_a_run_from_elsewhere_frees_the_slots_of_its_server(root: Path, server: Server) -> None:
    sources = ("--source", str(Path(__file__).parents[2] / "docs"))
    process = karkas(root, "explore", "courier", *sources)
    wait_until(lambda: process.poll() is not None or running(server) > 0)
    with Project.open(root) as project:
        (run,) = project.store.runs.list()
        project.store.runs.set_status(run.id, RunStatus.STOPPED, reason="enough", by="ada")
        code, told = ended(process)
        assert (code, "stopped, enough" in told) == (4, True), told
        assert project.store.runs.get(run.id).status is RunStatus.STOPPED
    wait_until(lambda: running(server) == 0)


def running(server: Server) -> float:
    text = httpx.get(f"{server.base_url}/metrics").text
    return sum(
        float(one) for one in re.findall(r"^vllm:num_requests_running\{.*\} (\S+)$", text, re.MULTILINE)
    )


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
