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
    r":?(?:returns?|rtype|raises?|yields?|type|ivar|cvar|meta)\b[^:\n]{0,60}:\s|returns\s*:|\w*Error:\s",
    re.IGNORECASE,
)
_CUT_OFF = re.compile(r":\w+:`[^`]*`,|[a-z]+\s|For (?:example|instance)\b")
"""How the second half of a thought begins."""
_EXCEPTION = re.compile(r"(?:Error|Exception|Warning|Timeout|Interrupt)$")
_LISTS = frozenset(
    {"args", "arguments", "parameters", "returns", "raises", "yields", "note", "example", "examples"}
)
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
    """The facet of a docstring's sentence, or None where it tells a reader nothing.

    `fit` says how much the sentence and its owner are about the zone, 0..1.
    """
    if _is_aside(passage):
        return None
    if argument(passage):
        told = pattern("states_value").search(passage.text) is not None
        return Facet.PARAMETER if told and len(passage.text.split()) >= _ENTRY_WORDS else None
    return None if _restates(passage, fit) else _told(passage, facet)


def _is_aside(passage: Passage) -> bool:
    """Whether it lists outcomes, tells of versions, is private, or is no whole sentence."""
    text, described = passage.text, argument(passage)
    unfinished = not described and not text.endswith((".", ")", "`"))
    return (
        unfinished
        or bool(passage.lead and not described)
        or described.startswith("_")
        or any(each.match(text) for each in (_OUTCOME, _CUT_OFF, pattern("version_note"), pattern("raises")))
        or _OUTCOME.match(passage.quote) is not None
    )


def _restates(passage: Passage, fit: float) -> bool:
    """Whether it says little more than the name of what it stands under."""
    text, path = passage.text, passage.headings[1:]
    name = path[-1] if path else ""
    new = len(frozenset(terms(text)) - frozenset(terms(name.replace("_", " "))))
    about, conditional = fit >= _ABOUT, pattern("tells").search(text) is not None
    if new < _NEW_WORDS:
        return True
    if _EXCEPTION.search(path[0] if path else ""):
        return not about and (not conditional or new < _EXCEPTION_WORDS)
    if about or conditional:
        return False
    opens_callable = passage.opens and not name[:1].isupper()
    return (
        len(passage.headings) >= _METHOD
        or pattern("bare_call").match(text) is not None
        or (opens_callable and pattern("plain_act").match(text) is not None)
    )


def _told(passage: Passage, facet: Facet) -> Facet | None:
    """What it really says, where its words made it look like something else."""
    text = passage.text
    conditional = pattern("tells").search(text) is not None
    name = passage.headings[-1] if len(passage.headings) > 1 else ""
    if passage.opens and (
        pattern("stands_for").match(text) if name[:1].isupper() else _EXCEPTION.search(name)
    ):
        return Facet.DEFINITION
    match facet:
        case Facet.MECHANISM | Facet.DEFINITION | Facet.PROCEDURE:
            return Facet.COMPARISON if pattern("prefers").search(text) else facet
        case Facet.COMPARISON:
            chooses = pattern("chooses").search(text) is not None
            return facet if chooses else Facet.MECHANISM if conditional or passage.opens else None
        case Facet.LIMITS:
            return Facet.MECHANISM if pattern("plain_act").match(text) else facet
        case Facet.PARAMETER if name[:1].isupper() or not pattern("states_value").search(text):
            return Facet.MECHANISM if conditional else None
        case _:
            return facet
