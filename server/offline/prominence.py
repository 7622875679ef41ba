"""Which names a zone's documents speak of most: what many documents use matters more than what one uses."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from karkas.policies.distillates import SourceRank
from karkas.server.documents import BlockKind, Document
from karkas.server.offline.subjects import key

_NAME = re.compile(r"[A-Za-z]\w*_\w+|\b(?:[A-Z]+[a-z0-9]+){2,}\b|`([A-Za-z]\w*)`|\b[A-Z][A-Za-z]*[A-Z]\b")
_SET = re.compile(r"(?:^[ \t]*|[(,]\s*|--)([A-Za-z]\w*)\s*[=:](?![=/])", re.MULTILINE)
_PART = 0.4
_TAUGHT = 0.35
"""What a name gains where not only code but documentation uses it."""
_HEADING_WORD = re.compile(r"\w[\w-]+")


def prominence(documents: Sequence[Document]) -> dict[str, float]:
    """Key of a name → 0..1 by the logarithm of the number of documents that use it."""
    counts: Counter[str] = Counter()
    taught: set[str] = set()
    for document in documents:
        names = {match.group(1) or match.group() for match in _NAME.finditer(document.text)}
        names |= set(_HEADING_WORD.findall(document.title))
        for block in document.blocks:
            if block.kind is BlockKind.CODE:
                names |= set(_SET.findall(document.text, block.start, block.end))
        keys = {key(name) for name in names}
        counts.update(keys)
        if document.rank is not SourceRank.CODE:
            taught |= keys
    highest = math.log1p(max(counts.values(), default=1))
    of_code = any(document.rank is SourceRank.CODE for document in documents)
    return {
        name: min(1.0, math.log1p(count) / highest + _TAUGHT * (of_code and name in taught))
        for name, count in counts.items()
        if name and (count > 1 or name in taught)
    }


def prominence_of(subject: str, known: dict[str, float]) -> float:
    """Of the subject as a whole, or a little less of its most prominent name."""
    whole = known.get(key(subject), 0.0)
    parts = [known.get(key(word), 0.0) for word in re.findall(r"[\w.]+", subject) if len(word) > 1]
    return max(whole, _PART * max(parts, default=0.0))
