"""Workers as real processes: what is queued gets done, whatever happens to them, and nobody is asked."""

import base64
import json
import pickle
import signal
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from karkas.policies.verdicts import Answer
from karkas.project import Project
from karkas.runner import begin
from karkas.storage import RunStatus
from karkas.work.shift import Over, Shift

from .conftest import command, queue, seen, standing, until, worker


def test_a_night_does_what_is_queued_and_ends(root: Path, opened: Callable[[], Project]) -> None:
    detached = command("run", "flows.py:steps", "--input", '{"name": "a"}', "--detach")
    assert detached.code == 0
    assert "queued\nno worker is up; karkas night" in detached.out
    later = command("run", "flows.py:steps", "--input", '{"name": "b"}', "--at", "1h")
    assert "queued for" in later.out
    assert command("run", "flows.py:fails", "--input", '{"name": "c"}', "--detach").code == 0
    with (root / "karkas.toml").open("a") as file:
        file.write("\n[work]\nretries = 0\n")
    night = command("night")
    assert night.code == 1, night.err
    told = night.out.splitlines()
    failed = opened().store.runs.list(status=RunStatus.FAILED)[0].id
    assert f"1 run failed: karkas runs show {failed}" in told
    summary = told[told.index(f"1 run failed: karkas runs show {failed}") + 1]
    assert summary.startswith("all that was queued was worked off: ")
    assert "RuntimeError: its own fault" in told[-1]
    assert "1 done" in night.out
    assert "1 failed" in night.out
    assert sorted(seen()) == ["begins a", "ends a", "fails c"]
    assert opened().store.verify() == []


def test_a_night_at_whose_end_a_gate_waits_says_so(root: Path, opened: Callable[[], Project]) -> None:
    queue(opened(), "asks", "a")
    night = command("night", "--json")
    assert night.code == 3
    line, *last = night.out.split("\n", 1)
    assert json.loads(line)["status"] == "parked"
    assert (told := json.loads(last[0]))["waiting"] == 1
    assert told["night"]["why"] == "drained"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_is_told_to_end_queues_its_runs_again(
    root: Path, opened: Callable[[], Project], number: signal.Signals
) -> None:
    project = opened()
    (root / "wait").touch()
    runs = queue(project, "steps", "a", "b")
    with worker() as process:
        until(lambda: len(seen()) == 2)
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    assert "queued again" in out
    assert "Traceback" not in out
    assert standing(project, runs) == [RunStatus.QUEUED] * 2
    assert [run.id for run in project.store.runs.due(project.store.clock())]
    assert project.store.workers.all() == []
    (root / "wait").unlink()
    assert command("night").code == 0
    assert standing(project, runs) == [RunStatus.DONE] * 2


def test_a_decision_wakes_its_run_at_a_worker_that_is_up(root: Path, opened: Callable[[], Project]) -> None:
    project = opened()
    (run,) = queue(project, "asks", "a")
    with worker():
        until(lambda: standing(project, [run]) == [RunStatus.PARKED])
        (gate,) = project.store.gates.list(run=run.id)
        project.store.gates.decide(gate.id, Answer(text="red"), by="ada")
        until(lambda: standing(project, [run]) == [RunStatus.DONE], within_s=20)


def test_runs_of_a_file_that_is_gone_fail_and_the_night_goes_on(
    root: Path, opened: Callable[[], Project]
) -> None:
    project = opened()
    (lost,) = queue(project, "steps", "lost")
    (root / "flows.py").rename(root / "moved.py")
    kept = begin(project, "moved.py:steps", {"name": "kept"}, due_at=project.store.clock())
    assert command("night").code == 1
    assert standing(project, [lost, kept]) == [RunStatus.FAILED, RunStatus.DONE]
    assert "flows.py" in (project.store.runs.get(lost.id).error or "")


def test_a_night_that_is_over_takes_up_nothing_more_and_keeps_the_rest_for_the_next(
    root: Path, opened: Callable[[], Project]
) -> None:
    project = opened()
    shifted = clock_of(project)
    (root / "wait").touch()
    runs = queue(project, "steps", *"abc")
    night = project.store.nights.open(until=project.store.clock() + timedelta(hours=8))
    shift = Shift(project, 1, night=night, drain=True)
    with ThreadPoolExecutor(1) as threads:
        ended = threads.submit(shift.work)
        try:
            until(lambda: seen() == ["begins a"])
            shifted[0] = timedelta(hours=9)
            time.sleep(3)  # two looks at the clock
            (root / "wait").unlink()
            assert ended.result(60) is Over.DEADLINE
        finally:
            shift.stop()
    assert seen() == ["begins a", "ends a"]
    assert standing(project, runs) == [RunStatus.DONE, RunStatus.QUEUED, RunStatus.QUEUED]
    assert len(project.store.runs.due(project.store.clock())) == 2


def clock_of(project: Project) -> list[timedelta]:
    """By how much the project's clock is ahead of the machine's."""
    records, shifted = project.store._records, [timedelta()]
    clock = records.clock
    object.__setattr__(records, "clock", lambda: clock() + shifted[0])
    project.store.clock = records.clock
    return shifted


class Evil:
    """Rebuilt from its pickle, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


def test_what_somebody_wrote_into_the_queue_runs_nothing(root: Path, opened: Callable[[], Project]) -> None:
    """The queue's library rebuilds any object that a row calls a pickle, whatever it was told to write itself."""
    (asks,) = queue(opened(), "asks", "a")
    assert command("night").code == 3
    marker = root / "evil"
    pickled = base64.b64encode(pickle.dumps(Evil(marker))).decode()
    with closing(sqlite3.connect(root / ".karkas/queue.db")) as database:
        changed = database.execute(
            "UPDATE workflow_status SET status = 'ENQUEUED', serialization = 'py_pickle', executor_id = NULL,"
            " started_at_epoch_ms = NULL, completed_at = NULL WHERE workflow_uuid LIKE ?",
            (f"{asks.id}:%",),
        )
        assert changed.rowcount == 1
        changed = database.execute(
            "UPDATE workflow_input SET inputs = ? WHERE workflow_uuid LIKE ?", (pickled, f"{asks.id}:%")
        )
        assert changed.rowcount == 1
        database.commit()
    (other,) = queue(opened(), "steps", "b")
    with worker():
        until(lambda: standing(opened(), [other]) == [RunStatus.DONE])
        time.sleep(2)
    assert not marker.exists()


def test_what_a_worker_goes_on_with_asks_for_no_person(root: Path, opened: Callable[[], Project]) -> None:
    project = opened()
    (left,) = queue(project, "steps", "a")
    project.store.runs.take_up(left.id, worker="w-gone")
    (put_back,) = queue(project, "steps", "b")
    project.store.runs.take_up(put_back.id, worker="w-gone")
    project.store.runs.set_status(
        put_back.id, RunStatus.QUEUED, reason="interrupted", due_at=project.store.clock()
    )
    listed = command("runs", "list").out
    assert "its worker is gone; the next one goes on with it by itself" in listed
    assert "karkas runs resume" not in listed
