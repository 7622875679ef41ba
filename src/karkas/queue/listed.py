"""What the queue lists: the most urgent of the gates that wait, so that ten thousand take no more room than ten."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import nsmallest

from karkas.queue.order import DECIDED, Filter, Group, Kind, grouped, kind_of, urgency
from karkas.storage import Waiting, WaitingLine

ROOM = 500
"""Lines that are held at first; going on from the last of them makes room for as many more."""


@dataclass(frozen=True)
class Listed:
    groups: list[Group]
    more: int
    """How many gates stand behind the last line."""
    waits: int
    irreversible: int
    """Of all that wait, whatever the filter."""


def listed(waiting: Waiting, kept: Filter, room: int, *, also: str | None = None) -> Listed:
    """The first `room` gates that the filter keeps; `also` is listed in any case, where it waits."""
    if kept.name == DECIDED:
        lines = tuple(line for line in waiting.decided() if kept.keeps(line))
        return Listed([Group(DECIDED, lines)] if lines else [], 0, waiting.count(), 0)
    kinds = Counter[Kind]()
    waits = irreversible = 0
    asked: list[WaitingLine] = []

    def keeping() -> Iterator[WaitingLine]:
        nonlocal waits, irreversible
        for line in waiting.each():
            waits += 1
            irreversible += line.effect == "irreversible"
            if line.id == also:
                asked.append(line)
            if line.id == also or kept.keeps(line):
                kinds[kind_of(line)] += 1
                yield line

    first = nsmallest(room, keeping(), key=urgency)
    first += [line for line in asked if line not in first]
    return Listed(grouped(first, kinds), kinds.total() - len(first), waits, irreversible)
