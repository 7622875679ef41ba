"""The tables. Rows hold ids, digests and small structures; documents lie in the artifact store."""

from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue
from sqlalchemy import JSON, BigInteger, DateTime, Dialect, LargeBinary, MetaData, Text
from sqlalchemy import Table as SqlTable
from sqlalchemy.orm import declared_attr
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel


class UtcDateTime(TypeDecorator[datetime]):
    """Aware, in UTC, on every database; SQLite itself keeps no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Words(TypeDecorator[str]):
    """Free text. What a database cannot hold (NUL, lone surrogates) is kept as a visible escape."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else storable(value)


def storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")


class Table(SQLModel):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )

    @declared_attr.directive
    def __tablename__(cls) -> str:  # noqa: N805  # pyright: ignore[reportIncompatibleVariableOverride]
        return cls.__name__.removesuffix("Row").lower()


def table_of(row: type[Table]) -> SqlTable:
    """For statements that go past the session."""
    return Table.metadata.tables[str(row.__tablename__)]


def _json(*, nullable: bool = False) -> Any:
    return Field(default=None, sa_type=JSON(none_as_null=True), nullable=nullable)


def _time(*, nullable: bool = True, index: bool = False) -> Any:
    return Field(default=None, sa_type=UtcDateTime, nullable=nullable, index=index)


def _words(*, nullable: bool = False) -> Any:
    return Field(default=None if nullable else "", sa_type=Words, nullable=nullable)


class ZoneRow(Table, table=True):
    name: str = Field(primary_key=True)
    level: str
    declared_level: str
    understanding: int
    scope: dict[str, JsonValue] = _json()
    stage: str
    reason: str = _words()
    author: str = _words()
    approvers: int = 1
    distillate_id: str | None = None
    distillate_sha256: str | None = None
    distillate_artifact: str | None = None
    distillate_path: str | None = _words(nullable=True)
    frame_artifact: str | None = None
    frame_level: str | None = None
    frame_author: str | None = _words(nullable=True)
    frame_distillate_sha256: str | None = None
    framed_at: datetime | None = _time()
    changed_at: datetime = _time(nullable=False)
    seal: str = Field(default="", sa_type=Text)


WAITED_FOR, UNATTENDED = 0, 10
"""Priorities of runs: a person who just decided waits for the first, nobody for the second."""


class RunRow(Table, table=True):
    id: str = Field(primary_key=True)
    workflow: str = _words()
    zone: str | None = Field(default=None, index=True)
    input: dict[str, JsonValue] = _json()
    options: dict[str, JsonValue] = _json()
    budget: dict[str, JsonValue] = _json()
    spent: dict[str, JsonValue] = _json()
    deadline: datetime | None = _time()
    status: str = Field(index=True)
    reason: str = _words()
    error: str | None = _words(nullable=True)
    result: dict[str, JsonValue] | None = _json(nullable=True)
    engine: str | None = _words(nullable=True)
    segment: int = 0
    created_at: datetime = _time(nullable=False)
    changed_at: datetime = _time(nullable=False)
    finished_at: datetime | None = _time()
    key: str | None = Field(default=None, unique=True, index=True)
    """What queued it, where that must not queue it twice: a schedule's name and time."""
    due_at: datetime | None = _time(index=True)
    """From when on a worker takes it up; none: only a person does."""
    priority: int = UNATTENDED
    """The lower goes first."""
    tries: int = 0
    """Times in a row that a worker had to put it back."""
    crashes: int = 0
    """Times in a row that whoever was at work on it died at the same checkpoint."""
    crashed_at: str | None = None
    """That checkpoint."""


class DoingRow(Table, table=True):
    """What a run was doing when it was last told, by whoever is at work on it. Only for those who look on."""

    run: str = Field(primary_key=True, foreign_key="run.id")
    text: str = _words()
    done: int = 0
    total: int | None = None
    at: datetime = _time(nullable=False)
    worker: str = _words()


class ScheduleRow(Table, table=True):
    name: str = Field(primary_key=True)
    cron: str
    since: datetime = _time(nullable=False)
    """All its times up to here were seen to."""


class GateRow(Table, table=True):
    id: str = Field(primary_key=True)
    key: str = Field(unique=True)
    run: str = Field(foreign_key="run.id", index=True)
    kind: str
    status: str = Field(index=True)
    facts: dict[str, JsonValue] = _json()
    """The gate as it was opened (`NewGate`), under `seal`."""
    seal: str = Field(default="", sa_type=Text)
    opened_at: datetime = _time(nullable=False)
    expires_at: datetime | None = _time()
    deferred_until: datetime | None = _time()
    decided_at: datetime | None = _time()
    decided_by: str | None = _words(nullable=True)
    verdict: dict[str, JsonValue] | None = _json(nullable=True)
    reason: str = _words()
    approvals: list[JsonValue] | None = _json(nullable=True)
    """Where two people decide: what the first one said, as signed text with its signature."""
    superseded_by: str | None = Field(default=None, foreign_key="gate.id")
    decision: str | None = Field(default=None, sa_type=Text)
    """The signed text (RFC 8785) of the last decision."""
    signature: str | None = Field(default=None, sa_type=Text)


class PermitRow(Table, table=True):
    id: str = Field(primary_key=True)
    gate: str = Field(foreign_key="gate.id", unique=True)
    run: str = Field(foreign_key="run.id", index=True)
    variant: int
    action: str
    binding: dict[str, JsonValue] = _json()
    status: str = Field(index=True)
    issued_at: datetime = _time(nullable=False)
    changed_at: datetime = _time(nullable=False)
    worker: str | None = _words(nullable=True)
    claims: int = 0
    """How often it was claimed; fences a worker that was thought dead."""
    result: dict[str, JsonValue] | None = _json(nullable=True)
    undo: dict[str, JsonValue] | None = _json(nullable=True)
    reason: str = _words()


class GrantRow(Table, table=True):
    # `grant` alone is a word of SQL.
    __tablename__ = "standing_grant"  # pyright: ignore[reportAssignmentType]

    id: str = Field(primary_key=True)
    zone: str = Field(index=True)
    tool: str
    terms: dict[str, JsonValue] = _json()
    """The grant as it was given (`Grant`), under `seal`."""
    seal: str = Field(default="", sa_type=Text)
    at_most: int
    used: int = 0
    expires_at: datetime = _time(nullable=False)
    created_at: datetime = _time(nullable=False)
    revoked_at: datetime | None = _time()
    revoked_by: str | None = _words(nullable=True)


class AuditRow(Table, table=True):
    seq: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    at: str
    actor: str = Field(sa_type=Text)
    event: str
    subject: str = Field(sa_type=Text, index=True)
    data: str = Field(sa_type=Text)
    """RFC 8785, so that the hash does not depend on how a database writes JSON."""
    prev: str
    hash: str
    signature: str


class WorkerRow(Table, table=True):
    id: str = Field(primary_key=True)
    host: str
    pid: int
    concurrency: int
    started_at: datetime = _time(nullable=False)
    beats: int = 0
    beat_at: datetime = _time(nullable=False)
    session: int | None = None
    """The backend of PostgreSQL that holds its locks, since when, and from where."""
    since: datetime | None = _time()
    address: str | None = None
    server: str | None = None
    """When that PostgreSQL was started."""
    left_at: datetime | None = _time()
    buried_at: datetime | None = _time()
    buried_by: str | None = None


class JournalRow(Table, table=True):
    id: int | None = Field(default=None, primary_key=True)
    run: str = Field(foreign_key="run.id", index=True)
    segment: int
    night: str | None = None
    digest: str
    """SHA-256 of the request as the model saw it."""
    n: int
    """How often the run had asked the same since it was taken up."""
    engine: str = _words()
    role: str
    model: str = _words()
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    wall_s: float
    at: datetime = _time(nullable=False, index=True)
    answer: str | None = Field(default=None, sa_type=Text)
    """What came back, as JSON; dropped when the run is done."""
    learnt: str | None = Field(default=None, sa_type=Text)
    """What the servers said of themselves since the answer before, as JSON; dropped likewise."""
    seal: str | None = Field(default=None, sa_type=Text)


class NightRow(Table, table=True):
    id: str = Field(primary_key=True)
    opened_at: datetime = _time(nullable=False, index=True)
    until: datetime | None = _time()
    budget: dict[str, JsonValue] = _json()
    closed_at: datetime | None = _time()
    why: str = _words()


class PurseRow(Table, table=True):
    name: str = Field(primary_key=True)
    """`night:ID`, or `zone:NAME:DAY`."""
    tokens: int = Field(default=0, sa_type=BigInteger)
    cached_tokens: int = Field(default=0, sa_type=BigInteger)
    model_calls: int = 0
    disk_bytes: int = Field(default=0, sa_type=BigInteger)


class HoldRow(Table, table=True):
    """A call under way, as what it may cost at most. It counts while its run is running in the same segment."""

    id: str = Field(primary_key=True)
    run: str = Field(foreign_key="run.id", index=True)
    segment: int
    night: str | None = Field(default=None, index=True)
    zone: str | None = Field(default=None, index=True)
    """Names of purses."""
    tokens: int


class ArtifactRow(Table, table=True):
    """In PostgreSQL, which is for many hosts; elsewhere artifacts are files."""

    digest: str = Field(primary_key=True)
    data: bytes = Field(sa_type=LargeBinary)
