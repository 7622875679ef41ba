"""`karkas runs watch` and `karkas runs log`: looking on while runs are at work in other processes."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from karkas.cli import watch
from karkas.logs import of_run
from karkas.project import Project
from karkas.report.choices import Choice
from karkas.report.live import Flight, Live, Server, WorkerSeen
from karkas.storage import RunStatus

from .conftest import KARKAS, Cli

NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)


def flight(number: int, **said: object) -> Flight:
    usual = {
        "run": f"r-{number:012x}",
        "workflow": "explore",
        "zone": "lora",
        "status": "running",
        "since": NOW,
        "cycle": 3,
        "tokens": 1_234_567,
        "cost": 0.5,
        "rate": 321.0,
        "novelty": 0.25,
        "bound": "wall_s",
        "left_s": 5_000.0,
        "doing": "cycle 3: scout reads 3 of 40",
    }
    return Flight.model_validate(usual | said)


def live(*runs: Flight, choices: int = 0) -> Live:
    return Live(
        at=NOW,
        runs=runs,
        counts={"running": len(runs)},
        rate=321.0,
        workers=(
            WorkerSeen(name="host:7", alive=True, silent_s=1, runs=1),
            WorkerSeen(name="old:9", alive=False, silent_s=99, runs=0),
        ),
        servers=(Server(address="http://gpu1:8000", up=True), Server(address="http://gpu2:8000", up=False)),
        waits=2,
        choices=tuple(
            Choice(what=f"lora: {n}", why="it waits", gates=1, runs=1, gate="g-1") for n in range(choices)
        ),
    )


def shown(found: Live, width: int = 80, height: int = 24) -> list[str]:
    lines = [line.plain for line in watch.page(found, width, height)]
    assert all(line_width(line) <= width for line in lines), lines
    assert len(lines) <= height
    return lines


def line_width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def test_a_run_is_shown_with_all_that_one_wants_to_know() -> None:
    lines = shown(live(flight(1)))
    row = next(line for line in lines if line.startswith("r-"))
    assert row.split() == ["r-000000000001", "lora", "running", "3", "1,234,567", "321", "25%", "1h", "time"]
    assert "  cycle 3: scout reads 3 of 40" in lines
    assert any("1 running; 321 tokens/s; these cost 0.50" in line for line in lines)
    assert any("1 alive, not heard of: old:9" in line for line in lines)
    assert any("http://gpu1:8000 up, http://gpu2:8000 DOWN" in line for line in lines)
    assert any("2 gates wait for you: karkas queue" in line for line in lines)


@pytest.mark.parametrize("number", [0, 1, 7, 8, 50])
def test_it_fits_the_terminal_and_says_what_it_leaves_out(number: int) -> None:
    lines = shown(live(*(flight(n) for n in range(number)), choices=3))
    listed = sum(line.startswith("r-") for line in lines)
    more = f"and {number - listed:,} more: karkas runs list"
    assert (more in lines) == (listed < number)
    assert listed >= min(number, 5)


def test_words_of_others_stay_on_their_line() -> None:
    lines = shown(live(flight(1, doing="reads\n\x1b[2Jr-fake \u202e" + "словоформа " * 30, zone="z" * 64)))
    assert sum(line.startswith("r-") for line in lines) == 1
    assert "\x1b" not in "".join(lines)


def test_lengths_of_time_are_short() -> None:
    assert [watch.length(seconds) for seconds in (0, 59, 60, 5_400, 90_000)] == [
        "0s",
        "59s",
        "1m",
        "2h",
        "1d",
    ]


def test_without_a_terminal_it_looks_once(root: Path, cli: Cli) -> None:
    assert "no run is in flight, and none waits" in cli("runs", "watch").out
    with Project.open(root) as project:
        run = project.store.runs.create("explore", zone="lora")
    ended = cli("runs", "watch")
    assert ended.code == 0
    assert run.id in ended.out
    assert "0 gates wait for you" in ended.out


def test_json_is_a_line_a_look(root: Path) -> None:
    with Project.open(root) as project:
        run = project.store.runs.create("explore", zone="lora")
    with subprocess.Popen(
        [KARKAS, "runs", "watch", "--json", "--every", "0.2"], cwd=root, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        looks = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 0
    assert [look["runs"][0]["run"] for look in looks] == [run.id] * 3
    assert looks[0]["at"] < looks[2]["at"]


def test_on_a_terminal_it_is_drawn_again_and_again_until_ctrl_c(root: Path) -> None:
    with Project.open(root) as project:
        run = project.store.runs.create("explore", zone="lora")
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        process = subprocess.Popen(
            [KARKAS, "runs", "watch", "--every", "0.2"],
            cwd=root,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(theirs)
        until(ours, run.id)
        project.store.runs.set_status(run.id, RunStatus.STOPPED)
        until(ours, "1 stopped")
        process.send_signal(signal.SIGINT)
        drain(ours)
        assert process.wait(10) == 0
        os.close(ours)


def until(terminal: int, words: str, seconds: float = 20) -> None:
    seen, give_up = "", time.monotonic() + seconds
    while words not in seen:
        assert time.monotonic() < give_up, seen
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65_536).decode(errors="replace")


def drain(terminal: int) -> None:
    while select.select([terminal], [], [], 2)[0]:
        try:
            if not os.read(terminal, 65_536):
                return
        except OSError:  # the other side is closed
            return


def test_a_run_tells_in_its_log_what_it_did(root: Path, karkas: Cli, cli: Cli) -> None:
    (root / "a.md").write_text(
        "# A\n\nA courier is a person who carries parcels. It waits 5 minutes by default.\n"
    )
    assert karkas("explore", "lora", "--source", "a.md").code == 3
    with Project.open(root) as project:
        (run,) = project.store.runs.list()
    out = cli("runs", "log", run.id).out
    assert "run_begun" in out
    assert "doing doing=cycle 1: scout looks for sources" in out
    assert "cycle_ended zone=lora cycle=1 sources=1" in out
    assert "run_left status=parked" in out
    entries = [json.loads(line) for line in cli("runs", "log", run.id, "--json").out.splitlines()]
    assert {entry["run_id"] for entry in entries} == {run.id}


def test_following_ends_with_the_run(root: Path, cli: Cli) -> None:
    with Project.open(root) as project:
        run = project.store.runs.create("explore", zone="lora")
        project.store.runs.take_up(run.id)
        path = of_run(project.folder, run.id)
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"event": "first", "run_id": "r-1"}\n')

        def go_on() -> None:
            time.sleep(1)
            with path.open("a") as file:
                file.write('{"event": "second", "level": "info"}\n')
            project.store.runs.set_status(run.id, RunStatus.STOPPED)

        thread = threading.Thread(target=go_on)
        thread.start()
        ended = cli("runs", "log", run.id, "--follow")
        thread.join()
    assert ended.code == 0
    assert [line.split()[-1] for line in ended.out.splitlines()] == ["first", "second"]


def test_a_run_without_a_log_here_says_so(root: Path, cli: Cli) -> None:
    with Project.open(root) as project:
        run = project.store.runs.create("explore", zone="lora")
    ended = cli("runs", "log", run.id)
    assert ended.code == 1
    assert f"there is no log of run {run.id} on this machine" in ended.err
