"""Runs that a worker advances: what passes by itself is waited for, what does not is marked, and nobody is asked."""

import asyncio
import sqlite3
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from langgraph.graph import END, START
from langgraph.types import StateSnapshot
from sqlalchemy.exc import DataError
from tests.workflows.conftest import Bench

from karkas.policies.errors import ModelNeededError, ModelUnavailableError, StorageError, UsageError
from karkas.policies.verdicts import Answer
from karkas.storage import Lease, LeaseLostError, RunStatus
from karkas.workflows import runs
from karkas.workflows.define import Workflow
from karkas.workflows.lanes import WorkflowState
from karkas.workflows.runs import FIRST_PAUSE_S, LONGEST_PAUSE_S, Unattended, pause_s, result_of

WORKER = Unattended("host:1", retries=2, crashes=3)


class State(WorkflowState, total=False):
    task: str


class Failing:
    """A workflow of one node that raises these, one each time, and then ends."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.graph = Workflow(State)
        self.graph.add_node("work", self.work)
        self.graph.add_edge(START, "work").add_edge("work", END)

    async def work(self, state: State) -> dict[str, object]:
        if self.errors:
            raise self.errors.pop(0)
        return {}


def test_a_run_whose_model_server_is_away_pauses_longer_each_time_and_then_goes_on(bench: Bench) -> None:
    failing = Failing(*(ModelUnavailableError("nobody answers") for _ in range(3)))
    run, context = bench.begin(failing.graph)
    pauses = []
    for _ in range(3):
        paused = bench.advance(context, failing.graph, unattended=WORKER)
        assert (paused.status, paused.error) == (RunStatus.PARKED, None)
        assert paused.reason.startswith("nobody answers; it goes on by itself, tried again at ")
        assert paused.due_at is not None
        pauses.append((paused.due_at - paused.changed_at).total_seconds())
    assert pauses == pytest.approx([FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S], abs=2.0)
    assert pause_s(1000) == LONGEST_PAUSE_S
    done = bench.advance(context, failing.graph, unattended=WORKER)
    assert (done.status, done.due_at, done.tries) == (RunStatus.DONE, None, 0)
    assert run.id == done.id
    assert bench.project.store.verify() == []


def test_a_run_that_fails_for_its_own_fault_is_tried_again_and_then_marked(bench: Bench) -> None:
    failing = Failing(*(RuntimeError(f"fault {number}") for number in range(4)))
    _, context = bench.begin(failing.graph)
    again = [bench.advance(context, failing.graph, unattended=WORKER) for _ in range(2)]
    assert [(run.status, run.error) for run in again] == [
        (RunStatus.QUEUED, f"node work: RuntimeError: fault {number}") for number in range(2)
    ]
    assert all(run.due_at and run.reason.startswith("it failed and is tried again at") for run in again)
    failed = bench.advance(context, failing.graph, unattended=WORKER)
    assert (failed.status, failed.due_at) == (RunStatus.FAILED, None)
    assert failed.error == "node work: RuntimeError: fault 2"


@pytest.mark.parametrize("error", [ModelNeededError("name a model"), UsageError("no")])
def test_what_only_a_person_can_mend_is_not_tried_again_for_ever(bench: Bench, error: Exception) -> None:
    failing = Failing(error, error, error)
    _, context = bench.begin(failing.graph)
    run = bench.advance(context, failing.graph, unattended=WORKER)
    for _ in range(2):
        if run.due_at is not None:
            run = bench.advance(context, failing.graph, unattended=WORKER)
    assert run.status in {RunStatus.PARKED, RunStatus.FAILED}
    assert run.due_at is None


@pytest.mark.parametrize(
    "error",
    [
        StorageError("the disk is full"),
        sqlite3.OperationalError("disk is full"),
        OSError(28, "No space left"),
    ],
)
def test_a_store_that_cannot_be_written_is_no_fault_of_the_run(bench: Bench, error: Exception) -> None:
    failing = Failing(error)
    run, context = bench.begin(failing.graph)
    bench.project.store.runs.hand_over(run.id)
    with pytest.raises((StorageError, OSError)):
        bench.advance(context, failing.graph, unattended=WORKER)
    store = bench.project.store
    assert [one.id for one in store.runs.due(store.clock())] == [run.id]
    assert bench.advance(context, failing.graph, unattended=WORKER).status is RunStatus.DONE


@pytest.mark.parametrize("error", [sqlite3.DataError("too big"), StorageError("refused")])
def test_what_the_store_refuses_for_what_it_is_is_the_runs_fault(bench: Bench, error: Exception) -> None:
    if isinstance(error, StorageError):
        error.__cause__ = DataError("INSERT", {}, sqlite3.DataError("too big"))
    _, context = bench.begin((failing := Failing(error)).graph)
    assert bench.advance(context, failing.graph, unattended=WORKER).status is RunStatus.QUEUED


def test_a_worker_that_lives_did_not_die_at_a_run_that_the_store_failed_again_and_again(bench: Bench) -> None:
    me = Unattended(bench.project.store.workers.join(1).id, crashes=3)
    failing = Failing(*(StorageError("the database is away") for _ in range(5)))
    _, context = bench.begin(failing.graph)
    for _ in range(5):
        with pytest.raises(StorageError):
            bench.advance(context, failing.graph, unattended=me)
    assert bench.advance(context, failing.graph, unattended=me).status is RunStatus.DONE


def test_a_run_at_which_its_workers_die_again_and_again_is_given_up(bench: Bench) -> None:
    failing = Failing()
    run, context = bench.begin(failing.graph)
    runs = bench.project.store.runs
    for times in range(1, 3):
        runs.take_up(run.id, worker="host:dead")  # and nothing more: it died
        assert runs.count_crash(run.id, None) == times
    given_up = bench.advance(context, failing.graph, unattended=WORKER)
    assert given_up.status is RunStatus.FAILED
    assert "died 3 times in a row at the same step" in (given_up.error or "")


def test_crashes_at_different_steps_are_no_reason_to_give_up(bench: Bench) -> None:
    run, _ = bench.begin(Failing().graph)
    runs = bench.project.store.runs
    assert [runs.count_crash(run.id, at) for at in ("a", "a", "b", "c", "c")] == [1, 2, 1, 1, 2]


def test_an_interrupted_worker_queues_its_run_again_and_a_person_does_not(bench: Bench) -> None:
    async def slow(state: State) -> dict[str, object]:
        await asyncio.sleep(60)
        return {}

    graph = Workflow(State)
    graph.add_node("slow", slow)
    graph.add_edge(START, "slow").add_edge("slow", END)
    store = bench.project.store
    for unattended in (WORKER, None):
        run, context = bench.begin(graph)

        async def interrupted(unattended: Unattended | None = unattended, context: Any = context) -> None:
            from karkas.storage import open_checkpointer
            from karkas.workflows.runs import advance

            task = asyncio.create_task(
                advance(
                    context, graph, lambda: open_checkpointer(bench.project.folder), unattended=unattended
                )
            )
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(interrupted())
        after = store.runs.get(run.id)
        assert (after.status, after.reason) == (RunStatus.QUEUED, "interrupted")
        assert (after.due_at is not None) is (unattended is not None)


def asking() -> Workflow:
    graph = Workflow(State)
    graph.add_question("colour", lambda _: "Which colour?", zones=("notes",), choices=("red", "blue"))
    return graph.add_edge(START, "colour").add_edge("colour", END)


def test_a_decision_wakes_a_parked_run_whoever_began_it(bench: Bench) -> None:
    graph = asking()
    run, context = bench.begin(graph)
    assert bench.advance(context, graph).due_at is None
    store = bench.project.store
    gate = bench.the_gate()
    store.gates.decide(gate.id, Answer(text="red"), by="ada")
    (due,) = store.runs.due(store.clock())
    assert (due.id, due.priority) == (run.id, 0)
    done = bench.advance(context, graph, unattended=WORKER)
    assert (done.status, done.due_at, done.priority) == (RunStatus.DONE, None, 10)


def test_a_decision_in_the_very_moment_of_parking_is_not_missed(bench: Bench) -> None:
    graph = asking()
    run, context = bench.begin(graph)
    bench.advance(context, graph)
    store, gate = bench.project.store, bench.the_gate()
    store.runs.take_up(run.id)
    store.gates.decide(gate.id, Answer(text="red"), by="ada")
    parked = store.runs.set_status(run.id, RunStatus.PARKED, gates={gate.id})
    assert parked.due_at is not None
    assert parked.due_at <= store.clock()


def test_a_gate_that_expires_wakes_its_run(bench: Bench) -> None:
    graph = asking()
    run, context = bench.begin(graph)
    bench.advance(replace(context, expires_in=timedelta(days=7)), graph)
    store, gate = bench.project.store, bench.the_gate()
    assert store.runs.due(store.clock()) == ()
    assert [one.id for one in store.gates.wake_due(store.clock() + timedelta(days=8))] == [gate.id]
    assert [one.id for one in store.runs.due(store.clock())] == [run.id]


def test_what_is_due_goes_by_priority_and_then_by_time(bench: Bench) -> None:
    store, now = bench.project.store, bench.project.store.clock()
    late = store.runs.create("test", due_at=now - timedelta(hours=1))
    early = store.runs.create("test", due_at=now - timedelta(hours=2))
    store.runs.create("test", due_at=now + timedelta(hours=1))
    store.runs.create("test")
    assert [run.id for run in store.runs.due(now)] == [early.id, late.id]
    assert store.runs.next_due(now) == now + timedelta(hours=1)


def test_of_two_runs_with_one_key_there_is_one(bench: Bench) -> None:
    runs = bench.project.store.runs
    first, second = (runs.create("test", key="nightly@2026-11-29T23:00") for _ in range(2))
    assert first.id == second.id
    assert len(runs.list()) == 1


def test_a_worker_that_lost_its_lease_at_the_very_end_does_not_say_how_the_run_stands(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was suspended between its last checkpoint and the run's row, and another one is at work on the run now."""
    failing = Failing()
    run, context = bench.begin(failing.graph)
    lost: list[bool] = []

    def after_the_last_step(snapshot: StateSnapshot) -> dict[str, Any]:
        lost.append(True)
        return result_of(snapshot)

    def check(lease: Lease) -> None:
        if lost:
            raise LeaseLostError(f"the lease of run {lease.run} is lost")

    monkeypatch.setattr(runs, "result_of", after_the_last_step)
    monkeypatch.setattr(Lease, "check", check)
    with pytest.raises(LeaseLostError):
        bench.advance(context, failing.graph, unattended=WORKER)
    assert bench.project.store.runs.get(run.id).status is RunStatus.RUNNING
