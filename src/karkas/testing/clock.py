"""The clock of a throw-away project: it stands still until a test moves it."""

from datetime import UTC, datetime, timedelta

BEGAN = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


class Clock:
    """Gives the project's time. `clock.advance(hours=3)` moves it; nothing moves it back."""

    def __init__(self, now: datetime = BEGAN) -> None:
        if now.tzinfo is None:
            raise ValueError("a clock needs a time with a time zone, for example datetime(..., tzinfo=UTC)")
        self.now = now.astimezone(UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> datetime:
        step = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if step < timedelta(0):
            raise ValueError("time only goes on; give the project an earlier `now` when it is made")
        self.now += step
        return self.now
