"""The figures of a night, read off the record."""

import asyncio
from datetime import datetime, timedelta

import pytest

from karkas import runner
from karkas.policies.verdicts import Approve, Edit, Reject
from karkas.project import Project
from karkas.queue import morning
from karkas.queue.blocks import Line
from karkas.report import text
from karkas.report.figures import Figures, look
from karkas.storage import RunStatus

from .conftest import Advance, Answer


def night(project: Project, hours: int = 8) -> Figures:
    return look(project, since=project.store.clock() - timedelta(hours=hours))


def later(project: Project, monkeypatch: pytest.MonkeyPatch, by: timedelta) -> datetime:
    now: datetime = project.store.clock() + by
    monkeypatch.setattr(project.store, "clock", lambda: now)
    return now


def test_an_exploration_is_told_by_cycle_and_by_what_ended_it(project: Project, advance: Advance) -> None:
    run = advance("explore")
    found = night(project)
    (cycle,) = found.cycles
    assert (cycle.run, cycle.zone, cycle.cycle, cycle.sources) == (run.id, "courier", 1, 1)
    assert cycle.new_claims == cycle.claims > 0
    assert cycle.novelty == 1.0
    (zone,) = (one for one in found.zones if one.zone == "courier")
    assert zone.runs == {"parked": 1}
    assert zone.stops == {"sources exhausted": 1}
    assert zone.new_claims == cycle.new_claims
    assert zone.claims == cycle.claims
    assert zone.gates.opened == 1


def test_a_cycle_that_was_done_again_counts_once(project: Project, advance: Advance) -> None:
    run = advance("explore")
    (entry,) = project.store.happened.events("cycle_ended")
    assert isinstance(entry.data, dict)
    again = entry.data | {"new_claims": 1}
    project.store.note("cycle_ended", f"run:{run.id}", actor="karkas", data=again)
    assert [one.new_claims for one in night(project).cycles] == [1]


def test_what_came_of_gates_is_counted_by_zone_and_person(project: Project, advance: Advance) -> None:
    runs = {title: advance("write", title) for title in ("a", "b", "c", "d")}
    gates = {title: project.store.gates.list(run=run.id)[0] for title, run in runs.items()}
    project.store.gates.decide(gates["a"].id, Approve(), by="ada")
    project.store.gates.decide(gates["b"].id, Reject(reason="no"), by="ada")
    action = project.tools()["write_file"].action(path="lab/c.md", content="mine")
    project.store.gates.decide(gates["c"].id, Edit(action=action), by="bob")
    for title in "abc":
        asyncio.run(runner.advance(project, runs[title].id))
    found = night(project)
    (zone,) = found.zones
    counted = zone.gates
    assert (counted.approved, counted.rejected, counted.edited) == (1, 1, 1)
    assert counted.opened == 5, "the edit opened a gate of its own"
    assert counted.acceptance == pytest.approx(1 / 3)
    assert found.by_person == {"ada": 2, "bob": 1}
    assert found.performed == 1
    assert found.waits == 2


def test_a_failure_is_told_with_its_reason(project: Project, advance: Advance) -> None:
    run = advance("breaks", "courier")
    assert run.status is RunStatus.FAILED
    (trouble,) = night(project).troubles
    assert trouble.startswith(f"run {run.id}: failed")
    assert "no courier here" in trouble
    assert next(iter(text.lines(night(project)))) == Line(f"1 run failed: karkas runs show {run.id}")


def test_a_run_that_failed_before_it_was_ever_taken_up_is_told_too(project: Project) -> None:
    run = project.store.runs.create("act", zone="lab")
    project.store.runs.create("act", zone="lab")
    project.store.runs.set_status(run.id, RunStatus.FAILED, error="its file is gone")
    found = night(project)
    assert found.failed == (run.id,)
    assert [zone.runs for zone in found.zones] == [{"failed": 1}]
    told = morning.look(project, begin=project.store.clock() - timedelta(hours=8))
    assert [zone.runs for zone in told.zones] == [{"failed": 1}]
    assert "its file is gone" in told.troubles[0]


def test_what_broke_off_and_was_resumed_is_told(project: Project, advance: Advance) -> None:
    run = advance("write")
    project.store.runs.take_up(run.id)
    project.store.runs.count_crash(run.id, "here")
    (told,) = night(project).resumed
    assert told == f"run {run.id}: broke off once and was taken up 2 times, now running"


def test_of_a_run_that_was_begun_before_only_what_it_spent_since_counts(
    project: Project, advance: Advance, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = advance("explore")
    answer(run.id, 1_000)
    evening = later(project, monkeypatch, timedelta(hours=6))
    object.__setattr__(project.store._records, "clock", lambda: evening)
    answer(run.id, 10)
    later(project, monkeypatch, timedelta(minutes=1))
    since = evening - timedelta(hours=1)
    (zone,) = look(project, since=since).zones
    assert zone.spent.tokens == 20
    assert zone.spent.model_calls == 1
    assert zone.spent.sources == 0, "they were read before"
    assert [one.spent for one in morning.look(project, begin=since).zones] == [zone.spent]
    assert look(project, since=evening - timedelta(hours=9)).spent.tokens == 2_020


def test_tokens_add_up_over_time_and_cost_what_the_price_says(
    project: Project, advance: Advance, answer: Answer
) -> None:
    run = advance("explore")
    for tokens in (1_000, 2_000):
        answer(run.id, tokens)
    assert [number for _, number in night(project).tokens] == [2_000, 6_000]
    assert night(project).cost is None
    priced = project.settings.model.model_copy(update={"price_per_mtok": 0.5})
    project.settings = project.settings.model_copy(update={"model": priced})
    found = night(project)
    assert found.cost == pytest.approx(6_000 * 0.5 / 1_000_000)
    (zone,) = (one for one in found.zones if one.zone == "courier")
    assert zone.cost == found.cost


def test_the_morning_and_the_report_say_the_same(
    project: Project, advance: Advance, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [advance("explore"), advance("write")]
    begin = project.store.clock()
    project.store.runs.take_up(before[1].id)
    answer(before[0].id, 10)
    answer(advance("explore").id, 100)
    advance("breaks")
    later(project, monkeypatch, timedelta(minutes=1))
    found, told = look(project, since=begin), morning.look(project, begin=begin)
    assert {zone.zone: zone.spent.tokens for zone in told.zones} == {"courier": 220, "lab": 0}
    assert told.troubles == found.troubles
    assert [(one.zone, one.runs, one.spent, one.claims) for one in told.zones] == [
        (one.zone, one.runs, one.spent, one.claims) for one in found.zones
    ]
    assert told.choices == found.choices[: len(told.choices)]
