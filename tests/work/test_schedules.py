"""Schedules: each of their times is queued once, however many look, and none is missed."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from karkas.policies.errors import SettingsError
from karkas.project import Project
from karkas.storage import RunStatus
from karkas.work.schedules import fire, last_time, next_time

from .conftest import NOW

NIGHTLY = """
[schedules.nightly]
cron = "0 23 * * *"
run = "flows.py:steps"
input = {name = "lora"}
"""


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "TZ", "UTC")
    time.tzset()


def at(project: Project, now: datetime) -> datetime:
    """Sets the store's clock."""
    object.__setattr__(project.store._records, "clock", lambda: now)
    return now


def test_a_time_is_queued_once_whoever_looks_and_however_often(
    root: Path, opened: Callable[[], Project]
) -> None:
    with (root / "karkas.toml").open("a") as file:
        file.write(NIGHTLY)
    workers = [opened(), opened()]
    assert [fire(one, at(one, NOW)) for one in workers] == [[], []]
    later = NOW + timedelta(minutes=1)
    begun = [run for one in workers for _ in range(3) for run in fire(one, at(one, later))]
    assert len({run.id for run in begun}) == 1
    (run,) = workers[0].store.runs.list()
    assert (run.workflow, run.input, run.status) == ("flows.py:steps", {"name": "lora"}, RunStatus.QUEUED)
    assert run.due_at == later
    assert fire(workers[0], at(workers[0], NOW + timedelta(days=1))) == []
    assert len(fire(workers[0], at(workers[0], later + timedelta(days=1)))) == 1


def test_what_passed_while_no_worker_was_up_is_made_up_for_once(
    root: Path, opened: Callable[[], Project]
) -> None:
    with (root / "karkas.toml").open("a") as file:
        file.write(NIGHTLY)
    project = opened()
    fire(project, at(project, NOW))
    assert len(fire(project, at(project, NOW + timedelta(days=5)))) == 1
    assert fire(project, at(project, NOW + timedelta(days=5, seconds=1))) == []


def test_a_schedule_that_is_new_or_another_one_counts_from_now(
    root: Path, opened: Callable[[], Project]
) -> None:
    with (root / "karkas.toml").open("a") as file:
        file.write(NIGHTLY)
    first = opened()
    fire(first, at(first, NOW))
    text = (root / "karkas.toml").read_text().replace('"0 23 * * *"', '"30 22 * * *"')
    (root / "karkas.toml").write_text(text)
    changed = opened()
    assert fire(changed, at(changed, NOW)) == []


def test_one_that_cannot_be_queued_holds_up_no_other(root: Path, opened: Callable[[], Project]) -> None:
    with (root / "karkas.toml").open("a") as file:
        file.write(NIGHTLY.replace("nightly", "broken").replace("steps", "missing") + NIGHTLY)
    project = opened()
    fire(project, at(project, NOW))
    assert [run.workflow for run in fire(project, at(project, NOW + timedelta(minutes=1)))] == [
        "flows.py:steps"
    ]


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ('cron = "every night"\nrun = "flows.py:steps"', "five fields of cron"),
        ('cron = "0 23 * * *"', "needs exactly one of"),
        ('cron = "0 23 * * *"\nexplore = "lora"', 'explore needs sources = ["..."]'),
        ('cron = "0 23 * * *"\nact = "lora"', 'act needs task = "..."'),
        ('cron = "0 23 * * *"\nrun = "flows.py:steps"\nsources = ["a"]', "sources belongs to explore"),
        ('cron = "0 23 * * * *"\nrun = "flows.py:steps"', "five fields of cron"),
    ],
)
def test_a_schedule_that_says_nothing_clear_is_refused(root: Path, schedule: str, told: str) -> None:
    with (root / "karkas.toml").open("a") as file:
        file.write(f"\n[schedules.nightly]\n{schedule}\n")
    with pytest.raises(SettingsError, match="schedules") as refused:
        Project.open(root)
    assert told in str(refused.value)


def test_times_around_the_minute(utc: None) -> None:
    assert last_time("0 23 * * *", datetime(2026, 11, 30, 23, 0, 0, tzinfo=UTC)) == datetime(
        2026, 11, 30, 23, tzinfo=UTC
    )
    assert last_time("0 23 * * *", datetime(2026, 11, 30, 23, 0, 59, tzinfo=UTC)) == datetime(
        2026, 11, 30, 23, tzinfo=UTC
    )
    assert last_time("0 23 * * *", NOW) == datetime(2026, 11, 29, 23, tzinfo=UTC)
    assert next_time("0 23 * * *", NOW) == datetime(2026, 11, 30, 23, tzinfo=UTC)
