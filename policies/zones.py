"""Zones: what the user knows of an area decides what agents may do there."""

from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from karkas.policies.approvals import FEWEST, Approvers, most

ZoneName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]

ACTING_UNDERSTANDING = 4
"""From this understanding on, agents may act in a zone that nobody framed."""


class ControlLevel(StrEnum):
    """How far agents may go alone; a later member is stricter."""

    AUTONOMOUS = "autonomous"
    PROPOSE_ONLY = "propose-only"
    DRAFT_ONLY = "draft-only"

    @property
    def strictness(self) -> int:
        return _LEVELS.index(self)

    def stricter_than(self, other: "ControlLevel") -> bool:
        return self.strictness > other.strictness


_LEVELS = tuple(ControlLevel)


class Stage(StrEnum):
    """How far a zone has been explored."""

    UNCHARTED = "uncharted"
    MAPPED = "mapped"
    CRITICISED = "criticised"
    FRAMED = "framed"


class Scope(BaseModel):
    """What belongs to a zone: path globs (gitwildmatch), tool names (fnmatch) and topics (words or phrases)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    paths: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()

    def __or__(self, other: "Scope") -> "Scope":
        def union(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(dict.fromkeys((*a, *b)))

        return Scope(
            paths=union(self.paths, other.paths),
            tools=union(self.tools, other.tools),
            topics=union(self.topics, other.topics),
        )

    def covers(self, other: "Scope") -> bool:
        """Whether nothing that `other` lists is missing here."""
        return all(
            set(theirs) <= set(ours)
            for ours, theirs in (
                (self.paths, other.paths),
                (self.tools, other.tools),
                (self.topics, other.topics),
            )
        )


class Zone(BaseModel, frozen=True, extra="forbid"):
    """A knowledge area as its owner declares it, in `karkas.toml` or in Python.

    `understanding` runs from 0 (knows nothing of it) to 5 (expert), after the five-stage model of skill
    acquisition (Dreyfus & Dreyfus 1980) with 0 for no acquaintance. `level` may only tighten what follows from it.
    `approvers` is how many different people must pass an action or a frame.
    """

    name: ZoneName
    understanding: int = Field(default=0, ge=0, le=5)
    critical: bool = False
    level: ControlLevel | None = None
    approvers: Approvers = FEWEST
    scope: Scope = Scope()
    trusted: tuple[str, ...] = ()
    description: str = ""


class ZoneRecord(BaseModel, frozen=True):
    """What is on the record of a zone: the last level that a person (or a fall) set, and the ground it stood on."""

    name: ZoneName
    level: ControlLevel
    declared_level: ControlLevel
    scope: Scope
    understanding: int = Field(default=5, ge=0, le=5)
    """The lowest that was declared since a person last set the level; what is declared above it waits for them."""
    approvers: Approvers = FEWEST
    """The most that was declared since a person last set it."""
    stage: Stage = Stage.UNCHARTED
    reason: str = ""
    author: str = ""


class ZoneState(BaseModel):
    """A zone as it is in force, with the reasons in the order in which they applied."""

    model_config = ConfigDict(frozen=True)

    zone: Zone
    level: ControlLevel
    stage: Stage
    scope: Scope
    reasons: tuple[str, ...]
    recorded_understanding: int = Field(default=5, ge=0, le=5)
    approvers: Approvers = FEWEST

    @property
    def may_act(self) -> bool:
        """Below `ACTING_UNDERSTANDING`, on record or declared, nothing acts in a zone that is not framed."""
        known = min(self.zone.understanding, self.recorded_understanding)
        return self.stage is Stage.FRAMED or known >= ACTING_UNDERSTANDING


def strictest(levels: Iterable[ControlLevel]) -> ControlLevel:
    """The strictest of `levels`; of none at all it is `draft-only`."""
    return max(levels, key=lambda level: level.strictness, default=ControlLevel.DRAFT_ONLY)


def derive_level(understanding: int, *, critical: bool) -> ControlLevel:
    """0-1 gives draft-only, 2-3 propose-only, 4-5 autonomous; `critical` is one step stricter."""
    if not 0 <= understanding <= 5:  # noqa: PLR2004
        return ControlLevel.DRAFT_ONLY
    ladder = (ControlLevel.DRAFT_ONLY, ControlLevel.PROPOSE_ONLY, ControlLevel.AUTONOMOUS)
    step = understanding // 2 - int(critical)
    return ladder[max(step, 0)]


def declared_level(zone: Zone) -> ControlLevel:
    """What the declaration alone gives: derived, and tightened where `level` is stricter."""
    derived = derive_level(zone.understanding, critical=zone.critical)
    return derived if zone.level is None else strictest((derived, zone.level))


@lru_cache(maxsize=1024)
def zone_state(zone: Zone, record: ZoneRecord | None) -> ZoneState:
    """The zone in force: a declaration tightens at once, but loosens nothing that is on the record."""
    derived = derive_level(zone.understanding, critical=zone.critical)
    declared = declared_level(zone)
    ground = f"understanding {zone.understanding}{', critical' if zone.critical else ''}"
    reasons = [f"{derived} follows from {ground}"]
    if declared is not derived:
        reasons.append(f"tightened to {declared} by its declaration")
    elif zone.level is not None and zone.level is not derived:
        reasons.append(f"its declared level {zone.level} is looser than that and does not count")
    if record is None:
        return ZoneState(
            zone=zone,
            level=declared,
            stage=Stage.UNCHARTED,
            scope=zone.scope,
            reasons=tuple(reasons),
            approvers=zone.approvers,
        )
    level = record.level
    if declared.stricter_than(record.declared_level):
        level = strictest((declared, record.level))
        reasons.append(f"its declaration became stricter ({record.declared_level} to {declared})")
    elif record.declared_level.stricter_than(declared):
        reasons.append(
            f"its declaration was loosened from {record.declared_level} to {declared}, which counts only after"
            f' `karkas zone set {zone.name} --level {declared} --reason "..."`'
        )
    if record.author and record.reason:
        reasons.append(f"{record.level} on the record by {record.author}: {record.reason}")
    raised = record.understanding < ACTING_UNDERSTANDING <= zone.understanding
    if raised and not record.declared_level.stricter_than(declared):
        reasons.append(
            f"its understanding was raised from {record.understanding} to {zone.understanding} in the declaration,"
            f' which counts only after `karkas zone set {zone.name} --level {level} --reason "..."`'
        )
    scope = record.scope | zone.scope
    if not zone.scope.covers(record.scope):
        reasons.append(
            "its scope was shrunk in the declaration, which counts only after"
            f' `karkas zone set {zone.name} --accept-scope --reason "..."`'
        )
    if zone.approvers < record.approvers:
        reasons.append(
            f"{record.approvers} approvers on the record; the {zone.approvers} of its declaration counts only after"
            f' `karkas zone set {zone.name} --approvers {zone.approvers} --reason "..."`'
        )
    return ZoneState(
        zone=zone,
        level=level,
        stage=record.stage,
        scope=scope,
        reasons=tuple(reasons),
        recorded_understanding=record.understanding,
        approvers=most((zone.approvers, record.approvers)),
    )


def after_mishap(level: ControlLevel) -> ControlLevel:
    """Where an action that no person looked at ended badly, the next ones go to a person."""
    return strictest((level, ControlLevel.PROPOSE_ONLY))


class LevelChange(BaseModel):
    """A change of a zone's level; only a person's may loosen."""

    model_config = ConfigDict(frozen=True)

    before: ControlLevel
    after: ControlLevel
    author: str
    by_person: bool
    reason: str

    def loosens(self) -> bool:
        return self.before.stricter_than(self.after)

    def checked(self) -> Self:
        """Returns itself, or raises `LooseningError` when an agent loosens or a person gives no reason."""
        from karkas.policies.errors import LooseningError

        if self.loosens() and not self.by_person:
            raise LooseningError(
                f"{self.author!r} is no person and may not loosen {self.before} to {self.after}"
            )
        if not self.reason.strip() or not self.author.strip():
            raise LooseningError("a change of level needs an author and a reason, for the record")
        return self
