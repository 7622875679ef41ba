"""The journal: every model answer as it came, before it is used. A run that is taken up again pays for none twice.

Its figures stay; its texts are dropped when the run is done.
"""

import hmac
import json
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import BaseModel, ConfigDict, JsonValue
from sqlalchemy import bindparam, insert, update
from sqlmodel import col, select

from karkas.storage.keys import SigningKey
from karkas.storage.prepared import Prepared
from karkas.storage.records import Change, Records
from karkas.storage.tables import JournalRow, table_of

Request = tuple[str, int]
"""A request's digest, and how often the run had asked the same since it was taken up."""


class Figures(BaseModel):
    """What one model answer cost, and when; for which run, in which segment and night."""

    model_config = ConfigDict(frozen=True)

    run: str
    segment: int
    night: str | None = None
    engine: str
    role: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    wall_s: float
    at: datetime

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Entry:
    """An answer as it is journalled: JSON, as it came."""

    run: str
    segment: int
    night: str | None
    digest: str
    n: int
    engine: str
    role: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    wall_s: float
    answer: str
    learnt: dict[str, JsonValue]
    """What the servers said of themselves since the answer before."""


@dataclass
class Kept:
    """What a run that is taken up again has been answered, and told by its servers."""

    answers: dict[Request, str] = field(default_factory=dict)
    learnt: dict[str, JsonValue] = field(default_factory=dict)
    refused: int = 0
    """Rows that karkas did not write."""


class Journal:
    """Written by `Purses.spend`, in one transaction with what the answer cost."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._secret = secret_of(records.key)

    def kept(self, run: str, engine: str) -> Kept:
        """What `engine` answered to this run. A row whose seal does not verify is counted, and used for nothing.

        Of two answers to one request the later segment's counts, which went on with it: the other one was written
        afterwards by a worker that was thought dead.
        """
        kept = Kept()
        query = select(JournalRow).where(
            JournalRow.run == run, JournalRow.engine == engine, col(JournalRow.answer).is_not(None)
        )
        with self._records.database.read() as session:
            for row in session.exec(query.order_by(col(JournalRow.segment), col(JournalRow.id))):
                if not hmac.compare_digest(row.seal or "", seal(self._secret, row.model_dump())):
                    kept.refused += 1
                    continue
                kept.answers[row.digest, row.n] = row.answer or ""
                kept.learnt.update(json.loads(row.learnt or "{}"))
        return kept

    def figures(
        self,
        *,
        run: str | None = None,
        night: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Figures]:
        """In the order in which the answers came; `since` included, `until` not."""
        columns = [col(getattr(JournalRow, name)) for name in Figures.model_fields]
        query = select(*columns).order_by(col(JournalRow.id))
        if run is not None:
            query = query.where(JournalRow.run == run)
        if night is not None:
            query = query.where(JournalRow.night == night)
        if since is not None:
            query = query.where(col(JournalRow.at) >= since)
        if until is not None:
            query = query.where(col(JournalRow.at) < until)
        with self._records.database.read() as session:
            return [Figures.model_validate(row, from_attributes=True) for row in session.exec(query)]


def write(change: Change, secret: bytes, entry: Entry) -> None:
    learnt = json.dumps(entry.learnt, sort_keys=True) if entry.learnt else None
    values = vars(entry) | {"learnt": learnt}
    values |= {"at": change.now, "seal": seal(secret, values)}
    _WRITE.change(change.session, **values)


def drop_answers(change: Change, run: str) -> None:
    """The run is done, so nothing of it is asked again."""
    _DROP.change(change.session, of=run)


_DROP = Prepared(
    update(JournalRow)
    .where(col(JournalRow.run) == bindparam("of"))
    .values(answer=None, learnt=None, seal=None)
)
_WRITE = Prepared(
    insert(JournalRow).inline(), *(one.name for one in table_of(JournalRow).c if one.name != "id")
)

SEALED = ("run", "digest", "n", "engine", "role", "model", "answer", "learnt")


def secret_of(key: SigningKey) -> bytes:
    return key.derived(b"karkas journal")


def seal(secret: bytes, values: dict[str, JsonValue]) -> str:
    """HMAC-SHA256 (RFC 2104) over what a later run would believe."""
    told = json.dumps([values[name] for name in SEALED]).encode()
    return hmac.digest(secret, told, "sha256").hex()
