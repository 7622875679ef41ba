"""Claims out of documents: ranked inside each facet, balanced, near-duplicates merged into one with more evidence."""

from collections import Counter
from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from karkas.policies.distillates import Facet
from karkas.server.documents import BlockKind, Document
from karkas.server.offline.scoring import Ranked, candidates
from karkas.server.offline.subjects import key, scope_of
from karkas.server.offline.words import overlap
from karkas.server.questions import Citation, Distil, Distilled, DraftClaim

_SHARES = {
    Facet.DEFINITION: 0.17,
    Facet.MECHANISM: 0.19,
    Facet.PARAMETER: 0.22,
    Facet.LIMITS: 0.17,
    Facet.COMPARISON: 0.12,
    Facet.PROCEDURE: 0.13,
}
_SAME = 0.72
_PER_SUBJECT = 3


def distil(question: Distil, documents: Sequence[Document]) -> Distilled:
    """At most `at_most` claims, best first within each facet."""
    ranked = candidates(question, documents)
    chosen = _select(ranked, documents, question.at_most)
    return Distilled(claims=tuple(_draft(one, others, documents) for one, others in chosen))


def _select(
    ranked: Sequence[Ranked], documents: Sequence[Document], at_most: int
) -> list[tuple[Ranked, list[Ranked]]]:
    """Fills each facet's share, then the rest by score. Beside each claim stand its near-duplicates elsewhere."""
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
            if _speaks_of_another(one, other) and not same_document:
                continue
            if overlap(one.terms, other.terms) >= _SAME and one.values == other.values:
                if not same_document and all(echo.passage.document != document for echo in echoes):
                    echoes.append(one)
                return False
        self.taken.append((one, []))
        self._of_document[document] += 1
        self._of_home[self._homes[document]] += 1
        self._of_subject[key(one.subject), one.facet] += 1
        return True


def _speaks_of_another(one: Ranked, other: Ranked) -> bool:
    """Whether their like parameters belong to things of different names."""
    return one.passage.kind is BlockKind.SIGNATURE and key(one.subject) != key(other.subject)


def _draft(one: Ranked, echoes: Sequence[Ranked], documents: Sequence[Document]) -> DraftClaim:
    passage = one.passage
    return DraftClaim(
        facet=one.facet,
        subject=one.subject,
        scope=scope_of(passage, documents[passage.document]),
        text=passage.text,
        mode=passage.mode,
        cites=tuple(
            Citation(document=each.passage.document, quote=each.passage.quote, start=each.passage.start)
            for each in (one, *echoes)
        ),
        score=round(one.score, 4),
    )
