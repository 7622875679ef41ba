"""Honest rendering: what a person decides on is shown whole, and nothing in it can hide or pretend.

Invisible and direction-changing characters have made reviewers see other text than what ran (CVE-2021-42574,
"Trojan Source"; UTR #36). Here each one is shown as `⟦U+202E⟧`. Look-alike letters are not marked.
"""

import re
import unicodedata

OPEN, CLOSE, TAB = "⟦", "⟧", "⇥"

_INVISIBLE = frozenset(
    chr(code)
    for first, last in (
        (0x034F, 0x034F),  # combining grapheme joiner
        (0x115F, 0x1160),  # Hangul fillers
        (0x17B4, 0x17B5),  # Khmer inherent vowels
        (0x180B, 0x180F),  # Mongolian variation selectors
        (0x2800, 0x2800),  # blank braille pattern
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),  # variation selectors
        (0xFFA0, 0xFFA0),
        (0xFFFC, 0xFFFC),  # object replacement
        (0x1D159, 0x1D159),  # musical null notehead
        (0xE0100, 0xE01EF),  # variation selectors supplement
    )
    for code in range(first, last + 1)
)
"""Printable by their category, and yet nothing is seen (Default_Ignorable_Code_Point and blanks)."""

_LOOK_AT = re.compile(r"[^\n -~А-яЁёÀ-ÖØ-öø-ÿ]")
"""Everything but the plain letters that need no second look; it only saves time."""

_RENDERED = re.compile(rf"({OPEN}U\+[0-9A-F]{{4,6}}{CLOSE}|{TAB} {{3}})")


def visible(text: str) -> str:
    """`text` with every invisible, control, bidi, private or unassigned character shown as `⟦U+XXXX⟧`.

    Newline and space stay; a tab becomes `⇥` and three spaces; a literal `⟦` or `⇥` is escaped itself, so
    that no text can pretend to be an escape and no two texts are shown alike. Nothing is shortened.
    """
    return _LOOK_AT.sub(_shown, text)


def visible_once(text: str) -> str:
    """As `visible`, for text that has gone through it: the escapes that stand there already stay as they are."""
    parts = _RENDERED.split(text)
    return "".join(part if index % 2 else visible(part) for index, part in enumerate(parts))


def visible_line(text: str) -> str:
    """As `visible`, on one line: newlines are escaped too."""
    return visible(text).replace("\n", _NEWLINE)


def _shown(match: re.Match[str]) -> str:
    char = match[0]
    if char == "\t":
        return f"{TAB}   "
    if char in {OPEN, TAB} or char in _INVISIBLE or not char.isprintable():
        return _escape(char)
    if unicodedata.category(char) in {"Mn", "Me"} and not _carried(match.string, match.start()):
        return _escape(char)
    return char


def _carried(text: str, at: int) -> bool:
    """Whether a combining mark sits on a letter, at most second in its pile; others overprint the rest."""
    before = text[max(at - 2, 0) : at]
    if before[-1:].isalnum():
        return True
    return before[:1].isalnum() and len(before) == 2 and unicodedata.category(before[1]) == "Mn"  # noqa: PLR2004


def _escape(char: str) -> str:
    return f"{OPEN}U+{ord(char):04X}{CLOSE}"


_NEWLINE = _escape("\n")
