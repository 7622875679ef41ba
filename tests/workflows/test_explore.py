"""Exploring small real documents with the engine that ships: nothing here is scripted."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from karkas import runner
from karkas.agents.distillate import load, verify
from karkas.policies.budgets import Budget
from karkas.policies.distillates import Distillate, SourceStatus
from karkas.policies.errors import FrameError, VerdictError
from karkas.policies.gates import GateKind, GateStatus
from karkas.policies.verdicts import Approve
from karkas.policies.zones import ControlLevel, Stage
from karkas.project import Project
from karkas.storage import Gate, Run, RunStatus
from karkas.workflows import framing
from karkas.workflows.mapping import distillate_path, text_of

DOCUMENTS = Path(__file__).with_name("documents")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.init(tmp_path / "project") as opened:
        yield opened


def explore(project: Project, *sources: Path | str, budget: Budget | None = None, **options: object) -> Run:
    run = runner.begin(
        project,
        "explore",
        {"zone": "courier", "sources": [str(source) for source in sources or (DOCUMENTS,)]},
        zone="courier",
        budget=budget,
        **options,  # type: ignore[arg-type]
    )
    return asyncio.run(runner.advance(project, run.id))


def distillate(project: Project) -> Distillate:
    return load(distillate_path(project.root, "courier").read_bytes())


def the_gate(project: Project) -> Gate:
    (gate,) = [gate for gate in project.store.gates.list() if gate.status.waits]
    return gate


def frame(project: Project, level: ControlLevel = ControlLevel.PROPOSE_ONLY) -> str:
    """The drafted frame with every conflict decided, as a person would leave it."""
    found = distillate(project)
    text = framing.starting_frame(project.store, "courier", author="ada", level=level)
    decisions = [f'- {{conflict: {one.id}, verdict: both, reason: "read both"}}' for one in found.conflicts]
    return "\n".join((text.rstrip(), *decisions, "")) if decisions else text


def test_a_zone_that_nobody_declared_is_mapped_and_parks_at_the_gate_that_frames_it(project: Project) -> None:
    run = explore(project)
    assert run.status is RunStatus.PARKED
    assert "[zones.courier]" in (project.root / "karkas.toml").read_text()
    state = project.zones()["courier"]
    assert (state.stage, state.level, state.may_act) == (Stage.MAPPED, ControlLevel.DRAFT_ONLY, False)
    gate = the_gate(project)
    assert gate.kind is GateKind.FRAME
    with pytest.raises(VerdictError):
        project.store.gates.decide(gate.id, Approve(), by="ada")


def test_every_span_verifies_and_the_engine_says_what_it_is(project: Project) -> None:
    explore(project)
    found = distillate(project)
    assert len(found.claims) > 5
    assert verify(found, text_of(project.store)) == []
    assert (found.engine.kind, found.honesty.abstractive, found.honesty.unsupported_claims) == (
        "extractive",
        False,
        0,
    )
    assert found.run.stop_reason == "sources_exhausted"
    assert "attempts" in {claim.subject for claim in found.claims}


def test_documentation_and_code_that_disagree_on_a_default_are_a_conflict(project: Project) -> None:
    explore(project)
    subjects = {claim.id: claim.text for claim in distillate(project).claims}
    conflicts = [{subjects[name] for name in one.claims} for one in distillate(project).conflicts]
    assert any(any("defaults to 3" in text for text in texts) for texts in conflicts), conflicts


def test_a_second_run_gives_the_same_ids_and_leaves_the_files_alone(project: Project) -> None:
    explore(project)
    before, stamp = distillate(project), distillate_path(project.root, "courier").stat().st_mtime_ns
    explore(project)
    assert distillate(project) == before
    assert distillate_path(project.root, "courier").stat().st_mtime_ns == stamp
    gates = [gate.status for gate in project.store.gates.list()]
    assert sorted(gates) == [GateStatus.OPEN, GateStatus.SUPERSEDED]
    assert [run.status for run in project.store.runs.list()] == [RunStatus.PARKED, RunStatus.STOPPED]


def test_another_project_gives_the_same_ids_too(project: Project, tmp_path: Path) -> None:
    explore(project)
    with Project.init(tmp_path / "other") as other:
        explore(other)
        assert distillate(other).id == distillate(project).id


def test_a_budget_of_sources_ends_in_a_valid_distillate_that_says_so(project: Project) -> None:
    run = explore(project, budget=Budget(sources=1))
    found = distillate(project)
    assert found.run.stop_reason == "budget"
    assert found.run.spent["sources"] == 1
    assert verify(found, text_of(project.store)) == []
    assert run.status is RunStatus.PARKED
    assert any("budget" in one.why for one in found.not_covered)


def test_a_deadline_that_has_passed_ends_after_the_cycle_at_work(project: Project) -> None:
    past = project.store.clock() - timedelta(minutes=1)
    many = Budget(sources=100)
    project.settings = project.settings.model_copy(
        update={"explore": project.settings.explore.model_copy(update={"batch": 2})}
    )
    explore(project, budget=many, deadline=past)
    found = distillate(project)
    assert found.run.stop_reason == "deadline"
    assert found.run.spent["sources"] == 2


def test_cycles_read_on_until_the_sources_end(project: Project) -> None:
    project.settings = project.settings.model_copy(
        update={"explore": project.settings.explore.model_copy(update={"batch": 1})}
    )
    explore(project)
    assert distillate(project).run.cycles >= 2


def test_sources_that_cannot_be_read_are_on_the_record(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "good.md").write_text((DOCUMENTS / "retries.md").read_text())
    (folder / "bad.pdf").write_bytes(b"%PDF-1.7 nothing of a PDF follows")
    (folder / "binary.md").write_bytes(bytes(range(256)) * 20)
    explore(project, folder)
    status = {Path(one.locator["path"]).name: one for one in distillate(project).sources}
    assert status["good.md"].status is SourceStatus.USED
    for name in ("bad.pdf", "binary.md"):
        assert status[name].status is SourceStatus.UNREADABLE
        assert status[name].reason


def test_nothing_found_is_said_and_there_is_nothing_to_frame(project: Project, tmp_path: Path) -> None:
    (tmp_path / "empty.md").write_text("# \n")
    run = explore(project, tmp_path / "empty.md")
    assert run.status is RunStatus.DONE
    assert distillate(project).claims == ()
    assert project.store.gates.list() == []


def test_framing_decides_the_gate_sets_the_level_and_the_run_ends(project: Project) -> None:
    run = explore(project)
    gate = framing.accept(project.store, "courier", frame(project), by="ada")
    assert gate is not None
    state = project.zones()["courier"]
    assert (state.stage, state.level, state.may_act) == (Stage.FRAMED, ControlLevel.PROPOSE_ONLY, True)
    assert asyncio.run(runner.advance(project, run.id)).status is RunStatus.DONE


def test_a_frame_with_an_undecided_conflict_under_a_rule_is_refused_and_the_gate_stays(
    project: Project,
) -> None:
    explore(project)
    found = distillate(project)
    text = frame(project).split("\ndecisions:")[0] + "\n"
    (conflict, *_) = found.conflicts
    text += "- {id: n99, level: 1, title: T, parent: null}\n- {id: n99.1, level: 2, title: M, parent: n99}\n"
    text += (
        f"- {{id: n99.1.1, level: 3, title: R, parent: n99.1, claims: [{conflict.claims[0]}], rule: ask}}\n"
    )
    with pytest.raises(FrameError, match=f"{conflict.id}.*not decided"):
        framing.accept(project.store, "courier", text, by="ada")
    assert the_gate(project).status is GateStatus.OPEN


def test_a_changed_distillate_makes_the_frame_stale_and_says_what_changed(
    project: Project, tmp_path: Path
) -> None:
    run = explore(project)
    framing.accept(project.store, "courier", frame(project), by="ada")
    asyncio.run(runner.advance(project, run.id))
    explore(project, DOCUMENTS / "retries.md", DOCUMENTS / "depot.rst")
    assert project.store.zones.ground("courier").frame_is_stale
    assert not project.zones()["courier"].may_act
    old = project.store.artifacts.text(project.store.zones.ground("courier").frame_artifact)  # type: ignore[arg-type]
    with pytest.raises(FrameError, match="changed since"):
        framing.accept(project.store, "courier", old, by="ada")
    reopened = framing.starting_frame(project.store, "courier", author="ada", level=ControlLevel.DRAFT_ONLY)
    assert reopened.startswith("# The distillate changed since you framed the zone:\n# - ")


def test_the_persons_edit_of_the_distillate_file_is_set_aside_not_overwritten(project: Project) -> None:
    explore(project)
    path = distillate_path(project.root, "courier")
    path.write_text(path.read_text() + "# my own note\n")
    explore(project, DOCUMENTS / "retries.md")
    (aside,) = path.parent.glob("*.edited-*")
    assert "# my own note" in aside.read_text()


def test_a_run_stopped_before_it_is_advanced_does_nothing(project: Project) -> None:
    run = runner.begin(project, "explore", {"zone": "courier", "sources": [str(DOCUMENTS)]}, zone="courier")
    project.store.runs.set_status(run.id, RunStatus.STOPPED, reason="no", by="ada")
    assert asyncio.run(runner.advance(project, run.id)).status is RunStatus.STOPPED
    assert not (project.root / "zones").exists()
