"""Standing grants in a run: what they cover happens without a person, and nothing beside it."""

from datetime import timedelta
from typing import Any

import pytest
from langgraph.graph import END, START

from karkas.policies.actions import Action, Effect
from karkas.policies.frames import Rule
from karkas.policies.gates import GateStatus
from karkas.policies.grants import AnyValue, Grant, PathGlob
from karkas.policies.permits import PermitStatus
from karkas.policies.verdicts import Approve, Edit
from karkas.server.questions import JudgeAction, Judged, Propose, Proposed, ToolCall
from karkas.storage import Gate, Grants, RunStatus, StandingGrant
from karkas.workflows.act import act_workflow
from karkas.workflows.define import Workflow
from karkas.workflows.lanes import WorkflowState

from .conftest import Bench, frame_by_hand


class State(WorkflowState, total=False):
    task: str


def write(path: str, content: str = "hello") -> ToolCall:
    return ToolCall(tool="write_file", args={"path": path, "content": content})


def one_action(*calls: ToolCall) -> Workflow:
    workflow = Workflow(State)
    workflow.add_action("publish", lambda _: list(calls))
    return workflow.add_edge(START, "publish").add_edge("publish", END)


def grant(bench: Bench, **changes: Any) -> StandingGrant:
    terms: dict[str, Any] = {
        "zone": "notes",
        "tool": "write_file",
        "tool_version": bench.project.tools()["write_file"].version,
        "args": {"path": PathGlob(glob="notes/**"), "content": AnyValue()},
        "limit": 5,
        "expires_at": bench.project.store.clock() + timedelta(days=1),
        "reason": "the nightly notes",
        "author": "ada",
    }
    return bench.project.store.grants.add(Grant(**terms | changes))


def passed_by_grant(bench: Bench) -> list[Gate]:
    return [gate for gate in bench.project.store.gates.list() if (gate.decided_by or "").startswith("grant/")]


def test_what_is_granted_happens_without_a_person_and_is_counted(bench: Bench) -> None:
    given = grant(bench)
    run, _ = bench.run(one_action(write("notes/a.md")), task="write hello to notes/a.md")
    assert run.status is RunStatus.DONE
    assert (bench.root / "notes/a.md").read_text() == "hello"
    (gate,) = passed_by_grant(bench)
    assert gate.decided_by == given.name
    permit = bench.project.store.ledger.for_gate(gate.id)
    assert permit is not None
    assert permit.status is PermitStatus.COMMITTED
    assert bench.project.store.grants.get(given.id).used == 1
    assert bench.project.store.verify() == []


def test_what_a_model_composed_is_granted_where_the_person_said_anything(bench: Bench) -> None:
    grant(bench)
    bench.engine.replies = {Propose: lambda _: Proposed(calls=(write("notes/a.md", "composed"),), why="w")}
    run, _ = bench.run(act_workflow(), zone="notes", task="note what we know")
    assert run.status is RunStatus.DONE
    assert (bench.root / "notes/a.md").read_text() == "composed"


@pytest.mark.parametrize(
    ("call", "task"),
    [
        (write("notes/a.md"), "write a note"),  # values from nowhere
        (write("drafts/a.md"), "write hello to drafts/a.md"),
        (write("elsewhere/a.md"), "write hello to elsewhere/a.md"),
    ],
)
def test_what_is_not_granted_waits(bench: Bench, call: ToolCall, task: str) -> None:
    given = grant(bench, args={"path": AnyValue(), "content": AnyValue()})
    run, _ = bench.run(one_action(call), task=task)
    assert run.status is RunStatus.PARKED
    assert passed_by_grant(bench) == []
    assert bench.project.store.grants.get(given.id).used == 0


def test_a_frame_that_says_to_ask_asks(bench: Bench) -> None:
    frame_by_hand(bench.project, "notes", rule=Rule.ASK)
    grant(bench)
    run, _ = bench.run(one_action(write("notes/a.md")), task="write hello to notes/a.md")
    assert run.status is RunStatus.PARKED
    assert passed_by_grant(bench) == []


@pytest.mark.parametrize(("verdict", "passes"), [("pass", True), ("object", False), ("unsure", False)])
def test_a_critic_that_does_not_pass_it_leaves_it_to_a_person(
    bench: Bench, verdict: str, *, passes: bool
) -> None:
    grant(bench)
    bench.engine.replies[JudgeAction] = lambda _: Judged(verdict=verdict, reason="because")
    run, _ = bench.run(one_action(write("notes/a.md")), task="write hello to notes/a.md")
    assert (run.status is RunStatus.DONE) is passes
    assert bool(passed_by_grant(bench)) is passes


def test_an_edit_that_a_grant_covers_still_waits_for_its_own_gate(bench: Bench) -> None:
    graph = one_action(write("drafts/a.md"))
    _, context = bench.run(graph, task="write hello to drafts/a.md")
    grant(bench)
    edited = Action(
        tool="write_file", args={"path": "notes/b.md", "content": "hello"}, effect=Effect.REVERSIBLE
    )
    bench.project.store.gates.decide(bench.the_gate().id, Edit(action=edited), by="ada")
    run = bench.advance(context, graph)
    assert run.status is RunStatus.PARKED
    assert passed_by_grant(bench) == []
    assert bench.the_gate().status is GateStatus.OPEN


def test_a_zone_framed_anew_between_release_and_execution_stops_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant(bench)
    graph, store, release = one_action(write("notes/a.md")), bench.project.store, Grants.release

    def then_framed_anew(self: Grants, gate: str) -> Gate | None:
        passed = release(self, gate)
        frame_by_hand(bench.project, "notes", rule=Rule.ASK)
        return passed

    monkeypatch.setattr(Grants, "release", then_framed_anew)
    run, context = bench.run(graph, task="write hello to notes/a.md")
    assert run.status is RunStatus.PARKED
    assert len([entry for entry in store.audit.log() if entry.event == "grant_used"]) == 1
    assert not (bench.root / "notes/a.md").exists()
    store.gates.decide(bench.the_gate().id, Approve(), by="ada")
    assert bench.advance(context, graph).status is RunStatus.DONE
