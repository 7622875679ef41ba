"""Which bound ends a run first, and when about, if it goes on as it did so far."""

from datetime import datetime
from typing import NamedTuple

from karkas.policies.budgets import Budget, Spent


class Bound(NamedTuple):
    """`deadline`, or the name of a bound of the budget; `left_s` is an estimate for all but the times."""

    name: str
    left_s: float


def nearest(budget: Budget, spent: Spent, *, deadline: datetime | None, now: datetime) -> Bound | None:
    """The bound that is reached first; None where nothing can be said yet. `spent.wall_s` is up to now."""
    found = [Bound("deadline", (deadline - now).total_seconds())] if deadline is not None else []
    for name in Budget.model_fields:
        limit, used = getattr(budget, name), getattr(spent, name)
        if limit is None:
            continue
        if name == "wall_s":
            found.append(Bound(name, limit - used))
        elif used >= limit:
            found.append(Bound(name, 0.0))
        elif used and spent.wall_s:
            found.append(Bound(name, (limit - used) * spent.wall_s / used))
    first = min(found, key=lambda one: one.left_s, default=None)
    return first and Bound(first.name, max(first.left_s, 0.0))
