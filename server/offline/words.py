"""Words of a text, stemmed, for comparing English and Russian sentences and the identifiers between them."""

import re
from functools import cache, lru_cache
from typing import Any

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

STOPWORDS = frozenset(
    """a an the and or but if then else of to in on at by for from with without into onto over under as is are was
    were be been being am do does did done have has had having will would can could may might shall should must not
    no nor so such than that this these those it its they them their there here he she we us our you your i me my
    one two also very more most much many some any each every all both few other another own same just only too
    when where which who whom whose why how what while because about between through during before after above
    below up down out off again further once e.g i.e etc use used using via per like make makes get gets
    и в во на с со к ко по за из от до для о об при не ни но а или как что это этот эта эти тот та те то он она оно
    они мы вы я ты его её их наш ваш мой свой же ли бы был была было были быть есть если когда где чтобы так также
    уже ещё только все всё весь вся может можно нужно очень более менее между под над без через который""".split()
)


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
        if low.endswith(suffix) and len(low) - len(suffix) >= 3 and not low.endswith(("ss", "us", "is")):
            low = low[: -len(suffix)] + ending
            break
    return low[:-1] if low.endswith("e") and len(low) > 4 else low


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
        if low in STOPWORDS or len(low) < 2 and not low.isdigit():
            continue
        found.append(stem(token))
        if "_" in token or "." in token or (token[1:] != token[1:].lower() and not token.isupper()):
            parts = [part for part in _PARTS.findall(token) if len(part) > 2]
            if len(parts) > 1:
                found.extend(stem(part) for part in parts)
    return found


def overlap(first: frozenset[str], second: frozenset[str]) -> float:
    """Jaccard overlap of two sets of terms, 0..1."""
    return len(first & second) / len(first | second) if first and second else 0.0
