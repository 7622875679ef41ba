"""Open questions: what a person would ask next, out of conflicts and weak spots. Each can serve as a search query."""

from collections.abc import Iterator, Sequence

from karkas.policies.distillates import (
    Claim,
    Conflict,
    ConflictKind,
    Facet,
    OpenQuestion,
    WeakSpot,
    WeakSpotKind,
    part_id,
)
from karkas.server.offline.parameters import FactRole
from karkas.server.offline.statements import stated_facts
from karkas.server.offline.subjects import clean, cut

_AT_MOST = 25
_FROM_CONFLICTS = 10
_FROM_EACH_KIND = 6
_SAID = 90


def open_questions(
    claims: Sequence[Claim], conflicts: Sequence[Conflict], weak_spots: Sequence[WeakSpot]
) -> list[OpenQuestion]:
    """At most 25, those out of conflicts first."""
    by_id = {claim.id: claim for claim in claims}
    found: dict[str, OpenQuestion] = {}
    for conflict in conflicts[:_FROM_CONFLICTS]:
        one = by_id[conflict.claims[0]]
        text, settle = _of_conflict(conflict, one)
        found.setdefault(
            text, OpenQuestion(id=part_id("q", text), text=text, raised_by=conflict.id, would_settle=settle)
        )
    for kind in WeakSpotKind:
        for spot in [spot for spot in weak_spots if spot.kind is kind][:_FROM_EACH_KIND]:
            for text, settle in _of_weak_spot(spot, [by_id[one] for one in spot.claims if one in by_id]):
                found.setdefault(
                    text,
                    OpenQuestion(id=part_id("q", text), text=text, raised_by=spot.id, would_settle=settle),
                )
    return list(found.values())[:_AT_MOST]


def _of_conflict(conflict: Conflict, one: Claim) -> tuple[str, str]:
    subject = one.subject
    match conflict.kind:
        case ConflictKind.NUMERIC:
            return (
                f"Which value holds for {subject}: {conflict.why}?",
                f"{subject} source code or release notes",
            )
        case ConflictKind.NEGATION:
            return (
                f"Is it so or not: {conflict.why}?",
                f"{subject} support, changelog or a test in the source code",
            )
        case ConflictKind.DEFINITION:
            return f"What is meant: {conflict.why}?", f"{subject} original paper or official definition"
        case ConflictKind.VERSION:
            return (
                f"Which version is needed: {conflict.why}?",
                f"{subject} required version, package metadata",
            )
        case ConflictKind.DOC_VS_CODE:
            return (
                f"Is the documentation or the code out of date: {conflict.why}?",
                f"{subject} changelog, default value",
            )
    return "", ""


def _of_weak_spot(spot: WeakSpot, claims: Sequence[Claim]) -> Iterator[tuple[str, str]]:
    if not claims:
        return
    claim = claims[0]
    subject = claim.subject
    where = next((claim.scope[name] for name in ("framework", "package") if name in claim.scope), "")
    inside = f" in {where}" if where and where.lower() not in subject.lower() else ""
    said = cut(clean(claim.text), _SAID)
    match spot.kind:
        case WeakSpotKind.SINGLE_SOURCE:
            yield _of_lone(claim, inside, where, said)
        case WeakSpotKind.LOW_RANK_SOURCE:
            yield (
                f"Does a weightier source confirm this of {subject}: “{said}”?",
                f"{subject} official documentation",
            )
        case WeakSpotKind.STALE:
            yield (
                f"Does this still hold{inside}: “{said}”?",
                f"{subject} changelog release notes {where}".strip(),
            )
        case WeakSpotKind.NO_EXAMPLE:
            yield f"How is {subject} used{inside}?", f"{subject} example {where}".strip()
        case WeakSpotKind.UNSUPPORTED:
            yield f"What do the sources say of {subject}{inside}: “{said}”?", f"{subject} {where}".strip()
        case WeakSpotKind.UNREADABLE:
            return


def _of_lone(claim: Claim, inside: str, where: str, said: str) -> tuple[str, str]:
    subject = claim.subject
    stated = (fact for fact in stated_facts(claim) if fact.role is FactRole.DEFAULT and fact.name == subject)
    default = next((fact.value for fact in stated if fact.name in claim.text), "")
    match claim.facet:
        case Facet.PARAMETER if default:
            text = f"When should {subject} not stay at {default}{inside}?"
            return text, f"{subject} recommended value {where}".strip()
        case Facet.PARAMETER:
            return f"Which default does {subject} have{inside}?", f"{subject} default value {where}".strip()
        case Facet.LIMITS:
            text = f"Does this limit of {subject} hold everywhere{inside}: “{said}”?"
            return text, f"{subject} limitation {where}".strip()
        case _:
            return f"When is {subject} the better choice{inside}?", f"{subject} comparison {where}".strip()
