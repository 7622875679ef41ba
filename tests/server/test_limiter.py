"""A model of a server stands in for the real one: `tests/vllm/test_pool.py` has that."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karkas.server.limiter import MOST, START, Limit, Line
from karkas.server.metrics import Load


def settle(
    limit: Limit, room: Callable[[int], int], *, others: int = 0, demand: int = 1000, looks: int = 60
) -> list[int]:
    """The limit after each look at a server that runs `room(look)` sequences and queues the rest."""
    values = []
    for look in range(looks):
        ours = min(demand, limit.value)
        running = min(ours + others, room(look))
        limit.looked(Load(running, ours + others - running, 0.5, 0), ours=ours, wanted=demand > ours)
        values.append(limit.value)
    return values


@pytest.mark.parametrize("room", [1, 16, 128, 1000])
def test_a_server_is_kept_full_with_a_short_queue(room: int) -> None:
    values = settle(Limit(), lambda _: room, demand=5000)
    assert all(room <= value <= room + max(4, room // 6) for value in values[-20:]), values


def test_a_server_with_a_small_room_is_found_out_by_the_second_look() -> None:
    assert settle(Limit(), lambda _: 16, looks=2)[-1] <= 20


def test_a_burst_that_is_still_being_taken_up_is_no_overload() -> None:
    """Prompts are read one after the other: the queue of a burst falls while what runs grows."""
    values = settle(Limit(), lambda look: 20 * (look + 1), demand=200, looks=12)
    assert min(values) >= START


def test_room_that_other_clients_give_back_is_taken_within_seconds() -> None:
    limit = Limit()
    settle(limit, lambda _: 128, others=120)
    assert limit.value <= 40
    assert settle(limit, lambda _: 128, looks=12)[-1] >= 128


def test_a_client_that_never_yields_does_not_get_all() -> None:
    assert settle(Limit(), lambda _: 64, others=500)[-1] >= 16


def test_a_limit_that_nobody_reaches_does_not_grow() -> None:
    limit = Limit()
    settle(limit, lambda _: 128, demand=10)
    assert limit.value == START


def test_lost_places_in_the_cache_lower_the_limit_at_once() -> None:
    limit = Limit()
    limit.looked(Load(100, 0, 0.99, 5), ours=100, wanted=True)
    limit.looked(Load(100, 0, 0.99, 7), ours=100, wanted=True)
    assert limit.value == 90


def test_nothing_is_added_while_the_cache_is_nearly_full() -> None:
    limit = Limit()
    for _ in range(10):
        limit.looked(Load(100, 0, 0.95, 5), ours=100, wanted=True)
    assert limit.value == START


def test_nothing_is_added_while_what_was_sent_has_not_arrived() -> None:
    limit = Limit()
    for _ in range(10):
        limit.looked(Load(20, 0, 0.1, 0), ours=256, wanted=True)
    assert limit.value == START


def test_sequences_that_end_together_do_not_look_like_a_smaller_server() -> None:
    limit = Limit()
    settle(limit, lambda look: 0 if look % 3 == 2 else 16)
    assert limit.value >= 12


def test_refusals_of_one_moment_lower_the_limit_once() -> None:
    limit = Limit()
    for _ in range(20):
        limit.refused(10.0, ours=100)
    assert limit.value == 70
    limit.refused(11.5, ours=50)
    assert limit.value == 35


def test_without_metrics_a_queue_shows_in_the_times_of_answers() -> None:
    """A server of four slots, a second an answer: what is sent beyond waits for whole rounds."""
    limit = Limit()
    for _ in range(3000):
        ours = limit.value
        for place in range(ours):
            limit.answered(1.0 + place // 4, 100, ours=ours, wanted=True)
        if limit.value < 40:
            break
    assert 4 <= limit.value < 40


def test_without_metrics_even_times_let_the_limit_grow() -> None:
    limit = Limit(10)
    for _ in range(100):
        limit.answered(1.0, 100, ours=limit.value, wanted=True)
    assert limit.value > 10


def test_without_metrics_long_answers_are_not_taken_for_a_queue() -> None:
    limit = Limit()
    for number in range(1000):
        tokens = (10, 1000)[number % 2]
        limit.answered(0.2 + tokens / 50, tokens, ours=100, wanted=True)
    assert limit.value >= START


LOOKS = st.builds(Load, st.integers(0, 5000), st.integers(0, 5000), st.floats(0, 1), st.integers(0, 100))


@given(st.lists(st.tuples(LOOKS, st.integers(0, 5000), st.booleans(), st.booleans())))
def test_whatever_a_server_says_the_limit_lets_something_through_and_stays_bounded(
    looks: list[tuple[Load, int, bool, bool]],
) -> None:
    limit = Limit()
    for number, (load, ours, wanted, refused) in enumerate(looks):
        limit.looked(load, ours=ours, wanted=wanted)
        limit.answered(load.cache, load.preempted, ours=ours, wanted=wanted)
        if refused:
            limit.refused(float(number), ours=ours)
        assert 1 <= limit.value <= MOST


def test_runs_take_turns_and_each_keeps_its_order() -> None:
    line = Line[str]()
    for waiter in ("a1", "a2", "a3", "b1", "c1", "c2"):
        line.join(waiter, run=waiter[0], first=False)
    assert drained(line) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_a_waiting_person_goes_first_also_when_coming_last() -> None:
    line = Line[str]()
    for waiter in ("a1", "b1", "a2"):
        line.join(waiter, run=waiter[0], first=False)
    line.join("p1", run="p", first=True)
    assert drained(line) == ["p1", "a1", "b1", "a2"]


def test_who_leaves_is_not_served_and_holds_up_nobody() -> None:
    line = Line[str]()
    for waiter in ("a1", "a2", "b1"):
        line.join(waiter, run=waiter[0], first=False)
    line.leave("a1", run="a", first=False)
    line.leave("b1", run="b", first=False)
    line.leave("b1", run="b", first=False)
    assert drained(line) == ["a2"]
    assert not line


def drained(line: Line[str]) -> list[str]:
    served: list[str] = []
    while (waiter := line.head()) is not None:
        served.append(waiter)
        line.advance()
    return served


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=80))
def test_a_run_that_waits_sees_every_other_run_served_once_at_most_between_its_turns(
    comers: list[str],
) -> None:
    """However many requests the others have, and whoever comes meanwhile: one comes for each one served."""
    line, waits, passed = Line[str](), Counter[str](), {run: Counter[str]() for run in "abcd"}
    for place, run in enumerate(comers):
        line.join(run, run=run, first=False)
        waits[run] += 1
        if place % 2 and (served := line.head()) is not None:
            line.advance()
            waits[served] -= 1
            passed[served] = Counter()
            for other in "abcd":
                passed[other] = (
                    passed[other] + Counter([served]) if waits[other] and other != served else Counter()
                )
                assert all(turns == 1 for turns in passed[other].values())


@given(st.data())
def test_no_waiter_is_lost_or_served_twice(data: st.DataObject) -> None:
    line = Line[int]()
    waiting: dict[int, tuple[str, bool]] = {}
    served: set[int] = set()
    for number in range(data.draw(st.integers(0, 40))):
        match data.draw(st.sampled_from(["join", "leave", "advance"])):
            case "join":
                run, first = data.draw(st.sampled_from("abc")), data.draw(st.booleans())
                waiting[number] = (run, first)
                line.join(number, run=run, first=first)
            case "leave" if waiting:
                gone = data.draw(st.sampled_from(sorted(waiting)))
                run, first = waiting.pop(gone)
                line.leave(gone, run=run, first=first)
            case "advance" if (head := line.head()) is not None:
                assert head not in served
                assert waiting[head][1] or not any(first for _, first in waiting.values())
                served.add(head)
                waiting.pop(head)
                line.advance()
            case _:
                pass
        assert sorted(line) == sorted(waiting)
        assert len(line) == len(waiting)
        assert bool(line) == bool(waiting)
