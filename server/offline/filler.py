"""What a document says that is no knowledge of the zone: pointers, greetings, badges, advertising, fragments."""

import re

from karkas.policies.distillates import Facet
from karkas.server.offline.cues import filler_cue, tagline
from karkas.server.offline.parameters import is_number, signature_defaults
from karkas.server.offline.sentences import cells
from karkas.server.offline.words import plain, tokens
from karkas.server.protocol import BlockKind

_MARKUP = re.compile(r"<[a-zA-Z/][^>]*>|\[\[|:::|\{\{|!\[|^\s*[|#]|\\begin|^\s*```|@\w+\{")
_MATH = re.compile(r"\$[^$]*\$|\\[a-zA-Z]+")
_VERDICT = re.compile("[✅❌⚠✓✗🟢]|^(?:yes|no)$", re.IGNORECASE)
_TERSE = 8
_LONG_ENOUGH = 6
_ITEM_LONG_ENOUGH = 4
_LONG_LIMIT = 18
"""Words; a limit that says this much is worth keeping although it also points elsewhere."""
_ROW_PROSE = 5


def is_filler(text: str, kind: BlockKind, facet: Facet, columns: tuple[str, ...] = ()) -> bool:
    """Whether a reader who wants to know how the zone works loses nothing without it."""
    if kind is BlockKind.SIGNATURE:
        return not _signature_speaks(text)
    if kind is BlockKind.ROW:
        return not _row_speaks(text, facet, columns)
    if _MARKUP.search(text):
        return True
    words = tokens(text)
    bare = _MATH.sub(" ", plain(text))
    if len(words) < (_ITEM_LONG_ENOUGH if kind in {BlockKind.ITEM} else _LONG_ENOUGH):
        return True
    if re.search(r"\w\?(?:\s|$)", bare):
        return True
    if text.endswith(":") and facet is not Facet.DEFINITION:
        return True
    if text.rstrip("*_ ")[-1:] in {"?", ",", "(", "…", "-", "/"} or text.endswith(("...", "e.g.", "!")):
        return True
    if _is_fragment(bare, kind) or len(bare) < len(text) * 0.4:
        return True
    if filler_cue("pointer").search(bare) and not (facet is Facet.LIMITS and len(words) > _LONG_LIMIT):
        return True
    return any(filler_cue(name).search(bare) for name in ("chatter", "news", "personal"))


def _signature_speaks(text: str) -> bool:
    """Whether it is public and shows a default that a caller could want to know."""
    defaults = signature_defaults(text)
    told = [value for name, value in defaults.items() if value != "none" and not name.startswith("_")]
    name = re.match(r"\s*(?:async\s+)?(?:def\s+)?(\w+)", text)
    if name is None or not told or "# " in text or (name[1].startswith("_") and name[1] != "__init__"):
        return False
    return not name[1].isupper() or is_number(defaults.get(name[1], ""))


def _row_speaks(row: str, facet: Facet, columns: tuple[str, ...]) -> bool:
    """Whether a table row says something in words: about a named thing, or a problem and what to do."""
    own = cells(row)
    if len(own) < 2 or "<" in row or not columns:
        return False
    named = own[0].startswith("`") and len(tokens(own[0])) > 0
    prose = max(len(tokens(cell)) for cell in own[1:])
    marks = any(_VERDICT.search(cell) for cell in own[1:])
    return not marks and prose >= (_ROW_PROSE - 2 if named and facet is Facet.PARAMETER else _ROW_PROSE + 1)


def _is_fragment(bare: str, kind: BlockKind) -> bool:
    opening = bare.lstrip("*_\"'«([ ")[:1]
    if (
        opening.islower()
        and kind is not BlockKind.ITEM
        and not re.match(r"[\w.]*[_.=(]|[a-z]+[A-Z0-9]", bare.lstrip("*_\"'([ "))
    ):
        return True
    if (
        kind is BlockKind.PARAGRAPH
        and not tagline().search(bare)
        and bare.rstrip("*_\"'»)` ")[-1:] not in {".", ";", "!", "…"}
    ):
        return True
    return filler_cue("verb").search(bare) is None and tagline().search(bare) is None


def blemish(text: str) -> float:
    """What speaks against a sentence that is no filler: praise, unclear reference, links, formulae, length. 0..1."""
    bare = plain(text)
    cost = 0.25 * len(filler_cue("praise").findall(bare)) + 0.35 * bool(filler_cue("unclear").search(bare))
    cost += (
        0.15 * (len(tokens(bare)) < _TERSE)
        + 0.5 * (1 - len(bare) / len(text))
        + 0.15 * len(_MATH.findall(bare))
    )
    cost += max(0.0, (len(bare) - 240) / 400) + 0.1 * text.count("\n>") + (0.12 if "(e.g" in text else 0.0)
    return min(1.0, cost)
