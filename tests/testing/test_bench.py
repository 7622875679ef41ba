"""The throw-away project: real, scripted, with a clock, and gone afterwards."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from karkas import (
    END,
    START,
    Approve,
    ControlLevel,
    Defer,
    GateStatus,
    Reject,
    RunStatus,
    Scope,
    Workflow,
    WorkflowState,
    Zone,
    call,
)
from karkas.policies.errors import NotFoundError, UsageError
from karkas.policies.permits import PermitStatus
from karkas.server.questions import JudgeAction, Propose, Proposed
from karkas.testing import Bench, Clock, Script, throwaway
from karkas.testing import project as project  # noqa: PLC0414  the fixture, imported as users do

NOTES = Zone(name="notes", understanding=4, critical=True, scope=Scope(paths=("notes",)))


class State(WorkflowState):
    text: str


def keeping() -> Workflow:
    flow = Workflow(State, zones=("notes",))
    flow.add_action("write", lambda state: call("write_file", path="notes/a.md", content=state["text"]))
    flow.add_edge(START, "write").add_edge("write", END)
    return flow


def test_a_run_parks_at_its_gate_and_acts_once_a_named_person_approved(project: Bench) -> None:
    project.declare(NOTES)
    run = project.run(keeping(), text="hello\n")
    assert run.status is RunStatus.PARKED
    assert "+hello" in project.shown("write")
    assert (project.read("notes/a.md"), project.effects()) == (None, ())
    run = project.decide("write", Approve(), by="grace")
    assert run.status is RunStatus.DONE
    assert project.read("notes/a.md") == "hello\n"
    (effect,) = project.effects()
    assert (effect.lane, effect.by, effect.status) == ("write", "grace", PermitStatus.COMMITTED)
    assert effect.action.args == {"path": "notes/a.md", "content": "hello\n"}
    assert project.undo(effect.gate) == "removed notes/a.md"
    assert project.read("notes/a.md") is None
    assert project.store.verify() == []


def test_it_is_a_project_on_disk_that_vanishes() -> None:
    with throwaway(files={"a/b.txt": "x\r\n"}) as bench:
        root = bench.root
        assert (root / "a/b.txt").read_bytes() == b"x\r\n"
        assert (root / ".karkas/karkas.db").is_file()
        assert bench.store.audit.verify() == []
    assert not root.exists()


def test_nothing_is_printed(project: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    project.declare(NOTES)
    project.run(keeping(), text="a")
    project.decide("write", Reject(reason="no"))
    assert capfd.readouterr() == ("", "")


def test_the_clock_stands_still_until_it_is_moved(project: Bench) -> None:
    project.declare(NOTES)
    project.run(keeping(), text="a")
    began = project.clock()
    gate = project.gate("write")
    assert gate.opened_at == began
    project.decide("write", Defer(until=began + timedelta(hours=3)))
    project.clock.advance(hours=2)
    assert project.store.gates.wake_due() == ()
    project.clock.advance(hours=1)
    assert [one.status for one in project.store.gates.wake_due()] == [GateStatus.OPEN]
    with pytest.raises(ValueError, match="only goes on"):
        project.clock.advance(hours=-1)
    with pytest.raises(ValueError, match="time zone"):
        Clock(datetime(2026, 1, 1))  # noqa: DTZ001
    assert Clock(datetime(2026, 1, 1, tzinfo=UTC))().year == 2026


def act(bench: Bench, zone: str) -> dict[str, Any]:
    run = bench.run("act", zone=zone, task="write hello into notes/a.md")
    return {"run": run, "waiting": bench.waiting(run)}


def scripted(bench: Bench, *, verdict: Any) -> Script:
    script = bench.scripted()
    script.propose(call("write_file", path="notes/a.md", content="hello"), why="as asked")
    script.judge(verdict, "looks so", findings=["a finding"])
    return script


def test_the_script_proposes_and_its_critic_may_pass_only_what_autonomy_allows(project: Bench) -> None:
    project.declare(Zone(name="notes", understanding=5, scope=Scope(paths=("notes",))))
    script = scripted(project, verdict="pass")
    assert act(project, "notes")["run"].status is RunStatus.DONE
    assert [type(one) for one in script.asked] == [Propose, JudgeAction]
    (effect,) = project.effects()
    assert effect.by.startswith("critic/scripted")
    assert project.read("notes/a.md") == "hello"


@pytest.mark.parametrize("verdict", ["object", "unsure"])
def test_what_the_scripted_critic_does_not_pass_waits_for_a_person(project: Bench, verdict: str) -> None:
    project.declare(Zone(name="notes", understanding=5, scope=Scope(paths=("notes",))))
    scripted(project, verdict=verdict)
    (gate,) = act(project, "notes")["waiting"].values()
    assert gate.critic is not None
    assert [finding.text for finding in gate.critic.findings] == ["a finding"]
    assert project.effects() == ()


def test_a_script_answers_turn_by_turn_and_functions_see_the_question() -> None:
    script = Script()
    one, two = call("write_file", path="a"), call("write_file", path="b")
    script.propose(one, [one, two])
    question = Propose(zone="z", task="t", frame="", tools=())
    said: Any = [script.say(question) for _ in range(3)]
    assert [answer.calls for answer in said] == [(one,), (one, two), (one, two)]
    script.answer(Propose, lambda asked: Proposed(calls=(), why=asked.task))
    told: Any = script.say(question)
    assert told.why == "t"
    with pytest.raises(UsageError, match="at least one answer"):
        script.answer(Propose)


def test_a_script_that_says_another_type_is_told_so(project: Bench) -> None:
    project.declare(NOTES)
    project.scripted().answer(Propose, call("write_file", path="a"))
    run = act(project, "notes")["run"]
    assert "Propose is answered by Proposed, and the script said ToolCall" in (run.error or run.reason or "")


def test_what_is_not_scripted_is_refused_as_the_offline_engine_refuses_it(project: Bench) -> None:
    project.declare(NOTES)
    project.scripted()
    run = act(project, "notes")["run"]
    assert run.status is RunStatus.PARKED
    assert "language model" in (run.reason or "")


def test_nothing_acts_in_an_uncharted_zone_until_it_is_charted(project: Bench) -> None:
    project.declare(NOTES.model_copy(update={"understanding": 1}))
    run = project.run(keeping(), text="a")
    assert (run.status, project.waiting()) == (RunStatus.DONE, {})
    project.chart("notes", level=ControlLevel.PROPOSE_ONLY)
    project.run(keeping(), text="a")
    assert project.gate("write").level is ControlLevel.PROPOSE_ONLY


def test_a_workflow_is_run_out_of_its_file_too(project: Bench) -> None:
    examples = Path(__file__).parents[2] / "docs/examples"
    run = project.run(f"{examples}/note.py:keep", title="A b", text="t")
    project.decide("write", Approve())
    assert project.read("notes/a-b.md") == "# A b\n\nt\n"
    assert project.store.runs.get(run.id).status is RunStatus.DONE


def test_a_gate_that_does_not_wait_is_named(project: Bench) -> None:
    with pytest.raises(NotFoundError, match="nothing waits at 'write'; there wait: no gates"):
        project.decide("write", Approve())


async def test_in_an_event_loop_a_run_is_awaited(project: Bench) -> None:
    project.declare(NOTES)
    run = project.begin(keeping(), {"text": "a"})
    with pytest.raises(UsageError, match=r"await project\.advance"):
        project.go_on(run)
    assert (await project.advance(run)).status is RunStatus.PARKED


@pytest.mark.parametrize(
    "config", ['[storage]\nurl = "postgresql://a@b/c"\n', '[model]\nbase_url = "http://127.0.0.1:8000"\n']
)
def test_it_asks_no_server_and_no_other_database(config: str) -> None:
    with pytest.raises(UsageError, match="a database of its own"), throwaway(config=config):
        pass


def test_zones_out_of_a_configuration_and_tools_of_a_module_are_in_force() -> None:
    import types

    module = types.ModuleType("tools")
    vars(module).update(zone=NOTES, other=1)
    with throwaway(config="[zones.lab]\nunderstanding = 5\n") as bench:
        bench.use(module)
        assert set(bench.zones()) == {"lab", "notes"}


def test_a_run_of_a_throw_away_project_leaves_no_log_in_another(tmp_path: Path) -> None:
    from karkas.logs import log_to

    root, before = logging.getLogger(), list(logging.getLogger().handlers)
    (tmp_path / "logs").mkdir()
    log_to(tmp_path)
    try:
        with throwaway(zones=[NOTES]) as project:
            project.run(keeping(), text="hello\n")
    finally:
        for handler in [one for one in root.handlers if one not in before]:
            root.removeHandler(handler)
            handler.close()
    assert [file.name for file in (tmp_path / "logs").iterdir() if file.name.startswith("r-")] == []
