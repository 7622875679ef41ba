"""Docstrings: which of their sentences tell more than the name and signature that they stand under."""

import re

from karkas.policies.distillates import Facet
from karkas.server.offline.cues import pattern
from karkas.server.offline.sentences import Passage
from karkas.server.offline.words import terms

_ENTRY = re.compile(
    r"(?::param\s+)?[*`]{0,2}(?P<name>[a-z_](?:\w|\\_)*)[*`]{0,2}\s*(?:\([^)\n]*\))?(?:\s*:\s|\s+-\s)(?!:)"
)
_OUTCOME = re.compile(
    r":?(?:returns?|rtype|raises?|yields?|type|ivar|cvar|meta)\b[^:\n]{0,60}:\s|returns\s*:|\w*Error:\s", re.IGNORECASE
)
_CUT_OFF = re.compile(r":\w+:`[^`]*`,|[a-z]+\s")
"""How the second half of a sentence begins."""
_EXCEPTION = re.compile(r"(?:Error|Exception|Warning|Timeout|Interrupt)$")
_LISTS = frozenset({"args", "arguments", "parameters", "returns", "raises", "yields", "note", "example", "examples"})
_METHOD = 3
"""Headings above a method's docstring: module, class, method."""
_ENTRY_WORDS = 6
_NEW_WORDS = 3
_EXCEPTION_WORDS = 5
_ABOUT = 0.5
"""Of the zone's focus; what is that much about it may say little else."""


def argument(passage: Passage) -> str:
    """The parameter that a part of a docstring describes, or nothing."""
    match = _ENTRY.match(passage.text)
    if match:
        return match["name"]
    return passage.lead if passage.lead[:1].islower() and passage.lead.lower() not in _LISTS else ""


def docstring_facet(passage: Passage, facet: Facet, fit: float) -> Facet | None:
    """The facet of a docstring's sentence, or None where it tells a reader nothing; `fit` is its share in the zone."""
    text = passage.text
    if _OUTCOME.match(passage.quote) or _OUTCOME.match(text) or pattern("version_note").match(text):
        return None
    if pattern("raises").match(text):
        return None
    conditional = pattern("tells").search(text) is not None
    described = argument(passage)
    if (passage.lead and not described) or described.startswith("_") or _CUT_OFF.match(text):
        return None
    if described:
        told = pattern("states_value").search(text) is not None
        return Facet.PARAMETER if told and len(text.split()) >= _ENTRY_WORDS else None
    path = passage.headings[1:]
    name = path[-1] if path else ""
    if not text.endswith((".", ")", "`")) or (passage.kind and pattern("bare_call").match(text) and not conditional):
        return None
    news = len(frozenset(terms(text)) - frozenset(terms(name.replace("_", " "))))
    if news < _NEW_WORDS:
        return None
    if _EXCEPTION.search(path[0] if path else ""):
        keep = fit >= _ABOUT or (conditional and news >= _EXCEPTION_WORDS)
        return Facet.DEFINITION if keep and passage.opens else (facet if keep else None)
    method = len(passage.headings) >= _METHOD
    if method and not conditional and fit < _ABOUT:
        return None
    if pattern("prefers").search(text) and facet in {Facet.MECHANISM, Facet.DEFINITION, Facet.PROCEDURE}:
        return Facet.COMPARISON
    if passage.opens and name[:1].isupper():
        return Facet.DEFINITION if pattern("stands_for").match(text) else facet
    if passage.opens and pattern("plain_act").match(text) and not conditional and fit < _ABOUT:
        return None
    if facet is Facet.COMPARISON and not pattern("chooses").search(text):
        return Facet.MECHANISM if conditional or passage.opens else None
    if facet is Facet.LIMITS and pattern("plain_act").match(text):
        return Facet.MECHANISM
    if facet is Facet.PARAMETER and (name[:1].isupper() or not pattern("states_value").search(text)):
        return Facet.MECHANISM if conditional else None
    return facet
