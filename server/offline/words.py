"""Words of a text, stemmed, for comparing English and Russian sentences and the identifiers between them."""

import re
from functools import cache, lru_cache
from typing import Any

from karkas.server.offline.cues import stopwords

_TOKEN = re.compile(r"[A-Za-zА-Яа-яЁё][\w]*(?:[.'’-][A-Za-zА-Яа-яЁё0-9_]+)*|\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[А-Яа-яЁё]+|\d+")
_CYRILLIC = re.compile(r"[А-Яа-яЁё]")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|https?://\S+")
_SUFFIXES = (
    ("ational", "ate"), ("ization", "ize"), ("isation", "ize"), ("fulness", "ful"), ("iveness", "ive"),
    ("ations", "ate"), ("ation", "ate"), ("ments", "ment"), ("ities", "ity"), ("ingly", ""), ("ising", "ize"),
    ("izing", "ize"), ("ised", "ize"), ("ies", "y"), ("sses", "ss"), ("ing", ""), ("edly", ""), ("ers", "er"),
    ("ed", ""), ("es", "e"), ("ly", ""), ("s", ""),
)  # fmt: skip

_SHORTEST = 2
_STEM = 3
STOPWORDS = stopwords()


@cache
def _morphology() -> Any:
    import pymorphy3

    return pymorphy3.MorphAnalyzer(lang="ru")


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """A lemma (Russian) or a stem (everything else) in lower case.

    >>> stem("Quantized") == stem("quantizing")
    True
    """
    low = word.lower().strip("'’.-")
    if _CYRILLIC.search(low):
        return str(_morphology().parse(low)[0].normal_form).replace("ё", "е")
    for suffix, ending in _SUFFIXES:
        if low.endswith(suffix) and len(low) - len(suffix) >= _STEM and not low.endswith(("ss", "us", "is")):
            low = low[: -len(suffix)] + ending
            break
    return low[:-1] if low.endswith("e") and len(low) > _STEM + 1 else low


def plain(text: str) -> str:
    """The text with links reduced to their labels."""
    return _LINK.sub(lambda link: link.group(1) or "", text)


def tokens(text: str) -> list[str]:
    """The words as they stand, link targets left out."""
    return _TOKEN.findall(plain(text))


def terms(text: str) -> list[str]:
    """Stems of the content words; an identifier such as `lora_alpha` gives itself and its parts."""
    found: list[str] = []
    for token in tokens(text):
        low = token.lower()
        if low in STOPWORDS or (len(low) < _SHORTEST and not low.isdigit()):
            continue
        found.append(stem(token))
        if "_" in token or "." in token or (token[1:] != token[1:].lower() and not token.isupper()):
            parts = [part for part in _PARTS.findall(token) if len(part) >= _STEM]
            if len(parts) > 1:
                found.extend(stem(part) for part in parts)
    return found


def overlap(first: frozenset[str], second: frozenset[str]) -> float:
    """Jaccard overlap of two sets of terms, 0..1."""
    return len(first & second) / len(first | second) if first and second else 0.0
