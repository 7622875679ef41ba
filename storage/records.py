"""What every repository works with: transactions that carry time and audit rows, seals, ids."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar, cast

from pydantic import JsonValue
from sqlalchemy import bindparam
from sqlmodel import Session, col, select

from karkas.policies.actions import canonical
from karkas.policies.errors import NotFoundError
from karkas.storage.artifacts import Artifacts
from karkas.storage.audit import Audit
from karkas.storage.database import Database
from karkas.storage.keys import SigningKey
from karkas.storage.lastwords import LastWords
from karkas.storage.locks import Locks
from karkas.storage.tables import GateRow, GrantRow, PermitRow, RunRow

SYSTEM = "karkas"
"""The actor of what no person and no agent did."""

Clock = Callable[[], datetime]

RowT = TypeVar("RowT", RunRow, GateRow, PermitRow, GrantRow)

PREFIXES: dict[type, tuple[str, str]] = {
    RunRow: ("r-", "run"),
    GateRow: ("g-", "gate"),
    PermitRow: ("p-", "permit"),
    GrantRow: ("s-", "grant"),
}


_BY_ID = {
    row: select(row).where(col(row.id) == bindparam("id")) for row in (RunRow, GateRow, PermitRow, GrantRow)
}
"""Said to SQLAlchemy once: making a statement takes longer than the database takes to answer it."""


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
    letter, noun = PREFIXES[row]
    wanted = name if name.startswith(letter) else letter + name
    found = session.scalars(_BY_ID[row], {"id": wanted}).first()
    if found is not None:
        return cast("RowT", found)
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
