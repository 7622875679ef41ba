"""Which bound ends a run first; what sums look like."""

from datetime import UTC, datetime, timedelta

from karkas.policies.budgets import Budget, Spent
from karkas.report.bounds import nearest
from karkas.report.prices import money

NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)


def test_the_nearest_of_deadline_time_and_tokens_is_named() -> None:
    budget = Budget(wall_s=3600, tokens=10_000)
    spent = Spent(wall_s=600, tokens=5_000)
    assert nearest(budget, spent, deadline=None, now=NOW) == ("tokens", 600.0)
    soon = NOW + timedelta(seconds=60)
    assert nearest(budget, spent, deadline=soon, now=NOW) == ("deadline", 60.0)
    assert nearest(Budget(wall_s=700), spent, deadline=None, now=NOW) == ("wall_s", 100.0)


def test_what_is_counted_goes_on_as_it_did_so_far() -> None:
    spent = Spent(wall_s=100, cycles=4, sources=10)
    assert nearest(Budget(cycles=5, sources=1000), spent, deadline=None, now=NOW) == ("cycles", 25.0)


def test_nothing_is_said_of_what_cannot_be_known() -> None:
    assert nearest(Budget(), Spent(wall_s=9, tokens=9), deadline=None, now=NOW) is None
    assert nearest(Budget(tokens=9), Spent(wall_s=9), deadline=None, now=NOW) is None


def test_what_is_over_is_over() -> None:
    late = NOW - timedelta(seconds=5)
    assert nearest(Budget(), Spent(), deadline=late, now=NOW) == ("deadline", 0.0)
    assert nearest(Budget(tokens=5), Spent(tokens=7), deadline=None, now=NOW) == ("tokens", 0.0)


def test_small_sums_do_not_look_like_nothing() -> None:
    assert [money(sum_) for sum_ in (1234.5, 0.5, 0.0036, 0.0)] == ["1,234.50", "0.50", "0.0036", "0.00"]
