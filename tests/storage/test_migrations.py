"""A store that an earlier karkas wrote is brought up to date, and all that it proved still holds."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import DateTime, MetaData
from sqlalchemy.engine import make_url

from karkas.policies.errors import VerdictError
from karkas.policies.gates import GateStatus
from karkas.policies.permits import PermitStatus
from karkas.policies.verdicts import Approve
from karkas.policies.zones import ControlLevel, Stage
from karkas.storage import Artifacts, Store
from karkas.storage.database import Database, database_url
from karkas.storage.schema import HEAD, alembic_config, version

WRITTEN: dict[str, Any] = json.loads(Path(__file__).with_name("schema_0001.json").read_text("utf-8"))
"""A run, its zones and gates, as the karkas of schema 0001 wrote and signed them."""


@pytest.fixture
def first(folder: Path, url: str | None) -> Path:
    """A store at schema 0001 with those rows, on either database."""
    folder.mkdir(mode=0o700)
    (folder / "signing.key").write_text(WRITTEN["key"])
    (folder / "signing.key").chmod(0o600)
    (folder / "audit.head").write_text(WRITTEN["head"])
    for text in WRITTEN["artifacts"]:
        Artifacts(folder / "artifacts").put_text(text)
    database = Database(database_url(folder, url))
    with database.connection(write=True) as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        there = MetaData()
        there.reflect(connection)
        for name, rows in WRITTEN["tables"].items():
            times = {
                column.name for column in there.tables[name].columns if isinstance(column.type, DateTime)
            }
            for row in rows:
                values = {
                    key: datetime.fromisoformat(value) if key in times and value else value
                    for key, value in row.items()
                    if value is not None
                }
                connection.execute(there.tables[name].insert().values(values))
    database.close()
    return folder


@pytest.fixture
def migrated(first: Path, url: str | None) -> Any:
    with Store.open(first, url=url, clock=lambda: datetime(2026, 3, 1, 13, tzinfo=UTC)) as store:
        yield store


def test_the_earlier_store_is_one(first: Path, url: str | None) -> None:
    database = Database(make_url(str(database_url(first, url).render_as_string(hide_password=False))))
    with database.connection() as connection:
        assert version(connection) == "0001"
    database.close()


def test_all_that_was_signed_still_holds(migrated: Store) -> None:
    with migrated.database.connection() as connection:
        assert version(connection) == HEAD
    assert migrated.verify() == []
    zones = migrated.zones.all()
    assert {name: zone.approvers for name, zone in zones.items()} == {"deploy": 1, "lora": 1}
    assert (zones["lora"].level, zones["lora"].stage) == (ControlLevel.PROPOSE_ONLY, Stage.FRAMED)
    assert {gate.status for gate in migrated.gates.list()} == {
        GateStatus.PASSED,
        GateStatus.REJECTED,
        GateStatus.DEFERRED,
        GateStatus.OPEN,
    }


def test_what_waited_is_decided_once_by_one_person(migrated: Store) -> None:
    (waiting,) = migrated.gates.list(status=GateStatus.OPEN)
    (deferred,) = migrated.gates.list(status=GateStatus.DEFERRED)
    (rejected,) = migrated.gates.list(status=GateStatus.REJECTED)
    for gate in (waiting, deferred):
        assert migrated.gates.decide(gate.id, Approve(), by="boris").status is GateStatus.PASSED
    with pytest.raises(VerdictError):
        migrated.gates.decide(rejected.id, Approve(), by="boris")
    permits = [migrated.ledger.for_gate(gate.id) for gate in (waiting, deferred)]
    assert [permit.status for permit in permits if permit] == [PermitStatus.APPROVED] * 2
    assert migrated.verify() == []


def test_a_permit_of_before_is_claimed_once(migrated: Store) -> None:
    (passed,) = migrated.gates.list(status=GateStatus.PASSED)
    permit = migrated.ledger.for_gate(passed.id)
    assert permit is not None
    assert migrated.ledger.claim(permit.id, worker="w").action.args["path"] == "passed.md"
