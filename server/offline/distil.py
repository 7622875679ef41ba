"""Claims out of documents: cut, judged by facet, ranked inside each facet, balanced, near-duplicates merged."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import combinations

from karkas.policies.distillates import ClaimMode, Facet
from karkas.server.offline.facets import facet_of
from karkas.server.offline.filler import blemish, is_filler
from karkas.server.offline.parameters import FactRole, facts, identifiers, signature_defaults
from karkas.server.offline.ranking import relevance, salience, weights
from karkas.server.offline.sentences import Passage, passages
from karkas.server.offline.subjects import key, scope_of, subject_of
from karkas.server.offline.words import overlap, terms
from karkas.server.protocol import BlockKind, Citation, Distil, Distilled, Document, DraftClaim

_SHARES = {
    Facet.DEFINITION: 0.17,
    Facet.MECHANISM: 0.19,
    Facet.PARAMETER: 0.22,
    Facet.LIMITS: 0.17,
    Facet.COMPARISON: 0.12,
    Facet.PROCEDURE: 0.13,
}
_WEAKEST = 0.3
"""A candidate that scores less is not worth a person's time, even where there is room for it."""
_SAME = 0.72
_ALIKE = 0.5
_CONTESTED = 0.2
"""What a claim gains where another document says nearly the same with another value: a person must see both."""
_PER_SUBJECT = 3
_COMPARED = 40
_NUMBERS_MATTER = frozenset({FactRole.DEFAULT, FactRole.RESULT, FactRole.RECOMMENDED, FactRole.VERSION})


@dataclass(frozen=True, slots=True)
class Ranked:
    """A passage with everything that selection needs."""

    passage: Passage
    facet: Facet
    subject: str
    terms: frozenset[str]
    values: frozenset[str]
    """Stated values and numbers: two passages that differ here are never the same claim."""
    score: float


def distil(question: Distil, documents: Sequence[Document]) -> Distilled:
    """At most `at_most` claims, best first within each facet."""
    ranked = candidates(question, documents)
    chosen = _select(ranked, documents, question.at_most)
    return Distilled(claims=tuple(_draft(one, others, documents) for one, others in chosen))


def candidates(question: Distil, documents: Sequence[Document]) -> list[Ranked]:
    """Every passage that could be a claim, scored 0..1."""
    queries = [frozenset(terms(query)) for query in question.queries]
    zone = frozenset(terms(question.zone.replace("-", " ").replace("_", " ")))
    found: list[Ranked] = []
    cut = [passages(index, document) for index, document in enumerate(documents)]
    words = [[terms(passage.text) for passage in one] for one in cut]
    idf = weights([[term for passage in one for term in passage] for one in words])
    for document, own, own_words in zip(documents, cut, words, strict=True):
        central = salience([passage.text for passage in own], own_words)
        about = frozenset(terms(f"{document.title} {document.path}"))
        for passage, passage_words, weight in zip(own, own_words, central, strict=True):
            cue = facet_of(passage.text, passage.headings, passage.kind)
            if cue is None or passage.anaphoric or is_filler(passage.text, passage.kind, cue.facet):
                continue
            own_terms = frozenset(passage_words)
            context = own_terms | about | frozenset(terms(" ".join(passage.headings)))
            fit = (
                0.5 * relevance(context, [zone], idf) + 0.5 * relevance(own_terms, [zone], idf)
                if zone
                else 0.0
            )
            asked = relevance(own_terms, queries, idf)
            concrete, values = _concrete(passage)
            score = (
                0.36 * cue.strength
                + 0.16 * min(1.0, weight)
                + 0.13 * concrete
                + 0.10 * fit
                + 0.13 * (asked if queries else fit)
                + 0.07 * (1 - document.rank.weight / 7)
                + 0.05 * (1 - passage.place)
                - 0.45 * blemish(passage.text)
            )
            if score >= _WEAKEST:
                found.append(
                    Ranked(
                        passage,
                        cue.facet,
                        subject_of(passage, document.title),
                        own_terms,
                        values,
                        min(1.0, score),
                    )
                )
    return _contested(found)


def _contested(found: list[Ranked]) -> list[Ranked]:
    by_subject: dict[str, list[int]] = defaultdict(list)
    for at, one in enumerate(found):
        if one.values:
            by_subject[key(one.subject)].append(at)
    raised: set[int] = set()
    for places in by_subject.values():
        for first, second in combinations(places[:_COMPARED], 2):
            one, other = found[first], found[second]
            elsewhere = one.passage.document != other.passage.document
            if elsewhere and one.values != other.values and overlap(one.terms, other.terms) >= _ALIKE:
                raised |= {first, second}
    return [
        replace(one, score=min(1.0, one.score + _CONTESTED)) if at in raised else one
        for at, one in enumerate(found)
    ]


def _concrete(passage: Passage) -> tuple[float, frozenset[str]]:
    """How much of the passage a reader could check or set, 0..1, and the values that it states."""
    if passage.kind is BlockKind.SIGNATURE:
        defaults = signature_defaults(passage.text)
        return min(1.0, 0.25 * len(defaults)), frozenset(
            f"{name}={value}" for name, value in defaults.items()
        )
    stated = facts(passage.text)
    values = frozenset(fact.value for fact in stated) | {
        word for word in passage.text.split() if word[:1].isdigit()
    }
    strength = 0.6 * any(fact.role in _NUMBERS_MATTER for fact in stated)
    strength += 0.4 * any(fact.role is FactRole.RESULT for fact in stated)
    strength += 0.15 * min(3, len(identifiers(passage.text)))
    return min(1.0, strength + 0.15 * bool(values)), values


def _select(
    ranked: Sequence[Ranked], documents: Sequence[Document], at_most: int
) -> list[tuple[Ranked, list[Ranked]]]:
    """Fills each facet's share, then what is left over by score. Beside each claim stand its near-duplicates elsewhere."""
    choice = _Choice(documents, per_document=max(3, 4 * at_most // max(1, len(documents))))
    for facet, share in _SHARES.items():
        room = min(round(share * at_most), at_most - len(choice.taken))
        choice.fill([one for one in ranked if one.facet is facet], room)
    choice.fill(ranked, at_most - len(choice.taken))
    order = list(_SHARES)
    return sorted(choice.taken, key=lambda pair: (order.index(pair[0].facet), -pair[0].score))


class _Choice:
    """What was chosen so far: no claim twice, no document, framework or subject that crowds out the others."""

    def __init__(self, documents: Sequence[Document], per_document: int) -> None:
        self.taken: list[tuple[Ranked, list[Ranked]]] = []
        self._homes = [
            document.meta.get("framework") or document.meta.get("package") or "" for document in documents
        ]
        self._homes_known = len(set(self._homes))
        self._per_document = per_document
        self._of_document: Counter[int] = Counter()
        self._of_home: Counter[str] = Counter()
        self._of_subject: Counter[tuple[str, Facet]] = Counter()

    def fill(self, ranked: Sequence[Ranked], room: int) -> None:
        """Takes the best, one after another, each weighed against what it would repeat."""
        queue = [
            (-one.score, one.passage.document, one.passage.start, at, one) for at, one in enumerate(ranked)
        ]
        heapify(queue)
        while queue and room > 0:
            _, *place, one = heappop(queue)
            worth = one.score - self._crowding(one)
            if queue and -worth > queue[0][0]:
                heappush(queue, (-worth, place[0], place[1], place[2], one))
            else:
                room -= self._admit(one)

    def _crowding(self, one: Ranked) -> float:
        home = self._homes[one.passage.document]
        share = self._of_home[home] / max(1, len(self.taken)) - 1 / max(1, self._homes_known)
        return (
            0.02 * self._of_document[one.passage.document]
            + 0.06 * self._of_subject[key(one.subject), one.facet]
            + 0.12 * max(0.0, share)
        )

    def _admit(self, one: Ranked) -> bool:
        document = one.passage.document
        if (
            self._of_document[document] >= self._per_document
            or self._of_subject[key(one.subject), one.facet] >= _PER_SUBJECT
        ):
            return False
        for other, echoes in self.taken:
            same_document = other.passage.document == document
            if (
                same_document
                and one.passage.start < other.passage.end
                and other.passage.start < one.passage.end
            ):
                return False
            if overlap(one.terms, other.terms) >= _SAME and one.values == other.values:
                if not same_document and all(echo.passage.document != document for echo in echoes):
                    echoes.append(one)
                return False
        self.taken.append((one, []))
        self._of_document[document] += 1
        self._of_home[self._homes[document]] += 1
        self._of_subject[key(one.subject), one.facet] += 1
        return True


def _draft(one: Ranked, echoes: Sequence[Ranked], documents: Sequence[Document]) -> DraftClaim:
    cites = [
        Citation(document=each.passage.document, quote=each.passage.quote, start=each.passage.start)
        for each in (one, *echoes)
    ]
    passage = one.passage
    return DraftClaim(
        facet=one.facet,
        subject=one.subject,
        scope=scope_of(passage, documents[passage.document]),
        text=passage.text,
        mode=passage.mode if passage.mode is not ClaimMode.ABSTRACTIVE else ClaimMode.VERBATIM,
        cites=tuple(cites),
        score=round(one.score, 4),
    )
