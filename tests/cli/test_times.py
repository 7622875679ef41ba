from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karkas.cli.times import UNITS, future, past
from karkas.policies.errors import UsageError

NOW = datetime(2026, 11, 22, 22, 30, tzinfo=timezone(timedelta(hours=3)))


@given(number=st.integers(1, 999), unit=st.sampled_from(sorted(UNITS)))
def test_a_length_reaches_as_far_back_as_forward(number: int, unit: str) -> None:
    text = f"{number}{unit}"
    assert NOW - past(text, now=NOW) == future(text, now=NOW) - NOW > timedelta(0)


def test_a_time_of_day_is_the_nearest_one_on_that_side() -> None:
    assert future("07:00", now=NOW) == NOW.replace(day=23, hour=7, minute=0)
    assert past("07:00", now=NOW) == NOW.replace(hour=7, minute=0)
    assert future("23:00", now=NOW) == NOW.replace(hour=23, minute=0)
    assert past("23:00", now=NOW) == NOW.replace(day=21, hour=23, minute=0)


def test_a_moment_without_a_zone_is_local_and_one_with_a_zone_is_not_moved() -> None:
    assert past("2026-11-22T07:00", now=NOW) == NOW.replace(hour=7, minute=0)
    assert past("2026-11-22", now=NOW) == NOW.replace(hour=0, minute=0)
    assert past("2026-11-22T07:00Z", now=NOW) == datetime(2026, 11, 22, 7, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "25:00", "2026-13-01", "2", "99999999999d", "-2h"])
def test_what_is_no_moment_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="give a date"):
        past(text, now=NOW)
