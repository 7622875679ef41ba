"""Nights: from when to when runs were worked off, what they may spend together, and what they have spent."""

import secrets
from datetime import datetime
from typing import NewType

from pydantic import BaseModel, ConfigDict, JsonValue
from sqlmodel import col, delete, select

from karkas.policies.budgets import SharedBudget, Spent
from karkas.policies.errors import NotFoundError
from karkas.storage.purses import night_purse, spent_of
from karkas.storage.records import SYSTEM, Records
from karkas.storage.tables import HoldRow, NightRow, PurseRow

NightId = NewType("NightId", str)


class Night(BaseModel):
    """Times are aware, in UTC. One that is not closed may be under way, or its worker died."""

    model_config = ConfigDict(frozen=True)

    id: NightId
    opened_at: datetime
    until: datetime | None
    budget: SharedBudget
    spent: Spent
    closed_at: datetime | None
    why: str
    """What closed it."""


class Nights:
    def __init__(self, records: Records) -> None:
        self._records = records

    def open(
        self, *, until: datetime | None = None, budget: SharedBudget | None = None, by: str = SYSTEM
    ) -> Night:
        with self._records.change() as change:
            row = NightRow(
                id=f"n-{secrets.token_hex(6)}",
                opened_at=change.now,
                until=until,
                budget=(budget or SharedBudget()).model_dump(mode="json"),
            )
            change.session.add(row)
            change.session.flush()
            said: dict[str, JsonValue] = {"until": until.isoformat() if until else None, "budget": row.budget}
            change.note("night_opened", f"night:{row.id}", actor=by, data=said)
            return _night(row, None)

    def close(self, night: str, *, why: str, by: str = SYSTEM) -> Night:
        """Nothing more is spent in it, and nothing held in it any longer; one that is closed stays as it is."""
        with self._records.change() as change:
            row = change.session.get(NightRow, night)
            if row is None:
                raise _unknown(night)
            purse = change.session.get(PurseRow, night_purse(row.id))
            if row.closed_at is None:
                row.closed_at, row.why = change.now, why
                change.session.exec(delete(HoldRow).where(col(HoldRow.night) == night_purse(row.id)))
                change.note("night_closed", f"night:{row.id}", actor=by, data={"why": why})
            return _night(row, purse)

    def get(self, name: str) -> Night:
        """By id, or by the beginning of one."""
        wanted = name if name.startswith("n-") else f"n-{name}"
        query = select(NightRow).where(col(NightRow.id).startswith(wanted, autoescape=True)).limit(2)
        with self._records.database.read() as session:
            match session.exec(query).all():
                case [row]:
                    return _night(row, session.get(PurseRow, night_purse(row.id)))
                case _:
                    raise _unknown(name)

    def list(self, *, limit: int | None = None) -> list[Night]:
        """The newest first."""
        query = select(NightRow).order_by(col(NightRow.opened_at).desc(), col(NightRow.id)).limit(limit)
        with self._records.database.read() as session:
            rows = session.exec(query).all()
            return [_night(row, session.get(PurseRow, night_purse(row.id))) for row in rows]


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(
        f"there is no night {name!r}, or several begin so; `karkas report` shows what there is"
    )


def _night(row: NightRow, purse: PurseRow | None) -> Night:
    return Night.model_validate(row.model_dump() | {"spent": spent_of(purse)})
