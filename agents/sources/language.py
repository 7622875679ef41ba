"""The language of most of a document's prose, by its letters and its commonest words."""

import re

from karkas.server.documents import Block, BlockKind

_PROSE = (BlockKind.PARAGRAPH, BlockKind.ITEM, BlockKind.HEADING, BlockKind.DOCSTRING, BlockKind.ROW)
_CYRILLIC = re.compile(r"[Ѐ-ӿ]")
_NOT_RUSSIAN = re.compile(r"[ІіЇїЄєҐґЎўЈјЉљЊњЂђЋћЏџ]")
_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")
_WORD = re.compile(r"[A-Za-zÀ-ɏ]+")
_ENGLISH = frozenset(
    ["the", "of", "and", "to", "is", "for", "that", "with", "this", "by", "or", "from", "not"]
)
_FOREIGN = frozenset(
    [
        *("der", "die", "das", "und", "nicht", "ist", "ein", "eine", "mit", "für", "auf", "wird"),
        *("le", "la", "les", "des", "une", "est", "dans", "pour", "que", "qui", "avec", "sur"),
        *("el", "los", "las", "una", "por", "para", "como", "del", "il", "di", "che", "não", "uma", "são"),
    ]
)
_ENOUGH = 12
_RUSSIAN_SHARE = 0.3
_FOREIGN_SHARE = 0.02
_FEW = 3
_LOOKED_AT = 20_000


def language(text: str, blocks: tuple[Block, ...]) -> str:
    """`en`, `ru` or `und` (ISO 639-1). Russian technical prose is full of Latin names: a third is enough."""
    prose = "\n".join(text[block.start : block.end] for block in blocks if block.kind in _PROSE)[:_LOOKED_AT]
    prose = prose or text[:_LOOKED_AT]
    cyrillic, latin = len(_CYRILLIC.findall(prose)), len(_LATIN.findall(prose))
    if cyrillic + latin < _ENOUGH:
        return "und"
    if cyrillic > _RUSSIAN_SHARE * (cyrillic + latin):
        foreign = len(_NOT_RUSSIAN.findall(prose))
        return "und" if foreign > _FOREIGN_SHARE * cyrillic else "ru"
    words = [word.lower() for word in _WORD.findall(prose)]
    english, foreign = sum(word in _ENGLISH for word in words), sum(word in _FOREIGN for word in words)
    return "und" if foreign > max(english, _FEW) else "en"
