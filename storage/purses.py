"""Purses: what many runs spend together, over all processes and hosts. What is spent was reserved before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import BindParameter, bindparam, delete, func, insert, select, update
from sqlmodel import col

from karkas.policies.budgets import Bound, Owner, SharedBudget, Spent, end_of_night, reached
from karkas.policies.runs import RunStatus
from karkas.storage.journal import Entry, secret_of, write
from karkas.storage.prepared import Prepared
from karkas.storage.records import Change, Note, Records
from karkas.storage.tables import HoldRow, PurseRow, Table

BYTES = 1_000_000
"""Of a megabyte."""


@dataclass(frozen=True)
class Share:
    """A purse that a run spends out of, and its bounds."""

    purse: str
    budget: SharedBudget
    owner: Owner

    @property
    def bounded(self) -> bool:
        return self.budget != SharedBudget()


@dataclass(frozen=True)
class Hold:
    """A call about to be made, and how many tokens it may cost at most."""

    id: str
    run: str
    segment: int
    tokens: int


NIGHTS, ZONES = "night:", "zone:"


def night_purse(night: str) -> str:
    return f"{NIGHTS}{night}"


def zone_purse(zone: str, day: str) -> str:
    return f"{ZONES}{zone}:{day}"


class Purses:
    def __init__(self, records: Records) -> None:
        self._records = records
        self._secret = secret_of(records.key)

    def spent(self, purse: str) -> Spent:
        with self._records.database.read() as session:
            return spent_of(session.get(PurseRow, purse))

    def reserve(self, hold: Hold, shares: Sequence[Share]) -> Bound | bool:
        """True: the call may be made. False: what is under way may use up what is left, so it has to be waited for.

        As in a run, a call is allowed as long as what was spent and what is under way leave something: of many at once
        over all processes, one exceeds a budget. What a run that is not at work any more held does not count.
        """
        with self._records.change() as change:
            held = []
            for share in shares:
                found = _PURSE.first(change.session, of=share.purse)
                spent = spent_of(None if found is None else _Paid._make(found))
                if (bound := self._bound(change, share, spent)) is not None:
                    return bound
                held.append(spent + self._held(change, share.purse))
            if any(reached(share.budget, sum_) is not None for share, sum_ in zip(shares, held, strict=True)):
                return False
            names = [share.purse for share in shares]
            _HOLD.change(
                change.session,
                **vars(hold),
                night=next((name for name in names if name.startswith(NIGHTS)), None),
                zone=next((name for name in names if name.startswith(ZONES)), None),
            )
            return True

    def release(self, hold: str) -> None:
        """The call has ended without an answer."""
        with self._records.change() as change:
            _release(change, hold)

    def drop(self, run: str, segment: int) -> None:
        """What earlier segments of a run held is nobody's."""
        with self._records.change() as change:
            change.session.connection().execute(
                delete(HoldRow).where(col(HoldRow.run) == run, col(HoldRow.segment) < segment)
            )

    def spend(
        self,
        run: str,
        spent: Spent,
        *,
        purses: Sequence[str] = (),
        hold: str | None = None,
        answer: Entry | None = None,
        notes: Sequence[Note] = (),
    ) -> None:
        """Adds to what the run and its purses have spent, releases what was held for it, journals what came of it, and
        puts on the record what there is to say of it: all of it or nothing.
        """
        with self._records.change() as change:
            ((before,),) = _SPENT.rows(change.session, of=run)
            total = (Spent.model_validate(before) + spent).model_dump(mode="json")
            _ADD.change(change.session, of=run, spent=total, changed_at=change.now)
            if answer is not None:
                write(change, self._secret, answer)
            for purse in purses:
                _pay(change, purse, spent)
            if hold is not None:
                _release(change, hold)
            for note in notes:
                change.note(note.event, note.subject, actor=note.actor, data=note.data)

    def _bound(self, change: Change, share: Share, spent: Spent) -> Bound | None:
        night = share.purse.removeprefix(NIGHTS)
        if night != share.purse and _OPEN.first(change.session, of=night) is None:
            return end_of_night()
        return reached(share.budget, spent, owner=share.owner)

    def _held(self, change: Change, purse: str) -> Spent:
        held = _HELD["night" if purse.startswith(NIGHTS) else "zone"]
        ((calls, tokens),) = held.rows(change.session, of=purse)
        return Spent(model_calls=calls, tokens=tokens)


class _Paid(NamedTuple):
    tokens: int
    cached_tokens: int
    model_calls: int
    disk_bytes: int


# They are executed for every call of a model.
_RUN, _PURSES, _HOLDS, _NIGHTS = (Table.metadata.tables[name] for name in ("run", "purse", "hold", "night"))
_OF: BindParameter[str] = bindparam("of")
_SPENT = Prepared(select(_RUN.c.spent).where(_RUN.c.id == _OF))
_ADD = Prepared(update(_RUN).where(_RUN.c.id == _OF), "spent", "changed_at")
_PURSE = Prepared(select(*(_PURSES.c[name] for name in _Paid._fields)).where(_PURSES.c.name == _OF))
_FIRST = Prepared(insert(_PURSES).inline(), *_PURSES.c.keys())
_OPEN = Prepared(select(_NIGHTS.c.id).where(_NIGHTS.c.id == _OF, _NIGHTS.c.closed_at.is_(None)))
_HOLD = Prepared(insert(_HOLDS).inline(), *_HOLDS.c.keys())
_RELEASE = Prepared(delete(_HOLDS).where(_HOLDS.c.id == _OF))
_HELD = {
    name: Prepared(
        select(func.count(), func.coalesce(func.sum(_HOLDS.c.tokens), 0))
        .select_from(_HOLDS.join(_RUN, _RUN.c.id == _HOLDS.c.run))
        .where(
            _HOLDS.c[name] == _OF,
            _RUN.c.status == RunStatus.RUNNING.value,
            _RUN.c.segment == _HOLDS.c.segment,
        )
    )
    for name in ("night", "zone")
}
_PAY = Prepared(
    update(_PURSES)
    .where(_PURSES.c.name == _OF)
    .values({name: _PURSES.c[name] + bindparam(f"more_{name}") for name in _Paid._fields})
)


def spent_of(row: PurseRow | _Paid | None) -> Spent:
    if row is None:
        return Spent()
    return Spent(
        tokens=row.tokens,
        cached_tokens=row.cached_tokens,
        model_calls=row.model_calls,
        disk_mb=row.disk_bytes / BYTES,
    )


def _pay(change: Change, purse: str, spent: Spent) -> None:
    added = {
        "tokens": spent.tokens,
        "cached_tokens": spent.cached_tokens,
        "model_calls": spent.model_calls,
        "disk_bytes": round(spent.disk_mb * BYTES),
    }
    more = {f"more_{name}": amount for name, amount in added.items()}
    if not _PAY.change(change.session, of=purse, **more):
        _FIRST.change(change.session, name=purse, **added)


def _release(change: Change, hold: str) -> None:
    _RELEASE.change(change.session, of=hold)
