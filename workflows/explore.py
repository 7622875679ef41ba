"""The built-in workflow `explore`: scout → summarizer → reviewer in cycles, then the map, its critic, the frame gate.

The state holds ids and digests only; sources, claims and reviews lie in the artifact store. Exploring changes nothing
in the workspace but the zone's own files under `zones/`.
"""

import time
from typing import Literal

from langgraph.graph import END, START
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt

from karkas.agents.reviewer import review, unreadable, with_doubts
from karkas.agents.scout import choose, read_all
from karkas.agents.sources import Found, Reading, discover, near_duplicates
from karkas.agents.summarizer import distil, select
from karkas.policies.budgets import Spent, StopReason, must_stop
from karkas.policies.distillates import SourceRecord, SourceStatus
from karkas.policies.gates import GateStatus
from karkas.policies.zones import ZoneState
from karkas.storage import Run, RunStatus
from karkas.workflows.check import LANE, ROLE
from karkas.workflows.context import Context
from karkas.workflows.corpus import (
    Corpus,
    Pool,
    documents_of,
    load_corpus,
    load_pool,
    load_review,
    save,
    store_reading,
)
from karkas.workflows.define import Workflow
from karkas.workflows.framing import apply_frame, open_frame_gate
from karkas.workflows.lanes import GATE, Outcome, OutcomeStatus, WorkflowState, lane_of
from karkas.workflows.mapping import criticise_map, write_map

CLAIMS_A_BATCH = 150
CLAIMS_KEPT = 240
NOVELTY = 0.1
"""Below this share of new subjects among a cycle's claims, the zone is saturated."""


class ExploreState(WorkflowState, total=False):
    """The input (`zone`, `sources`), and what the cycles hand on."""

    zone: str
    sources: list[str]
    cycle: int
    corpus: str
    fresh: list[str]
    read: int
    left: int
    pool: str
    novelty: float
    review: str
    queries: list[str]
    stop: str
    distillate: str
    composed: str
    changed: bool


def explore_workflow() -> Workflow:
    """The graph. It can stand as a subgraph in a user's own workflow; its input is `ExploreState`'s first two keys."""
    workflow = Workflow(ExploreState)
    workflow.add_node("scout", scout)
    workflow.add_node("summarizer", summarizer)
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
    workflow.add_edge("summarizer", "reviewer")
    workflow.add_conditional_edges("reviewer", go_on, {"scout": "scout", "map": "map"})
    workflow.add_edge("map", "critic")
    workflow.add_edge("critic", "frame")
    return workflow


async def scout(state: ExploreState, runtime: Runtime[Context]) -> dict[str, object]:
    """Chooses the next sources by the open queries and reads them."""
    context, cycle = runtime.context, state.get("cycle", 0) + 1
    if state["zone"] not in context.zones():
        await context.stored(context.declare, state["zone"])
    artifacts = context.store.artifacts
    corpus = await context.stored(load_corpus, artifacts, state.get("corpus"))
    context.progress(f"cycle {cycle}: scout looks for sources")
    found = await context.stored(candidates, context, state["sources"], frozenset(corpus.keys))
    skipped = [one for one in found if one.skip is not None]
    open_ = [one for one in found if one.skip is None]
    run = await context.stored(context.store.runs.get, context.run)
    read = state.get("read", 0)
    room = context.batch if run.budget.sources is None else min(context.batch, run.budget.sources - read)
    queries = state.get("queries") or first_queries(context.zones()[state["zone"]])
    chosen, reply = await choose(
        context.engine, zone=state["zone"], queries=queries, found=open_, at_most=max(room, 0)
    )
    await context.charge(reply)
    ended = 0

    def done(_: Reading) -> None:
        nonlocal ended
        ended += 1
        context.progress(f"cycle {cycle}: scout reads", done=ended, total=len(chosen) + len(skipped))

    readings = await read_all([*chosen, *skipped], limits=context.limits, done=done)
    fresh = await context.stored(take_in, context, corpus, readings, [*chosen, *skipped])
    await context.stored(context.store.runs.add_spent, context.run, Spent(sources=len(chosen), cycles=1))
    return {
        "cycle": cycle,
        "corpus": await context.stored(save, artifacts, fresh),
        "fresh": [source for source in fresh.documents if source not in corpus.documents],
        "queries": queries,
        "read": read + len(chosen),
        "left": len(open_) - len(chosen),
    }


async def summarizer(state: ExploreState, runtime: Runtime[Context]) -> dict[str, object]:
    """Claims out of the documents that this cycle brought; those without a proven span are dropped and counted."""
    context, artifacts = runtime.context, runtime.context.store.artifacts
    corpus = await context.stored(load_corpus, artifacts, state["corpus"])
    pool = await context.stored(load_pool, artifacts, state.get("pool"))
    documents = await context.stored(documents_of, context, corpus, state["fresh"])
    if not documents:
        return {"pool": await context.stored(save, artifacts, pool), "novelty": 0.0}
    context.progress(f"cycle {state['cycle']}: summarizer distils {len(documents)} documents")
    resolved, reply = await distil(
        context.engine,
        zone=state["zone"],
        queries=state.get("queries", []),
        documents=documents,
        at_most=CLAIMS_A_BATCH,
    )
    await context.charge(reply)
    known = {(claim.facet, claim.subject.casefold()) for claim in pool.claims}
    new = [claim for claim in resolved.claims if (claim.facet, claim.subject.casefold()) not in known]
    ids = {claim.id for claim in pool.claims}
    merged = Pool(
        claims=(*pool.claims, *(claim for claim in resolved.claims if claim.id not in ids)),
        scores={**resolved.scores, **pool.scores},
        dropped=pool.dropped + resolved.dropped,
    )
    return {
        "pool": await context.stored(save, artifacts, merged),
        "novelty": len(new) / max(len(resolved.claims), 1),
    }


async def reviewer(state: ExploreState, runtime: Runtime[Context]) -> dict[str, object]:
    """Conflicts, weak spots and questions over all claims; the questions are the next cycle's queries."""
    context, artifacts = runtime.context, runtime.context.store.artifacts
    corpus = await context.stored(load_corpus, artifacts, state["corpus"])
    pool = await context.stored(load_pool, artifacts, state["pool"])
    documents = await context.stored(documents_of, context, corpus)
    context.progress(f"cycle {state['cycle']}: reviewer compares {len(pool.claims)} claims")
    reply = await review(
        context.engine,
        zone=state["zone"],
        claims=pool.claims,
        documents=documents,
        today=context.store.clock().date().isoformat(),
    )
    await context.charge(reply)
    found = reply.value
    stop = await stop_reason(context, state)
    found = found.model_copy(update={"weak_spots": (*found.weak_spots, *unreadable(corpus.records))})
    return {
        "review": await context.stored(save, artifacts, found),
        "queries": [question.would_settle or question.text for question in found.open_questions[:8]],
        "stop": stop.value if stop is not None else "",
    }


async def stop_reason(context: Context, state: ExploreState) -> StopReason | None:
    """What ends the job now, checked before the next cycle is begun."""
    run = await context.stored(context.store.runs.get, context.run)
    if run.status is RunStatus.STOPPED:
        return StopReason.STOPPED
    if state["left"] <= 0:
        return StopReason.SOURCES_EXHAUSTED
    spent = spent_by(context, run, state)
    limit = must_stop(run.budget, spent, deadline=run.deadline, now=context.store.clock())
    if limit is not None:
        return limit
    return StopReason.SATURATED if state["novelty"] < NOVELTY else None


def spent_by(context: Context, run: Run, state: ExploreState) -> Spent:
    """What the run has spent: sources and cycles as the checkpoint has them, so that a repeated node counts once."""
    wall_s = run.spent.wall_s + time.monotonic() - context.began
    return run.spent.model_copy(update={"wall_s": wall_s, "sources": state["read"], "cycles": state["cycle"]})


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
        stop=StopReason(state["stop"]),
        spent=spent_by(context, await context.stored(context.store.runs.get, context.run), state),
    )
    return {"distillate": written.artifact, "composed": written.composed, "changed": written.changed}


async def critic(state: ExploreState, runtime: Runtime[Context]) -> None:
    """A critic's pass over the map. Without a language model there is none, and the record says so."""
    await criticise_map(runtime.context, zone=state["zone"], artifact=state["distillate"])


async def frame(state: ExploreState, runtime: Runtime[Context]) -> Command[str]:
    """Opens the gate at which the person frames the zone."""
    turn = lane_of(state, "frame").get("turn", 0) + 1
    gate = await open_frame_gate(
        runtime.context,
        turn=turn,
        zone=state["zone"],
        artifact=state["distillate"],
        composed=state["composed"],
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


def first_queries(state: ZoneState) -> list[str]:
    """What the first cycle looks for: the zone's name, description and topics."""
    return [
        text
        for text in (state.zone.name.replace("-", " "), state.zone.description, *state.scope.topics)
        if text
    ]


def candidates(context: Context, specs: list[str], known: frozenset[str]) -> list[Found]:
    """Everything that the sources hold and was not read yet, each key once, in a stable order."""
    found: dict[str, Found] = {}
    for spec in specs:
        for one in discover(spec, root=context.root, limits=context.limits):
            found.setdefault(one.key, one)
    return [one for key, one in found.items() if key not in known]


def take_in(context: Context, corpus: Corpus, readings: list[Reading], found: list[Found]) -> Corpus:
    """Stores what was read; near-duplicates of earlier documents are marked, not dropped."""
    artifacts, documents = context.store.artifacts, dict(corpus.documents)
    for reading in readings:
        digest = store_reading(artifacts, reading)
        if digest is not None and reading.document is not None:
            documents.setdefault(reading.record.id, digest)
            context.documents[reading.record.id] = reading.document
    records = {record.id: record for record in (*(one.record for one in readings), *corpus.records)}
    merged = Corpus(
        keys=(*corpus.keys, *(one.key for one in found)), records=tuple(records.values()), documents=documents
    )
    twins = near_duplicates(documents_of(context, merged))
    return merged.model_copy(
        update={
            "records": tuple(mark(record, twins.get(record.id)) for record in merged.records),
            "documents": {source: digest for source, digest in documents.items() if source not in twins},
        }
    )


def mark(record: SourceRecord, twin: str | None) -> SourceRecord:
    if twin is None:
        return record
    return record.model_copy(
        update={
            "status": SourceStatus.DUPLICATE,
            "near_duplicate_of": twin,
            "reason": record.reason or f"nearly the same text as {twin}",
        }
    )
