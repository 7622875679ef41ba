"""Nights and zones end runs with what they have, or before they begin; never with nothing, and never as a failure of theirs."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from karkas.agents.distillate import load, to_markdown, verify
from karkas.policies.budgets import Budget, SharedBudget, StopReason
from karkas.policies.distillates import Distillate
from karkas.policies.errors import NightOverError
from karkas.project import Project
from karkas.runner import advance, begin
from karkas.server.protocol import Usage
from karkas.storage import Night, Run, RunStatus
from karkas.workflows.asking import RunCaller
from karkas.workflows.cycle import in_portions
from karkas.workflows.mapping import distillate_path, text_of

from .conftest import SCRIPTED, Bench
from .scripted_server import ScriptedServer
from .test_asking import QUESTION, THOUSAND

DOCUMENTS = Path(__file__).with_name("documents")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.stop()


def project_at(tmp_path: Path, server: ScriptedServer | None = None, more: str = "") -> Project:
    root = tmp_path / "project"
    Project.init(root).close()
    model = f'[model]\nbase_url = "{server.url}"\n' if server else ""
    (root / "karkas.toml").write_text(f"{more}\n{model}[explore]\nbatch = 1\n")
    return Project.open(root)


def explore(project: Project, *, night: Night | None = None, budget: Budget | None = None) -> Run:
    given: dict[str, Any] = {"zone": "courier", "sources": [str(DOCUMENTS)]}
    run = begin(project, "explore", given, zone="courier", budget=budget)
    return asyncio.run(advance(project, run.id, night=night.id if night else None))


def distillate(project: Project) -> Distillate:
    found = load(distillate_path(project.root, "courier").read_bytes())
    assert verify(found, text_of(project.store)) == []
    return found


def test_a_nights_tokens_end_a_run_with_what_it_has_and_the_file_says_so(
    tmp_path: Path, server: ScriptedServer
) -> None:
    with project_at(tmp_path, server) as project:
        night = project.store.nights.open(budget=SharedBudget(tokens=90))
        assert explore(project, night=night).status is RunStatus.PARKED
        found = distillate(project)
        assert found.claims
        assert (found.run.stop_reason, found.run.stopped_by) == ("budget", "tokens of the night")
        assert "(tokens of the night)" in to_markdown(found, text_of(project.store))
        assert project.store.nights.get(night.id).spent.tokens == 90
        assert {one.night for one in project.store.journal.figures()} == {night.id}


def test_a_zones_day_ends_a_run_of_that_zone_and_of_no_other(tmp_path: Path, server: ScriptedServer) -> None:
    with project_at(tmp_path, server, "[budgets.zones.courier]\nmodel_calls = 2\n") as project:
        explore(project)
        found = distillate(project)
        assert found.claims
        assert found.run.stopped_by == "model calls of the day of zone courier"
        assert server.asked.total() == 2
        run = begin(project, "explore", {"zone": "other", "sources": [str(DOCUMENTS)]}, zone="other")
        asyncio.run(advance(project, run.id))
        assert load(distillate_path(project.root, "other").read_bytes()).run.stopped_by is None


def test_a_night_that_is_over_before_anything_was_read_leaves_the_map_as_it_was(
    tmp_path: Path,
) -> None:
    with project_at(tmp_path) as offline:
        late = offline.store.nights.open(until=offline.store.clock() - timedelta(seconds=1))
        run = explore(offline, night=late)
        assert run.status is RunStatus.PARKED
        assert "end of the night, before anything was read" in run.reason
        assert not distillate_path(offline.root, "courier").exists()


def test_a_night_without_tokens_makes_no_empty_map_and_the_next_one_goes_on(
    tmp_path: Path, server: ScriptedServer
) -> None:
    with project_at(tmp_path, server) as project:
        many = project.settings.explore.model_copy(update={"batch": 40})  # so that no scout has to choose
        project.settings = project.settings.model_copy(update={"explore": many})
        spent = project.store.nights.open(budget=SharedBudget(tokens=0))
        run = explore(project, night=spent)
        assert "tokens of the night, before anything was found" in run.reason
        assert (server.asked.total(), distillate_path(project.root, "courier").exists()) == (0, False)
        next_night = project.store.nights.open(budget=SharedBudget(tokens=10_000))
        assert asyncio.run(advance(project, run.id, night=next_night.id)).status is RunStatus.PARKED
        assert distillate(project).claims


def test_the_end_of_the_night_ends_a_run_as_a_deadline_does(tmp_path: Path, monkeypatch: Any) -> None:
    with project_at(tmp_path) as project:
        night = project.store.nights.open(until=project.store.clock() + timedelta(hours=8))
        clock = project.store.clock

        def later() -> Any:
            spent = [run.spent.cycles for run in project.store.runs.list()]
            return clock() + timedelta(hours=9 if any(spent) else 0)

        monkeypatch.setattr(project.store, "clock", later)
        explore(project, night=night)
        found = distillate(project)
        assert (found.run.stop_reason, found.run.stopped_by) == ("deadline", "end of the night")
        assert found.run.cycles == 1


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_written_to_disk_is_bounded(tmp_path: Path, *, shared: bool) -> None:
    with project_at(tmp_path) as project:
        night = project.store.nights.open(budget=SharedBudget(disk_mb=0.001)) if shared else None
        explore(project, night=night, budget=None if shared else Budget(disk_mb=0.001))
        found = distillate(project)
        assert found.run.cycles == 1
        assert found.run.stopped_by == f"disk space of {'the night' if shared else 'the run'}"
        written = project.store.runs.list()[0].spent.disk_mb
        artifacts = sum(
            one.stat().st_size for one in (project.folder / "artifacts").rglob("*") if one.is_file()
        )
        assert artifacts / 1e6 < written < artifacts / 1e6 + 0.2  # and checkpoints
        if night is not None:
            assert project.store.nights.get(night.id).spent.disk_mb == pytest.approx(written, abs=0.01)


def test_a_huge_reading_ends_between_portions_when_the_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The offline engine makes no calls between which it could be told; documents are handed to it in portions."""
    monkeypatch.setattr("karkas.workflows.cycle.PORTION", 100)
    with project_at(tmp_path) as project:
        project.settings = project.settings.model_copy(
            update={"explore": project.settings.explore.model_copy(update={"batch": 40})}
        )
        explore(project, budget=Budget(wall_s=1e-6))
        found = distillate(project)
        assert (found.run.stop_reason, found.run.stopped_by) == ("budget", "time at work of the run")
        cited = {span.source for claim in found.claims for span in claim.evidence}
        used = {source.id for source in found.sources if source.status == "used"}
        assert 0 < len(cited) < len(used)


def test_portions_hold_every_document_once() -> None:
    class Text(str):
        __slots__ = ()

        @property
        def text(self) -> str:
            return self * 1_000_000

    documents: Any = [Text(one) for one in "abcde"]
    assert [len(portion) for portion in in_portions(documents)] == [2, 2, 1]
    assert [one for portion in in_portions(documents) for one in portion] == documents


def caller_in(bench: Bench, night: Night | None, **zones: SharedBudget) -> RunCaller:
    store = bench.project.store
    run = store.runs.take_up(store.runs.create("test", zone="notes").id)
    found = night.id if night else None
    return RunCaller(store, run.id, progress=lambda *_, **__: None, night=found, zones=zones)


async def call(caller: RunCaller, usage: Usage = THOUSAND, *, takes_s: float = 0.0) -> None:
    if not await caller.before(SCRIPTED, QUESTION):
        raise caller.reached()
    async with caller.under_way(1400) as hold:
        await asyncio.sleep(takes_s)
        await caller.after(usage, hold=hold)


def test_many_runs_at_once_exceed_a_night_by_one_call_at_most_and_are_told_that_it_is_over(
    bench: Bench,
) -> None:
    night = bench.project.store.nights.open(budget=SharedBudget(tokens=5000))
    callers = [caller_in(bench, night) for _ in range(6)]

    async def calls() -> list[BaseException | None]:
        each = (call(caller, takes_s=0.02) for caller in callers for _ in range(2))
        return list(await asyncio.gather(*each, return_exceptions=True))

    ended = asyncio.run(calls())
    refused = [one for one in ended if one is not None]
    assert {type(one) for one in refused} == {NightOverError}
    assert "tokens of the night" in str(refused[0])
    assert 5000 <= bench.project.store.nights.get(night.id).spent.tokens == 1000 * (12 - len(refused)) <= 6000
    assert {caller.cut for caller in callers} <= {StopReason.BUDGET, None}


def test_a_call_that_was_given_up_holds_nothing_and_costs_nothing(bench: Bench) -> None:
    night = bench.project.store.nights.open(budget=SharedBudget(tokens=1000))
    caller = caller_in(bench, night)

    async def calls() -> None:
        task = asyncio.create_task(call(caller, takes_s=60))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(call(caller), 10)

    asyncio.run(calls())
    spent = bench.project.store.nights.get(night.id).spent
    assert (spent.tokens, spent.model_calls) == (1000, 1)


def test_a_night_that_is_closed_while_a_run_waits_for_its_turn_is_over_for_it_too(bench: Bench) -> None:
    nights = bench.project.store.nights
    night = nights.open(budget=SharedBudget(tokens=1000))
    first, waiting = caller_in(bench, night), caller_in(bench, night)

    async def calls() -> list[BaseException | None]:
        working = asyncio.create_task(call(first, takes_s=4.0))
        await asyncio.sleep(1.0)
        others = asyncio.create_task(call(waiting))
        await asyncio.sleep(1.0)
        nights.close(night.id, why="stopped")
        return list(await asyncio.gather(working, others, return_exceptions=True))

    done, refused = asyncio.run(calls())
    assert done is None
    assert isinstance(refused, NightOverError)


def test_a_run_that_shares_nothing_reserves_nothing_in_the_database(bench: Bench, monkeypatch: Any) -> None:
    def reserved(*_: object) -> None:
        raise AssertionError("a row for nothing")

    monkeypatch.setattr(bench.project.store.purses, "reserve", reserved)
    asyncio.run(call(caller_in(bench, bench.project.store.nights.open())))
    asyncio.run(call(caller_in(bench, None, drafts=SharedBudget(tokens=1))))


def test_the_budgets_of_nights_and_zones_stand_in_the_settings(tmp_path: Path) -> None:
    with project_at(
        tmp_path, None, "[budgets.night]\ntokens = 5\n[budgets.zones.lora]\ndisk_mb = 2.5\n"
    ) as project:
        budgets = project.settings.budgets
        assert budgets.night == SharedBudget(tokens=5)
        assert budgets.zones == {"lora": SharedBudget(disk_mb=2.5)}
        assert json.loads(budgets.run.model_dump_json()).keys() == Budget.model_fields.keys()
