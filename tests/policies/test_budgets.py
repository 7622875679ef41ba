from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from karkas.policies.budgets import Budget, Spent, StopReason, exhausted, must_stop

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
counts = st.integers(0, 50)
spent = st.builds(
    Spent, wall_s=st.floats(0, 50), tokens=counts, model_calls=counts, sources=counts, cycles=counts
)
budgets = st.builds(
    Budget,
    wall_s=st.none() | st.floats(0.5, 50),
    tokens=st.none() | counts,
    model_calls=st.none() | counts,
    sources=st.none() | st.integers(1, 50),
    cycles=st.none() | st.integers(1, 50),
)


@given(budgets, spent)
def test_a_budget_is_exhausted_exactly_when_a_bound_is_reached(budget: Budget, sum_: Spent) -> None:
    reached = [
        name
        for name in Budget.model_fields
        if getattr(budget, name) is not None and getattr(sum_, name) >= getattr(budget, name)
    ]
    assert exhausted(budget, sum_) == (reached[0] if reached else None)


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


@given(budgets, spent, st.integers(-5, 5))
def test_a_deadline_that_is_reached_stops_whatever_is_left(budget: Budget, sum_: Spent, seconds: int) -> None:
    reason = must_stop(budget, sum_, deadline=NOW + timedelta(seconds=seconds), now=NOW)
    if seconds <= 0:
        assert reason is StopReason.DEADLINE
    else:
        assert reason is (StopReason.BUDGET if exhausted(budget, sum_) else None)


def test_nothing_negative_and_no_nan_is_spent_or_allowed() -> None:
    for field in Spent.model_fields:
        with pytest.raises(ValidationError):
            Spent.model_validate({field: -1})
    for value in (0, -1, float("nan")):
        with pytest.raises(ValidationError):
            Budget(wall_s=value)
