"""A night outlasts whoever reads what it says, and always says why it ended."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from karkas.project import Project
from karkas.storage import Run, RunStatus

from .conftest import KARKAS, queue, seen, standing, until


def night_ended(root: Path) -> list[dict[str, str]]:
    log = (root / ".karkas" / "logs" / "karkas.log").read_text().splitlines()
    return [entry for entry in map(json.loads, log) if entry["event"] == "night_ended"]


@pytest.mark.parametrize("redirected", ["<&- >&- 2>&-", "<&- >log 2>&1", ">/dev/full 2>&1", "| true"])
def test_a_night_whose_words_reach_nobody_does_its_work_all_the_same(
    root: Path, opened: Callable[[], Project], redirected: str
) -> None:
    project = opened()
    runs = queue(project, "steps", "a", "b")
    shell = f"set -o pipefail; env -i PATH=/usr/bin:/bin {KARKAS} night {redirected}"
    assert subprocess.run(["bash", "-c", shell], check=False, timeout=120).returncode == 0
    assert standing(project, runs) == [RunStatus.DONE] * 2
    assert [entry["why"] for entry in night_ended(root)] == ["drained"]
    assert project.store.verify() == []


def left_by_its_terminal(
    root: Path, project: Project, *command: str | Path
) -> tuple[list[Run], "subprocess.Popen[bytes]"]:
    """A night in the middle of its one run, which has got a SIGHUP."""
    (root / "wait").touch()
    runs = queue(project, "steps", "a")
    with (root / "out").open("w") as out:
        night = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    until(lambda: len(seen()) == 1)
    night.send_signal(signal.SIGHUP)
    return runs, night


def test_a_night_that_was_begun_with_nohup_outlasts_its_terminal(
    root: Path, opened: Callable[[], Project]
) -> None:
    project = opened()
    runs, night = left_by_its_terminal(root, project, "nohup", KARKAS, "night")
    (root / "wait").unlink()
    assert night.wait(60) == 0
    assert standing(project, runs) == [RunStatus.DONE]


def test_a_night_whose_terminal_is_gone_ends_in_order_and_says_by_what(
    root: Path, opened: Callable[[], Project]
) -> None:
    project = opened()
    runs, night = left_by_its_terminal(root, project, KARKAS, "night")
    assert night.wait(60) == 130
    assert "ended by SIGHUP; nothing is lost" in (root / "out").read_text()
    assert standing(project, runs) == [RunStatus.QUEUED]
    assert [entry["told_by"] for entry in night_ended(root)] == ["SIGHUP"]
