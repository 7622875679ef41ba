"""Signatures as a caller reads them: the parameters whose defaults say something, and how much they say."""

import re
from collections.abc import Iterator

from karkas.server.offline.cues import pattern
from karkas.server.offline.parameters import is_number, signature_defaults

_CALLABLE = re.compile(r"\s*(?:@.*\n\s*)*(?:async\s+)?def\s+(?P<name>\w+)\s*\(")
_CONSTANT = re.compile(r"\s*(?P<name>[A-Z][A-Z0-9_]*)\s*[:=]")
_TOKEN = re.compile(
    r"#[^\n]*|\"\"\".*?\"\"\"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|[()\[\]{},]", re.DOTALL
)
_ASIDE = re.compile(r"(?:\s|#[^\n]*\n)*")
_EMPTY = frozenset({"none", "", "()", "[]", "{}", "b"})
_VITAL = 1.5
_TUNED = 1.0
_PLAIN = 0.4
_WORDED = 0.8
"""What a default that is no number tells beside one that is."""
_WORDS = 16
"""Code points; a longer string with spaces is a message and no setting."""
_BY_THE_WAY = 0.6
_BUILT = 0.6
"""What an object adds that shows the values that it was made of, as `Timeout(timeout=5.0)`."""
_READABLE = 150
"""Code points; a longer list of parameters is not read."""


def told(signature: str) -> tuple[int, int]:
    """The range of the parameters, next to one another, whose defaults say most; the whole where none says anything.

    >>> text = "def wait(self, low: float = 2, high=None) -> int:"
    >>> text[slice(*told(text))]
    'low: float = 2'
    """
    opening = _CALLABLE.match(signature)
    if opening is None:
        return 0, len(signature)
    pieces = [
        (start, end, sum(_values(signature_defaults(signature[start:end]))))
        for start, end in _pieces(signature, opening.end())
    ]
    best = (0.0, 0, len(signature))
    for at, (start, _, own) in enumerate(pieces):
        total = 0.0
        for _, end, weight in pieces[at:]:
            if "#" in signature[start:end]:
                break
            total += weight
            if own and weight and (end - start <= _READABLE or end == pieces[at][1]) and total > best[0]:
                best = (total, start, end)
    return best[1:]


def worth(signature: str) -> float:
    """How much its defaults tell a caller, 0..1; 0 for what is private or no parameter."""
    defaults = signature_defaults(signature)
    name = _CALLABLE.match(signature)
    if "# " in signature[slice(*told(signature))] or (
        name and name["name"].startswith("_") and name["name"] not in {"__init__", "__new__"}
    ):
        return 0.0
    total = sum(_values(defaults))
    if name is None and "," not in signature and total < _TUNED * _WORDED:
        return 0.0  # a field or constant by itself must at least be something that is tuned
    constant = _CONSTANT.match(signature)
    total *= 1.0 if constant is None or "DEFAULT" in constant["name"] else _BY_THE_WAY
    return min(1.0, total / 2) if total >= _PLAIN * _WORDED else 0.0


def _values(defaults: dict[str, str]) -> Iterator[float]:
    """What each default that says something is worth to a caller."""
    for name, value in defaults.items():
        built = "(" in value and "=" in value
        if value in _EMPTY or name.startswith("_") or (" " in value and not built and len(value) > _WORDS):
            continue
        weight = (
            _VITAL if pattern("vital").search(name) else _TUNED if pattern("tuning").search(name) else _PLAIN
        )
        yield _BUILT * built + weight * (1.0 if is_number(value) else _WORDED)


def _pieces(text: str, at: int) -> Iterator[tuple[int, int]]:
    depth, start = 0, at
    for token in _TOKEN.finditer(text, at):
        mark = token.group()
        if (mark == "," and depth == 0) or (mark == ")" and depth == 0):
            lead = _ASIDE.match(text, start, token.start())
            yield lead.end() if lead else start, start + len(text[start : token.start()].rstrip())
            start = token.end()
            if mark == ")":
                return
        elif mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth -= 1
