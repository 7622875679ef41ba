"""Pairs of claims that may not hold together: what a model is asked to judge, and what nobody has judged yet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from karkas.policies.distillates import Claim, Conflict, ConflictKind, part_id
from karkas.server.documents import Document
from karkas.server.offline.conflicts import conflicts
from karkas.server.offline.statements import OWN_SCOPE, Statement, shared_scope, statements
from karkas.server.offline.subjects import key
from karkas.server.offline.words import overlap
from karkas.server.questions import Review

CANDIDATE = "candidate"
"""The label of a conflict that nobody has judged."""
SAME_SUBJECT, SAME_WORDS = "same-subject@1", "same-words@1"
AT_MOST = 60
"""Pairs that are judged because they are alike, besides those that a rule named."""
_ALIKE = 0.45
"""Overlap of words from which on two claims are compared that name different subjects."""
_NAMED_ALIKE, _TOLD_APART = 0.3, 0.2


@dataclass(frozen=True, slots=True)
class Pair:
    """Two claims in the order of their ids. `conflict` is what they are while nobody has judged them; `by_rule` says
    that a rule found something in them, so that they count as a candidate until then.
    """

    one: Claim
    other: Claim
    conflict: Conflict
    by_rule: bool


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs to judge, the likeliest conflicts first; what earlier reviews judged; how many were alike but too many."""

    open: tuple[Pair, ...]
    judged: tuple[Conflict, ...]
    beyond: int


def pairs_of(question: Review, documents: Sequence[Document]) -> Pairs:
    """Rule-based candidates of new claims, earlier ones that nobody judged, and new claims with others that are like
    them. Without `fresh` and `known` all claims are new.
    """
    claims = {claim.id: claim for claim in question.claims}
    known = [one for one in question.known if all(name in claims for name in one.claims)]
    fresh = set(question.fresh) if question.fresh or question.known else set(claims)
    judged = tuple(one for one in known if one.label != CANDIDATE)
    seen = {frozenset(one.claims) for one in judged}
    found: list[Pair] = []
    for conflict in (
        *(one for one in known if one.label == CANDIDATE),
        *conflicts(question.claims, documents, fresh=fresh),
    ):
        if frozenset(conflict.claims) not in seen:
            seen.add(frozenset(conflict.claims))
            one, other = (claims[name] for name in sorted(conflict.claims)[:2])
            found.append(Pair(one, other, conflict, by_rule=True))
    alike = [
        pair
        for _, pair in sorted(_alike(question.claims, documents, fresh), key=lambda ranked: -ranked[0])
        if frozenset(pair.conflict.claims) not in seen
    ]
    return Pairs((*found, *alike[:AT_MOST]), judged, beyond=max(0, len(alike) - AT_MOST))


def _alike(
    claims: Sequence[Claim], documents: Sequence[Document], fresh: set[str]
) -> Iterator[tuple[float, Pair]]:
    """Claims of different sources on one subject, or in nearly the same words, and how alike they are."""
    known = sorted(statements(claims, documents), key=lambda one: one.claim.id)
    keys = [key(one.claim.subject) for one in known]
    sources = [{span.source for span in one.claim.evidence} for one in known]
    for first, second in combinations(range(len(known)), 2):
        one, other = known[first], known[second]
        if one.claim.id not in fresh and other.claim.id not in fresh:
            continue
        if sources[first] == sources[second] or one.claim.id == other.claim.id:
            continue
        words, named = overlap(one.terms, other.terms), keys[first] == keys[second] != ""
        if not (named or words >= _ALIKE) or one.claim.text == other.claim.text:
            continue
        scope = shared_scope(one.claim, other.claim, OWN_SCOPE)
        if scope is None:
            continue
        rank = words + _NAMED_ALIKE * named + _TOLD_APART * _told_apart(one, other)
        yield rank, _pair(one, other, scope, SAME_SUBJECT if named else SAME_WORDS, rank)


def _pair(one: Statement, other: Statement, scope: dict[str, str], detector: str, rank: float) -> Pair:
    kind = _kind(one, other)
    ids = (one.claim.id, other.claim.id)
    conflict = Conflict(
        id=part_id("k", kind, *ids),
        kind=kind,
        claims=ids,
        scope=scope,
        detector=detector,
        score=min(1.0, round(rank, 3)),
    )
    return Pair(one.claim, other.claim, conflict, by_rule=False)


def _kind(one: Statement, other: Statement) -> ConflictKind:
    """What they would disagree in, by rule: an id that derives from it is the same in every run."""
    if one.is_code != other.is_code:
        return ConflictKind.DOC_VS_CODE
    if _numbers(one) != _numbers(other):
        return ConflictKind.NUMERIC
    return ConflictKind.NEGATION if _deny(one, other) else ConflictKind.DEFINITION


def _told_apart(one: Statement, other: Statement) -> bool:
    return _numbers(one) != _numbers(other) or _deny(one, other)


def _numbers(one: Statement) -> frozenset[str]:
    return frozenset(term for term in one.terms if term[:1].isdigit())


def _deny(one: Statement, other: Statement) -> bool:
    return bool(one.denies & other.affirms or other.denies & one.affirms)
