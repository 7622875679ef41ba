"""The audit log: who did what, when, on which digest and why; append-only, chained by hash, signed."""

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from sqlalchemy import Select, bindparam, func, insert, select
from sqlmodel import Session, col

from karkas.policies.actions import Digest, canonical, digest_of_bytes
from karkas.storage.database import Database
from karkas.storage.keys import SigningKey
from karkas.storage.prepared import Prepared
from karkas.storage.tables import AuditRow, storable

GENESIS = Digest("0" * 64)
"""What the first row names as the one before it."""

SECTOR = 512

_NEWEST_ROW = "audit_last"
"""What a session knows to be the last row, since it wrote it."""

_SAID = "audit_said"
"""What a session knows of subjects: of each the last row of each event. It holds as long as its transaction."""

_SOUND = "audit_sound"
"""That the log holds the row which the mirror remembers."""

UNSIGNED = "was not signed with this project's key"


class AuditEntry(BaseModel):
    model_config = ConfigDict(frozen=True)

    seq: int
    at: datetime
    actor: str
    event: str
    subject: str
    data: JsonValue
    hash: Digest


class Noted(NamedTuple):
    """A row as it stands in the table; many are read, so none is made an object of the session."""

    seq: int
    at: str
    actor: str
    event: str
    subject: str
    data: str
    prev: str
    hash: str
    signature: str


# Made once: building a statement takes longer than SQLite takes to answer it.
_SEQ, _SUBJECT = col(AuditRow.seq), col(AuditRow.subject)
NOTED = select(*(col(getattr(AuditRow, name)) for name in Noted._fields))
_LAST = Prepared(NOTED.order_by(_SEQ.desc()).limit(1))
_SAID_OF = Prepared(
    NOTED.where(
        _SEQ.in_(
            select(func.max(AuditRow.seq))
            .where(bindparam("subject") == _SUBJECT)
            .group_by(col(AuditRow.event))
        )
    )
)
_ALL = NOTED.order_by(_SEQ).execution_options(yield_per=1000)
_SINCE = Prepared(NOTED.order_by(_SEQ).where(bindparam("begin") <= _SEQ))
_HASH = Prepared(select(col(AuditRow.hash)).where(bindparam("seq") == _SEQ))
_APPEND = Prepared(insert(AuditRow), *Noted._fields)


class _Head(BaseModel):
    """The last row, as a file beside the database remembers it."""

    seq: int
    hash: str
    signature: str


class Audit:
    """Every row names the hash of the one before it; hash and signature cover all of the row.

    The last row is mirrored to `audit.head` after each commit, because a chain alone cannot tell that its end is
    missing. The mirror may lag behind the log (a crash in between), never the other way round; what it remembers
    is never forgotten in favour of a log that does not hold it.
    """

    def __init__(self, database: Database, key: SigningKey, head: Path) -> None:
        self._database, self._key, self._head = database, key, head
        database.after_commit.append(self._mirror)

    def append(
        self, session: Session, event: str, subject: str, *, actor: str, at: datetime, data: JsonValue = None
    ) -> None:
        """Appends within the caller's writing transaction, so that a change and its row stand or fall together."""
        session.flush()
        # Nobody else writes before this transaction ends.
        last = session.info.get(_NEWEST_ROW) or self._last(session)
        row = Noted(
            seq=last.seq + 1 if last else 1,
            at=at.astimezone(UTC).isoformat(),
            actor=storable(actor),
            event=event,
            subject=storable(subject),
            data=kept(data),
            prev=last.hash if last else GENESIS,
            hash="",
            signature="",
        )
        row = row._replace(hash=hash_of(row))
        row = row._replace(signature=self._key.sign(row.hash.encode()))
        _APPEND.change(session, **row._asdict())
        session.info[_NEWEST_ROW] = row
        if row.subject in (said := session.info.get(_SAID, {})):
            said[row.subject][row.event] = row
        if "audit_head" in session.info or self._follows(session):
            session.info["audit_head"] = _Head(seq=row.seq, hash=row.hash, signature=row.signature)

    def _follows(self, session: Session) -> bool:
        """Whether the log holds the row that the mirror remembers. Where it does not, the mirror stays as it is: else
        a log that lost its end would look whole again once it has grown.
        """
        mirrored = self._mirrored()
        if isinstance(mirrored, str):
            return True
        return _HASH.first(session, seq=mirrored.seq) == (mirrored.hash,)

    def log(
        self, *, limit: int | None = None, since: datetime | None = None, subject: str | None = None
    ) -> list[AuditEntry]:
        """The newest `limit` entries, oldest first. `subject` is exact, such as `gate:g-...` or `zone:lora`."""
        query = NOTED.order_by(_SEQ.desc())
        if since is not None:
            query = query.where(col(AuditRow.at) >= since.astimezone(UTC).isoformat())
        if subject is not None:
            query = query.where(col(AuditRow.subject) == subject)
        with self._database.read() as session:
            rows = list(found(session, query if limit is None else query.limit(limit)))
        return [entry(row) for row in reversed(rows)]

    def ours(self) -> bool:
        """Whether the newest row was signed with this project's key; true of an empty log."""
        with self._database.read() as session:
            last = self._last(session)
            return last is None or self._signed(last)

    def verify(self) -> list[str]:
        """Names every break; empty when nothing was changed, dropped, reordered or forged."""
        # Before the log: the mirror may lag behind it, but the log must never lag behind the mirror.
        mirrored = self._mirrored()
        with self._database.read() as session:
            return list(self._breaks(_rows(session), mirrored))

    def broken(self, session: Session) -> str | None:
        """The first break of the whole log, or None: that nothing was changed or taken away.

        Quick, since what asks waits for it: of the signatures the last one is enough, as it covers the whole chain. It
        does not say that karkas wrote each row in it (`wrote`).
        """
        found = list(self._breaks(_rows(session), self._mirrored(), each=False))
        return found[0] if found else None

    def follow(self, session: Session, hear: Callable[[Noted], object], *, begin: int) -> str | None:
        """Gives `hear` each row from `begin` to the end, and says what is wrong with that end, or None. Whether the
        rows follow one another is for `hear` to see.
        """
        # A transaction looks at the mirror once: what was whole when it began, nobody else changes meanwhile.
        mirrored = None if _SOUND in session.info else self._mirrored()
        remembered, last = None, None
        # Of several changes in one transaction a later one hears the earlier ones before the mirror does.
        since = min(begin, mirrored.seq) if isinstance(mirrored, _Head) else begin
        for last in _rows(session, begin=since):
            if last.seq >= begin:
                hear(last)
            if isinstance(mirrored, _Head) and last.seq == mirrored.seq:
                remembered = last.hash
        if last is not None and not self._signed(last):
            return f"{_named(last)} {UNSIGNED}"
        if mirrored is None:
            return None
        broken = next(self._mirror_breaks(mirrored, remembered, last.seq if last else 0), None)
        if broken is None:
            session.info[_SOUND] = True
        return broken

    def wrote(self, row: Noted) -> bool:
        """Whether karkas wrote this row, at this place. Whatever rests on one row has to ask: what somebody appended
        without the key is in the chain like any other, as soon as karkas has gone on behind it.
        """
        return row.hash == hash_of(row) and self._signed(row)

    def _signed(self, row: Noted) -> bool:
        return self._key.verifies(row.hash.encode(), row.signature)

    @staticmethod
    def _last(session: Session) -> Noted | None:
        return next(map(Noted._make, _LAST.rows(session)), None)

    def proven(self, session: Session, subject: str, event: str) -> JsonValue:
        """What the newest such row says, or None where there is none that this project's key signed."""
        row = newest(session, subject, event)
        if row is None or not self.wrote(row):
            return None
        data: JsonValue = json.loads(row.data)
        return data

    def _breaks(self, rows: Iterable[Noted], mirrored: "_Head | str", *, each: bool = True) -> Iterator[str]:
        """Every break; the signature is checked of `each` row, else of the last."""
        prev, last = str(GENESIS), 0
        remembered: str | None = None
        row = None
        for row in rows:
            if row.seq != last + 1:
                yield (
                    f"row {last + 1} is missing"
                    if row.seq == last + 2
                    else f"rows {last + 1} to {row.seq - 1} are missing"
                )
            elif row.prev != prev:
                yield f"{_named(row)} does not follow the row before it"
            if row.hash != hash_of(row):
                yield f"{_named(row)} was changed: its content does not have its hash"
            if each and not self._signed(row):
                yield f"{_named(row)} {UNSIGNED}"
            if isinstance(mirrored, _Head) and row.seq == mirrored.seq:
                remembered = row.hash
            prev, last = row.hash, row.seq
        if row is not None and not each and not self._signed(row):
            yield f"{_named(row)} {UNSIGNED}"
        yield from self._mirror_breaks(mirrored, remembered, last)

    def _mirror_breaks(self, mirrored: "_Head | str", remembered: str | None, last: int) -> Iterator[str]:
        if isinstance(mirrored, str):
            if last:
                yield f"{mirrored}, so it cannot be told whether rows were dropped from the end"
        elif not self._key.verifies(mirrored.hash.encode(), mirrored.signature):
            yield f"{self._head} {UNSIGNED}"
        elif remembered is None:
            yield f"the log ends at row {last}, but {self._head} remembers row {mirrored.seq}: rows were dropped"
        elif remembered != mirrored.hash:
            yield f"row {mirrored.seq} is not the one that {self._head} remembers: the log was rewritten"

    def _mirrored(self) -> "_Head | str":
        try:
            with self._head.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                return _Head.model_validate_json(file.read())
        except FileNotFoundError:
            return f"{self._head} is missing"
        except (OSError, ValidationError):
            return f"{self._head} cannot be read"

    def _mirror(self, session: Session) -> None:
        """Writes the head into its file, in place: one sector, so a power cut leaves the old one or the new one."""
        head = session.info.pop("audit_head", None)
        if not isinstance(head, _Head):
            return
        try:
            descriptor = os.open(self._head, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                try:
                    newer = _Head.model_validate_json(os.pread(descriptor, SECTOR, 0)).seq > head.seq
                except ValidationError:
                    newer = False
                if not newer:
                    os.pwrite(descriptor, head.model_dump_json().encode().ljust(SECTOR), 0)
            finally:
                os.close(descriptor)
        except OSError as error:
            # The change is committed and must not look undone; a mirror that lags is no break.
            structlog.get_logger().warning("audit_head_not_written", path=str(self._head), error=str(error))


def newest(session: Session, subject: str, event: str) -> Noted | None:
    """The last row on `subject` whose event begins with `event`, whoever wrote it (`Audit.wrote`).

    A transaction reads each subject once: nobody else writes while it does, or it does not see what they write.
    """
    said: dict[str, dict[str, Noted]] = session.info.setdefault(_SAID, {})
    if subject not in said:
        rows = map(Noted._make, _SAID_OF.rows(session, subject=subject))
        said[subject] = {row.event: row for row in rows}
    said_so = [row for name, row in said[subject].items() if name.startswith(event)]
    return max(said_so, key=_seq, default=None)


def _rows(session: Session, *, begin: int | None = None) -> Iterator[Noted]:
    """The whole log is read as it comes, what was added to it since at once."""
    return map(Noted._make, _SINCE.rows(session, begin=begin)) if begin else found(session, _ALL)


def found(session: Session, query: Select[*tuple[Any, ...]]) -> Iterator[Noted]:
    return map(Noted._make, session.connection().execute(query))


_seq = attrgetter("seq")


def _named(row: Noted) -> str:
    return f"row {row.seq} ({row.event} {row.subject})"


def kept(data: JsonValue) -> str:
    """`data` as the log keeps it: RFC 8785, and what that does not take (lone surrogates) as a visible escape."""
    return canonical(_storable(data)).decode()


def _storable(data: JsonValue) -> JsonValue:
    match data:
        case str():
            return storable(data)
        case dict():
            return {storable(key): _storable(value) for key, value in data.items()}
        case list():
            return [_storable(value) for value in data]
        case _:
            return data


_WORD = json.JSONEncoder(ensure_ascii=False).encode
"""Writes a string as RFC 8785 does, many times faster: each claim goes through a part of the log."""


def hash_of(row: Noted) -> Digest:
    """Over the RFC 8785 form of the row without hash and signature; `data` is kept in that form already."""
    body = (
        f'{{"actor":{_WORD(row.actor)},"at":{_WORD(row.at)},"data":{row.data},"event":{_WORD(row.event)},'
        f'"prev":{_WORD(row.prev)},"seq":{row.seq},"subject":{_WORD(row.subject)}}}'
    )
    return digest_of_bytes(body.encode("utf-8", "surrogatepass"))


def entry(row: Noted) -> AuditEntry:
    return AuditEntry(
        seq=row.seq,
        at=datetime.fromisoformat(row.at),
        actor=row.actor,
        event=row.event,
        subject=row.subject,
        data=json.loads(row.data),
        hash=Digest(row.hash),
    )
