"""Levels fall by themselves after an action that no person looked at went wrong, and only a person raises them."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from langgraph.graph import END, START

from karkas.agents.tools import tool
from karkas.policies.actions import Effect
from karkas.policies.errors import InDoubtError
from karkas.policies.grants import AnyValue, Grant, PathGlob
from karkas.policies.verdicts import Approve
from karkas.policies.zones import ControlLevel, LevelChange
from karkas.server.questions import JudgeAction, Judged, ToolCall
from karkas.storage import RunStatus
from karkas.workflows.define import Workflow
from karkas.workflows.execution import take_back
from karkas.workflows.lanes import WorkflowState

from .conftest import Bench

AUTONOMOUS, PROPOSE_ONLY = ControlLevel.AUTONOMOUS, ControlLevel.PROPOSE_ONLY


class State(WorkflowState, total=False):
    task: str


def acting(call: ToolCall) -> Workflow:
    workflow = Workflow(State)
    workflow.add_action("publish", lambda _: [call])
    return workflow.add_edge(START, "publish").add_edge("publish", END)


def writing(path: str) -> tuple[Workflow, str]:
    return acting(
        ToolCall(tool="write_file", args={"path": path, "content": "hello"})
    ), f"write hello to {path}"


def touched(path: str) -> list[str]:
    return [path]


@tool(Effect.REVERSIBLE, paths=touched)
def vanish(path: str) -> str:
    """Ends without a word on whether it took effect."""
    raise InDoubtError(f"nobody knows what became of {path}")


@pytest.fixture(autouse=True)
def critic(bench: Bench) -> None:
    bench.engine.replies[JudgeAction] = lambda _: Judged(verdict="pass", reason="it does the task")


def level(bench: Bench) -> ControlLevel:
    return bench.project.zones()["lab"].level


def undo(bench: Bench, context: Any) -> str:
    gate = bench.project.store.gates.list(run=context.run)[-1]
    return asyncio.run(take_back(context, gate, by="ada"))


def test_what_a_person_takes_back_ends_the_autonomy_that_let_it_pass(bench: Bench) -> None:
    graph, task = writing("lab/a.md")
    _, context = bench.run(graph, task=task)
    assert level(bench) is AUTONOMOUS
    assert "zone lab is out of autonomy" in undo(bench, context)
    assert level(bench) is PROPOSE_ONLY
    (event,) = [
        one for one in bench.project.store.audit.log(subject="zone:lab") if one.event == "zone_level_fell"
    ]
    assert event.actor == "karkas"
    assert "taken back by ada" in bench.project.zones()["lab"].reasons[-1]
    graph, task = writing("lab/b.md")
    run, _ = bench.run(graph, task=task)
    assert run.status is RunStatus.PARKED
    assert not (bench.root / "lab/b.md").exists()
    assert bench.project.store.verify() == []


def test_only_a_person_raises_it_again(bench: Bench) -> None:
    graph, task = writing("lab/a.md")
    _, context = bench.run(graph, task=task)
    undo(bench, context)
    bench.project.zones()  # the declaration still says autonomous, and does not count
    assert level(bench) is PROPOSE_ONLY
    back = LevelChange(
        before=PROPOSE_ONLY,
        after=AUTONOMOUS,
        author="ada",
        by_person=True,
        reason="it was the task that was wrong",
    )
    bench.project.store.zones.set_level("lab", back, declared=AUTONOMOUS)
    assert level(bench) is AUTONOMOUS


def test_an_action_in_doubt_ends_the_autonomy_that_let_it_pass(bench: Bench) -> None:
    bench.project.register(vanish)
    bench.run(acting(ToolCall(tool="vanish", args={"path": "lab/a.md"})), task="vanish lab/a.md")
    assert level(bench) is PROPOSE_ONLY
    assert "ended in doubt" in bench.project.zones()["lab"].reasons[-1]


def test_what_a_person_takes_back_ends_the_grant_that_let_it_pass(bench: Bench) -> None:
    store = bench.project.store
    terms = Grant(
        zone="notes",
        tool="write_file",
        tool_version=bench.project.tools()["write_file"].version,
        args={"path": PathGlob(glob="notes/**"), "content": AnyValue()},
        limit=5,
        expires_at=store.clock() + timedelta(days=1),
        reason="the nightly notes",
        author="ada",
    )
    given = store.grants.add(terms)
    graph, task = writing("notes/a.md")
    _, context = bench.run(graph, task=task)
    assert f"{given.name} is revoked" in undo(bench, context)
    assert store.grants.get(given.id).ended == "revoked by karkas"
    graph, task = writing("notes/b.md")
    assert bench.run(graph, task=task)[0].status is RunStatus.PARKED
    assert store.verify() == []


def test_what_a_person_passed_says_nothing_of_autonomy(bench: Bench) -> None:
    bench.engine.replies[JudgeAction] = lambda _: Judged(verdict="unsure", reason="hm")
    graph, task = writing("lab/a.md")
    _, context = bench.run(graph, task=task)
    bench.project.store.gates.decide(bench.the_gate().id, Approve(), by="ada")
    bench.advance(context, graph)
    assert "autonomy" not in undo(bench, context)
    assert level(bench) is AUTONOMOUS
