"""The summarizer: claims out of documents, and the summary and map made of claims."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from karkas.agents.prompts import instructions
from karkas.policies.actions import Evidence
from karkas.policies.distillates import (
    Claim,
    ClaimMode,
    Confidence,
    Conflict,
    Facet,
    OpenQuestion,
    SourceRank,
    Support,
    SupportLabel,
    part_id,
)
from karkas.server.documents import Document
from karkas.server.protocol import Engine, Reply, Request, Role
from karkas.server.questions import Citation, Compose, Composed, Distil, Distilled, DraftClaim, Reviewed

CHECKED_BY = "span-match@1"


@dataclass(frozen=True, slots=True)
class Resolved:
    """Claims with proven spans in the order of their scores, and how many drafts were dropped for want of one."""

    claims: tuple[Claim, ...]
    scores: dict[str, float]
    dropped: int


async def distil(
    engine: Engine, *, zone: str, queries: Sequence[str], documents: Sequence[Document], at_most: int
) -> tuple[Resolved, Reply[Distilled]]:
    reply = await engine.ask(
        Request(
            role=Role.SUMMARIZER,
            instructions=instructions(Role.SUMMARIZER),
            documents=documents,
            question=Distil(zone=zone, queries=tuple(queries), at_most=at_most),
            answer=Distilled,
        )
    )
    return resolve(reply.value.claims, documents), reply


async def compose(
    engine: Engine,
    *,
    zone: str,
    claims: Sequence[Claim],
    conflicts: Sequence[Conflict],
    open_questions: Sequence[OpenQuestion],
    documents: Sequence[Document],
) -> Reply[Composed]:
    return await engine.ask(
        Request(
            role=Role.SUMMARIZER,
            instructions=instructions(Role.SUMMARIZER),
            documents=documents,
            question=Compose(
                zone=zone,
                claims=tuple(claims),
                conflicts=tuple(conflicts),
                open_questions=tuple(open_questions),
            ),
            answer=Composed,
        )
    )


def resolve(drafts: Sequence[DraftClaim], documents: Sequence[Document]) -> Resolved:
    """Turns citations into spans; a draft whose quote stands nowhere in the document that it names is dropped."""
    claims: dict[str, Claim] = {}
    scores: dict[str, float] = {}
    dropped = 0
    for draft in sorted(drafts, key=lambda draft: -draft.score):
        spans = [span for cite in draft.cites if (span := locate(cite, documents)) is not None]
        copied = draft.mode is ClaimMode.ABSTRACTIVE or any(draft.text in span.quote for span in spans)
        if not spans or not copied:
            dropped += 1
            continue
        claim = _claim(draft, spans, documents)
        if claim.id not in claims:
            claims[claim.id] = claim
            scores[claim.id] = draft.score
    return Resolved(claims=tuple(claims.values()), scores=scores, dropped=dropped)


def locate(cite: Citation, documents: Sequence[Document]) -> Evidence | None:
    """The span of a quote: where the engine says it starts, or else its only occurrence."""
    if not 0 <= cite.document < len(documents) or not cite.quote:
        return None
    document = documents[cite.document]
    start = cite.start
    if start is None and document.text.count(cite.quote) == 1:
        start = document.text.index(cite.quote)
    if start is None or start < 0 or document.text[start : start + len(cite.quote)] != cite.quote:
        return None
    return Evidence(source=document.source, start=start, end=start + len(cite.quote), quote=cite.quote)


def _claim(draft: DraftClaim, spans: list[Evidence], documents: Sequence[Document]) -> Claim:
    by_source = {document.source: document for document in documents}
    first = spans[0]
    abstractive = draft.mode is ClaimMode.ABSTRACTIVE
    return Claim(
        id=part_id("c", by_source[first.source].sha256, first.start, first.end, draft.facet, draft.text),
        facet=draft.facet,
        subject=draft.subject,
        scope=draft.scope,
        text=draft.text,
        mode=draft.mode,
        evidence=tuple(spans),
        support=Support(
            label=SupportLabel.UNCLEAR if abstractive else SupportLabel.VERBATIM, checked_by=CHECKED_BY
        ),
        confidence=confidence(
            [by_source[span.source].rank for span in spans], len({s.source for s in spans})
        ),
    )


def confidence(ranks: Sequence[SourceRank], sources: int) -> Confidence:
    """How far a claim's sources carry it: their number and the weightiest rank among them."""
    best = min(ranks, key=lambda rank: rank.weight)
    weighty = best in {SourceRank.CODE, SourceRank.OFFICIAL_DOCS, SourceRank.PACKAGE_DOCS}
    if sources > 1 and weighty:
        return Confidence(level="high", why=f"{sources} sources, the weightiest {best}")
    if sources > 1 or weighty:
        return Confidence(level="medium", why=f"{sources} source{'s' if sources > 1 else ''} ({best})")
    return Confidence(level="low", why=f"one source ({best})")


def select(
    claims: Sequence[Claim], scores: Mapping[str, float], found: Reviewed, *, at_most: int
) -> tuple[tuple[Claim, ...], Reviewed]:
    """The claims worth keeping, and the review of just these.

    Claims of the gravest conflicts come first, then each facet in turn gives its best, so that no facet crowds out
    another. What the review says of claims that are left out goes with them.
    """
    kept: dict[str, None] = {}
    for conflict in sorted(found.conflicts, key=lambda conflict: -conflict.score)[: at_most // 8]:
        kept.update(dict.fromkeys(conflict.claims))
    ranked = sorted(claims, key=lambda claim: (-scores.get(claim.id, 0.0), claim.id))
    facets = [[claim.id for claim in ranked if claim.facet is facet] for facet in Facet]
    for row in zip_longest(*facets):
        if len(kept) >= at_most:
            break
        kept.update(dict.fromkeys(name for name in row if name is not None))
    chosen = tuple(claim for claim in ranked if claim.id in kept)
    names = {claim.id for claim in chosen}
    weak = tuple(
        spot.model_copy(update={"claims": tuple(name for name in spot.claims if name in names)})
        for spot in found.weak_spots
        if not spot.claims or names.intersection(spot.claims)
    )
    conflicts = tuple(conflict for conflict in found.conflicts if names.issuperset(conflict.claims))
    raisers = {spot.id for spot in weak} | {conflict.id for conflict in conflicts}
    questions = tuple(question for question in found.open_questions if question.raised_by in raisers)
    return chosen, Reviewed(conflicts=conflicts, weak_spots=weak, open_questions=questions)
