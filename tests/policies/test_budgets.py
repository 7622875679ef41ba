from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from karkas.policies.budgets import (
    NIGHT,
    Budget,
    SharedBudget,
    Spent,
    StopReason,
    Whose,
    day_of,
    exhausted,
    must_stop,
    reached,
)

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
counts = st.integers(0, 50)
spent = st.builds(
    Spent,
    wall_s=st.floats(0, 50),
    tokens=counts,
    model_calls=counts,
    sources=counts,
    cycles=counts,
    disk_mb=st.floats(0, 50),
)
budgets = st.builds(
    Budget,
    wall_s=st.none() | st.floats(0.5, 50),
    tokens=st.none() | counts,
    model_calls=st.none() | counts,
    sources=st.none() | st.integers(1, 50),
    cycles=st.none() | st.integers(1, 50),
    disk_mb=st.none() | st.floats(0.5, 50),
)
seconds = st.none() | st.integers(-5, 5)


@given(budgets, spent)
def test_a_budget_is_exhausted_exactly_when_a_bound_is_reached(budget: Budget, sum_: Spent) -> None:
    names = [
        name
        for name in Budget.model_fields
        if getattr(budget, name) is not None and getattr(sum_, name) >= getattr(budget, name)
    ]
    assert exhausted(budget, sum_) == (names[0] if names else None)


@given(budgets, spent, spent)
def test_spending_more_never_brings_a_budget_back(budget: Budget, before: Spent, more: Spent) -> None:
    if exhausted(budget, before) is not None:
        assert exhausted(budget, before + more) is not None


@given(spent, spent)
def test_what_is_spent_adds_up(one: Spent, other: Spent) -> None:
    total = one + other
    assert all(
        getattr(total, name) == getattr(one, name) + getattr(other, name) for name in Spent.model_fields
    )


@given(spent)
def test_without_bounds_nothing_stops(sum_: Spent) -> None:
    assert must_stop(Budget(), sum_, deadline=None, now=NOW) is None


@given(budgets, spent, seconds, seconds)
def test_the_earlier_end_stops_first_and_then_whatever_is_spent(
    budget: Budget, sum_: Spent, deadline: int | None, night: int | None
) -> None:
    at = [None if one is None else NOW + timedelta(seconds=one) for one in (deadline, night)]
    bound = must_stop(budget, sum_, deadline=at[0], until=at[1], now=NOW)
    ends = [end for end in (deadline, night) if end is not None and end <= 0]
    if ends:
        assert bound is not None
        assert bound.reason is StopReason.DEADLINE
        of_night = bound.whose is Whose.NIGHT
        assert (bound.what == "end of the night") is of_night
        assert bound.shared is of_night
        assert (night if of_night else deadline) == min(ends)
    else:
        assert bound == reached(budget, sum_)
        assert (bound is not None) is (exhausted(budget, sum_) is not None)


@given(st.builds(SharedBudget, tokens=st.none() | counts, model_calls=st.none() | counts), spent)
def test_what_many_share_names_whose_it_is_and_counts_nothing_else(budget: SharedBudget, sum_: Spent) -> None:
    bound = reached(budget, sum_, owner=NIGHT)
    names = [name for name in ("tokens", "model_calls") if getattr(budget, name) is not None]
    full = [name for name in names if getattr(sum_, name) >= getattr(budget, name)]
    assert (bound is not None) is bool(full)
    if bound is not None:
        assert (bound.shared, bound.reason) == (True, StopReason.BUDGET)
        assert bound.what == f"{full[0].replace('_', ' ')} of the night"


@given(st.dates(date(2026, 1, 1), date(2126, 1, 1)))
def test_no_night_is_cut_in_two_by_a_zones_day(day: date) -> None:
    evening = datetime.combine(day, time(12), UTC)
    assert day_of(evening) == day_of(evening + timedelta(hours=23, minutes=59)) == evening.date().isoformat()
    assert day_of(evening + timedelta(hours=24)) != day_of(evening)


def test_nothing_negative_and_no_nan_is_spent_or_allowed() -> None:
    for field in Spent.model_fields:
        with pytest.raises(ValidationError):
            Spent.model_validate({field: -1})
    for value in (0, -1, float("nan")):
        with pytest.raises(ValidationError):
            Budget(wall_s=value)
