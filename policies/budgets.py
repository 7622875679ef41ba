"""Budgets: what a run may spend, what many may together, what was spent, and what ended it."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field


class StopReason(StrEnum):
    SATURATED = "saturated"
    BUDGET = "budget"
    DEADLINE = "deadline"
    SOURCES_EXHAUSTED = "sources_exhausted"
    STOPPED = "stopped"


class Budget(BaseModel):
    """Upper bounds of one run; `None` is no bound. Seconds, tokens, counts, and megabytes (of 10^6 bytes)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wall_s: float | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, ge=0)
    model_calls: int | None = Field(default=None, ge=0)
    sources: int | None = Field(default=None, ge=1)
    cycles: int | None = Field(default=None, ge=1)
    disk_mb: float | None = Field(default=None, gt=0)


class SharedBudget(BaseModel):
    """Upper bounds of what many runs spend together, in a night or in a zone's day; `None` is no bound."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tokens: int | None = Field(default=None, ge=0)
    model_calls: int | None = Field(default=None, ge=0)
    disk_mb: float | None = Field(default=None, gt=0)


class Spent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    wall_s: float = Field(default=0.0, ge=0)
    tokens: int = Field(default=0, ge=0)
    cached_tokens: int = Field(default=0, ge=0)
    """Those of `tokens` that the server found in its prefix cache, and so did not compute."""
    model_calls: int = Field(default=0, ge=0)
    sources: int = Field(default=0, ge=0)
    cycles: int = Field(default=0, ge=0)
    disk_mb: float = Field(default=0.0, ge=0)

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(**{name: spent + getattr(other, name) for name, spent in vars(self).items()})


class Whose(StrEnum):
    """Of which budget a bound is, or of which end."""

    RUN = "run"
    NIGHT = "night"
    ZONE = "zone"


class Owner(NamedTuple):
    """Whose a budget is, and how people are told so."""

    whose: Whose
    words: str


RUN, NIGHT = Owner(Whose.RUN, "the run"), Owner(Whose.NIGHT, "the night")


class Bound(NamedTuple):
    """A bound that is reached."""

    reason: StopReason
    what: str
    """For people: "tokens of the night"."""
    whose: Whose = Whose.RUN

    @property
    def shared(self) -> bool:
        """Many runs share those of nights and zones, so they do not count against one run."""
        return self.whose is not Whose.RUN


NAMED = {"wall_s": "time at work", "model_calls": "model calls", "disk_mb": "disk space"}


def exhausted(budget: Budget | SharedBudget, spent: Spent) -> str | None:
    """The name of the first bound that is reached, or None."""
    for name, bound in vars(budget).items():
        if bound is not None and getattr(spent, name) >= bound:
            return name
    return None


def reached(budget: Budget | SharedBudget, spent: Spent, *, owner: Owner = RUN) -> Bound | None:
    """The first bound of this budget that is reached."""
    name = exhausted(budget, spent)
    if name is None:
        return None
    return Bound(StopReason.BUDGET, f"{NAMED.get(name, name)} of {owner.words}", owner.whose)


def over(*, deadline: datetime | None, until: datetime | None, now: datetime) -> Bound | None:
    """Whether the run's deadline or the night's end has passed; the earlier of both where both have."""
    night = until is not None and now >= until
    if deadline is not None and now >= deadline and not (night and until is not None and until < deadline):
        return Bound(StopReason.DEADLINE, f"deadline of {RUN.words}")
    return end_of_night() if night else None


def end_of_night() -> Bound:
    return Bound(StopReason.DEADLINE, f"end of {NIGHT.words}", NIGHT.whose)


def must_stop(
    budget: Budget, spent: Spent, *, deadline: datetime | None, now: datetime, until: datetime | None = None
) -> Bound | None:
    """What a run has reached: its deadline, the night's end (`until`), or a bound of its own; checked before work is
    begun, never after.
    """
    return over(deadline=deadline, until=until, now=now) or reached(budget, spent)


def day_after(local: datetime) -> datetime:
    """When the next day of zones' budgets begins."""
    noon = local.replace(hour=12, minute=0, second=0, microsecond=0)
    return noon if local < noon else noon + timedelta(days=1)


def day_of(local: datetime) -> str:
    """The day that a zone's budget is for, by its date: from noon to noon, so that no night is cut in two."""
    return (local - timedelta(hours=12)).date().isoformat()
