"""`karkas serve` on a server that stands in for vLLM; `tests/vllm/test_serve.py` has a real one."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from karkas.server.process import State, Watchbook

from .conftest import KARKAS, Cli

FAKE = Path(__file__).parents[1] / "server" / "fake_vllm.py"


@pytest.fixture
def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        found: int = one.getsockname()[1]
        return found


@pytest.fixture
def served(root: Path, port: int, cli: Cli) -> Iterator[Path]:
    """The project, which says how to serve its model; what runs is stopped at the end."""
    (root / "models" / "tiny").mkdir(parents=True)
    (root / "models" / "tiny" / "config.json").write_text("{}")
    text = f'\n[model.serve]\npath = "models/tiny"\ncommand = [{json.dumps(str(FAKE))}]\nport = {port}\n'
    with (root / "karkas.toml").open("a") as file:
        file.write(text)
    yield root
    cli("serve", "--stop")


def test_without_a_word_on_serving_the_lines_to_add_are_shown(root: Path, cli: Cli) -> None:
    ended = cli("serve")
    assert ended.code == 1
    assert '[model.serve]\nerror: path = "models/NAME"' in ended.err


def test_a_name_that_is_not_there_is_told_with_those_that_are(served: Path, cli: Cli) -> None:
    ended = cli("serve", "defualt")
    assert (ended.code, ended.err) == (1, "error: no model defualt is served here; did you mean default?\n")


def test_two_at_one_address_are_refused(served: Path, port: int, cli: Cli) -> None:
    with (served / "karkas.toml").open("a") as file:
        file.write(f'\n[models.critic.serve]\npath = "models/tiny"\ncommand = ["true"]\nport = {port}\n')
    ended = cli("serve")
    assert ended.code == 1
    assert f"default and critic are both served at http://127.0.0.1:{port}" in ended.err


def test_what_excludes_each_other_is_a_wrong_use(served: Path, cli: Cli) -> None:
    assert cli("serve", "--status", "--stop").code == 2


def test_without_vllm_the_way_to_get_it_is_said(served: Path, cli: Cli) -> None:
    toml = served / "karkas.toml"
    toml.write_text(toml.read_text().replace(json.dumps(str(FAKE)), '"no-such-vllm"'))
    ended = cli("serve")
    assert ended.code == 1
    assert 'no-such-vllm is not found; on a machine with a GPU: pip install "karkas[vllm]"' in ended.err


def test_one_that_dies_says_why_and_what_to_do(served: Path, karkas: Cli) -> None:
    for way in ((), ("--detach",)):
        ended = karkas("serve", *way, FAKE="dies")
        assert ended.code == 1
        assert "its vLLM does not know --frobnicate; correct args" in ended.err
        assert "error:   | vllm: error: unrecognized arguments: --frobnicate" in ended.err
    as_json = karkas("serve", "--json", FAKE="dies")
    assert json.loads(as_json.err)["error"]["kind"] == "serve"
    assert json.loads(as_json.out.splitlines()[-1])["state"] == "failed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_serves_in_a_terminal_until_it_is_asked_to_end(served: Path, number: signal.Signals) -> None:
    with subprocess.Popen([KARKAS, "serve"], cwd=served, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[0].startswith("default: tiny at http://127.0.0.1:")
        assert "default: ready after" in lines[1]
        record = Watchbook(served / ".karkas").read("default")
        assert record is not None
        process.send_signal(number)
        rest = process.communicate(timeout=30)[0]
    assert process.returncode == 0
    assert rest.rstrip().endswith("default: stopped")
    assert record.group is not None
    assert record.group.members() == []


def test_a_second_ctrl_c_does_not_wait(served: Path) -> None:
    with subprocess.Popen(
        [KARKAS, "serve"],
        cwd=served,
        env=os.environ | {"FAKE": "stubborn"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert next(line for line in lines if line.startswith("Ctrl-C"))
        process.send_signal(signal.SIGINT)
        assert next(line for line in lines if line.endswith("default: stopping\n"))
        record = Watchbook(served / ".karkas").read("default")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=15)  # an orderly end would wait for 20
    assert process.returncode == 0
    assert record is not None
    assert record.group is not None
    assert record.group.members() == []


def test_it_serves_in_the_background_shows_itself_and_is_stopped(served: Path, karkas: Cli, cli: Cli) -> None:
    assert cli("serve", "--status").code == 1
    started = karkas("serve", "--detach")
    assert (started.code, started.err) == (0, "")
    assert "default: ready after" in started.out
    shown = cli("serve", "--status")
    assert shown.code == 0
    assert "ready" in shown.out
    assert "has it already" in cli("serve", "--detach").out
    ended = cli("serve")
    assert ended.code == 1
    assert "looks after default already" in ended.err
    assert cli("serve", "--stop").out == "default: stopped\n"
    assert cli("serve", "--stop").out == "default: was not running\n"
    assert cli("serve", "--status", "--json").json["servers"][0]["state"] == "stopped"


def test_what_a_killed_karkas_left_behind_is_seen_and_stopped(served: Path, karkas: Cli, cli: Cli) -> None:
    assert karkas("serve", "--detach").code == 0
    record = Watchbook(served / ".karkas").read("default")
    assert record is not None
    assert record.group is not None
    os.kill(record.supervisor, signal.SIGKILL)
    while record.pid in record.group.members():  # it is told that its karkas is gone; its engine is not
        time.sleep(0.05)
    shown = cli("serve", "--status", "--json").json["servers"][0]
    assert (shown["state"], shown["answers"]) == (State.LEFT, False)
    assert cli("serve", "--stop").out == "default: stopped\n"
    assert record.group.members() == []


def test_one_of_two_that_share_a_karkas_is_not_stopped_alone(served: Path, cli: Cli) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        other = one.getsockname()[1]
    with (served / "karkas.toml").open("a") as file:
        file.write(
            f'\n[models.critic.serve]\npath = "models/tiny"\ncommand = [{json.dumps(str(FAKE))}]\nport = {other}\n'
        )
    with subprocess.Popen([KARKAS, "serve"], cwd=served, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        assert lines[-1].startswith("Ctrl-C ends it"), lines
        ended = cli("serve", "--stop", "critic")
        assert ended.code == 1
        assert "has default too; stop all of it: karkas serve --stop critic default" in ended.err
        assert cli("serve", "--stop").code == 0
        process.communicate(timeout=30)
    assert process.returncode == 0
