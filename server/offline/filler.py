"""What a document says that is no knowledge of the zone: pointers, greetings, badges, advertising, fragments."""

import re

from karkas.policies.distillates import Facet
from karkas.server.documents import BlockKind
from karkas.server.offline.cues import filler_cue, tagline
from karkas.server.offline.sentences import cells
from karkas.server.offline.signatures import worth
from karkas.server.offline.words import plain, tokens

_MARKUP = re.compile(r"<[a-zA-Z/][^>]*>|\[\[|:::|\{\{|!\[|^\s*[|#]|\\begin|^\s*```|@\w+\{")
_MATH = re.compile(r"\$[^$]*\$|\\[a-zA-Z]+")
_LITERAL_CELL = re.compile(r"`?(?:true|false|none|null|\d[\d.]*)`?$", re.IGNORECASE)
_CODED_MATH = re.compile(r"`[^`]*(?:[\^Σ@×]|\[:)[^`]*`")
_VERDICT = re.compile("[✅❌⚠✓✗🟢]|^(?:yes|no)$", re.IGNORECASE)
_QUESTION = re.compile(r"[\w)`\]'\"]\?(?:\s|$)")
_NAME = re.compile(r"[\w.]*[_.=(]|[a-z]+[A-Z0-9]")
_CUT_OFF = frozenset("?,(…-/")
_OPEN_END = re.compile(
    r"[.!?]\s|\b(?:to|by|with|are|is|as|that|following|for|of|ways|below|виду|включая|следующ\w+):$"
)
_DROPPED = ("chatter", "news", "personal")
_OWN_WORDS = 0.4
"""Share of a text that is left when links and formulae are reduced; with less it is a list of links."""
_TERSE = 8
_LONG_ENOUGH = 6
_ITEM_LONG_ENOUGH = 4
_LONG_LIMIT = 18
"""Words; a limit that says this much is worth keeping although it also points elsewhere."""
_ROW_PROSE = 5


def is_fragment(text: str, kind: BlockKind) -> bool:
    """Whether the words by themselves are no sentence: markup, too short, a question, cut off, without a verb."""
    if kind in {BlockKind.SIGNATURE, BlockKind.ROW}:
        return False
    bare = _MATH.sub(" ", plain(text))
    enough = _ITEM_LONG_ENOUGH if kind is BlockKind.ITEM else _LONG_ENOUGH
    return (
        len(tokens(text)) < enough
        or _MARKUP.search(text) is not None
        or _QUESTION.search(bare) is not None
        or text.rstrip("*_ ")[-1:] in _CUT_OFF
        or text.endswith(("...", "e.g.", "!"))
        or len(bare) < len(text) * _OWN_WORDS
        or not _has_form(bare, kind)
    )


def is_filler(text: str, kind: BlockKind, facet: Facet, columns: tuple[str, ...] = ()) -> bool:
    """Whether a reader who wants to know how the zone works loses nothing without it."""
    match kind:
        case BlockKind.SIGNATURE:
            return not worth(text)
        case BlockKind.ROW:
            return not _row_speaks(text, facet, columns)
        case _:
            bare = _MATH.sub(" ", plain(text))
            cut_off = text.endswith(":") and (
                facet is not Facet.DEFINITION or _OPEN_END.search(text) is not None
            )
            excused = facet is Facet.LIMITS and len(tokens(text)) > _LONG_LIMIT
            pointer = not excused and filler_cue("pointer").search(bare) is not None
            return cut_off or pointer or any(filler_cue(name).search(bare) for name in _DROPPED)


def _row_speaks(row: str, facet: Facet, columns: tuple[str, ...]) -> bool:
    """Whether a table row says something in words: about a named thing, or a problem and what to do."""
    own = cells(row)
    if len(own) == 1 or _LITERAL_CELL.match(own[0]) or "<" in row or not columns:
        return False
    named = own[0].startswith("`") and len(tokens(own[0])) > 0
    prose = max(len(tokens(cell)) for cell in own[1:])
    marks = any(_VERDICT.search(cell) for cell in own[1:])
    return not marks and prose >= (_ROW_PROSE - 2 if named and facet is Facet.PARAMETER else _ROW_PROSE + 1)


def _has_form(bare: str, kind: BlockKind) -> bool:
    """A capital or a name at its beginning, a full stop at its end, a verb in between, as far as its kind asks."""
    if tagline().search(bare):
        return True
    opening = bare.lstrip("*_\"'«([ ")
    marked = bare[:1] in {"*", "`", "_", "["}
    begins = not opening[:1].islower() or marked or kind is BlockKind.ITEM or _NAME.match(opening) is not None
    ends = kind is not BlockKind.PARAGRAPH or bare.rstrip("*_\"'»)` ")[-1:] in {".", ";", "!", "…", ":"}
    return begins and ends and filler_cue("verb").search(bare) is not None


def blemish(text: str) -> float:
    """What speaks against a sentence that is no filler: praise, unclear reference, links, formulae, length. 0..1."""
    bare = plain(text)
    cost = 0.25 * len(filler_cue("praise").findall(bare)) + 0.35 * bool(filler_cue("unclear").search(bare))
    cost += 0.2 * len(_CODED_MATH.findall(bare))
    cost += (
        0.15 * (len(tokens(bare)) < _TERSE)
        + 0.5 * (1 - len(bare) / len(text))
        + 0.15 * len(_MATH.findall(bare))
    )
    cost += max(0.0, (len(bare) - 240) / 400) + 0.1 * text.count("\n>") + (0.12 if "(e.g" in text else 0.0)
    return min(1.0, cost)
