import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest

from karkas.policies.budgets import Budget, Spent
from karkas.policies.errors import EngineChangedError, NotFoundError
from karkas.storage import LeaseError, LeaseLostError, Run, RunStatus, RunStatusError, Store

QUEUED, RUNNING, PARKED, DONE, FAILED, STOPPED = RunStatus
LEGAL = {
    *product([RUNNING], RunStatus),
    *product([PARKED], [QUEUED, RUNNING, PARKED, FAILED, STOPPED]),
    *product([QUEUED], [RUNNING, FAILED, STOPPED]),
}


def test_a_run_keeps_what_it_was_given(store: Store) -> None:
    deadline = store.clock() + timedelta(hours=8)
    created = store.runs.create(
        "explore",
        zone="lora",
        input={"sources": ["pkg:peft", "сети"]},
        budget=Budget(tokens=10),
        deadline=deadline,
        options={"quiet": True},
        by="anna",
    )
    assert store.runs.get(created.id) == created
    assert (created.status, created.deadline, created.spent) == (QUEUED, deadline, Spent())
    assert (created.budget, created.created_at) == (Budget(tokens=10), store.clock())
    assert store.audit.log(subject=f"run:{created.id}")[0].actor == "anna"


def test_a_run_takes_only_the_steps_there_are(store: Store) -> None:
    for before, after in product(RunStatus, RunStatus):
        run = store.runs.create("act")
        for status in {QUEUED: (), RUNNING: (RUNNING,)}.get(before, (RUNNING, before)):
            store.runs.set_status(run.id, status)
        if (before, after) in LEGAL:
            assert store.runs.set_status(run.id, after).status is after
        else:
            with pytest.raises(RunStatusError, match=f"is {before}"):
                store.runs.set_status(run.id, after)
            assert store.runs.get(run.id).status is before


def test_an_ended_run_says_how_and_when_and_runs_again_only_when_it_is_opened(
    store: Store, advance: Callable[[timedelta], None]
) -> None:
    run = store.runs.create("act")
    store.runs.set_status(run.id, RUNNING)
    advance(timedelta(minutes=1))
    failed = store.runs.set_status(run.id, FAILED, reason="a tool failed", error="boom", result={"files": 2})
    assert (failed.reason, failed.error, failed.result) == ("a tool failed", "boom", {"files": 2})
    assert failed.finished_at == store.clock() != failed.created_at
    opened = store.runs.reopen(run.id, by="anna", reason="repaired")
    assert (opened.status, opened.finished_at, opened.error) == (QUEUED, None, None)
    assert opened.result == {"files": 2}
    with pytest.raises(RunStatusError, match="only a failed or stopped one"):
        store.runs.reopen(run.id, by="anna")


def test_a_failed_run_keeps_its_gates_for_when_it_goes_on(
    store: Store, open_gate: Callable[..., object]
) -> None:
    open_gate("a.md")
    (gate,) = store.gates.list()
    store.runs.set_status(gate.run, FAILED)
    assert store.gates.get(gate.id).status.waits


def test_what_threads_spend_adds_up(store: Store) -> None:
    run = store.runs.create("act")

    def spend(_: int) -> None:
        for _ in range(5):
            store.purses.spend(run.id, Spent(tokens=3, wall_s=0.5))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(spend, range(8)))
    assert store.runs.get(run.id).spent == Spent(tokens=120, wall_s=20.0)


def test_the_engine_of_a_run_is_pinned_until_it_is_released_on_the_record(store: Store) -> None:
    run = store.runs.create("explore")
    store.runs.set_engine(run.id, "offline 1")
    assert store.runs.set_engine(run.id, "offline 1").engine == "offline 1"
    with pytest.raises(EngineChangedError, match=rf"begun with offline 1.*resume {run.id} --switch-engine"):
        store.runs.set_engine(run.id, "vllm 0.32")
    assert store.runs.release_engine(run.id, by="ada", reason="switched").engine is None
    released = store.audit.log(subject=f"run:{run.id}")[-1]
    assert (released.event, released.actor) == ("run_engine_released", "ada")
    assert released.data == {"engine": "offline 1", "reason": "switched"}
    assert store.runs.set_engine(run.id, "vllm 0.32").engine == "vllm 0.32"
    assert store.verify() == []


def test_segments_count_from_one(store: Store) -> None:
    run = store.runs.create("act")
    assert [store.runs.take_up(run.id).segment for _ in range(3)] == [1, 2, 3]


def test_runs_are_listed_newest_first(store: Store, advance: Callable[[timedelta], None]) -> None:
    made = []
    for zone in ("lora", "trl", "lora"):
        made.append(store.runs.create("act", zone=zone).id)
        advance(timedelta(seconds=1))
    store.runs.set_status(made[0], RUNNING)
    assert [run.id for run in store.runs.list()] == made[::-1]
    assert [run.id for run in store.runs.list(zone="lora")] == [made[2], made[0]]
    assert [run.id for run in store.runs.list(status=RUNNING)] == [made[0]]
    assert [run.id for run in store.runs.list(limit=1)] == [made[2]]


def test_a_prefix_must_be_unique(store: Store) -> None:
    ids = [store.runs.create("act").id for _ in range(17)]  # more than there are hexadecimal digits
    digits = [one[2] for one in ids]
    shared = next(digit for digit in digits if digits.count(digit) > 1)
    with pytest.raises(NotFoundError, match="give more of it"):
        store.runs.get(shared)
    assert store.runs.get(ids[0][:-1]).id == ids[0]
    for every in ("", "r-"):
        with pytest.raises(
            NotFoundError, match=r"begins the id of every run; give more of it.*karkas runs list"
        ):
            store.runs.get(every)
    for nothing in ("r-%", "r-______", "nothing"):
        with pytest.raises(NotFoundError, match=r"there is no run.*karkas runs list"):
            store.runs.get(nothing)


def test_text_that_no_database_takes_is_kept_visibly(store: Store) -> None:
    run = store.runs.create("act", input={"name": "a\x00b"})
    store.runs.set_status(run.id, RUNNING)
    store.runs.set_status(
        run.id, FAILED, error="read \udcff and \x00", reason="\ud800", result={"tail": "\udcff\x00"}
    )
    kept = store.runs.get(run.id)
    assert (kept.error, kept.reason) == ("read \\udcff and \\x00", "\\ud800")
    assert (kept.input, kept.result) == ({"name": "a\x00b"}, {"tail": "\udcff\x00"})
    assert store.verify() == []


def test_one_holder_advances_a_run(store: Store) -> None:
    run, other = store.runs.create("act"), store.runs.create("act")
    with store.runs.lease(run.id) as lease:
        assert lease.run == run.id
        with pytest.raises(LeaseError, match="another process"), store.runs.lease(run.id):
            pass
        with store.runs.lease(other.id):
            pass
    with store.runs.lease(run.id):
        pass


HOLD = """
import sys
from pathlib import Path
from karkas.storage import Store
folder, url, run = sys.argv[1:]
with Store.open(Path(folder), url=url or None).runs.lease(run):
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_a_lease_names_its_process_and_ends_with_it(store: Store, folder: Path, url: str | None) -> None:
    import time

    run = store.runs.create("act")
    command = [sys.executable, "-c", HOLD, str(folder), url or "", run.id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(LeaseError, match=str(holder.pid)), store.runs.lease(run.id):
            pass
        os.kill(holder.pid, signal.SIGKILL)
    # PostgreSQL notices a dead client a moment later.
    for _ in range(50 if url else 1):
        try:
            with store.runs.lease(run.id):
                return
        except LeaseError:
            time.sleep(0.1)
    pytest.fail("the lease outlived its process")


def test_no_worker_takes_up_what_waits_for_a_person(store: Store, run: Run) -> None:
    """It had it in hand, was stopped, and others went on with it until it parked."""
    parked = store.runs.set_status(run.id, RunStatus.PARKED)
    with pytest.raises(LeaseLostError, match="waits for a person"):
        store.runs.take_up(run.id, worker="w-late")
    assert store.runs.get(run.id) == parked
    store.runs.hand_over(run.id)
    assert store.runs.take_up(run.id, worker="w-late").status is RunStatus.RUNNING
    store.runs.set_status(run.id, RunStatus.PARKED)
    assert store.runs.take_up(run.id).status is RunStatus.RUNNING, "a person may"
