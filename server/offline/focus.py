"""What a zone is about beyond its name: the words that its sources use where they speak of it.

Relevance feedback after Rocchio (1971): terms are weighed by how much commoner they are in passages that name the
zone than elsewhere.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

_FEW = 3
"""Passages that name the zone, below which nothing can be learnt from them."""
_MOST = 0.4
"""Share of passages that name the zone, above which everything is about it and its name tells nothing apart."""
_LEARNT = 14
_LEARNT_WEIGHT = 0.6
_TOLD = 0.2
"""What a word weighs that a source uses to introduce itself."""


class Focus:
    """Words of a zone, each with its weight."""

    def __init__(
        self, name: frozenset[str], texts: Sequence[frozenset[str]], told: Iterable[str] = ()
    ) -> None:
        self.weights = dict.fromkeys(told, _TOLD) | _learnt(name, texts) | dict.fromkeys(name, 1.0)

    def fit(self, terms: Iterable[str]) -> float:
        """How much a text with these terms is about the zone, 0..1."""
        return min(1.0, sum(self.weights.get(term, 0.0) for term in frozenset(terms)))


def _learnt(name: frozenset[str], texts: Sequence[frozenset[str]]) -> dict[str, float]:
    hits = [text for text in texts if not name.isdisjoint(text)]
    if not _FEW <= len(hits) <= _MOST * len(texts):
        return {}
    near, everywhere = (
        Counter(term for text in hits for term in text),
        Counter(t for text in texts for t in text),
    )
    gains = {
        term: count / len(hits) * math.log(count * len(texts) / (len(hits) * everywhere[term]))
        for term, count in near.items()
        if count >= _FEW and term not in name
    }
    best = sorted(gains, key=lambda term: (-gains[term], term))[:_LEARNT]
    return {term: _LEARNT_WEIGHT * gains[term] / gains[best[0]] for term in best if gains[term] > 0}
