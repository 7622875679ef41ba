import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pytest
from langgraph.channels import UntrackedValue
from langgraph.graph import END, START
from langgraph.types import StateSnapshot, interrupt

from karkas.agents.executor import Plan
from karkas.agents.tools import tool
from karkas.policies.actions import Action, Effect
from karkas.policies.errors import PermitError, VerdictError
from karkas.policies.frames import Rule
from karkas.policies.gates import GateKind, GateStatus
from karkas.policies.permits import PermitStatus
from karkas.policies.verdicts import Adopt, Answer, Approve, Choose, Defer, Edit, Reject, Retry, Stop
from karkas.policies.zones import ControlLevel, Zone
from karkas.server.questions import JudgeAction, Judged, Propose, Proposed, ToolCall
from karkas.storage import RunStatus, open_checkpointer
from karkas.workflows.act import act_workflow
from karkas.workflows.define import Workflow
from karkas.workflows.lanes import WorkflowState, feedback, outcome
from karkas.workflows.runs import advance, result_of, with_checkpointer

from .conftest import Bench, frame_by_hand


class State(WorkflowState, total=False):
    task: str
    seen: str


def write(path: str, content: str) -> ToolCall:
    return ToolCall(tool="write_file", args={"path": path, "content": content})


def one_action(*calls: ToolCall, **options: Any) -> Workflow:
    workflow = Workflow(State)
    workflow.add_action("publish", lambda _: list(calls), **options)
    return workflow.add_edge(START, "publish").add_edge("publish", END)


def outcome_status(run: Any) -> str:
    return str(run.result["outcomes"]["publish"]["status"])


def test_an_approved_action_is_performed_once_and_recorded(bench: Bench) -> None:
    graph = one_action(write("notes/a.md", "hello\n"))
    run, context = bench.run(graph, task="write hello")
    assert run.status is RunStatus.PARKED
    assert not (bench.root / "notes/a.md").exists()
    gate = bench.the_gate()
    assert gate.level is ControlLevel.PROPOSE_ONLY
    assert "+hello" in bench.project.store.artifacts.text(gate.variants[0].shown)
    bench.project.store.gates.decide(gate.id, Approve(), by="ada")
    run = bench.advance(context, graph)
    assert (run.status, outcome_status(run)) == (RunStatus.DONE, "committed")
    assert (bench.root / "notes/a.md").read_text() == "hello\n"
    permit = bench.project.store.ledger.for_gate(gate.id)
    assert permit is not None
    assert permit.status is PermitStatus.COMMITTED
    assert bench.project.store.audit.verify() == []


def test_waking_an_undecided_run_parks_it_again_at_the_same_gate(bench: Bench) -> None:
    graph = one_action(write("notes/a.md", "hello\n"))
    _, context = bench.run(graph, task="t")
    gate = bench.the_gate()
    assert bench.advance(context, graph).status is RunStatus.PARKED
    assert bench.the_gate() == gate


def test_a_rejected_action_never_happens(bench: Bench) -> None:
    graph = one_action(write("notes/a.md", "hello\n"))
    _, context = bench.run(graph, task="t")
    bench.project.store.gates.decide(bench.the_gate().id, Reject(reason="no"), by="ada")
    run = bench.advance(context, graph)
    assert (run.status, outcome_status(run)) == (RunStatus.DONE, "rejected")
    assert not (bench.root / "notes/a.md").exists()


def test_a_rejection_for_revision_gives_the_reason_to_the_proposer_and_asks_again(bench: Bench) -> None:
    heard: list[str] = []

    def propose(state: State) -> ToolCall:
        heard.append(feedback(state, "publish"))
        return write("notes/a.md", f"take {len(heard)}\n")

    graph = Workflow(State)
    graph.add_action("publish", propose, revisions=1).add_edge(START, "publish").add_edge("publish", END)
    _, context = bench.run(graph, task="t")
    first = bench.the_gate()
    bench.project.store.gates.decide(first.id, Reject(reason="shorter", retry=Retry.REVISED), by="ada")
    assert bench.advance(context, graph).status is RunStatus.PARKED
    second = bench.the_gate()
    assert second.id != first.id
    assert heard == ["", "shorter"]
    bench.project.store.gates.decide(second.id, Reject(reason="still", retry=Retry.REVISED), by="ada")
    assert bench.advance(context, graph).status is RunStatus.DONE
    assert heard == ["", "shorter"], "revisions are bounded"


def test_an_edit_is_a_new_action_at_a_new_gate_under_the_edited_tools_own_rule(bench: Bench) -> None:
    graph = one_action(write("notes/a.md", "hello\n"))
    _, context = bench.run(graph, task="t")
    first = bench.the_gate()
    edited = Action(
        tool="write_file", args={"path": "drafts/a.md", "content": "changed\n"}, effect=Effect.REVERSIBLE
    )
    bench.project.store.gates.decide(first.id, Edit(action=edited), by="ada")
    assert bench.advance(context, graph).status is RunStatus.PARKED
    second = bench.the_gate()
    assert bench.project.store.gates.get(first.id).superseded_by == second.id
    assert second.level is ControlLevel.DRAFT_ONLY, "the edited path lies in a stricter zone"
    with pytest.raises(VerdictError, match="adopt"):
        bench.project.store.gates.decide(second.id, Approve(), by="ada")
    bench.project.store.gates.decide(second.id, Adopt(), by="ada")
    assert outcome_status(bench.advance(context, graph)) == "committed"
    assert (bench.root / "drafts/a.md").read_text() == "changed\n"
    assert not (bench.root / "notes/a.md").exists()


def test_of_several_variants_only_the_chosen_one_runs(bench: Bench) -> None:
    graph = one_action(write("notes/a.md", "a\n"), write("notes/b.md", "b\n"))
    _, context = bench.run(graph, task="t")
    gate = bench.the_gate()
    with pytest.raises(VerdictError, match="choose"):
        bench.project.store.gates.decide(gate.id, Approve(), by="ada")
    bench.project.store.gates.decide(gate.id, Choose(variant=1), by="ada")
    assert outcome_status(bench.advance(context, graph)) == "committed"
    assert sorted(path.name for path in (bench.root / "notes").iterdir()) == ["b.md"]


def test_a_file_changed_after_approval_makes_the_gate_stale_and_it_asks_again(bench: Bench) -> None:
    graph = one_action(write("notes/a.md", "hello\n"))
    _, context = bench.run(graph, task="t")
    first = bench.the_gate()
    bench.project.store.gates.decide(first.id, Approve(), by="ada")
    (bench.root / "notes").mkdir()
    (bench.root / "notes/a.md").write_text("somebody else's\n")
    assert bench.advance(context, graph).status is RunStatus.PARKED
    assert bench.project.store.gates.get(first.id).status is GateStatus.STALE
    second = bench.the_gate()
    assert "-somebody else's" in bench.project.store.artifacts.text(second.variants[0].shown)
    assert (bench.root / "notes/a.md").read_text() == "somebody else's\n"


def test_a_gate_that_was_found_stale_by_one_that_died_right_then_asks_again(bench: Bench) -> None:
    graph = one_action(write("notes/a.md", "hello\n"))
    _, context = bench.run(graph, task="t")
    first, gates = bench.the_gate(), bench.project.store.gates
    gates.decide(first.id, Approve(), by="ada")
    gates.close(first.id, GateStatus.STALE, "the zone was tightened")  # and no checkpoint after that
    assert bench.advance(context, graph).status is RunStatus.PARKED
    second = bench.the_gate()
    assert second.id != first.id
    gates.decide(second.id, Approve(), by="ada")
    assert outcome_status(bench.advance(context, graph)) == "committed"


def test_a_zone_that_asks_for_two_people_after_one_approved_makes_the_gate_stale(bench: Bench) -> None:
    graph = one_action(write("notes/a.md", "hello"))
    _, context = bench.run(graph, task="write hello")
    bench.project.store.gates.decide(bench.the_gate().id, Approve(), by="ada")
    bench.project.store.zones.observe(Zone(name="notes", understanding=3, approvers=2))
    assert bench.advance(context, graph).status is RunStatus.PARKED
    again = bench.the_gate()
    for person in ("ada", "boris"):
        assert not (bench.root / "notes/a.md").exists()
        bench.project.store.gates.decide(again.id, Approve(), by=person)
        run = bench.advance(context, graph)
    assert (run.status, outcome_status(run)) == (RunStatus.DONE, "committed")


def test_a_zone_tightened_after_approval_makes_the_gate_stale(bench: Bench) -> None:
    graph = one_action(write("notes/a.md", "hello\n"))
    _, context = bench.run(graph, task="t")
    first = bench.the_gate()
    bench.project.store.gates.decide(first.id, Approve(), by="ada")
    frame_by_hand(bench.project, "notes", rule=Rule.FORBID)
    run = bench.advance(context, graph)
    assert outcome_status(run) == "denied"
    assert "frame says to forbid" in str(run.result)
    assert not (bench.root / "notes/a.md").exists()


def test_nothing_acts_on_unframed_ground(bench: Bench) -> None:
    bench.project.declare(Zone(name="dark", understanding=1))
    graph = one_action(write("a.md", "x\n"), zones=("dark",))
    run, _ = bench.run(graph, task="t")
    assert outcome_status(run) == "denied"
    assert bench.waiting() == []


def test_what_touches_no_zone_is_a_draft(bench: Bench) -> None:
    graph = one_action(write("elsewhere.md", "x\n"))
    bench.run(graph, task="t")
    assert bench.the_gate().level is ControlLevel.DRAFT_ONLY


def test_in_an_autonomous_zone_a_critic_alone_releases_what_is_reversible_and_grounded(bench: Bench) -> None:
    bench.engine.replies[JudgeAction] = lambda _: Judged(verdict="pass", reason="it does the task")
    graph = one_action(write("lab/a.md", "hello"))
    run, _ = bench.run(graph, task="write hello to lab/a.md")
    assert outcome_status(run) == "committed"
    (gate,) = bench.project.store.gates.list()
    assert gate.status is GateStatus.PASSED
    assert gate.decided_by == "critic/scripted 1 (a test's script)"


@pytest.mark.parametrize("verdict", ["object", "unsure", "yes please", ""])
def test_a_critic_that_does_not_say_pass_leaves_it_to_a_person(bench: Bench, verdict: str) -> None:
    bench.engine.replies[JudgeAction] = lambda _: Judged(verdict=verdict, reason="hm")
    run, _ = bench.run(one_action(write("lab/a.md", "hello")), task="write hello to lab/a.md")
    assert run.status is RunStatus.PARKED
    assert bench.the_gate().facts.policy == "allow"


def test_a_critic_that_fails_leaves_it_to_a_person(bench: Bench) -> None:
    def fail(_: object) -> Judged:
        raise RuntimeError("the model fell over")

    bench.engine.replies[JudgeAction] = fail
    run, _ = bench.run(one_action(write("lab/a.md", "hello")), task="write hello to lab/a.md")
    assert run.status is RunStatus.PARKED
    report = bench.the_gate().critic
    assert report is not None
    assert (report.status, "fell over" in report.reason) == ("error", True)


def test_an_edit_is_shown_before_it_counts_in_an_autonomous_zone_too(bench: Bench) -> None:
    bench.engine.replies[JudgeAction] = lambda _: Judged(verdict="unsure", reason="hm")
    graph = one_action(write("lab/a.md", "hello"))
    _, context = bench.run(graph, task="write hello to lab/a.md")
    bench.engine.replies[JudgeAction] = lambda _: Judged(verdict="pass", reason="it does the task")
    edit = Action(tool="write_file", args={"path": "lab/a.md", "content": "bye"}, effect=Effect.REVERSIBLE)
    bench.project.store.gates.decide(bench.the_gate().id, Edit(action=edit), by="ada")
    assert bench.advance(context, graph).status is RunStatus.PARKED
    second = bench.the_gate()
    assert second.policy.verdict == "allow"
    assert second.critic is not None
    assert second.critic.status == "passed"
    assert not (bench.root / "lab/a.md").exists()
    bench.project.store.gates.decide(second.id, Approve(), by="ada")
    assert outcome_status(bench.advance(context, graph)) == "committed"


def test_without_a_critic_an_autonomous_zone_falls_back_to_a_person(bench: Bench) -> None:
    run, _ = bench.run(one_action(write("lab/a.md", "hello")), task="write hello to lab/a.md")
    assert run.status is RunStatus.PARKED
    report = bench.the_gate().critic
    assert report is not None
    assert report.status == "refused"


def test_a_value_that_nobody_gave_takes_the_action_out_of_autonomy(bench: Bench) -> None:
    bench.engine.replies[JudgeAction] = lambda _: Judged(verdict="pass", reason="fine")
    run, _ = bench.run(one_action(write("lab/a.md", "sudo rm")), task="write hello to lab/a.md")
    assert run.status is RunStatus.PARKED
    assert any("/content" in reason for reason in bench.the_gate().policy.reasons)


def test_a_plan_with_nothing_in_it_is_an_outcome_too(bench: Bench) -> None:
    workflow = Workflow(State)
    workflow.add_action("publish", lambda _: Plan(calls=(), why="all is well"))
    workflow.add_edge(START, "publish").add_edge("publish", END)
    run, _ = bench.run(workflow, task="t")
    assert outcome_status(run) == "nothing"


def test_an_unregistered_tool_fails_the_run_with_what_there_is(bench: Bench) -> None:
    run, _ = bench.run(one_action(ToolCall(tool="rm_rf", args={})), task="t")
    assert run.status is RunStatus.FAILED
    assert "write_file" in (run.error or "")


def branches(*names: str) -> Workflow:
    workflow = Workflow(State)
    for name in names:
        workflow.add_action(name, lambda _, name=name: write(f"notes/{name}.md", f"{name}\n"))
        workflow.add_edge(START, name)
    workflow.add_node("join", lambda state: {"seen": "joined"})
    workflow.add_edge(list(names), "join")
    return workflow


def test_parallel_branches_park_each_at_its_gate_and_go_on_each_by_itself(bench: Bench) -> None:
    graph = branches("one", "two", "three")
    _, context = bench.run(graph, task="t")
    gates = {gate.lane: gate for gate in bench.waiting()}
    assert gates.keys() == {"one", "two", "three"}
    bench.project.store.gates.decide(gates["two"].id, Approve(), by="ada")
    run = bench.advance(context, graph)
    assert run.status is RunStatus.PARKED
    assert [path.name for path in (bench.root / "notes").iterdir()] == ["two.md"]
    for name in ("one", "three"):
        bench.project.store.gates.decide(gates[name].id, Approve(), by="ada")
    assert bench.advance(context, graph).status is RunStatus.DONE
    assert sorted(path.name for path in (bench.root / "notes").iterdir()) == ["one.md", "three.md", "two.md"]


def test_a_branch_without_a_gate_runs_to_its_end_while_another_is_parked(bench: Bench) -> None:
    graph, walked = Workflow(State), []
    graph.add_action("publish", lambda _: write("notes/a.md", "a\n")).add_edge(START, "publish")
    for step, before in (("first", START), ("second", "first"), ("third", "second")):
        graph.add_node(step, lambda state, step=step: walked.append(step))
        graph.add_edge(before, step)
    run, _ = bench.run(graph, task="t")
    assert run.status is RunStatus.PARKED
    assert walked == ["first", "second", "third"]


def test_stopping_at_one_gate_stops_the_run_and_cancels_its_other_gates(bench: Bench) -> None:
    graph = branches("one", "two")
    _, context = bench.run(graph, task="t")
    gates = bench.waiting()
    bench.project.store.gates.decide(gates[0].id, Stop(reason="enough"), by="ada")
    assert bench.waiting() == []
    assert bench.advance(context, graph).status is RunStatus.STOPPED
    assert not (bench.root / "notes").exists()


def test_a_deferred_gate_still_waits_and_can_be_decided(bench: Bench) -> None:
    graph = one_action(write("notes/a.md", "hello\n"))
    _, context = bench.run(graph, task="t")
    gate = bench.the_gate()
    until = bench.project.store.clock() + timedelta(days=1)
    bench.project.store.gates.decide(gate.id, Defer(until=until), by="ada")
    assert bench.advance(context, graph).status is RunStatus.PARKED
    bench.project.store.gates.decide(gate.id, Approve(), by="ada")
    assert outcome_status(bench.advance(context, graph)) == "committed"


class Crash(BaseException):
    """Stands for a kill: no handler of karkas may catch it."""


COUNT: list[str] = []


@tool(Effect.IRREVERSIBLE)
def ring(times: int) -> str:
    """Rings a bell that cannot be unrung."""
    COUNT.append("rung")
    if len(COUNT) == times:
        raise Crash
    return "rung"


@tool(Effect.IRREVERSIBLE, idempotent=True)
def ring_once(key: str, idempotency_key: str) -> str:
    """Rings a bell once a key."""
    COUNT.append(idempotency_key)
    if len(COUNT) == 1:
        raise Crash
    return "rung"


def crashing(bench: Bench, call: ToolCall, used: Any) -> tuple[Workflow, Any]:
    COUNT.clear()
    graph = one_action(call, zones=("notes",))
    _, context = bench.begin(graph, task="ring")
    context.tools.register(used)
    bench.advance(context, graph)
    bench.project.store.gates.decide(bench.the_gate().id, Approve(), by="ada")
    with pytest.raises(Crash):
        bench.advance(context, graph)
    return graph, context


def test_a_crash_between_start_and_commit_asks_a_person_and_repeats_nothing(bench: Bench) -> None:
    graph, context = crashing(bench, ToolCall(tool="ring", args={"times": 1}), ring)
    assert bench.advance(context, graph).status is RunStatus.PARKED
    assert COUNT == ["rung"], "it is never repeated silently"
    gate = bench.the_gate()
    assert (gate.kind, gate.choices) == (GateKind.OUTCOME, ("happened", "did-not-happen"))
    bench.project.store.gates.decide(gate.id, Answer(text="happened"), by="ada")
    run = bench.advance(context, graph)
    assert (run.status, outcome_status(run)) == (RunStatus.DONE, "committed")
    assert COUNT == ["rung"]


def test_an_action_in_doubt_that_did_not_happen_is_failed(bench: Bench) -> None:
    graph, context = crashing(bench, ToolCall(tool="ring", args={"times": 1}), ring)
    bench.advance(context, graph)
    bench.project.store.gates.decide(bench.the_gate().id, Answer(text="did-not-happen"), by="ada")
    assert outcome_status(bench.advance(context, graph)) == "failed"


def test_an_idempotent_tool_is_repeated_after_a_crash_with_the_same_key(bench: Bench) -> None:
    graph, context = crashing(bench, ToolCall(tool="ring_once", args={"key": "k"}), ring_once)
    run = bench.advance(context, graph)
    assert outcome_status(run) == "committed"
    assert len(COUNT) == 2
    assert COUNT[0] == COUNT[1]


def test_a_tool_cannot_be_called_around_the_gateway() -> None:
    with pytest.raises(PermitError):
        ring(times=3)


def test_later_nodes_read_the_outcome(bench: Bench) -> None:
    seen: list[Any] = []
    graph = one_action(write("notes/a.md", "hello\n"))
    graph.add_node("after", lambda state: seen.append(outcome(state, "publish")), input_schema=State)
    graph.add_edge("publish", "after")
    _, context = bench.run(graph, task="t")
    bench.project.store.gates.decide(bench.the_gate().id, Approve(), by="ada")
    bench.advance(context, graph)
    assert seen[0]["status"] == "committed"
    assert seen[0]["result"]["path"] == "notes/a.md"


def test_checkpoints_hold_digests_and_no_documents(bench: Bench) -> None:
    graph = one_action(write("notes/a.md", "A LONG DOCUMENT " * 5_000))
    bench.run(graph, task="t")
    stored = b"".join(path.read_bytes() for path in Path(bench.project.folder).glob("checkpoints.db*"))
    assert b"A LONG DOCUMENT" not in stored


def test_a_decision_that_comes_while_another_branch_works_is_taken_up_before_the_run_parks(
    bench: Bench,
) -> None:
    graph = Workflow(State)
    graph.add_action("publish", lambda _: write("notes/a.md", "a\n")).add_edge(START, "publish")

    def meanwhile(state: State) -> None:
        for gate in bench.waiting():
            bench.project.store.gates.decide(gate.id, Approve(), by="ada")

    graph.add_node("wait a little", lambda state: None, input_schema=State)
    graph.add_node("still at it", lambda state: None, input_schema=State)
    graph.add_node("meanwhile", meanwhile, defer=True, input_schema=State)
    graph.add_edge(START, "wait a little").add_edge("wait a little", "still at it").add_edge(
        "still at it", "meanwhile"
    )
    run, _ = bench.run(graph, task="t")
    assert (run.status, outcome_status(run)) == (RunStatus.DONE, "committed")


def test_a_users_own_interrupt_is_never_answered_by_a_wake_up(bench: Bench) -> None:
    answers: list[Any] = []
    graph = one_action(write("notes/a.md", "a\n"))
    graph.add_node("own", lambda state: answers.append(interrupt("shall I?")), defer=True, input_schema=State)
    graph.add_edge(START, "own")
    _, context = bench.run(graph, task="t")
    bench.project.store.gates.decide(bench.the_gate().id, Approve(), by="ada")
    run = bench.advance(context, graph)
    assert run.status is RunStatus.PARKED
    assert answers == []
    assert "add_question" in run.reason


def test_a_listener_hears_each_step_and_a_snapshot_shows_the_state(bench: Bench) -> None:
    heard: list[str] = []
    graph = one_action(write("notes/a.md", "a\n"))
    _, context = bench.begin(graph, task="t")
    saver = partial(open_checkpointer, bench.project.folder)
    asyncio.run(advance(context, graph, saver, listen=lambda _, update: heard.extend(update)))
    assert heard == ["publish", "publish.gate", "__interrupt__"]


def onward(graph: Workflow, *, bench: Bench) -> list[str]:
    """The nodes that follow on an approved action."""
    heard: list[str] = []
    _, context = bench.run(graph, task="t")
    bench.project.store.gates.decide(bench.the_gate().id, Approve(), by="ada")
    saver = partial(open_checkpointer, bench.project.folder)
    run = asyncio.run(advance(context, graph, saver, listen=lambda _, update: heard.extend(update)))
    assert (run.status, outcome_status(run)) == (RunStatus.DONE, "committed")
    assert run.result is not None
    assert run.result["values"] == {"task": "t", "seen": "committed"}
    return heard


def after(state: State) -> State:
    became = outcome(state, "publish")
    return {"seen": became["status"] if became else "nothing"}


def test_an_action_leads_straight_on_where_nothing_is_decided_after_it(bench: Bench) -> None:
    graph = Workflow(State)
    graph.add_action("publish", lambda _: write("notes/a.md", "a\n"))
    graph.add_node("after", after)
    graph.add_edge(START, "publish").add_edge("publish", "after").add_edge("after", END)
    assert onward(graph, bench=bench) == ["publish.wait", "publish.act", "after"]


def test_an_action_leads_to_what_is_decided_by_its_outcome(bench: Bench) -> None:
    graph = Workflow(State)
    graph.add_action("publish", lambda _: write("notes/a.md", "a\n"))
    graph.add_node("after", after)
    graph.add_edge(START, "publish").add_edge("after", END)
    graph.add_conditional_edges(
        "publish", lambda state: "after" if outcome(state, "publish") else END, ["after", END]
    )
    assert onward(graph, bench=bench) == ["publish.wait", "publish.act", "publish.done", "after"]


def test_what_waits_for_an_action_and_another_node_waits_for_both(bench: Bench) -> None:
    graph = Workflow(State)
    graph.add_action("publish", lambda _: write("notes/a.md", "a\n"))
    graph.add_node("beside", lambda state: {})
    graph.add_node("after", after)
    graph.add_edge(START, "publish").add_edge(START, "beside")
    graph.add_edge(["publish", "beside"], "after").add_edge("after", END)
    assert onward(graph, bench=bench) == ["publish.wait", "publish.act", "publish.done", "after"]


def test_lanes_that_end_together_lead_on_together_also_where_one_of_them_decides(bench: Bench) -> None:
    graph = Workflow(State)
    graph.add_question("one", lambda _: "One?", choices=["yes"])
    graph.add_question("other", lambda _: "Other?", choices=["yes"])
    graph.add_node("after", after)
    graph.add_edge(START, "one").add_edge(START, "other").add_edge("one", "after").add_edge("after", END)
    graph.add_conditional_edges(
        "other", lambda state: "after" if outcome(state, "other") else END, ["after", END]
    )
    _, context = bench.run(graph)
    for gate in bench.waiting():
        bench.project.store.gates.decide(gate.id, Answer(text="yes"), by="ada")
    heard: list[str] = []
    saver = partial(open_checkpointer, bench.project.folder)
    asyncio.run(advance(context, graph, saver, listen=lambda _, update: heard.extend(update)))
    assert heard.count("after") == 1


@pytest.mark.parametrize("heard", [False, True])
def test_a_run_that_ended_has_the_values_of_its_checkpoint_and_not_those_of_a_subgraph(
    bench: Bench, *, heard: bool
) -> None:
    def inside(state: State) -> State:
        return {"seen": f"{state['seen']} inside", "task": "not told"}

    inner = Workflow(State)
    inner.add_node("inside", inside)
    inner.add_edge(START, "inside").add_edge("inside", END)
    beneath = inner.compile()

    async def nested(state: State) -> State:
        return {"seen": (await beneath.ainvoke(state))["seen"]}

    graph = Workflow(State)
    graph.add_node("before", lambda state: {"seen": "before"})
    graph.add_node("nested", nested)
    graph.add_edge(START, "before").add_edge("before", "nested").add_edge("nested", END)
    run, context = bench.begin(graph, task="t")
    told: list[tuple[str, ...]] = []
    listen = (lambda path, _: told.append(path)) if heard else None
    saver = partial(open_checkpointer, bench.project.folder)
    done = asyncio.run(advance(context, graph, saver, listen=listen))
    assert done.result == {"outcomes": {}, "values": {"task": "t", "seen": "before inside"}}
    assert len({path[0].partition(":")[0] for path in told if path}) == int(heard)

    async def kept() -> StateSnapshot:
        async with saver() as opened:
            compiled = with_checkpointer(graph, opened)
            return await compiled.aget_state({"configurable": {"thread_id": run.id}})

    assert done.result == result_of(asyncio.run(kept()))


class Session(WorkflowState, total=False):
    seen: str
    token: Annotated[str, UntrackedValue]


def test_what_a_state_keeps_out_of_its_checkpoint_stands_in_no_result(bench: Bench) -> None:
    graph = Workflow(Session)

    def login(state: Any) -> dict[str, str]:
        del state
        return {"token": "secret", "seen": "in"}

    graph.add_node("login", login)
    graph.add_edge(START, "login").add_edge("login", END)
    run, _ = bench.run(graph)
    assert run.result == {"outcomes": {}, "values": {"seen": "in"}}


def test_a_stopped_run_that_a_person_opens_again_asks_again(bench: Bench) -> None:
    graph = one_action(write("notes/a.md", "a\n"))
    graph.add_question("ask", lambda _: "Shall it be announced?", choices=("yes", "no"))
    graph.add_edge(START, "ask")
    run, context = bench.run(graph, task="t")
    before = {gate.id for gate in bench.waiting()}
    bench.project.store.gates.decide(min(before), Stop(reason="later"), by="ada")
    bench.project.store.runs.reopen(run.id, by="ada", reason="now")
    assert bench.advance(context, graph).status is RunStatus.PARKED
    again = {gate.lane: gate for gate in bench.waiting()}
    assert again.keys() == {"publish", "ask"}
    assert not before & {gate.id for gate in again.values()}
    bench.project.store.gates.decide(again["publish"].id, Approve(), by="ada")
    bench.project.store.gates.decide(again["ask"].id, Answer(text="no"), by="ada")
    run = bench.advance(context, graph)
    assert outcome_status(run) == "committed"
    assert run.result is not None
    assert run.result["outcomes"]["ask"]["answer"] == "no"  # type: ignore[index,call-overload]


def test_an_action_in_a_loop_passes_a_gate_of_its_own_each_time(bench: Bench) -> None:
    COUNT.clear()
    graph = Workflow(State)
    graph.add_action("ring", lambda _: ToolCall(tool="ring", args={"times": 99}), zones=("notes",))
    graph.add_edge(START, "ring")
    graph.add_conditional_edges(
        "ring", lambda _: "again" if len(COUNT) < 2 else "end", {"again": "ring", "end": END}
    )
    _, context = bench.begin(graph, task="ring twice")
    context.tools.register(ring)
    for _ in range(2):
        assert bench.advance(context, graph).status is RunStatus.PARKED
        bench.project.store.gates.decide(bench.the_gate().id, Approve(), by="ada")
    assert bench.advance(context, graph).status is RunStatus.DONE
    assert COUNT == ["rung", "rung"]
    assert len(bench.project.store.gates.list()) == 2


def test_a_models_call_that_cannot_be_made_is_left_out_and_costs_the_others_nothing(bench: Bench) -> None:
    missing = ToolCall(tool="edit_file", args={"path": "notes/b.md", "old": "one", "new": "two"})
    calls = (missing, write("notes/a.md", "hello\n"), write("notes/" + "c" * 300, "hello\n"))
    bench.engine.replies = {Propose: lambda _: Proposed(calls=calls, why="as asked")}
    run, _ = bench.run(act_workflow(), zone="notes", task="say hello")
    assert [len(gate.variants) for gate in bench.waiting()] == [1]
    noted = [
        one for one in bench.project.store.audit.log(subject=f"run:{run.id}") if one.event == "engine_noted"
    ]
    assert len(noted) == 2


def test_where_no_call_of_a_model_can_be_made_nothing_is_proposed_and_why_is_said(bench: Bench) -> None:
    bench.engine.replies = {Propose: lambda _: Proposed(calls=(write("/etc/passwd", ""),), why="as asked")}
    run, _ = bench.run(act_workflow(), zone="notes", task="say hello")
    assert run.status is RunStatus.DONE
    result: Any = run.result
    ended = result["outcomes"]["act"]
    assert ended["status"] == "nothing"
    assert "/etc/passwd is absolute" in ended["why"]
    assert bench.waiting() == []
