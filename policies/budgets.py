"""Budgets: what a run may spend, what it has spent, and what ended it."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class StopReason(StrEnum):
    SATURATED = "saturated"
    BUDGET = "budget"
    DEADLINE = "deadline"
    SOURCES_EXHAUSTED = "sources_exhausted"
    STOPPED = "stopped"


class Budget(BaseModel):
    """Upper bounds; `None` is no bound. Seconds, tokens, and counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wall_s: float | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, ge=0)
    model_calls: int | None = Field(default=None, ge=0)
    sources: int | None = Field(default=None, ge=1)
    cycles: int | None = Field(default=None, ge=1)


class Spent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    wall_s: float = Field(default=0.0, ge=0)
    tokens: int = Field(default=0, ge=0)
    cached_tokens: int = Field(default=0, ge=0)
    """Those of `tokens` that the server found in its prefix cache, and so did not compute."""
    model_calls: int = Field(default=0, ge=0)
    sources: int = Field(default=0, ge=0)
    cycles: int = Field(default=0, ge=0)

    def __add__(self, other: "Spent") -> "Spent":
        return Spent.model_validate(
            {name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields}
        )


def exhausted(budget: Budget, spent: Spent) -> str | None:
    """The name of the first bound that is reached, or None."""
    for name in Budget.model_fields:
        bound = getattr(budget, name)
        if bound is not None and getattr(spent, name) >= bound:
            return name
    return None


def must_stop(budget: Budget, spent: Spent, *, deadline: datetime | None, now: datetime) -> StopReason | None:
    """Whether the deadline has passed or a bound is reached; checked before work is begun, never after."""
    if deadline is not None and now >= deadline:
        return StopReason.DEADLINE
    return StopReason.BUDGET if exhausted(budget, spent) else None
