"""The order of the queue: groups of gates by zone and effect, what blocks most and waits longest first."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

from karkas.policies.gates import GateKind, GateStatus
from karkas.storage import WaitingLine


class Blocks(IntEnum):
    """What a decision lets go on; the first is the most."""

    ZONE = 0
    """Nothing acts in the zone before it is framed."""
    DOUBT = 1
    """Something may have happened, and nobody knows."""
    RUN = 2
    """It is all that its run waits for."""
    BRANCH = 3
    """Its run waits for others too."""
    LATER = 4
    """Somebody put it off."""


def blocks(line: WaitingLine) -> Blocks:
    if line.status is GateStatus.DEFERRED:
        return Blocks.LATER
    match line.kind:
        case GateKind.FRAME:
            return Blocks.ZONE
        case GateKind.OUTCOME:
            return Blocks.DOUBT
        case _:
            return Blocks.RUN if line.siblings <= 1 else Blocks.BRANCH


def effect_of(line: WaitingLine) -> str:
    """The effect of what waits, or the kind of the gate where it is no action."""
    match line.kind:
        case GateKind.ACTION:
            return line.effect or "action"
        case GateKind.OUTCOME:
            return "in doubt"
        case _:
            return line.kind.value


class Kind(NamedTuple):
    """What gates of one group have in common. `later` is what was put off, of any zone."""

    zones: tuple[str, ...]
    effect: str
    later: bool

    @property
    def title(self) -> str:
        return "put off" if self.later else f"{', '.join(self.zones) or 'no zone'} / {self.effect}"


def kind_of(line: WaitingLine) -> Kind:
    if line.status is GateStatus.DEFERRED:
        return Kind((), "", later=True)
    return Kind(line.zones, effect_of(line), later=False)


@dataclass(frozen=True)
class Group:
    title: str
    lines: tuple[WaitingLine, ...]


def grouped(lines: Iterable[WaitingLine], number: Mapping[Kind, int]) -> list[Group]:
    """Groups in the order of their first gate; within a group what blocks most, then what waits longest.

    `number` says how many gates there are of each kind, of which `lines` may be the first.
    """
    found: dict[Kind, list[WaitingLine]] = {}
    for line in sorted(lines, key=urgency):
        found.setdefault(kind_of(line), []).append(line)
    return [Group(f"{kind.title} ({number[kind]:,})", tuple(its)) for kind, its in found.items()]


def urgency(line: WaitingLine) -> tuple[int, datetime, str]:
    return blocks(line), line.opened_at, line.id


FILTERS: Mapping[str, Callable[[WaitingLine], bool]] = {
    "all": lambda _: True,
    "irreversible": lambda line: line.effect == "irreversible",
    "reversible": lambda line: line.effect == "reversible",
    "frames": lambda line: line.kind is GateKind.FRAME,
    "questions": lambda line: line.kind in {GateKind.QUESTION, GateKind.OUTCOME},
    "put off": lambda line: line.status is GateStatus.DEFERRED,
}
DECIDED = "decided"
"""The filter that shows what no longer waits, the last decided first."""

FILTER_NAMES = (*FILTERS, DECIDED)


@dataclass(frozen=True)
class Filter:
    """What of the queue is listed."""

    name: str = "all"
    zone: str | None = None
    search: str = ""

    @property
    def told(self) -> str:
        parts = [self.name] if self.name != "all" else []
        parts += [f"zone {self.zone}"] if self.zone is not None else []
        parts += [f"/{self.search}"] if self.search else []
        return " ".join(parts)

    def next(self) -> "Filter":
        at = FILTER_NAMES.index(self.name)
        return Filter(FILTER_NAMES[(at + 1) % len(FILTER_NAMES)], self.zone, self.search)

    def keeps(self, line: WaitingLine) -> bool:
        if self.zone is not None and self.zone not in line.zones:
            return False
        if self.search and not _holds(line, self.search.casefold()):
            return False
        return FILTERS.get(self.name, FILTERS["all"])(line)


def _holds(line: WaitingLine, wanted: str) -> bool:
    said = (line.id, line.run, line.title, line.level, effect_of(line), *line.zones)
    return any(wanted in one.casefold() for one in said)
