"""What a night did, told in the morning: on the screen where there is news, and in plain lines."""

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from karkas import runner
from karkas.cli.app import app
from karkas.policies.budgets import Spent
from karkas.policies.verdicts import Approve
from karkas.project import Project, person
from karkas.queue import morning
from karkas.queue.blocks import Line
from karkas.storage import RunStatus

from .conftest import Begin, Open, text, until


@pytest.fixture
def explored(project: Project) -> Project:
    """A zone was mapped, and its frame waits."""
    (project.root / "a.md").write_text(
        "# Couriers\n\nA courier is a person who carries parcels. A courier waits 5 minutes by default.\n"
    )
    run = runner.begin(project, "explore", {"zone": "courier", "sources": ["a.md"]}, zone="courier")
    asyncio.run(runner.advance(project, run.id))
    return project


def later(project: Project, monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    now: datetime = project.store.clock() + by
    monkeypatch.setattr(project.store, "clock", lambda: now)


def test_the_night_is_told_zone_by_zone(explored: Project, begin: Begin) -> None:
    gate = begin("single")
    explored.store.gates.decide(gate.id, Approve(), by="bob")
    asyncio.run(runner.advance(explored, gate.run))
    found = morning.look(explored, begin=explored.store.clock() - timedelta(hours=8))
    (night,) = (one for one in found.zones if one.zone == "courier")
    assert night.runs == {"parked": 1}
    assert night.spent.sources == 1
    assert night.claims is not None
    assert night.claims >= 1
    assert night.conflicts == 0
    assert found.performed == 1
    assert found.waits == 1
    assert found.choices[0].what == "courier: frame zone courier"


def test_only_what_happened_since_ones_own_last_word_is_news(
    explored: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not morning.look(explored).is_news, "one was here a moment ago"
    said = explored.store.waiting.last_word(person())
    assert morning.look(explored).since == said
    later(explored, monkeypatch, timedelta(hours=8))
    assert morning.look(explored).is_news
    explored.store.note("looked", "zone:lab", actor=person())
    assert not morning.look(explored).is_news, "nothing ran since"


def test_a_night_of_many_runs_is_added_up_and_its_troubles_are_few(project: Project) -> None:
    runs, begin = project.store.runs, project.store.clock()
    for number in range(morning.TROUBLES + 9):
        run = runs.create("act", zone="lab" if number % 2 else "courier")
        if number:
            runs.take_up(run.id)
        project.store.purses.spend(run.id, Spent(wall_s=0.5, tokens=number, model_calls=1))
        runs.set_status(run.id, RunStatus.RUNNING)
        if number < 4:
            runs.set_status(run.id, RunStatus.DONE)
        else:
            runs.set_status(run.id, RunStatus.FAILED, error=f"it broke {number}")
    found = morning.look(project, begin=begin)
    headline = next(line for line in morning.page(found)[1:] if isinstance(line, Line))
    assert headline.text.startswith("25 runs failed")
    courier, lab = found.zones
    assert (courier.runs, lab.runs) == ({"done": 1, "failed": 13}, {"done": 2, "failed": 12})
    assert courier.spent + lab.spent == Spent(wall_s=14.0, tokens=sum(range(1, 29)), model_calls=28)
    assert [len(found.troubles), found.more_troubles] == [morning.TROUBLES, 5]
    assert "it broke" in found.troubles[0]


async def test_the_screen_opens_on_the_news_and_esc_leads_to_the_queue(
    project: Project, begin: Begin, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = await asyncio.to_thread(begin, "single")
    later(project, monkeypatch, timedelta(hours=8))
    async with opened() as pilot:
        await until(pilot, lambda: "Decide first" in text(pilot))
        assert "1. lab: ticket disk: 1 run waits for it" in text(pilot)
        await pilot.press("a", "enter")
        await until(pilot, lambda: f"{gate.id} action, open" in text(pilot))
    assert project.store.gates.get(gate.id).status.waits


def test_runs_of_a_users_workflow_stand_under_its_name(project: Project, begin: Begin) -> None:
    begin("single")
    found = morning.look(project, begin=project.store.clock() - timedelta(hours=8))
    assert [(one.zone, one.runs) for one in found.zones] == [("flows.py:single", {"parked": 1})]


def test_the_plain_morning_says_the_same(explored: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = CliRunner().invoke(app, ["queue", "morning", "--since", "8h"])
    assert plain.exit_code == 0
    assert "1. courier: frame zone courier: nothing acts in the zone before" in plain.stdout
    found = json.loads(CliRunner().invoke(app, ["queue", "morning", "--since", "8h", "--json"]).stdout)
    assert found["choices"][0]["gate"] == explored.store.waiting.lines()[0].id
    assert {zone["zone"] for zone in found["zones"]} == {"courier"}


def test_the_queue_outside_a_terminal_is_the_plain_list(explored: Project) -> None:
    (gate,) = explored.store.waiting.lines()
    for words in (["queue"], ["queue", "--plain"]):
        ended = CliRunner().invoke(app, words)
        assert ended.exit_code == 0
        assert gate.id in ended.stdout
    assert Path("karkas.toml").exists()
