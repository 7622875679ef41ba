"""What a package says that it is: the sentence with which its README or its top module introduces it."""

import re
from collections.abc import Sequence
from dataclasses import replace

from karkas.policies.distillates import SourceRank
from karkas.server.documents import BlockKind, Document
from karkas.server.offline.cues import filler_cue, pattern, tagline
from karkas.server.offline.sentences import Passage
from karkas.server.offline.subjects import key

_OPENING = 14
"""Passages of a README among which it introduces itself."""
_NAMED = 48
"""Code points within which a sentence names what it introduces."""
_WORDS = 4
_SAYS_SO = 2
"""The weight from which a sentence is an introduction and not only a feature."""
_DEFINES = re.compile(r"[^.,;:(]{0,60}?\b(?:is|are)\s+\W?(?:an?|the|one|designed)\b")
_NEAR = re.compile(
    r"[^.,;:(]{0,60}?\b(?:is|are|provides?|contains?|implements?|offers?|gives?|helps?|lets?|adds?)\b"
)


def introduction(document: Document, passages: Sequence[Passage]) -> Passage | None:
    """The passage, without a colon at its end, or None where the document introduces no package."""
    package = document.meta.get("package", "")
    if not package:
        return None
    if document.rank is SourceRank.CODE:
        top = key(document.meta.get("module", "")) == key(package)
        first = next((one for one in passages if one.kind is BlockKind.DOCSTRING), None)
        opens = first is not None and first.opens and len(first.headings) <= 1
        return _plain(first) if top and opens and first and len(first.text.split()) >= _WORDS else None
    if document.kind != "package":
        return None
    early = [one for one in passages[:_OPENING] if one.kind in {BlockKind.PARAGRAPH, BlockKind.ITEM}]
    weighed = [(_weight(one, package), -at, one) for at, one in enumerate(early)]
    best = max(weighed, key=lambda each: each[:2], default=None)
    if best is not None and best[0] >= _SAYS_SO:
        return _plain(best[2])
    return _title(document) or (_plain(best[2]) if best is not None and best[0] > 0 else None)


def _weight(passage: Passage, package: str) -> int:
    text = passage.text
    if len(text.split()) < _WORDS or any(filler_cue(name).search(text) for name in ("pointer", "chatter")):
        return 0
    named = key(package) in key(text[:_NAMED] + " ")
    if named and _NEAR.match(text) and passage.kind is BlockKind.PARAGRAPH:
        return 4 + bool(_DEFINES.match(text)) - 2 * ("<" in text)
    if tagline().match(text):
        return 3
    if pattern("this_package").match(text):
        return 2
    return (
        1
        if passage.kind is BlockKind.ITEM and pattern("features").match(" ".join(passage.headings[-1:]))
        else 0
    )


def _title(document: Document) -> Passage | None:
    """The heading of a README that says what the package is instead of its name."""
    for block in document.blocks:
        if block.kind is BlockKind.HEADING:
            for line in re.finditer(r"[^\n]+", document.text[block.start : block.end]):
                text = line.group().strip("#=-* ")
                if len(text.split()) >= _WORDS and pattern("kind_of_package").search(text):
                    start = block.start + line.start() + line.group().index(text)
                    return Passage(
                        0, BlockKind.PARAGRAPH, start, start + len(text), text, text, (), 0.0, anaphoric=False
                    )
            return None
    return None


def _plain(passage: Passage) -> Passage:
    return replace(passage, text=passage.text.rstrip(": "), anaphoric=False)
