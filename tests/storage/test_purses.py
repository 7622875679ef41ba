"""What many runs spend together: never more than was allowed, and what is in flight counts."""

import random
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from karkas.policies.budgets import NIGHT, Owner, SharedBudget, Spent, StopReason, Whose
from karkas.policies.errors import NotFoundError
from karkas.storage import Night, Run, RunStatus, Store
from karkas.storage.journal import Entry
from karkas.storage.purses import Hold, Share, night_purse, zone_purse

SPEND = """
import sys, random, secrets, time
from pathlib import Path
from karkas.policies.budgets import NIGHT, Bound, Spent
from karkas.storage import Store
from karkas.storage.purses import Hold, Share, night_purse
folder, url, run, night = sys.argv[1:]
with Store.open(Path(folder), url=url or None) as store:
    share = Share(night_purse(night), store.nights.get(night).budget, NIGHT)
    segment = store.runs.get(run).segment
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        tokens = random.randint(1, 100)
        hold = Hold(secrets.token_hex(8), run, segment, tokens)
        told = store.purses.reserve(hold, [share])
        if isinstance(told, Bound):
            break
        if told:
            time.sleep(random.random() / 200)
            store.purses.spend(run, Spent(tokens=tokens, model_calls=1), purses=[share.purse], hold=hold.id)
        else:
            time.sleep(0.002)
"""


@pytest.fixture
def night(store: Store) -> Night:
    return store.nights.open(budget=SharedBudget(tokens=100))


DAY = Owner(Whose.ZONE, "the day of zone lora")


def of(night: Night) -> Share:
    return Share(night_purse(night.id), night.budget, NIGHT)


def running(store: Store) -> Run:
    return store.runs.take_up(store.runs.create("explore", zone="lora").id)


def hold(run: Run, name: str, tokens: int = 60) -> Hold:
    return Hold(name, run.id, run.segment, tokens)


def held(store: Store) -> int:
    with store.database.read() as session:
        return int(session.connection().execute(text("SELECT count(*) FROM hold")).scalar_one())


def test_what_is_under_way_counts_and_what_has_ended_leaves_its_place(store: Store, night: Night) -> None:
    run, share = running(store), of(night)
    assert store.purses.reserve(hold(run, "a"), [share]) is True
    assert store.purses.reserve(hold(run, "b"), [share]) is True  # something was left when it was asked for
    assert store.purses.reserve(hold(run, "c"), [share]) is False
    store.purses.release("a")
    assert store.purses.reserve(hold(run, "c"), [share]) is True
    store.purses.spend(run.id, Spent(tokens=30, model_calls=1), purses=[share.purse], hold="b")
    store.purses.spend(run.id, Spent(tokens=70, model_calls=1), purses=[share.purse], hold="c")
    bound = store.purses.reserve(hold(run, "d"), [share])
    assert bound == (StopReason.BUDGET, "tokens of the night", Whose.NIGHT)
    assert store.nights.get(night.id).spent == Spent(tokens=100, model_calls=2)
    assert held(store) == 0


def test_every_purse_must_have_something_left_and_all_are_paid_from(store: Store, night: Night) -> None:
    run = running(store)
    zone = Share(zone_purse("lora", "2026-03-01"), SharedBudget(model_calls=1), DAY)
    shares = [of(night), zone]
    assert store.purses.reserve(hold(run, "a", 1), shares) is True
    assert store.purses.reserve(hold(run, "b", 1), shares) is False
    spent = Spent(tokens=7, cached_tokens=3, model_calls=1, disk_mb=0.25)
    store.purses.spend(run.id, spent, purses=[share.purse for share in shares], hold="a")
    bound = store.purses.reserve(hold(run, "b", 1), shares)
    assert bound == (StopReason.BUDGET, "model calls of the day of zone lora", Whose.ZONE)
    assert store.purses.spent(zone.purse) == store.purses.spent(of(night).purse) == spent
    another_day = Share(zone_purse("lora", "2026-03-02"), zone.budget, DAY)
    assert store.purses.reserve(hold(run, "b", 1), [of(night), another_day]) is True


def test_what_a_dead_worker_held_is_free_when_its_run_is_taken_up_again(store: Store, night: Night) -> None:
    dead, other = running(store), running(store)
    assert store.purses.reserve(hold(dead, "a", 200), [of(night)]) is True
    assert store.purses.reserve(hold(other, "b"), [of(night)]) is False
    again = store.runs.take_up(dead.id)
    assert store.purses.reserve(hold(other, "b"), [of(night)]) is True
    store.purses.drop(again.id, again.segment)
    assert held(store) == 1


def test_what_a_stopped_run_held_is_free(store: Store, night: Night) -> None:
    stopped, other = running(store), running(store)
    assert store.purses.reserve(hold(stopped, "a", 200), [of(night)]) is True
    store.runs.set_status(stopped.id, RunStatus.STOPPED)
    assert store.purses.reserve(hold(other, "b"), [of(night)]) is True


def test_a_night_that_is_closed_allows_nothing_and_holds_nothing(store: Store, night: Night) -> None:
    run = running(store)
    assert store.purses.reserve(hold(run, "a"), [of(night)]) is True
    closed = store.nights.close(night.id, why="budget")
    assert (closed.why, held(store)) == ("budget", 0)
    assert store.purses.reserve(hold(run, "b"), [of(night)]) == (
        StopReason.DEADLINE,
        "end of the night",
        Whose.NIGHT,
    )
    # What was under way is paid for all the same.
    store.purses.spend(run.id, Spent(tokens=50, model_calls=1), purses=[of(night).purse], hold="a")
    assert store.nights.get(night.id).spent.tokens == 50
    assert store.nights.close(night.id, why="again").why == "budget"


def test_an_answer_and_what_it_cost_are_written_together_or_not_at_all(
    store: Store, night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, share = running(store), of(night)
    store.purses.reserve(hold(run, "a"), [share])
    entry = Entry(
        run=run.id, segment=1, night=night.id, digest="d", n=0, engine="e", role="critic", model="m",
        prompt_tokens=20, completion_tokens=10, cached_tokens=5, wall_s=0.5, answer="{}", learnt={"k": [1]},
    )  # fmt: skip
    pay: dict[str, Any] = {"purses": [share.purse], "hold": "a", "answer": entry}

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("karkas.storage.purses._release", crash)
        with pytest.raises(KeyboardInterrupt):
            store.purses.spend(run.id, Spent(tokens=30, model_calls=1), **pay)
    assert store.runs.get(run.id).spent == store.nights.get(night.id).spent == Spent()
    assert (store.journal.figures(), held(store)) == ([], 1)
    store.purses.spend(run.id, Spent(tokens=30, model_calls=1), **pay)
    assert store.runs.get(run.id).spent == store.nights.get(night.id).spent == Spent(tokens=30, model_calls=1)
    (figures,) = store.journal.figures(night=night.id)
    assert (figures.run, figures.tokens, figures.at) == (run.id, 30, store.clock())
    kept = store.journal.kept(run.id, "e")
    assert (kept.answers, kept.learnt, kept.refused) == ({("d", 0): "{}"}, {"k": [1]}, 0)
    assert store.journal.kept(run.id, "another").answers == {}


def test_of_two_answers_to_one_request_the_one_that_the_run_went_on_with_counts(store: Store) -> None:
    """A worker that was thought dead wakes up, and writes down what it had been answered."""
    run = running(store)
    for segment, answer in ((2, '"went on with"'), (1, '"came late"')):
        entry = Entry(
            run=run.id, segment=segment, night=None, digest="d", n=0, engine="e", role="critic", model="m",
            prompt_tokens=20, completion_tokens=10, cached_tokens=5, wall_s=0.5, answer=answer, learnt={},
        )  # fmt: skip
        store.purses.spend(run.id, Spent(tokens=30, model_calls=1), answer=entry)
    assert store.journal.kept(run.id, "e").answers == {("d", 0): '"went on with"'}
    assert store.runs.get(run.id).spent.tokens == 60, "both were paid for"


@pytest.mark.parametrize("seed", range(4))
def test_however_calls_begin_end_and_die_no_more_is_spent_than_budget_and_one_call(
    store: Store, seed: int
) -> None:
    """An oracle beside it: what is held never leaves more room than what is really under way."""
    chance, most = random.Random(seed), 40
    night = store.nights.open(budget=SharedBudget(tokens=300, model_calls=20))
    share, runs, spent, calls = of(night), [running(store) for _ in range(4)], 0, 0
    under_way: dict[str, tuple[int, int]] = {}
    for at in range(120):
        which = chance.random()
        number = chance.randrange(len(runs))
        if which < 0.5:
            one = hold(runs[number], f"h{at}", chance.randint(1, most))
            before = spent + sum(tokens for _, tokens in under_way.values())
            told = store.purses.reserve(one, [share])
            free = before < 300 and calls + len(under_way) < 20
            assert (told is True) is free
            if told is True:
                under_way[one.id] = (number, one.tokens)
        elif which < 0.9 and under_way:
            name = chance.choice(list(under_way))
            run, tokens = under_way.pop(name)
            cost = chance.randint(0, tokens)
            spent, calls = spent + cost, calls + 1
            paid = Spent(tokens=cost, model_calls=1)
            store.purses.spend(runs[run].id, paid, purses=[share.purse], hold=name)
        elif which < 0.95 and under_way:
            store.purses.release(name := chance.choice(list(under_way)))
            del under_way[name]
        else:
            runs[number] = store.runs.take_up(runs[number].id)
            under_way = {name: one for name, one in under_way.items() if one[0] != number}
    total = store.nights.get(night.id).spent
    assert (total.tokens, total.model_calls) == (spent, calls)
    assert spent < 300 + most
    assert calls <= 20


def test_two_processes_never_spend_more_than_a_nights_tokens_and_one_call(
    store: Store, url: str | None
) -> None:
    night = store.nights.open(budget=SharedBudget(tokens=3000))
    runs = [running(store) for _ in range(2)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", SPEND, str(store.folder), url or "", run.id, night.id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for run in runs
    ]
    assert [worker.stdout and worker.stdout.readline() for worker in workers] == ["ready\n"] * 2
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=120)
    assert [worker.returncode for worker in workers] == [0, 0]
    spent = [store.runs.get(run.id).spent.tokens for run in runs]
    assert min(spent) > 0
    assert 3000 <= sum(spent) == store.nights.get(night.id).spent.tokens < 3100
    assert held(store) == 0


def test_nights_are_listed_the_newest_first_and_stand_on_the_record(
    store: Store, advance: Callable[[timedelta], Any]
) -> None:
    first = store.nights.open(by="ada")
    until = advance(timedelta(hours=20)) + timedelta(hours=8)
    second = store.nights.open(until=until, budget=SharedBudget(model_calls=5))
    assert [night.id for night in store.nights.list()] == [second.id, first.id]
    assert store.nights.list(limit=1) == [second]
    assert (second.until, second.budget.model_calls, second.closed_at) == (until, 5, None)
    assert store.nights.get(first.id[:9]).id == first.id
    store.nights.close(first.id, why="all done")
    told = [(one.event, one.actor) for one in store.audit.log(subject=f"night:{first.id}")]
    assert sorted(told) == [("night_closed", "karkas"), ("night_opened", "ada")]
    with pytest.raises(NotFoundError):
        store.nights.get("n-nothing")
    with pytest.raises(NotFoundError):
        store.nights.close("n-nothing", why="")
