"""`karkas serve` with a real vLLM: what it starts answers, comes back when it dies, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from karkas.project import Project
from karkas.server.process import Record, State, Watchbook
from karkas.server.process.group import Group

from .conftest import ADAPTERS, ENVIRONMENT, READY_SECONDS, StartServer, free_port

KARKAS = Path(sys.executable).with_name("karkas")


class Served:
    """A project whose model is the tiny one, and the command line on it."""

    def __init__(self, root: Path, vllm: Path, models: Path) -> None:
        self.root, self.port = root, free_port()
        Project.init(root).close()
        adapters = ", ".join(f"{name} = {json.dumps(str(models / name))}" for name in ADAPTERS)
        with (root / "karkas.toml").open("a") as file:
            file.write(f"""
[model.serve]
path = {json.dumps(str(models / "tiny"))}
command = [{json.dumps(str(vllm))}]
port = {self.port}
max_model_len = 4096
max_num_seqs = 4
adapters = {{{adapters}}}
env = {{{", ".join(f"{key} = {json.dumps(value)}" for key, value in ENVIRONMENT.items())}}}
args = ["--enforce-eager"]
""")

    def karkas(self, *args: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [KARKAS, "serve", *args],
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=READY_SECONDS + 60,
            check=False,
        )

    def record(self) -> Record:
        record = Watchbook(self.root / ".karkas").read("default")
        assert record is not None
        return record

    def until(self, condition: Callable[[Record], bool]) -> Record:
        until = time.monotonic() + READY_SECONDS
        while not condition(record := self.record()):
            assert time.monotonic() < until, record
            time.sleep(0.2)
        return record

    def ask(self, model: str, **more: Any) -> "dict[str, Any]":
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "One word."}],
            "max_tokens": 16,
        } | more
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        answer: dict[str, Any] = (
            httpx.post(url, json=body, timeout=60, trust_env=False).raise_for_status().json()
        )
        return answer


@pytest.fixture
def served(tmp_path: Path, vllm: Path, models: Path) -> Iterator[Served]:
    served = Served(tmp_path / "project", vllm, models)
    yield served
    served.karkas("--stop")


def members(record: Record) -> list[int]:
    assert record.group is not None
    return record.group.members()


def test_a_server_in_the_background_answers_comes_back_and_goes_without_a_trace(served: Served) -> None:
    started = served.karkas("--detach")
    assert (started.returncode, started.stderr) == (0, "")
    assert "default: ready after" in started.stdout
    first = served.record()
    assert len(members(first)) > 1

    texts = {
        served.ask(name, temperature=0)["choices"][0]["message"]["content"] for name in ("tiny", *ADAPTERS)
    }
    assert len(texts) == 3
    schema = {"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"]}
    format_ = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    answer = served.ask("tiny", response_format=format_, priority=-1)
    assert answer["choices"][0]["message"]["content"] == '{"a":"x"}'  # compact: nothing to pad with
    assert answer["usage"]["prompt_tokens_details"] is not None
    shown = json.loads(served.karkas("--status", "--json").stdout)["servers"]
    assert [(one["name"], one["state"], one["answers"]) for one in shown] == [("default", "ready", True)]
    again = served.karkas("--detach")
    assert (again.returncode, served.record().pid) == (0, first.pid)
    assert f"(pid {first.supervisor}) has it already" in again.stdout

    engine = max(members(first), key=resident)
    os.kill(engine, signal.SIGKILL)
    second = served.until(lambda record: record.state is State.READY and record.restarts == 1)
    assert members(first) == []
    assert served.ask("tiny")["choices"]

    assert served.karkas("--stop").returncode == 0
    assert members(second) == []
    assert not Group.led_by(second.supervisor).members()
    status = served.karkas("--status")
    assert status.returncode == 1
    assert "stopped" in status.stdout


def test_a_server_that_runs_already_is_used_and_left_running(
    served: Served, start_server: StartServer
) -> None:
    theirs = start_server(
        port=served.port, adapters=ADAPTERS, max_model_len=4096, max_num_batched_tokens=4096
    )
    assert "runs already" in served.karkas("--detach").stdout
    assert "left running" in served.karkas("--stop").stdout
    assert theirs.metrics()
    refused = served.karkas("--detach", "--json") if rename(served) else None
    assert refused is not None
    assert refused.returncode == 1
    assert (
        "does not serve large but tiny, adapter-a, adapter-b"
        in json.loads(refused.stderr)["error"]["message"]
    )


def rename(served: Served) -> bool:
    """From now on the project's model has another name."""
    path = served.root / "karkas.toml"
    text = path.read_text()
    path.write_text(text.replace("[model]\n", '[model]\nmodel = "large"\n', 1))
    return path.read_text() != text


def resident(pid: int) -> int:
    """Pages in memory: the engine holds the model."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
