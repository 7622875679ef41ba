"""One cycle of an exploration: scout → summarizer → support → reviewer. The questions of one lead the next.

The state holds ids and digests only; sources, claims and reviews lie in the artifact store.
"""

import time
from collections.abc import Iterator, Sequence

import structlog
from langgraph.runtime import Runtime
from pydantic import JsonValue

from karkas.agents.reviewer import check_support, review, unreadable
from karkas.agents.scout import choose, read_all
from karkas.agents.sources import Reading
from karkas.agents.summarizer import Resolved, distil
from karkas.policies.budgets import Bound, Spent, StopReason, reached
from karkas.policies.distillates import Claim
from karkas.policies.errors import AnswerError, BudgetReachedError, ContextTooLongError, NightOverError
from karkas.policies.zones import ZoneState
from karkas.server.documents import Document
from karkas.server.questions import CheckSupport
from karkas.storage import Run, RunStatus
from karkas.storage.happened import CYCLE
from karkas.storage.records import SYSTEM
from karkas.workflows.context import Context
from karkas.workflows.corpus import Pool, documents_of, load_corpus, load_pool, load_review, save
from karkas.workflows.fallback import or_offline
from karkas.workflows.intake import candidates, take_in
from karkas.workflows.lanes import WorkflowState

log = structlog.get_logger("karkas.runs")

CLAIMS_A_BATCH = 150
PORTION = 2_000_000
"""Characters that the offline engine reads in some twenty seconds."""
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
    cut: str
    """Why a language model could not read all that it was shown: a budget or the deadline."""
    bound: str
    """Which one it was."""
    stop: str
    distillate: str
    composed: str
    judged: str
    """The critic's report on the map."""
    changed: bool


async def scout(state: ExploreState, runtime: Runtime[Context]) -> dict[str, object]:
    """Chooses the next sources by the open queries and reads them."""
    context, cycle = runtime.context, state.get("cycle", 0) + 1
    await context.caller.take_up()
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
    (chosen, _), _ = await or_offline(
        context,
        lambda engine: choose(engine, zone=state["zone"], queries=queries, found=open_, at_most=max(room, 0)),
        what="the choice of sources",
    )
    bound = context.caller.bound or context.caller.limit() or await context.caller.shared_limit()
    if bound is not None and bound.shared and cycle == 1:
        raise NightOverError(f"{bound.what}, before anything was read", bound.whose)
    if context.caller.bound is not None:
        chosen = []  # nobody may read them any more, so they are not called read
    ended = 0

    def done(_: Reading) -> None:
        nonlocal ended
        ended += 1
        context.progress(f"cycle {cycle}: scout reads", done=ended, total=len(chosen) + len(skipped))

    begun = await read_all(
        chosen, limits=context.limits, done=done, enough=lambda: context.caller.limit() is not None
    )
    begun += await read_all(skipped, limits=context.limits, done=done)
    fresh = await context.stored(
        take_in, context, corpus, [reading for _, reading in begun], [one for one, _ in begun]
    )
    sources = len(begun) - len(skipped)
    await context.caller.spend(Spent(sources=sources, cycles=1))
    return {
        "cycle": cycle,
        "corpus": await context.stored(save, artifacts, fresh),
        "fresh": [source for source in fresh.documents if source not in corpus.documents],
        "queries": queries,
        "read": read + sources,
        "left": len(open_) - sources,
        **cut(context),
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
    resolved, bound = await _distilled(context, state, documents)
    over = context.caller.bound
    if over is not None and over.shared and not (pool.claims or resolved.claims):
        raise NightOverError(f"{over.what}, before anything was found", over.whose)
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
        **cut_by(bound),
        **cut(context),
    }


async def _distilled(
    context: Context, state: ExploreState, documents: Sequence[Document]
) -> tuple[Resolved, Bound | None]:
    """The claims, and what was reached before all documents were read. The offline engine takes many large ones one
    portion after another, since nothing else could end its work on them.
    """
    offline = context.engine.info.kind == "extractive"
    portions = list(in_portions(documents)) if offline else [documents]
    found, bound = Resolved(claims=(), scores={}, dropped=0), None
    for number, portion in enumerate(portions):
        if number and (bound := context.caller.limit()) is not None:
            break
        resolved, _ = await distil(
            context.engine,
            zone=state["zone"],
            queries=state.get("queries", []),
            documents=portion,
            at_most=max(CLAIMS_A_BATCH // len(portions), 1),
        )
        found = Resolved(
            claims=(*found.claims, *resolved.claims),
            scores=found.scores | resolved.scores,
            dropped=found.dropped + resolved.dropped,
        )
    return found, bound


def in_portions(documents: Sequence[Document]) -> Iterator[Sequence[Document]]:
    """Of `PORTION` characters or a little more."""
    portion: list[Document] = []
    size = 0
    for document in documents:
        portion.append(document)
        size += len(document.text)
        if size >= PORTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


async def support(state: ExploreState, runtime: Runtime[Context]) -> dict[str, object]:
    """Whether the passages that this cycle's claims cite say what the claims say, where the engine can judge it."""
    context, artifacts = runtime.context, runtime.context.store.artifacts
    pool = await context.stored(load_pool, artifacts, state["pool"])
    new = fresh_claims(state, pool)
    if not new or not context.engine.answers(CheckSupport):
        return {}
    corpus = await context.stored(load_corpus, artifacts, state["corpus"])
    # The same list in the same order as the summarizer was shown, so that servers have it in their prefix caches.
    documents = await context.stored(documents_of, context, corpus, state["fresh"])
    context.progress(f"cycle {state['cycle']}: reviewer checks {len(new)} claims against their passages")
    try:
        checked = await check_support(context.engine, zone=state["zone"], claims=new, documents=documents)
    except (BudgetReachedError, AnswerError, ContextTooLongError) as error:
        await context.caller.note(f"{len(new)} claims were not checked against their passages: {error}")
        return cut(context)
    by_id = {claim.id: claim for claim in checked}
    claims = tuple(by_id.get(claim.id, claim) for claim in pool.claims)
    pool = pool.model_copy(update={"claims": claims})
    return {"pool": await context.stored(save, artifacts, pool), **cut(context)}


async def reviewer(state: ExploreState, runtime: Runtime[Context]) -> dict[str, object]:
    """Conflicts, weak spots and questions over all claims; the questions are the next cycle's queries."""
    context, artifacts = runtime.context, runtime.context.store.artifacts
    corpus = await context.stored(load_corpus, artifacts, state["corpus"])
    pool = await context.stored(load_pool, artifacts, state["pool"])
    documents = await context.stored(documents_of, context, corpus)
    context.progress(f"cycle {state['cycle']}: reviewer compares {len(pool.claims)} claims")
    # A run that is taken up after midnight asks what it asked before.
    began = (await context.caller.take_up()).run.created_at
    known = (await context.stored(load_review, artifacts, state.get("review"))).conflicts
    fresh = {claim.id for claim in fresh_claims(state, pool)}
    reply, fallen = await or_offline(
        context,
        lambda engine: review(
            engine,
            zone=state["zone"],
            claims=pool.claims,
            documents=documents,
            today=began.date().isoformat(),
            fresh=tuple(claim.id for claim in pool.claims if claim.id in fresh),
            known=known,
        ),
        what="the comparison of claims",
    )
    found = reply.value
    if fallen is not None:
        unjudged = (one for one in found.conflicts if fresh.intersection(one.claims))
        found = found.model_copy(update={"conflicts": (*known, *unjudged)})
    await _end_cycle(context, state, pool, claims=len(fresh), conflicts=len(found.conflicts))
    stop = await stop_reason(context, state)
    found = found.model_copy(update={"weak_spots": (*found.weak_spots, *unreadable(corpus.records))})
    return {
        "review": await context.stored(save, artifacts, found),
        "queries": [question.would_settle or question.text for question in found.open_questions[:8]],
        "stop": stop.reason.value if stop is not None else "",
        "bound": stop.what if stop is not None else "",
    }


async def _end_cycle(
    context: Context, state: ExploreState, pool: Pool, *, claims: int, conflicts: int
) -> None:
    """Puts on the record what the cycle brought: `claims` new ones, and what there is in all."""
    run = await context.stored(context.store.runs.get, context.run)
    data: dict[str, JsonValue] = {
        "cycle": state["cycle"],
        "sources": state["read"],
        "claims": len(pool.claims),
        "new_claims": claims,
        "conflicts": conflicts,
        "novelty": round(state["novelty"], 3),
        "tokens": run.spent.tokens,
    }
    await context.stored(context.store.note, CYCLE, f"run:{context.run}", actor=SYSTEM, data=data)
    log.info(CYCLE, run_id=context.run, zone=state["zone"], **data)


def fresh_claims(state: ExploreState, pool: Pool) -> list[Claim]:
    """The claims that this cycle brought: they cite documents that no earlier cycle read."""
    fresh = set(state["fresh"])
    return [claim for claim in pool.claims if any(span.source in fresh for span in claim.evidence)]


def cut(context: Context) -> dict[str, object]:
    return cut_by(context.caller.bound)


def cut_by(bound: Bound | None) -> dict[str, object]:
    return {"cut": bound.reason.value, "bound": bound.what} if bound is not None else {}


async def stop_reason(context: Context, state: ExploreState) -> Bound | None:
    """What ends the job now, checked before the next cycle is begun."""
    run = await context.stored(context.store.runs.get, context.run)
    if run.status is RunStatus.STOPPED:
        return Bound(StopReason.STOPPED, "")
    if context.caller.bound is not None:
        return context.caller.bound
    if "cut" in state:
        return Bound(StopReason(state["cut"]), state.get("bound", ""))
    if state["left"] <= 0:
        return Bound(StopReason.SOURCES_EXHAUSTED, "")
    own = reached(run.budget, spent_by(context, run, state))
    limit = context.caller.limit() or own or await context.caller.shared_limit()
    if limit is not None:
        return limit
    return Bound(StopReason.SATURATED, "") if state["novelty"] < NOVELTY else None


def spent_by(context: Context, run: Run, state: ExploreState) -> Spent:
    """What the run has spent: sources and cycles as the checkpoint has them, so that a repeated node counts once."""
    wall_s = run.spent.wall_s + time.monotonic() - context.caller.began
    return run.spent.model_copy(update={"wall_s": wall_s, "sources": state["read"], "cycles": state["cycle"]})


def first_queries(state: ZoneState) -> list[str]:
    """What the first cycle looks for: the zone's name, description and topics."""
    return [
        text
        for text in (state.zone.name.replace("-", " "), state.zone.description, *state.scope.topics)
        if text
    ]
