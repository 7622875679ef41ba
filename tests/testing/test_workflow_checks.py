"""Each check on a workflow finds the workflow, or the kernel, that breaks it."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from pydantic import Field

from karkas import (
    END,
    START,
    Context,
    Effect,
    GateStatus,
    Scope,
    Tool,
    Workflow,
    WorkflowState,
    Workspace,
    Zone,
    call,
    outcome,
    tool,
)
from karkas.agents.tools import perform
from karkas.storage import Gate, Gates, Grants, Permit, grants
from karkas.testing import Found, Setup, Status, assert_conforms, check
from karkas.testing.suite import checks_of
from karkas.workflows import action, execution

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
NOTES = Zone(name="notes", understanding=4, critical=True, scope=Scope(paths=("notes",)))
Short = Annotated[str, Field(max_length=40)]


class State(WorkflowState):
    text: str


@tool(Effect.IRREVERSIBLE)
def ring(text: Short, workspace: Workspace) -> str:
    """Rings: each ring is a line."""
    workspace.write("notes/bell.txt", ((workspace.text("notes/bell.txt") or "") + f"{text}\n").encode())
    return "rung"


@tool(Effect.IRREVERSIBLE, idempotent=True)
def ring_once(text: Short, workspace: Workspace, idempotency_key: str) -> str:
    """Rings once for each key."""
    rung = workspace.text("notes/bell.txt") or ""
    if idempotency_key not in rung:
        workspace.write("notes/bell.txt", f"{rung}{idempotency_key} {text}\n".encode())
    return "rung"


SETUP = Setup(perform=True, input={"text": "ding"}, zones=(NOTES,), tools=(ring, ring_once))


def ringing(by: Tool = ring) -> Workflow:
    flow = Workflow(State, zones=("notes",))
    flow.add_action("ring", lambda state: call(by.name, text=state["text"]))
    flow.add_edge("ring", END)
    return flow


def direct(by: Tool = ring) -> Workflow:
    flow = ringing(by)
    flow.add_edge(START, "ring")
    return flow


def with_node(node: Callable[..., Any], *, after: bool = False) -> Workflow:
    """A workflow that has a node of its own before its action, or after it."""
    flow = Workflow(State, zones=("notes",))
    flow.add_action("ring", lambda state: call("ring", text=state["text"]))
    flow.add_node("own", node)
    order = ("ring", "own") if after else ("own", "ring")
    flow.add_edge(START, order[0]).add_edge(*order).add_edge(order[1], END)
    return flow


def found_by(name: str, flow: Any, setup: Setup = SETUP) -> Found:
    (one,) = (one for one in checks_of(flow) if one.name == name)
    return one(flow, setup)


def fault(name: str, flow: Any, setup: Setup = SETUP) -> str:
    found = found_by(name, flow, setup)
    assert found.status is Status.FAILED, found
    return found.why


EVERY = [one.name for one in checks_of(direct())]
UNAPPROVED = [name for name in EVERY if name.startswith("nothing-")]
ONE_OF_TWO = "nothing-after-one-of-two"
BY_TWO = replace(SETUP, zones=(NOTES.model_copy(update={"approvers": 2}),))


@pytest.mark.parametrize("by", [ring, ring_once], ids=lambda one: one.name)
@pytest.mark.parametrize("setup", [SETUP, BY_TWO], ids=["one", "two"])
def test_an_honest_workflow_passes_everything(by: Tool, setup: Setup) -> None:
    report = assert_conforms(direct(by), setup)
    alone = {ONE_OF_TWO} if setup is SETUP else set()
    assert {one.check.name for one in report if one.found.status is not Status.PASSED} == alone
    assert len(report.checked) == len(EVERY)


def test_a_path_around_a_gate_is_named() -> None:
    flow = ringing()
    flow.add_node("shortcut", lambda state: {})
    flow.add_edge(START, "shortcut").add_edge("shortcut", "ring.act")
    assert "shortcut → ring.act" in fault("no-way-around", flow)
    assert found_by("nothing-before-a-gate", flow).status is Status.NOT_CHECKED


def spill(state: State, runtime: Runtime[Context]) -> dict[str, str]:
    """A node with an effect of its own."""
    spilt = runtime.context.root / "spilt.txt"
    spilt.write_text("".join((spilt.read_text() if spilt.exists() else "", "x")))
    return {}


@pytest.mark.parametrize("name", UNAPPROVED)
def test_an_effect_of_a_node_before_the_gate_is_found(name: str) -> None:
    setup = BY_TWO if name == ONE_OF_TWO else SETUP
    assert "spilt.txt changed while no tool was at work" in fault(name, with_node(spill), setup)


def test_an_effect_before_an_interrupt_of_ones_own_is_found() -> None:
    def interrupting(state: State, runtime: Runtime[Context]) -> dict[str, str]:
        spill(state, runtime)
        interrupt("wait")
        return {}

    assert "spilt.txt" in fault("nothing-before-a-gate", with_node(interrupting))


def test_an_effect_of_a_proposer_is_found() -> None:
    def proposing(state: State, runtime: Runtime[Context]) -> Any:
        spill(state, runtime)
        return call("ring", text=state["text"])

    flow = Workflow(State, zones=("notes",))
    flow.add_action("ring", proposing)
    flow.add_edge(START, "ring").add_edge("ring", END)
    assert "spilt.txt" in fault("nothing-before-a-gate", flow)


def test_an_effect_outside_the_workspace_is_found(tmp_path: Path) -> None:
    def outside(state: State) -> dict[str, str]:
        (tmp_path / "outside.txt").write_text("x")
        return {}

    assert str(tmp_path / "outside.txt") in fault("nothing-before-a-gate", with_node(outside))


def test_a_node_that_calls_a_tools_function_directly_is_found() -> None:
    def calling(state: State, runtime: Runtime[Context]) -> dict[str, str]:
        ring.function(text="no gate", workspace=runtime.context.workspace)
        return {}

    assert "ring was called without a permit" in fault("nothing-before-a-gate", with_node(calling))
    assert "ring was called without a permit" in fault("once-after-approval", with_node(calling, after=True))


@pytest.mark.parametrize(
    ("name", "when"), [("nothing-after-reject", "rejected"), ("nothing-after-expiry", "expired")]
)
def test_a_node_that_acts_when_a_person_did_not_is_found(name: str, when: str) -> None:
    def spiteful(state: State, runtime: Runtime[Context]) -> dict[str, str]:
        became = outcome(state, "ring")
        return spill(state, runtime) if became and became["status"] == when else {}

    flow = with_node(spiteful, after=True)
    assert "spilt.txt" in fault(name, flow)
    assert found_by("nothing-before-a-gate", flow).status is Status.PASSED


class Lax:
    """The kernel with an opened lock: what a check of the kernel's promise must find."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch.setattr

    @staticmethod
    async def act(context: Context, gate: Gate) -> None:
        proposal = await execution.proposal_of(context, gate)
        found = context.tools[proposal.variants[0].action.tool]
        found.call(found.function, proposal.variants[0].action, workspace=context.workspace)


@pytest.fixture
def lax(monkeypatch: pytest.MonkeyPatch) -> Lax:
    return Lax(monkeypatch)


@pytest.mark.parametrize(
    ("name", "status"),
    [("nothing-after-reject", GateStatus.REJECTED), ("nothing-after-expiry", GateStatus.EXPIRED)],
)
def test_a_kernel_that_performs_what_did_not_pass_is_found(lax: Lax, name: str, status: GateStatus) -> None:
    asked = Context.gate

    async def gate(self: Context, gate: str | None, lane: str) -> Gate:
        found = await asked(self, gate, lane)
        if found.status is status:
            await lax.act(self, found)
        return found

    lax.patch(Context, "gate", gate)
    assert "ring was called without a permit" in fault(name, direct())


@pytest.mark.parametrize("status", [GateStatus.DEFERRED, GateStatus.OPEN])
def test_a_kernel_that_performs_what_was_deferred_is_found(lax: Lax, status: GateStatus) -> None:
    asked, times = Context.gate, [0]

    async def gate(self: Context, gate: str | None, lane: str) -> Gate:
        found = await asked(self, gate, lane)
        times[0] += found.status is status
        # An open gate is first looked at before it is deferred, and again when its time has come.
        if found.status is status and (status is GateStatus.DEFERRED or times[0] > 1):
            await lax.act(self, found)
        return found

    lax.patch(Context, "gate", gate)
    assert "ring was called without a permit" in fault("nothing-after-defer", direct())


def test_a_kernel_for_which_one_of_two_is_enough_is_found(lax: Lax) -> None:
    asked = Context.gate

    async def gate(self: Context, gate: str | None, lane: str) -> Gate:
        found = await asked(self, gate, lane)
        if found.approvals:
            await lax.act(self, found)
        return found

    lax.patch(Context, "gate", gate)
    assert "only one of two people approved, ring was called" in fault(ONE_OF_TWO, direct(), BY_TWO)
    assert found_by(ONE_OF_TWO, direct()).status is Status.NOT_CHECKED


def writing() -> Workflow:
    """An action that a grant may cover."""
    flow = Workflow(State, zones=("notes",))
    flow.add_action("write", lambda state: call("write_file", path=state["text"], content=state["text"]))
    flow.add_edge(START, "write").add_edge("write", END)
    return flow


NAMED = replace(SETUP, input={"text": "notes/a.md"})


def test_a_grant_is_used_and_its_uses_are_counted(lax: Lax) -> None:
    assert found_by("grant-is-bounded", writing(), NAMED).status is Status.PASSED
    lax.patch(Grants, "_count", lambda *_: True)
    assert "2 were performed and 0 counted" in fault("grant-is-bounded", writing(), NAMED)


def test_a_grant_that_covers_what_the_level_keeps_for_people_is_found(lax: Lax) -> None:
    lax.patch(grants, "refusal", lambda *_, **__: None)
    assert "in a draft-only zone, a standing grant let write_file" in fault(
        "grant-is-bounded", writing(), NAMED
    )


def test_gates_expire_by_their_own_time(lax: Lax) -> None:
    lax.patch(Gates, "close", lambda *_: pytest.fail("it was closed by the suite"))
    assert found_by("nothing-after-expiry", direct()).status is Status.PASSED


def test_a_kernel_that_goes_on_in_a_stopped_run_is_found(lax: Lax, monkeypatch: pytest.MonkeyPatch) -> None:
    from karkas.workflows import runs

    going_on = runs.advance

    async def advance(context: Context, *rest: Any, **named: Any) -> Any:
        run = context.store.runs.get(context.run)
        for gate in context.store.gates.list(run=run.id):
            if gate.status is GateStatus.CANCELLED:
                await lax.act(context, gate)
        return await going_on(context, *rest, **named)

    lax.patch(runs, "advance", advance)
    assert "ring was called without a permit" in fault("nothing-after-stop", direct())


def test_a_kernel_that_performs_twice_is_found(lax: Lax) -> None:
    async def twice(by: Tool, claimed: Any, workspace: Workspace, **rest: Any) -> Any:
        by.call(by.function, claimed.action, workspace=workspace)
        return await perform(by, claimed, workspace, **rest)

    lax.patch(execution, "perform", twice)
    assert "ring was performed 2 times under" in fault("once-after-approval", direct())


def test_a_kernel_that_performs_a_replayed_gate_is_found(lax: Lax) -> None:
    execute, seen = execution.execute, set()

    async def again(context: Context, gate: Gate, permit: Permit | None) -> Any:
        if gate.id in seen:
            await lax.act(context, gate)
        seen.add(gate.id)
        return await execute(context, gate, permit)

    lax.patch(action, "execute", again)
    assert "acted again: ring" in fault("resumed-twice", direct())


def test_a_node_that_acts_when_it_is_replayed_is_found() -> None:
    assert "spilt.txt" in fault("resumed-twice", with_node(spill, after=True))


def test_a_kernel_that_performs_before_it_says_so_is_found(lax: Lax) -> None:
    acting = execution._act

    async def early(context: Context, gate: Gate, claimed: Any) -> Any:
        await lax.act(context, gate)
        return await acting(context, gate, claimed)

    lax.patch(execution, "_act", early)
    assert "though the worker died before it began" in fault("killed-before-effect", direct())


def test_a_kernel_that_repeats_what_nobody_knows_of_is_found(lax: Lax) -> None:
    asking = execution._after_crash

    async def repeating(context: Context, gate: Gate, permit: Permit) -> Any:
        await lax.act(context, gate)
        return await asking(context, gate, permit)

    lax.patch(execution, "_after_crash", repeating)
    assert "after a killed worker, ring was performed 2 times" in fault("killed-after-effect", direct())


def test_without_an_input_nothing_is_run() -> None:
    ran: list[int] = []
    flow = with_node(lambda _: ran.append(1))
    report = check(flow, Setup(perform=True))
    assert ran == []
    assert {one.found.status for one in report} == {Status.PASSED, Status.NOT_CHECKED}
    assert [one.check.name for one in report if one.found.status is Status.PASSED] == ["no-way-around"]


def test_without_perform_nothing_is_approved() -> None:
    found = found_by(
        "once-after-approval", direct(), Setup(input={"text": "ding"}, zones=(NOTES,), tools=(ring,))
    )
    assert (found.status, "--perform" in found.why) == (Status.NOT_CHECKED, True)


def test_a_run_that_comes_to_no_gate_is_not_vouched_for() -> None:
    setup = Setup(perform=True, input={}, zones=(NOTES,), tools=(ring,))
    report = check(direct(), setup)
    assert {one.check.name for one in report if one.found.status is Status.PASSED} == {"no-way-around"}
    assert all("KeyError" in one.found.why for one in report if one.found.status is Status.NOT_CHECKED)


def test_a_workflow_that_never_ends_is_not_vouched_for() -> None:
    flow = Workflow(State, zones=("notes",))
    flow.add_action("ring", lambda state: call("ring", text=state["text"]))
    flow.add_edge(START, "ring").add_edge("ring", "ring")
    found = found_by("once-after-approval", flow)
    assert (found.status, "did not end" in found.why) == (Status.NOT_CHECKED, True)


def test_an_uncharted_zone_is_taken_as_framed_so_that_there_is_something_to_try() -> None:
    zone = NOTES.model_copy(update={"understanding": 1, "critical": False})
    setup = Setup(input={"text": "ding"}, zones=(zone,), tools=(ring,))
    assert found_by("nothing-after-reject", direct(), setup).status is Status.PASSED


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RETRIES = "# Retries\n\nA retry is a repeated call after a failure.\n\nThe default of `max_attempts` is 3.\n"


@pytest.mark.parametrize("name", ["note", "release", "announce"])
def test_the_documented_workflows_conform(name: str) -> None:
    module = example(name)
    flow, setup = {
        "note": lambda: (
            module.keep,
            Setup(perform=True, input={"title": "A b", "text": "t"}, zones=(module.notes,)),
        ),
        "release": lambda: (
            module.release,
            Setup(
                perform=True,
                input={"version": "1", "changes": ["a"]},
                zones=(module.releases,),
                answers={"ask": "yes"},
            ),
        ),
        "announce": lambda: (
            module.study,
            Setup(
                perform=True,
                input={"zone": "retries", "sources": ["sources"], "channel": "team"},
                tools=(module.announce,),
                files={"channels/team.txt": "ada\n", "sources/retries.md": RETRIES},
            ),
        ),
    }[name]()
    report = assert_conforms(flow, setup)
    assert {one.check.name for one in report if one.found.status is not Status.PASSED} == {ONE_OF_TWO}


def test_the_documented_tool_conforms() -> None:
    report = assert_conforms(example("announce").announce, Setup(perform=True))
    passed = {one.check.name for one in report if one.found.status is Status.PASSED}
    assert {"undo-restores", "idempotent-is", "paths-are-declared"} <= passed
