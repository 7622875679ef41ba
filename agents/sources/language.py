"""The language of most of a document's prose, by its letters and its commonest words."""

import re

from karkas.server.protocol import Block, BlockKind

_PROSE = (BlockKind.PARAGRAPH, BlockKind.ITEM, BlockKind.HEADING, BlockKind.DOCSTRING, BlockKind.ROW)
_CYRILLIC = re.compile(r"[Ѐ-ӿ]")
_NOT_RUSSIAN = re.compile(r"[ІіЇїЄєҐґЎўЈјЉљЊњЂђЋћЏџ]")
_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")
_WORD = re.compile(r"[A-Za-z]+")
_ENGLISH = frozenset(
    "the of and to in is a for that with on as are be this it by or from you can not an".split()
)
_ENOUGH = 12
_RUSSIAN_SHARE = 0.3
_FOREIGN_SHARE = 0.02
_ENGLISH_SHARE = 0.1
_LONG = 40
_LOOKED_AT = 20_000


def language(text: str, blocks: tuple[Block, ...]) -> str:
    """`en`, `ru` or `und` (ISO 639-1). Russian technical prose is full of Latin names, so its share may be small."""
    prose = "\n".join(text[block.start : block.end] for block in blocks if block.kind in _PROSE)[:_LOOKED_AT]
    prose = prose or text[:_LOOKED_AT]
    cyrillic, latin = len(_CYRILLIC.findall(prose)), len(_LATIN.findall(prose))
    if cyrillic + latin < _ENOUGH:
        return "und"
    if cyrillic > _RUSSIAN_SHARE * (cyrillic + latin):
        foreign = len(_NOT_RUSSIAN.findall(prose))
        return "und" if foreign > _FOREIGN_SHARE * cyrillic else "ru"
    words = [word.lower() for word in _WORD.findall(prose)]
    english = sum(word in _ENGLISH for word in words)
    return "und" if len(words) > _LONG and english < _ENGLISH_SHARE * len(words) else "en"
