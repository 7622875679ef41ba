"""A store on real SQLite, and on real PostgreSQL where KARKAS_TEST_POSTGRES_URL names a server.

    KARKAS_TEST_POSTGRES_URL=postgresql://postgres@127.0.0.1:5432/postgres pytest tests/storage

The user must be allowed to create databases: each test session makes one of its own, and drops it at its end; each
test has a schema of its own in it.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from pydantic import JsonValue
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlmodel import col, select

from karkas.policies.actions import Action, Effect, Proposal, Variant
from karkas.policies.gates import POLICY_VERSION, GateKind, Hold, PolicyDecision, PolicyVerdict
from karkas.policies.grants import AnyValue, Grant, PathGlob
from karkas.policies.permits import Binding
from karkas.policies.verdicts import Adopt, Approve, Choose
from karkas.policies.zones import ControlLevel, Zone
from karkas.storage import Gate, NewGate, Permit, Run, RunStatus, ShownVariant, StandingGrant, Store
from karkas.storage.audit import Noted, hash_of, kept
from karkas.storage.tables import AuditRow

POSTGRES = os.environ.get("KARKAS_TEST_POSTGRES_URL")
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def postgres_database() -> Iterator[str]:
    assert POSTGRES is not None
    server = make_url(POSTGRES).set(drivername="postgresql+psycopg")
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    name = f"karkas_test_{secrets.token_hex(4)}"
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param(
            "postgresql",
            marks=pytest.mark.skipif(POSTGRES is None, reason="KARKAS_TEST_POSTGRES_URL is not set"),
        ),
    ]
)
def url(request: pytest.FixtureRequest) -> str | None:
    if request.param == "sqlite":
        return None
    database: str = request.getfixturevalue("postgres_database")
    schema = f"t_{secrets.token_hex(4)}"
    engine = create_engine(make_url(database).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    engine.dispose()
    return f"{database}?options=-csearch_path%3D{schema}"


@pytest.fixture
def time() -> list[datetime]:
    """The one element is now."""
    return [START]


@pytest.fixture
def advance(time: list[datetime]) -> Callable[[timedelta], datetime]:
    def advance(by: timedelta) -> datetime:
        time[0] += by
        return time[0]

    return advance


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".karkas"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new store, to be copied: quicker than making one for each test."""
    folder = tmp_path_factory.mktemp("made") / ".karkas"
    Store.open(folder, create=True).close()
    return folder


@pytest.fixture
def store(folder: Path, made: Path, url: str | None, time: list[datetime]) -> Iterator[Store]:
    if url is None:
        copytree(made, folder)
    with Store.open(folder, url=url, clock=lambda: time[0], create=True) as store:
        yield store


@pytest.fixture
def run(store: Store) -> Run:
    return store.runs.set_status(store.runs.create("act", zone="lora").id, RunStatus.RUNNING)


@pytest.fixture
def open_gate(store: Store, run: Run) -> Callable[..., Gate]:
    """Opens a gate on as many variants as there are `paths`; any field of `NewGate` can be given."""
    keys = count()

    def open_gate(
        *paths: str,
        policy: PolicyVerdict = PolicyVerdict.PROPOSE,
        effect: Effect = Effect.REVERSIBLE,
        approvers: int = 1,
        holds: tuple[Hold, ...] = (),
        **fields: Any,
    ) -> Gate:
        actions = [
            Action(tool="write_file", args={"path": path, "content": "x"}, effect=effect)
            for path in (paths or ("a.md",))
        ]
        proposal = Proposal(
            zones=("lora",),
            task="write it",
            why="it was asked for",
            proposer="executor/test",
            variants=tuple(Variant(action=action) for action in actions),
        )
        new: dict[str, Any] = {
            "key": f"{run.id}:{next(keys)}",
            "run": run.id,
            "kind": GateKind.ACTION,
            "zones": ("lora",),
            "level": ControlLevel.PROPOSE_ONLY,
            "policy": PolicyDecision(
                verdict=policy, reasons=("a test says so",), approvers=approvers, holds=holds
            ),
        }
        if fields.get("kind", GateKind.ACTION) is GateKind.ACTION:
            new["proposal"] = store.artifacts.put_json(proposal.model_dump(mode="json"))
            new["effect"] = effect
            new["variants"] = tuple(_shown(store, action) for action in actions)
        return store.gates.open(NewGate(**new | fields))

    return open_gate


def _shown(store: Store, action: Action) -> ShownVariant:
    shown = store.artifacts.put_text(f"+++ {action.args['path']}")
    binding = Binding(
        action=action.digest,
        shown=shown,
        tool_version=store.artifacts.put_text("def write_file(): ..."),
        preconditions={str(action.args["path"]): "absent"},
        policy_version=POLICY_VERSION,
    )
    return ShownVariant(digest=action.digest, shown=shown, binding=binding)


@pytest.fixture
def permitted(store: Store, open_gate: Callable[..., Gate]) -> Callable[..., Permit]:
    """Opens a gate, passes it as a person would, and gives the permit."""

    def permitted(*paths: str, **fields: Any) -> Permit:
        gate = open_gate(*paths, **fields)
        draft = gate.policy.verdict is PolicyVerdict.DRAFT
        store.gates.decide(
            gate.id,
            Adopt() if draft else Approve() if len(gate.variants) == 1 else Choose(variant=0),
            by="anna",
        )
        permit = store.ledger.for_gate(gate.id)
        assert permit is not None
        return permit

    return permitted


@pytest.fixture
def give(store: Store) -> Callable[..., StandingGrant]:
    """A person's grant for what `open_gate` opens, on ground that is declared."""
    store.zones.observe(Zone(name="lora", understanding=3))

    def give(**changes: Any) -> StandingGrant:
        terms: dict[str, Any] = {
            "zone": "lora",
            "tool": "write_file",
            "tool_version": store.artifacts.put_text("def write_file(): ..."),
            "args": {"path": PathGlob(glob="docs/**"), "content": AnyValue()},
            "limit": 2,
            "expires_at": store.clock() + timedelta(days=7),
            "reason": "the nightly reports",
            "author": "anna",
        }
        return store.grants.add(Grant(**terms | changes))

    return give


@pytest.fixture
def tamper(store: Store) -> Callable[..., None]:
    """Raw SQL by somebody who can write to the database, but has no key; takes the triggers away first."""

    def tamper(sql: str, **values: Any) -> None:
        with store.database.connection(write=True) as connection:
            if store.database.is_sqlite:
                for event in ("UPDATE", "DELETE"):
                    connection.execute(text(f"DROP TRIGGER IF EXISTS audit_no_{event}"))
            else:
                connection.execute(text("DROP TRIGGER IF EXISTS audit_append_only ON audit"))
            connection.execute(text(sql), values)

    return tamper


@pytest.fixture
def forge(store: Store) -> Callable[..., None]:
    """Appends a row as karkas would, but for the key; then karkas goes on behind it."""

    def forge(event: str, subject: str, data: JsonValue = None) -> None:
        with store.database.write() as session:
            last = session.exec(select(AuditRow).order_by(col(AuditRow.seq).desc()).limit(1)).one()
            row = Noted(
                seq=last.seq + 1,
                at=store.clock().astimezone(UTC).isoformat(),
                actor="ada",
                event=event,
                subject=subject,
                data=kept(data),
                prev=last.hash,
                hash="",
                signature=last.signature,
            )
            session.add(AuditRow(**row._replace(hash=hash_of(row))._asdict()))
        store.note("looked", "something", actor="karkas")

    return forge
