"""What every repository works with: transactions that carry time and audit rows, seals, ids."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn, TypeVar, cast

from pydantic import JsonValue
from sqlalchemy import Table as SqlTable
from sqlalchemy import bindparam, insert, update
from sqlalchemy.orm.attributes import set_committed_value
from sqlmodel import Session, col, select

from karkas.policies.actions import canonical
from karkas.policies.errors import NotFoundError
from karkas.storage.artifacts import Artifacts
from karkas.storage.audit import Audit
from karkas.storage.database import Database
from karkas.storage.keys import SigningKey
from karkas.storage.lastwords import LastWords
from karkas.storage.locks import Locks
from karkas.storage.prepared import Prepared
from karkas.storage.tables import GateRow, GrantRow, PermitRow, RunRow, Table, table_of

SYSTEM = "karkas"
"""The actor of what no person and no agent did."""

Clock = Callable[[], datetime]

RowT = TypeVar("RowT", RunRow, GateRow, PermitRow, GrantRow)

PREFIXES: dict[Any, tuple[str, str]] = {
    RunRow: ("r-", "run"),
    GateRow: ("g-", "gate"),
    PermitRow: ("p-", "permit"),
    GrantRow: ("s-", "grant"),
}


# Said to SQLAlchemy once: making a statement takes longer than the database takes to answer it.
_BY_ID = {row: select(row).where(col(row.id) == bindparam("id")) for row in PREFIXES}
_LOOK = {
    (row, name): Prepared(select(*table_of(row).c).where(table_of(row).c[name] == bindparam("name")))
    for row, name in (*((row, "id") for row in PREFIXES), (GateRow, "key"), (PermitRow, "gate"))
}
_COLUMNS = {row: table_of(row).c.keys() for row in PREFIXES}
_EMPTY = {
    row: {name: field.get_default() for name, field in row.model_fields.items() if not field.is_required()}
    for row in PREFIXES
}


class _Looked(SimpleNamespace):
    """A row as `look` finds it, and `made` makes it; what is set here is not written."""

    of: type[Any]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{name} of {self.of.__name__} {self.id} is changed by `amend`")


class Note(NamedTuple):
    """A word for the record."""

    event: str
    subject: str
    actor: str
    data: JsonValue = None


@dataclass(frozen=True)
class Change:
    """One writing transaction, at one instant."""

    session: Session
    now: datetime
    audit: Audit

    def note(self, event: str, subject: str, *, actor: str, data: JsonValue = None) -> None:
        """Puts what happens here on the record."""
        self.audit.append(self.session, event, subject, actor=actor, at=self.now, data=data)


@dataclass(frozen=True)
class Records:
    folder: Path
    database: Database
    clock: Clock
    key: SigningKey
    artifacts: Artifacts
    audit: Audit
    locks: Locks
    words: LastWords

    @contextmanager
    def change(self) -> Iterator[Change]:
        with self.database.write() as session:
            yield Change(session=session, now=self.clock(), audit=self.audit)

    def sign(self, value: JsonValue) -> str:
        return self.key.sign(canonical(value))

    def verifies(self, value: JsonValue, signature: str | None) -> bool:
        return self.key.verifies(canonical(value), signature)


def fresh_id(row: type) -> str:
    return PREFIXES[row][0] + secrets.token_hex(6)


def find(session: Session, row: type[RowT], name: str) -> RowT:
    """The row of an id, or of a prefix that is unique, with or without its letter."""
    found = session.scalars(_BY_ID[row], {"id": _lettered(row, name)}).first()
    return cast("RowT", found) if found is not None else _nearest(session, row, name)


def look(session: Session, row: type[RowT], name: str) -> RowT:
    """As `find`, but no object of the session, which takes ten times as long to make: `amend` changes it, setting its
    attributes changes nothing.
    """
    found = look_by(session, row, "id", _lettered(row, name))
    return found if found is not None else _nearest(session, row, name)


def look_by(session: Session, row: type[RowT], column: str, value: str) -> RowT | None:
    """As `look`: the row that has this value in a column in which no other one has it."""
    session.flush()
    found = _LOOK[row, column].first(session, name=value)
    if found is None:
        return None
    return cast("RowT", _Looked(of=row, **dict(zip(_COLUMNS[row], found, strict=True))))


def made(row: type[RowT], **values: Any) -> RowT:
    """A new row with a fresh id, as `look` would find it; `put` inserts it."""
    return cast("RowT", _Looked(of=row, **(_EMPTY[row] | {"id": fresh_id(row)} | values)))


def put(session: Session, row: RowT, **more: Any) -> None:
    """Inserts a row that was `made`, with `more` values."""
    new = cast("_Looked", row)
    new.__dict__.update(more)
    values = {name: getattr(new, name) for name in _COLUMNS[new.of]}
    _insert(table_of(new.of)).change(session, **values)


def amend(session: Session, row: RowT, *still: str, **values: Any) -> bool:
    """One conditional UPDATE: of a row that in the columns `still` is as it was found. Of several who change it, one
    does; whoever does not is told `False`, and has the row as it is now.
    """
    session.flush()
    looked = not isinstance(row, Table)
    kind = cast("_Looked", row).of if looked else type(row)
    given = {f"old_{name}": getattr(row, name) for name in ("id", *still)}
    if _update(table_of(kind), still, tuple(values)).change(session, **given, **values) != 1:
        if looked:
            row.__dict__.update(look(session, kind, row.id).__dict__)
        else:
            session.refresh(row)
        return False
    if looked:
        row.__dict__.update(values)
    else:
        for name, value in values.items():
            set_committed_value(row, name, value)
    return True


@lru_cache
def _insert(table: SqlTable) -> Prepared:
    return Prepared(insert(table).inline(), *table.c.keys())


@lru_cache
def _update(table: SqlTable, still: tuple[str, ...], names: tuple[str, ...]) -> Prepared:
    same = [table.c[name] == bindparam(f"old_{name}") for name in ("id", *still)]
    return Prepared(update(table).where(*same), *names)


def _lettered(row: type[RowT], name: str) -> str:
    letter, _ = PREFIXES[row]
    return name if name.startswith(letter) else letter + name


def _nearest(session: Session, row: type[RowT], name: str) -> RowT:
    (letter, noun), wanted = PREFIXES[row], _lettered(row, name)
    near = session.exec(select(row).where(col(row.id).startswith(wanted, autoescape=True)).limit(4)).all()
    if not near:
        raise NotFoundError(f"there is no {noun} {name!r}; `karkas {LISTED[noun]}` shows what there is")
    if len(wanted) == len(letter):
        raise NotFoundError(
            f"{name!r} begins the id of every {noun}; give more of it, `karkas {LISTED[noun]}` shows what there is"
        )
    if len(near) == 1:
        return near[0]
    raise NotFoundError(
        f"{name!r} begins several {noun}s ({', '.join(one.id for one in near)}); give more of it"
    )


LISTED = {"run": "runs list", "gate": "queue list", "permit": "audit log", "grant": "grant list"}
