"""Near-duplicates among documents: marked, never dropped."""

import re
from collections.abc import Sequence

from karkas.server.documents import BlockKind, Document

_WORD = re.compile(r"\w+")
_SHINGLE = 5
_PERMUTATIONS = 64
_LIKELY = 0.7
_ALIKE = 0.85
_COMPARABLE = 20


def near_duplicates(documents: Sequence[Document]) -> dict[str, str]:
    """Source id → id of the earlier document that says nearly the same: equal text, or 85 % of word 5-grams.

    Candidates by MinHash with locality-sensitive hashing (Broder 1997), then the exact Jaccard index.
    """
    from datasketch import MinHash, MinHashLSH

    first_with: dict[str, str] = {}
    shingles: dict[str, frozenset[int]] = {}
    index = MinHashLSH(threshold=_LIKELY, num_perm=_PERMUTATIONS)
    earlier: dict[str, str] = {}
    for document in documents:
        known = first_with.setdefault(document.sha256, document.source)
        if known != document.source:
            earlier[document.source] = earlier.get(known, known)
            continue
        if document.source in shingles:
            continue
        own = shingles[document.source] = _shingles(document)
        if len(own) < _COMPARABLE:
            continue
        sketch = MinHash(num_perm=_PERMUTATIONS, hashfunc=lambda data: int.from_bytes(data, "big"))
        sketch.update_batch([(shingle & 0xFFFFFFFF).to_bytes(4, "big") for shingle in sorted(own)])
        alike = [other for other in map(str, index.query(sketch)) if _jaccard(own, shingles[other]) >= _ALIKE]
        if alike:
            order = list(shingles)
            earlier[document.source] = min(alike, key=order.index)
        else:
            index.insert(document.source, sketch)
    return earlier


def _jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    return len(one & other) / len(one | other)


def _shingles(document: Document) -> frozenset[int]:
    """Hashes of word 5-grams of what the document says, the same in every process."""
    from zlib import crc32

    words: list[str] = []
    for block in document.blocks:
        if block.kind is not BlockKind.OTHER:
            words.extend(_WORD.findall(document.text[block.start : block.end].lower()))
    return frozenset(
        crc32(" ".join(words[place : place + _SHINGLE]).encode("utf-8", "replace"))
        for place in range(max(len(words) - _SHINGLE + 1, 1))
    )
