"""Sums and events for reports."""

from datetime import timedelta

from karkas.policies.budgets import Spent
from karkas.storage import RunStatus, Store
from karkas.storage.happened import Asked
from karkas.storage.journal import Entry


def test_events_are_found_by_name_subject_and_row(store: Store) -> None:
    for name in ("one", "two", "one"):
        store.note(name, "run:a" if name == "one" else "run:b", actor="ada", data={"of": name})
    assert [entry.data for entry in store.happened.events("one")] == [{"of": "one"}] * 2
    assert [entry.event for entry in store.happened.events("one", "two")] == ["one", "two", "one"]
    assert store.happened.events("one", subjects={"run:b"}) == []
    first = store.happened.events("one")[0]
    assert len(store.happened.events("one", after=first.seq)) == 1
    later = store.clock() + timedelta(days=1)
    assert store.happened.events("one", since=later) == []
    assert len(store.happened.events("one", until=later)) == 2


def test_something_is_noted_once_in_a_while_whoever_notes_it(store: Store) -> None:
    day = timedelta(days=1)
    assert store.note_unless_lately("notified", "notify", within=day, actor="a")
    assert not store.note_unless_lately("notified", "notify", within=day, actor="b")
    assert store.note_unless_lately("notified", "other", within=day, actor="b")
    assert store.note_unless_lately("notified", "notify", within=timedelta(days=-1), actor="b")
    assert len(store.happened.events("notified", subjects={"notify"})) == 2


def test_runs_and_what_they_spent_are_summed_in_the_database(store: Store) -> None:
    assert store.happened.totals() == Spent()
    first, second = store.runs.create("explore"), store.runs.create("act")
    store.purses.spend(first.id, Spent(wall_s=1.5, tokens=10, model_calls=2))
    store.purses.spend(second.id, Spent(wall_s=2.0, tokens=5, cycles=1))
    store.runs.set_status(first.id, RunStatus.STOPPED)
    assert store.happened.totals() == Spent(wall_s=3.5, tokens=15, model_calls=2, cycles=1)
    assert store.happened.runs_by_status() == {"queued": 1, "stopped": 1}


def test_answers_of_models_are_summed_by_run_and_role(store: Store) -> None:
    run = store.runs.create("explore")
    for role in ("scout", "critic", "scout"):
        entry = Entry(
            run=run.id,
            segment=1,
            night=None,
            digest="0" * 64,
            n=0,
            engine="e",
            role=role,
            model="m",
            prompt_tokens=3,
            completion_tokens=2,
            cached_tokens=1,
            wall_s=0.1,
            answer="{}",
            learnt={},
        )
        store.purses.spend(run.id, Spent(), answer=entry)
    assert sorted(store.happened.asked()) == [
        Asked(run.id, "critic", 1, 5, 1),
        Asked(run.id, "scout", 2, 10, 2),
    ]
    assert store.happened.asked(runs=["r-else"]) == []
    assert store.happened.asked(since=store.clock() + timedelta(days=1)) == []
