"""The built-in workflow `explore`: cycles of reading, then the map, its critic, and the gate where a person frames it.

Exploring changes nothing in the workspace but the zone's own files under `zones/`.
"""

from typing import Literal

from langgraph.graph import END, START
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt

from karkas.agents.reviewer import with_doubts
from karkas.agents.summarizer import select
from karkas.policies.budgets import Bound, StopReason
from karkas.policies.gates import GateStatus
from karkas.workflows.check import LANE, ROLE
from karkas.workflows.context import Context
from karkas.workflows.corpus import load_corpus, load_pool, load_review
from karkas.workflows.cycle import ExploreState, reviewer, scout, spent_by, summarizer, support
from karkas.workflows.define import Workflow
from karkas.workflows.framing import apply_frame, open_frame_gate
from karkas.workflows.lanes import GATE, Outcome, OutcomeStatus, lane_of
from karkas.workflows.mapping import criticise_map, write_map

CLAIMS_KEPT = 240


def explore_workflow() -> Workflow:
    """The graph. It can stand as a subgraph in a user's own workflow; its input is `ExploreState`'s first two keys."""
    workflow = Workflow(ExploreState)
    workflow.add_node("scout", scout)
    workflow.add_node("summarizer", summarizer)
    workflow.add_node("support", support)
    workflow.add_node("reviewer", reviewer)
    workflow.add_node("map", map_zone)
    workflow.add_node("critic", critic)
    gate = {ROLE: "gate", LANE: "frame"}
    workflow.add_node("frame", frame, metadata=gate, destinations=("frame.wait", END))
    workflow.add_node(
        "frame.wait", frame_wait, metadata=gate, destinations=("frame", "frame.wait", END), defer=True
    )
    workflow.add_edge(START, "scout")
    workflow.add_edge("scout", "summarizer")
    workflow.add_edge("summarizer", "support")
    workflow.add_edge("support", "reviewer")
    workflow.add_conditional_edges("reviewer", go_on, {"scout": "scout", "map": "map"})
    workflow.add_edge("map", "critic")
    workflow.add_edge("critic", "frame")
    return workflow


def go_on(state: ExploreState) -> Literal["scout", "map"]:
    return "map" if state.get("stop") else "scout"


async def map_zone(state: ExploreState, runtime: Runtime[Context]) -> dict[str, object]:
    """Composes the distillate and writes its files, every span verified before."""
    context, artifacts = runtime.context, runtime.context.store.artifacts
    corpus = await context.stored(load_corpus, artifacts, state["corpus"])
    pool = await context.stored(load_pool, artifacts, state["pool"])
    found = await context.stored(load_review, artifacts, state["review"])
    kept, found = select(pool.claims, pool.scores, found, at_most=CLAIMS_KEPT)
    written = await write_map(
        context,
        zone=state["zone"],
        corpus=corpus,
        claims=with_doubts(kept, found.conflicts),
        dropped=pool.dropped,
        found=found,
        stop=Bound(StopReason(state["stop"]), state.get("bound", "")),
        partly_read="cut" in state,
        spent=spent_by(context, await context.stored(context.store.runs.get, context.run), state),
    )
    return {
        "distillate": written.artifact,
        "composed": written.composed,
        "changed": written.changed,
        "stop": written.stop.value,
    }


async def critic(state: ExploreState, runtime: Runtime[Context]) -> dict[str, object]:
    """A critic's pass over the map. Without a language model there is none, and the record says so."""
    context, artifacts = runtime.context, runtime.context.store.artifacts
    report = await criticise_map(context, zone=state["zone"], artifact=state["distillate"])
    return {"judged": await context.stored(artifacts.put_json, report.model_dump(mode="json"))}


async def frame(state: ExploreState, runtime: Runtime[Context]) -> Command[str]:
    """Opens the gate at which the person frames the zone."""
    turn = lane_of(state, "frame").get("turn", 0) + 1
    gate = await open_frame_gate(
        runtime.context,
        turn=turn,
        zone=state["zone"],
        artifact=state["distillate"],
        composed=state["composed"],
        judged=state.get("judged"),
        stop=state["stop"],
    )
    if gate is None:
        return Command(goto=END)
    return Command(goto="frame.wait", update={"karkas": {"frame": {"turn": turn, "gate": gate.id}}})


async def frame_wait(state: ExploreState, runtime: Runtime[Context]) -> Command[str]:
    context = runtime.context
    gate = await context.gate(state["karkas"]["frame"]["gate"], "frame")
    if gate.status.waits:
        interrupt({GATE: gate.id})
        gate = await context.stored(context.store.gates.get, gate.id)
    if gate.status.waits:
        return Command(goto="frame.wait")
    if gate.status is GateStatus.CANCELLED:
        return Command(goto="frame")  # the run was stopped, and a person opened it again
    outcome = Outcome(status=OutcomeStatus.of_gate(gate.status).value, gate=gate.id, why=gate.reason or "")
    if gate.status is GateStatus.PASSED:
        in_force = await context.stored(apply_frame, context.store, gate)
        outcome["status"] = (OutcomeStatus.COMMITTED if in_force else OutcomeStatus.SUPERSEDED).value
        outcome["why"] = "" if in_force else "the zone was changed after this frame was adopted"
    return Command(goto=END, update={"karkas": {"frame": {"outcome": outcome}}})
