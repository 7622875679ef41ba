"""How central a sentence is among its neighbours, how plainly it states a contribution, how well it fits a query.

`salience` is what `benchmarks/scitldr.py` measures. TextRank is Mihalcea and Tarau (2004) over TF-IDF cosines.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from karkas.server.offline.cues import contribution_cues, pattern

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DAMPING = 0.85
_ROUNDS = 30
_WINDOW = 400
"""Sentences that are compared with one another; a longer document is cut, so that time stays linear."""


def weights(texts: Sequence[Sequence[str]]) -> dict[str, float]:
    """Inverse document frequency of each term, smoothed."""
    counts = Counter(term for terms in texts for term in set(terms))
    return {term: math.log((1 + len(texts)) / (0.5 + count)) for term, count in counts.items()}


def similarity(texts: Sequence[Sequence[str]]) -> "NDArray[np.float32]":
    """Cosines of TF-IDF vectors, shape (n, n), zero on the diagonal."""
    import numpy as np

    idf = weights(texts)
    columns = {term: number for number, term in enumerate(sorted(idf))}
    matrix = np.zeros((len(texts), max(len(columns), 1)), dtype=np.float32)
    for row, terms in enumerate(texts):
        for term, count in Counter(terms).items():
            matrix[row, columns[term]] = (1 + math.log(count)) * idf[term]
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    matrix /= np.where(lengths == 0, 1, lengths)
    cosines = matrix @ matrix.T
    np.fill_diagonal(cosines, 0)
    found: NDArray[np.float32] = np.maximum(cosines, 0)
    return found


def textrank(texts: Sequence[Sequence[str]]) -> list[float]:
    """Centrality of each text (given as its terms), scaled so that the most central has 1."""
    if not texts:
        return []
    if len(texts) > _WINDOW:
        return [score for at in range(0, len(texts), _WINDOW) for score in textrank(texts[at : at + _WINDOW])]
    import numpy as np

    cosines = similarity(texts)
    sums = cosines.sum(axis=1, keepdims=True)
    step = np.where(sums > 0, cosines / np.where(sums > 0, sums, 1), 1 / len(texts))
    scores = np.full(len(texts), 1 / len(texts))
    for _ in range(_ROUNDS):
        scores = (1 - _DAMPING) / len(texts) + _DAMPING * (scores @ step)
    return [float(score) for score in scores / scores.max()]


def contribution(sentence: str) -> float:
    """How plainly a sentence says what a work brings, 0..1; below 0 where it only sets the scene."""
    strength = max((weight for weight, cue in contribution_cues() if cue.search(sentence)), default=0.0)
    return strength - (0.3 if not strength and pattern("setting").search(sentence) else 0.0)


def salience(sentences: Sequence[str], texts: Sequence[Sequence[str]]) -> list[float]:
    """TextRank plus contribution cues, each about 0..1, for the sentences of one document in reading order."""
    return [
        central + contribution(sentence) for central, sentence in zip(textrank(texts), sentences, strict=True)
    ]


def relevance(terms: frozenset[str], queries: Sequence[frozenset[str]], idf: dict[str, float]) -> float:
    """The best share of a query's weight that the terms cover, 0..1."""
    best = 0.0
    for query in queries:
        total = sum(idf.get(term, 0.0) for term in query)
        if total > 0:
            best = max(best, sum(idf.get(term, 0.0) for term in query & terms) / total)
    return best
