"""What nobody decided in time: the system's state, never a person's rejection, and the end of its branch."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from langgraph.graph import END, START

from karkas.policies.errors import VerdictError
from karkas.policies.gates import GateStatus
from karkas.policies.verdicts import Approve, Defer
from karkas.server.questions import ToolCall
from karkas.storage import Gate, Run, RunStatus
from karkas.workflows.context import Context
from karkas.workflows.define import Workflow
from karkas.workflows.lanes import WorkflowState

from .conftest import Bench

Later = Callable[[timedelta], datetime]


class State(WorkflowState, total=False):
    task: str


def flow() -> Workflow:
    """Two branches: an action, and a question."""
    workflow = Workflow(State)
    call = ToolCall(tool="write_file", args={"path": "notes/a.md", "content": "hello"})
    workflow.add_action("publish", lambda _: call)
    workflow.add_question("where", lambda _: "Where to?", zones=("notes",))
    for name in ("publish", "where"):
        workflow.add_edge(START, name).add_edge(name, END)
    return workflow


@pytest.fixture
def later(bench: Bench) -> Later:
    """Lets time pass for the store."""
    records = bench.project.store._records
    shift = [timedelta()]
    clock = records.clock
    object.__setattr__(records, "clock", lambda: clock() + shift[0])
    bench.project.store.clock = records.clock

    def pass_by(time: timedelta) -> datetime:
        shift[0] += time
        return records.clock()

    return pass_by


def begun(bench: Bench, graph: Workflow) -> tuple[Context, dict[str, Gate]]:
    _, context = bench.begin(graph, task="write hello to notes/a.md")
    context = replace(context, expires_in=timedelta(days=7))
    assert bench.advance(context, graph).status is RunStatus.PARKED
    return context, {gate.lane: gate for gate in bench.waiting()}


def outcomes(run: Run) -> dict[str, str]:
    assert run.result is not None
    found = run.result["outcomes"]
    assert isinstance(found, dict)
    return {name: str(one["status"]) for name, one in found.items() if isinstance(one, dict)}


def test_a_gate_that_nobody_decided_in_time_ends_its_branch_and_is_nobodys_rejection(
    bench: Bench, later: Later
) -> None:
    graph = flow()
    context, gates = begun(bench, graph)
    later(timedelta(days=7))
    run = bench.advance(context, graph)
    assert run.status is RunStatus.DONE
    assert outcomes(run) == {"publish": "expired", "where": "expired"}
    assert not (bench.root / "notes/a.md").exists()
    for gate in gates.values():
        closed = bench.project.store.gates.get(gate.id)
        assert (closed.status, closed.verdict, closed.decided_by) == (GateStatus.EXPIRED, None, "karkas")
        assert "nobody decided by" in closed.reason
    events = {entry.event for entry in bench.project.store.audit.log()}
    assert "gate_decided" not in events
    assert bench.project.store.verify() == []


def test_nothing_is_decided_any_more_at_that_moment_also_before_anybody_looked(
    bench: Bench, later: Later
) -> None:
    _, gates = begun(bench, flow())
    later(timedelta(days=7))
    with pytest.raises(VerdictError, match="expired"):
        bench.project.store.gates.decide(gates["publish"].id, Approve(), by="ada")


def test_one_moment_earlier_a_person_still_decides(bench: Bench, later: Later) -> None:
    graph = flow()
    context, gates = begun(bench, graph)
    later(timedelta(days=6, hours=23))
    bench.project.store.gates.decide(gates["publish"].id, Approve(), by="ada")
    later(timedelta(hours=2))
    run = bench.advance(context, graph)
    assert outcomes(run) == {"publish": "committed", "where": "expired"}


def test_a_gate_is_not_put_off_beyond_its_own_end(bench: Bench, later: Later) -> None:
    _, gates = begun(bench, flow())
    now = later(timedelta(days=1))
    for days, possible in ((6, False), (8, False), (5, True)):
        verdict = Defer(until=now + timedelta(days=days))
        if possible:
            bench.project.store.gates.decide(gates["publish"].id, verdict, by="ada")
            continue
        with pytest.raises(VerdictError, match="before it would come back"):
            bench.project.store.gates.decide(gates["publish"].id, verdict, by="ada")


def test_without_a_bound_a_gate_waits_as_long_as_it_takes(bench: Bench, later: Later) -> None:
    graph = flow()
    _, context = bench.run(graph, task="write hello to notes/a.md")
    later(timedelta(days=4000))
    assert bench.advance(context, graph).status is RunStatus.PARKED
    assert {gate.expires_at for gate in bench.waiting()} == {None}
