"""The log says of itself when anything in it was changed, dropped, swapped or doubled: all of it, on both databases.

Each change is made by SQL within a transaction that is rolled back, so that thousands of them take seconds.
"""

from collections.abc import Callable, Iterator
from itertools import chain, combinations, permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlmodel import Session, col, select

from karkas.storage import Store
from karkas.storage.audit import _rows
from karkas.storage.tables import AuditRow

COLUMNS = tuple(AuditRow.model_fields)
WORDS = tuple(name for name in COLUMNS if name != "seq")
MANY = 60


class Log:
    """The log in one open transaction."""

    def __init__(self, store: Store, session: Session) -> None:
        self.store, self.session = store, session
        self.rows = self.read()

    def read(self) -> list[tuple[Any, ...]]:
        query = select(*(getattr(AuditRow, name) for name in COLUMNS)).order_by(col(AuditRow.seq))
        return [tuple(row) for row in self.session.connection().execute(query)]

    def write(self, rows: list[tuple[Any, ...]]) -> None:
        """Makes the table these rows."""
        self.run("DELETE FROM audit")
        for row in rows:
            self.insert(row)

    def insert(self, row: tuple[Any, ...]) -> None:
        names = ", ".join(f'"{name}"' for name in COLUMNS)
        marks = ", ".join(f":{name}" for name in COLUMNS)
        self.run(f"INSERT INTO audit ({names}) VALUES ({marks})", **dict(zip(COLUMNS, row, strict=True)))

    def set(self, seq: int, column: str, value: object) -> None:
        self.run(f'UPDATE audit SET "{column}" = :value WHERE seq = :seq', value=value, seq=seq)

    def run(self, sql: str, **values: Any) -> None:
        self.session.connection().execute(text(sql), values)

    def whole(self) -> bool:
        """As `Audit.verify` says, but within this transaction."""
        return not list(self.store.audit._breaks(_rows(self.session), self.store.audit._mirrored()))


class Undone(Exception):  # noqa: N818
    """Rolls the transaction back."""


def within(store: Store, tamper: Callable[..., None], attack: Callable[[Log], None]) -> None:
    tamper("SELECT 1")  # takes the triggers away
    with pytest.raises(Undone):
        _attacked(store, attack)
    assert store.audit.verify() == []


def _attacked(store: Store, attack: Callable[[Log], None]) -> None:
    with store.database.write() as session:
        log = Log(store, session)
        assert log.whole()
        attack(log)
        log.write(log.rows)
        assert log.whole(), "it was the changes that were found"
        raise Undone


@pytest.fixture
def short(store: Store) -> Store:
    for number in range(4):
        store.note("looked", f"file:{number}", actor="ёж", data={"n": number})
    return store


def one_byte_changed(value: str) -> Iterator[str]:
    for at, char in enumerate(value):
        for other in {chr(ord(char) ^ 1), chr(ord(char) ^ 0x20), char.swapcase(), "", char + " ", "\u200b"}:
            if other != char and "\0" not in other:
                yield value[:at] + other + value[at + 1 :]


def test_no_byte_of_any_column_can_be_changed(short: Store, tamper: Callable[..., None]) -> None:
    def attack(log: Log) -> None:
        tried = 0
        for row in log.rows:
            seq = row[COLUMNS.index("seq")]
            for column in WORDS:
                was = row[COLUMNS.index(column)]
                for changed in one_byte_changed(was):
                    log.set(seq, column, changed)
                    assert not log.whole(), (seq, column, changed)
                    tried += 1
                log.set(seq, column, was)
            for other in (0, -seq, seq + 4, seq + 256, 2**40 + seq):
                log.set(seq, "seq", other)
                assert not log.whole(), (seq, "seq", other)
                log.set(other, "seq", seq)
        assert tried > 4000

    within(short, tamper, attack)


def test_no_rows_can_be_dropped_put_in_another_order_or_doubled(
    short: Store, tamper: Callable[..., None]
) -> None:
    def attack(log: Log) -> None:
        seqs = [row[COLUMNS.index("seq")] for row in log.rows]
        kept = chain.from_iterable(combinations(log.rows, n) for n in range(len(log.rows)))
        for rows in kept:
            log.write(list(rows))
            assert not log.whole(), f"of {len(log.rows)} rows {len(log.rows) - len(rows)} were dropped"
            log.write([_numbered(row, seq) for row, seq in zip(rows, seqs, strict=False)])
            assert not log.whole(), "and the others numbered anew"
        for rows in permutations(log.rows):
            if list(rows) != log.rows:
                log.write([_numbered(row, seq) for row, seq in zip(rows, seqs, strict=True)])
                assert not log.whole()
        for row in log.rows:
            for at in range(1, len(seqs) + 2):
                doubled = [*log.rows[: at - 1], row, *log.rows[at - 1 :]]
                log.write([_numbered(one, number) for number, one in enumerate(doubled, 1)])
                assert not log.whole()

    within(short, tamper, attack)


def test_no_column_can_be_swapped_between_rows(short: Store, tamper: Callable[..., None]) -> None:
    def attack(log: Log) -> None:
        for one, other in combinations(log.rows, 2):
            for count in range(1, 4):
                for columns in combinations(WORDS, count):
                    places = [COLUMNS.index(column) for column in columns]
                    if all(one[at] == other[at] for at in places):
                        continue
                    swapped = {one: _with(one, other, places), other: _with(other, one, places)}
                    log.write([swapped.get(row, row) for row in log.rows])
                    assert not log.whole(), columns

    within(short, tamper, attack)


def _numbered(row: tuple[Any, ...], seq: int) -> tuple[Any, ...]:
    return tuple(seq if name == "seq" else value for name, value in zip(COLUMNS, row, strict=True))


def _with(row: tuple[Any, ...], other: tuple[Any, ...], places: list[int]) -> tuple[Any, ...]:
    return tuple(other[at] if at in places else value for at, value in enumerate(row))


@pytest.fixture
def long(store: Store) -> Store:
    for number in range(MANY):
        store.note(
            f"event_{number % 7}",
            f"file:{number % 11}",
            actor=f"actor {number % 3}",
            data={"path": "ё" * number},
        )
    return store


@settings(
    max_examples=min(settings().max_examples, 500),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_whatever_is_done_to_a_longer_log_is_found(
    long: Store, tamper: Callable[..., None], data: st.DataObject
) -> None:
    def attack(log: Log) -> None:
        rows = list(log.rows)
        for _ in range(data.draw(st.integers(1, 3))):
            one, other = (data.draw(st.integers(0, len(rows) - 1)) for _ in range(2))
            match data.draw(st.sampled_from(["drop", "drop", "swap", "double", "word", "cell"])):
                case "drop":
                    del rows[min(one, other) : max(one, other)]
                case "swap":
                    rows[one], rows[other] = (
                        _numbered(rows[other], rows[one][0]),
                        _numbered(rows[one], rows[other][0]),
                    )
                case "double":
                    rows.append(_numbered(rows[one], rows[-1][0] + 1))
                case "word":
                    at = data.draw(st.integers(1, len(COLUMNS) - 1))
                    rows[one] = (*rows[one][:at], data.draw(words), *rows[one][at + 1 :])
                case "cell":
                    rows[one] = _with(rows[one], rows[other], [data.draw(st.integers(1, len(COLUMNS) - 1))])
        assume(rows != log.rows)
        log.write(rows)
        assert not log.whole()

    assert COLUMNS[0] == "seq"
    within(long, tamper, attack)


words = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    st.text("0123456789abcdef", min_size=64, max_size=64),
)
