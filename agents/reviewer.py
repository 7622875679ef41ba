"""The reviewer: whether claims are carried by their passages; conflicts, weak spots and open questions."""

from collections.abc import Sequence

from karkas.agents.prompts import instructions
from karkas.policies.distillates import (
    Claim,
    ClaimMode,
    Confidence,
    Conflict,
    SourceRecord,
    SourceStatus,
    Support,
    SupportLabel,
    WeakSpot,
    WeakSpotKind,
    part_id,
)
from karkas.server.documents import Document
from karkas.server.protocol import Engine, Reply, Request, Role
from karkas.server.questions import CheckSupport, Review, Reviewed, SupportChecked, Supported


async def check_support(
    engine: Engine, *, zone: str, claims: Sequence[Claim], documents: Sequence[Document]
) -> tuple[Claim, ...]:
    """The claims, those that could be judged with what their passages say of them; the others as they were.

    An engine that cannot judge it is not asked.
    """
    if not claims or not engine.answers(CheckSupport):
        return tuple(claims)
    reply = await engine.ask(
        Request(
            role=Role.REVIEWER,
            instructions=instructions(Role.REVIEWER),
            documents=documents,
            question=CheckSupport(zone=zone, claims=tuple(claims)),
            answer=SupportChecked,
        )
    )
    judged = {one.claim: one for one in reply.value.claims}
    return tuple(
        _supported(claim, judged[claim.id], by=f"{Role.REVIEWER}/{reply.engine}")
        if claim.id in judged and claim.mode is ClaimMode.ABSTRACTIVE
        else claim
        for claim in claims
    )


def _supported(claim: Claim, judged: Supported, *, by: str) -> Claim:
    """The claim as judged. Only doubt changes its confidence: that its passages say it, makes no source better."""
    told = {"support": Support(label=judged.label, checked_by=by)}
    if judged.label not in _DOUBTED:
        return claim.model_copy(update=told)
    why = _DOUBTED[judged.label] + (f": {judged.why}" if judged.why else "")
    return claim.model_copy(update={**told, "confidence": Confidence(level="low", why=why)})


_DOUBTED = {
    SupportLabel.CONTRADICTED: "its passages say otherwise",
    SupportLabel.UNCLEAR: "its passages do not say it",
}


async def review(
    engine: Engine,
    *,
    zone: str,
    claims: Sequence[Claim],
    documents: Sequence[Document],
    today: str,
    fresh: Sequence[str] = (),
    known: Sequence[Conflict] = (),
) -> Reply[Reviewed]:
    """`fresh` names the claims that no review has seen yet, `known` what earlier ones found among the others."""
    return await engine.ask(
        Request(
            role=Role.REVIEWER,
            instructions=instructions(Role.REVIEWER),
            documents=documents,
            question=Review(
                zone=zone, claims=tuple(claims), today=today, fresh=tuple(fresh), known=tuple(known)
            ),
            answer=Reviewed,
        )
    )


def unreadable(sources: Sequence[SourceRecord]) -> tuple[WeakSpot, ...]:
    """A weak spot for each source that could not be read."""
    return tuple(
        WeakSpot(
            id=part_id("w", WeakSpotKind.UNREADABLE, source.id),
            kind=WeakSpotKind.UNREADABLE,
            why=f"{next(iter(source.locator.values()), source.id)}: {source.reason}",
        )
        for source in sources
        if source.status is SourceStatus.UNREADABLE
    )


def with_doubts(claims: Sequence[Claim], conflicts: Sequence[Conflict]) -> tuple[Claim, ...]:
    """The claims, those in a conflict with low confidence and the conflict as the reason."""
    doubts = {claim: conflict.id for conflict in reversed(conflicts) for claim in conflict.claims}
    return tuple(
        claim.model_copy(update={"confidence": Confidence(level="low", why=f"conflict {doubts[claim.id]}")})
        if claim.id in doubts
        else claim
        for claim in claims
    )
