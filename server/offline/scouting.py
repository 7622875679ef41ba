"""Which candidates to read next: BM25 over title, path and excerpt, the source's rank, and variety."""

import math
from collections import Counter
from collections.abc import Sequence

from karkas.server.offline.words import overlap, terms
from karkas.server.questions import Candidate, Choice, ReadNext, WhatNext

_K1, _B = 1.2, 0.75
_TITLE_WEIGHT = 3
_RANK_WEIGHT = 0.15
_VARIETY_WEIGHT = 0.25


def what_next(question: WhatNext) -> ReadNext:
    """The best `at_most`, each weighed against what was already chosen. `relevance` is 0..1."""
    words = [_words(candidate) for candidate in question.candidates]
    queries = [set(terms(query)) for query in question.queries] + [
        set(terms(question.zone.replace("-", " ")))
    ]
    scores = _bm25(words, queries)
    best = max(scores, default=0.0) or 1.0
    relevance = [score / best for score in scores]
    worth = [
        value + _RANK_WEIGHT * (1 - candidate.rank.weight / 7)
        for value, candidate in zip(relevance, question.candidates, strict=True)
    ]
    order = _varied(
        worth,
        [frozenset(one) for one in words],
        [_folder(one) for one in question.candidates],
        question.at_most,
    )
    return ReadNext(
        choices=tuple(
            Choice(
                key=question.candidates[at].key,
                relevance=round(relevance[at], 4),
                why=_why(words[at], queries),
            )
            for at in order
        )
    )


def _words(candidate: Candidate) -> list[str]:
    path = candidate.path.replace("/", " ").replace("_", " ").replace("-", " ")
    return terms(candidate.title) * _TITLE_WEIGHT + terms(path) * 2 + terms(candidate.excerpt)


def _folder(candidate: Candidate) -> str:
    return candidate.path.rpartition("/")[0]


def _bm25(texts: Sequence[Sequence[str]], queries: Sequence[set[str]]) -> list[float]:
    """Robertson and Zaragoza (2009), the best query's score for each text."""
    count = len(texts)
    frequency = Counter(term for text in texts for term in set(text))
    mean = sum(map(len, texts)) / count if count else 1.0
    scores: list[float] = []
    for text in texts:
        inside = Counter(text)
        long = _K1 * (1 - _B + _B * len(text) / max(mean, 1.0))
        scores.append(
            max(
                (
                    sum(
                        math.log(1 + (count - frequency[term] + 0.5) / (frequency[term] + 0.5))
                        * inside[term] * (_K1 + 1) / (inside[term] + long)
                        for term in sorted(query & inside.keys())
                    )
                    for query in queries
                ),
                default=0.0,
            )
        )  # fmt: skip
    return scores


def _varied(
    worth: Sequence[float], words: Sequence[frozenset[str]], folders: Sequence[str], at_most: int
) -> list[int]:
    left = list(range(len(worth)))
    repeats = [0.0] * len(worth)
    chosen: list[int] = []
    taken: Counter[str] = Counter()
    while left and len(chosen) < at_most:
        best = max(
            left, key=lambda at: (worth[at] - _VARIETY_WEIGHT * repeats[at] - 0.01 * taken[folders[at]], -at)
        )
        left.remove(best)
        chosen.append(best)
        taken[folders[best]] += 1
        for at in left:
            repeats[at] = max(repeats[at], overlap(words[at], words[best]))
    return chosen


def _why(words: Sequence[str], queries: Sequence[set[str]]) -> str:
    hits = sorted(set(words) & set().union(*queries))
    return f"speaks of {', '.join(hits[:5])}" if hits else "no word of the queries; by rank and for variety"
