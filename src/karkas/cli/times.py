"""Moments as a person types them: `2026-11-22`, `2026-11-22T07:00`, `07:00`, `30m`, `2h`, `3d`."""

import re
from collections.abc import Callable
from datetime import datetime, time, timedelta

from karkas.policies.errors import UsageError

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def past(text: str, *, now: datetime) -> datetime:
    """The moment meant by `text` before `now`: `2h` is two hours ago, `07:00` the last time it was seven."""
    return _moment(
        text, now, lambda length: now - length, lambda at: at if at <= now else at - timedelta(days=1)
    )


def future(text: str, *, now: datetime) -> datetime:
    """The moment meant by `text` after `now`: `2h` is in two hours, `07:00` the next time it is seven."""
    return _moment(
        text, now, lambda length: now + length, lambda at: at if at > now else at + timedelta(days=1)
    )


def _moment(
    text: str,
    now: datetime,
    shift: Callable[[timedelta], datetime],
    nearest: Callable[[datetime], datetime],
) -> datetime:
    """`now` is aware; a moment without a time zone is in that of `now`."""
    text = text.strip()
    try:
        if length := re.fullmatch(r"(\d+)\s*([smhdw])", text):
            return shift(timedelta(**{UNITS[length[2]]: int(length[1])}))
        if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", text):
            return nearest(datetime.combine(now.date(), time.fromisoformat(text.zfill(5)), now.tzinfo))
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text!r} is no moment; give a date (2026-11-22), date and time (2026-11-22T07:00), a time"
            " (07:00), or a length (30m, 2h, 3d)"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)
