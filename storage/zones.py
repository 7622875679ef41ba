"""Zones on the record: the level that holds, and the ground (distillate, frame) that it stands on."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue
from sqlmodel import Session, col, select

from karkas.policies.actions import Digest
from karkas.policies.approvals import FEWEST, MOST, Approvers, most
from karkas.policies.errors import FrameError, LooseningError, NotFoundError
from karkas.policies.gates import GateStatus
from karkas.policies.zones import (
    ControlLevel,
    LevelChange,
    Scope,
    Stage,
    Zone,
    ZoneName,
    ZoneRecord,
    after_mishap,
    declared_level,
    strictest,
)
from karkas.storage.audit import kept, newest
from karkas.storage.lastwords import NO_RULING
from karkas.storage.records import SYSTEM, Change, Records
from karkas.storage.tables import AuditRow, ZoneRow

BROKEN = "its row was changed outside karkas, so nothing is taken from it; set the level again"


_SEEN = "zones_seen"
"""What a session knows of zones; many runs ask for the same ones in one transaction."""

_ALL = select(ZoneRow).order_by(ZoneRow.name)

T = TypeVar("T")

LOST = (
    "its row was taken away outside karkas, or the record is broken that would tell, so it begins anew at the"
    " strictest: `karkas audit verify`, then set the level again"
)


class ZoneGround(BaseModel):
    """What is known of a zone: its distillate, and the frame that a person drew from it."""

    model_config = ConfigDict(frozen=True)

    name: ZoneName
    distillate_id: str | None = None
    distillate_sha256: Digest | None = None
    distillate_artifact: Digest | None = None
    distillate_path: str | None = None
    frame_artifact: Digest | None = None
    frame_level: ControlLevel | None = None
    frame_author: str | None = None
    frame_distillate_sha256: Digest | None = None
    framed_at: datetime | None = None

    @property
    def frame_is_stale(self) -> bool:
        """Whether the distillate changed since it was framed."""
        return self.frame_artifact is not None and self.frame_distillate_sha256 != self.distillate_sha256


class Zones:
    """A row that karkas did not write counts as uncharted and draft-only, whatever it says."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def get(self, name: str) -> ZoneRecord | None:
        with self._records.database.read() as session:
            return self.within(session, name)

    def within(self, session: Session, name: str) -> ZoneRecord | None:
        """As `get`, in a transaction that decides by it."""

        def read() -> ZoneRecord | None:
            row = session.get(ZoneRow, name)
            return None if row is None else self._record(session, row)

        return _once(session, f"zone {name}", read)

    def all(self) -> dict[str, ZoneRecord]:
        with self._records.database.read() as session:

            def read() -> dict[str, ZoneRecord]:
                return {row.name: self._record(session, row) for row in session.exec(_ALL)}

            return dict(_once(session, "all", read))

    def observe(self, zone: Zone, *, known: ZoneRecord | None = None) -> ZoneRecord:
        """Takes a declaration on the record: the first as it stands, later ones only where they tighten. `known` is
        what the record says now, where the caller has just read it.
        """
        declared = declared_level(zone)
        known = known or self.get(zone.name)
        if known is not None and _adds_nothing(known, declared, zone):
            return known
        with self._records.change() as change:
            row = self._row(change, zone.name)
            if row is None:
                lost = _lost(self._records, change, zone.name)
                level = ControlLevel.DRAFT_ONLY if lost else declared
                row = ZoneRow(
                    name=zone.name,
                    level=level,
                    declared_level=level,
                    understanding=0 if lost else zone.understanding,
                    approvers=MOST if lost else zone.approvers,
                    scope=zone.scope.model_dump(mode="json"),
                    stage=Stage.UNCHARTED,
                    reason=LOST if lost else "",
                    author=SYSTEM if lost else "",
                    changed_at=change.now,
                )
                return self._store(change, row, "zone_declared", actor=SYSTEM)
            record = self._record(change.session, row)
            if _adds_nothing(record, declared, zone):
                return record
            if declared.stricter_than(record.declared_level):
                row.declared_level = declared
                row.level = strictest((declared, record.level))
            row.understanding = min(record.understanding, zone.understanding)
            row.scope = (record.scope | zone.scope).model_dump(mode="json")
            row.approvers = most((record.approvers, zone.approvers))
            return self._store(change, row, "zone_tightened", actor=SYSTEM)

    def set_level(
        self,
        name: str,
        level: LevelChange,
        *,
        declared: ControlLevel,
        scope: Scope | None = None,
        understanding: int | None = None,
        approvers: Approvers | None = None,
    ) -> ZoneRecord:
        """Sets the level and accepts the declaration as it is now; `scope`, `understanding` and `approvers` replace the
        recorded.

        Raises `LooseningError` where an agent loosens (the recorded level counts, whatever `level.before` says),
        replaces the scope by a smaller one, raises the understanding, or asks for fewer people.
        """
        with self._records.change() as change:
            row = self._existing(change, name)
            record = self._record(change.session, row)
            level.model_copy(update={"before": strictest((record.level, level.before))}).checked()
            if scope is not None and not scope.covers(record.scope) and not level.by_person:
                raise LooseningError(f"{level.author!r} is no person and may not shrink the scope of {name}")
            if understanding is not None and understanding > record.understanding and not level.by_person:
                raise LooseningError(
                    f"{level.author!r} is no person and may not raise what is understood of {name}"
                )
            if approvers is not None and approvers < record.approvers and not level.by_person:
                raise LooseningError(
                    f"{level.author!r} is no person and may not have fewer people decide in {name}"
                )
            row.level, row.declared_level = level.after, declared
            row.approvers = record.approvers if approvers is None else approvers
            row.understanding = record.understanding if understanding is None else understanding
            row.reason, row.author = level.reason, level.author
            if scope is not None:
                row.scope = scope.model_dump(mode="json")
            return self._store(change, row, "zone_level_set", actor=level.author)

    def fall(self, change: Change, name: str, *, why: str) -> bool:
        """Takes a zone out of autonomy, after an action that no person looked at; whether it was in it."""
        row = self._row(change, name)
        if row is None:
            return False
        before = self._record(change.session, row).level
        after = after_mishap(before)
        if after is before:
            return False
        row.level, row.reason, row.author = after, why, SYSTEM
        self._store(change, row, "zone_level_fell", actor=SYSTEM)
        return True

    def set_stage(self, name: str, stage: Stage, *, actor: str) -> ZoneRecord:
        """Moves the stage. Only a person's frame (`set_frame`) makes a zone framed."""
        if stage is Stage.FRAMED:
            raise LooseningError(f"only a person frames a zone: `karkas frame {name}`")
        with self._records.change() as change:
            row = self._existing(change, name)
            if row.stage == stage and self._holds(change.session, row):
                return self._record(change.session, row)
            row.stage = stage
            return self._store(change, row, "zone_stage_set", actor=actor)

    def ground(self, name: str) -> ZoneGround:
        """What is known of the zone; empty for one that nobody explored."""
        with self._records.database.read() as session:

            def read() -> ZoneGround:
                row = session.get(ZoneRow, name)
                if row is None or not self._holds(session, row):
                    return ZoneGround(name=name)
                return ZoneGround.model_validate(row, from_attributes=True)

            return _once(session, f"ground {name}", read)

    def set_distillate(
        self,
        name: str,
        *,
        id: str,  # noqa: A002
        sha256: Digest,
        artifact: Digest,
        path: str,
        actor: str,
    ) -> ZoneGround:
        """Records the zone's distillate; `sha256` is of the YAML file at `path`, `artifact` holds its bytes."""
        with self._records.change() as change:
            row = self._existing(change, name)
            row.distillate_id, row.distillate_sha256 = id, sha256
            row.distillate_artifact, row.distillate_path = artifact, path
            self._store(change, row, "zone_distilled", actor=actor)
            return ZoneGround.model_validate(row, from_attributes=True)

    def set_frame(
        self,
        name: str,
        *,
        frame: Digest,
        level: ControlLevel,
        author: str,
        distillate_sha256: Digest,
        gate: str | None = None,
    ) -> ZoneRecord:
        """A person's act: records the frame, its level, and that the zone is framed.

        With the `gate` at which it was adopted, it changes nothing where the zone's level, scope or frame was changed
        after that decision: a run that goes on late must not undo what the person said since. Raises `FrameError`
        where the frame was drawn from another distillate than the zone's.
        """
        if not author.strip():
            raise FrameError("a frame needs the name of the person who drew it")
        with self._records.change() as change:
            row = self._existing(change, name)
            if gate is not None and _changed_since(change, name, gate):
                return self._record(change.session, row)
            if gate is None and (people := self._record(change.session, row).approvers) > FEWEST:
                raise FrameError(
                    f"{people} people frame {name}, at a gate, and none waits; explore it again to open one"
                    f" (`karkas explore {name} --source ...`), or let one person do:"
                    f' `karkas zone set {name} --approvers {FEWEST} --reason "..."`'
                )
            if row.distillate_sha256 != distillate_sha256:
                raise FrameError(
                    f"the frame of {name} was drawn from distillate {distillate_sha256[:12]}, but the zone's is"
                    f" {(row.distillate_sha256 or 'none')[:12]}; read what changed and frame it again"
                )
            row.frame_artifact, row.frame_level, row.frame_author = frame, level, author
            row.frame_distillate_sha256, row.framed_at = distillate_sha256, change.now
            row.stage, row.level, row.author, row.reason = Stage.FRAMED, level, author, "framed"
            return self._store(change, row, "zone_framed", actor=author)

    def drop(self, name: str, *, author: str, reason: str) -> None:
        """A person's act: takes the zone off the record. The audit log keeps what it was, and why it went."""
        if not reason.strip():
            raise LooseningError("dropping a zone needs a reason, for the record")
        with self._records.change() as change:
            row = self._existing(change, name)
            was = _sealed(row)
            change.session.delete(row)
            change.session.info.pop(_SEEN, None)
            change.note("zone_dropped", f"zone:{name}", actor=author, data={"reason": reason, "was": was})

    def breaks(self) -> Iterator[str]:
        """Names every zone whose row karkas did not write."""
        with self._records.database.read() as session:
            for row in session.exec(select(ZoneRow)):
                if not self._holds(session, row):
                    yield f"zone {row.name}: {BROKEN}"

    def _row(self, change: Change, name: str) -> ZoneRow | None:
        """The row to change. One that karkas did not write, or not last, is emptied first, so that no change puts a
        seal on it.
        """
        row = change.session.get(ZoneRow, name)
        if row is not None and not self._proven(change, row):
            fallen = _fallen(name).model_dump(mode="json")
            for column in ZoneRow.model_fields.keys() - {"name", "changed_at", "seal"}:
                setattr(row, column, fallen.get(column))
        return row

    def _existing(self, change: Change, name: str) -> ZoneRow:
        row = self._row(change, name)
        if row is None:
            raise NotFoundError(
                f"zone {name!r} is not on the record; declare it in karkas.toml, or explore it"
            )
        return row

    def _store(self, change: Change, row: ZoneRow, event: str, *, actor: str) -> ZoneRecord:
        row.changed_at = change.now
        row.seal = self._records.key.sign(kept(_sealed(row)).encode())
        change.session.add(row)
        change.session.info.pop(_SEEN, None)
        change.note(event, f"zone:{row.name}", actor=actor, data=_sealed(row))
        return self._record(change.session, row)

    def _holds(self, session: Session, row: ZoneRow) -> bool:
        """Whether the row is what karkas wrote, and wrote last: an older one that was put back does not count."""
        last, now = newest(session, f"zone:{row.name}", "zone_"), kept(_sealed(row))
        return (
            last is not None
            and last.data == now
            and self._records.audit.wrote(last)
            and self._records.key.verifies(now.encode(), row.seal)
        )

    def _proven(self, change: Change, row: ZoneRow) -> bool:
        """As `_holds`, also where a later word of it was taken from the record."""
        if not self._holds(change.session, row):
            return False
        last = newest(change.session, f"zone:{row.name}", "zone_")
        said = {f"zone:{row.name}": last.hash if last else None}
        return self._records.words.unlike(change.session, said) is None

    def _record(self, session: Session, row: ZoneRow) -> ZoneRecord:
        if not self._holds(session, row):
            return _fallen(row.name)
        return ZoneRecord.model_validate(row, from_attributes=True)


def _once(session: Session, key: str, read: Callable[[], T]) -> T:
    """What `read` gives, which is the same as long as a transaction does not change a zone itself."""
    seen: dict[str, Any] = session.info.setdefault(_SEEN, {})
    if key not in seen:
        seen[key] = read()
    found: T = seen[key]
    return found


def _fallen(name: str) -> ZoneRecord:
    return ZoneRecord(
        name=name,
        level=ControlLevel.DRAFT_ONLY,
        declared_level=ControlLevel.DRAFT_ONLY,
        understanding=0,
        approvers=MOST,
        scope=Scope(),
        reason=BROKEN,
        author=SYSTEM,
    )


def _lost(records: Records, change: Change, name: str) -> bool:
    """Whether a zone that has no row had one. Where the record is broken it may have had, so it counts as lost."""
    last = newest(change.session, f"zone:{name}", "zone_")
    if last is None:
        return change.audit.broken(change.session) is not None
    dropped = last.event == "zone_dropped" and change.audit.wrote(last)
    return not dropped or records.words.unlike(change.session, {f"zone:{name}": last.hash}) is not None


def _changed_since(change: Change, name: str, gate: str) -> bool:
    """Whether the gate did not pass, or anything but the distillate and the stage of a zone was changed after it."""
    decided = newest(change.session, f"gate:{gate}", "gate_decided")
    if decided is None or not change.audit.wrote(decided):
        return True
    if json.loads(decided.data)["status"] != GateStatus.PASSED:
        return True
    return ruled_since(change.session, name, decided.seq)


def ruled_since(session: Session, name: str, seq: int) -> bool:
    """Whether anything but the distillate and the stage of a zone was changed after row `seq` of the record."""
    ruled = session.exec(
        select(AuditRow.seq)
        .where(
            AuditRow.subject == f"zone:{name}", col(AuditRow.event).startswith("zone_"), AuditRow.seq > seq
        )
        .where(col(AuditRow.event).not_in(NO_RULING))
        .limit(1)
    ).first()
    return ruled is not None


def _adds_nothing(record: ZoneRecord, declared: ControlLevel, zone: Zone) -> bool:
    tightens = declared.stricter_than(record.declared_level) or zone.understanding < record.understanding
    tightens |= zone.approvers > record.approvers
    return not tightens and record.scope.covers(zone.scope)


def _sealed(row: ZoneRow) -> JsonValue:
    """What is signed. One approver is not named, so that what was signed before there could be two still holds."""
    unsigned = {"seal", "approvers"} if row.approvers == FEWEST else {"seal"}
    sealed: JsonValue = row.model_dump(mode="json", exclude=unsigned)
    return sealed
