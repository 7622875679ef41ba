"""What is seen of runs while they are at work, from another process."""

import socket
from datetime import timedelta

import pytest

from karkas.policies.budgets import Budget
from karkas.project import Project
from karkas.report import live
from karkas.report.live import Live, Watcher

from .conftest import Advance, Answer


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SLOW_S", 0.0)


def look(project: Project) -> Live:
    """As another process sees it."""
    with Project.open(project.root) as other:
        return Watcher(other).look()


def test_a_run_at_work_is_seen_with_what_it_does_and_what_ends_it(project: Project, answer: Answer) -> None:
    store = project.store
    deadline = store.clock() + timedelta(minutes=5)
    run = store.runs.create("explore", zone="courier", budget=Budget(cycles=9), deadline=deadline)
    with store.runs.lease(run.id):
        store.runs.take_up(run.id)
        answer(run.id, 300)
        store.note(
            "cycle_ended",
            f"run:{run.id}",
            actor="karkas",
            data={"cycle": 1, "novelty": 0.25, "claims": 12},
        )
        store.doings.tell(run.id, "cycle 2: scout reads", done=3, total=40)
        store.doings.close()
        (flight,) = look(project).runs
    assert (flight.status, flight.zone, flight.tokens) == ("running", "courier", 600)
    assert flight.doing == "cycle 2: scout reads 3 of 40"
    assert flight.novelty == 0.25
    assert flight.claims == 12
    assert flight.rate is not None
    assert flight.rate > 100, "600 tokens within its first seconds"
    assert flight.bound == "deadline"
    assert flight.left_s == pytest.approx(300, abs=10)
    assert flight.at_work.startswith(socket.gethostname())


def test_a_run_whose_process_is_gone_is_broken_off(project: Project) -> None:
    run = project.store.runs.create("explore", zone="courier")
    project.store.runs.take_up(run.id)
    project.store.doings.tell(run.id, "reads")
    project.store.doings.close()
    (flight,) = look(project).runs
    assert (flight.status, flight.doing, flight.bound) == ("broken off", "", None)


def test_what_waits_is_counted_and_what_frees_the_most_is_named(project: Project, advance: Advance) -> None:
    advance("explore")
    advance("write", "a")
    advance("write", "b")
    found = look(project)
    assert found.counts == {"parked": 3}
    assert found.waits == 3
    assert found.choices[0].what == "courier: frame zone courier"
    assert {one.status for one in found.runs} == {"parked"}


def test_workers_are_seen(project: Project) -> None:
    project.store.workers.join(2)
    (worker,) = look(project).workers
    assert worker.alive
    assert worker.name.startswith(socket.gethostname())
    project.store.workers.leave()
    assert look(project).workers == ()


def test_servers_are_up_or_down(project: Project) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    model = project.settings.model.model_copy(update={"base_url": address})
    settings = project.settings.model_copy(update={"model": model})
    assert [(one.address, one.up) for one in live.servers(settings)] == [(address, False)]
    assert live.servers(project.settings) == ()
