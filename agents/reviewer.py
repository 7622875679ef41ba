"""The reviewer: conflicts, weak spots and open questions."""

from collections.abc import Sequence

from karkas.agents.prompts import instructions
from karkas.policies.distillates import (
    Claim,
    Confidence,
    Conflict,
    SourceRecord,
    SourceStatus,
    WeakSpot,
    WeakSpotKind,
    part_id,
)
from karkas.server.documents import Document
from karkas.server.protocol import Engine, Reply, Request, Role
from karkas.server.questions import Review, Reviewed


async def review(
    engine: Engine, *, zone: str, claims: Sequence[Claim], documents: Sequence[Document], today: str
) -> Reply[Reviewed]:
    return await engine.ask(
        Request(
            role=Role.REVIEWER,
            instructions=instructions(Role.REVIEWER),
            documents=documents,
            question=Review(zone=zone, claims=tuple(claims), today=today),
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
