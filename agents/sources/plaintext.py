"""Text files: paragraphs, lists and underlined headings; chat exports and Markdown by another name."""

import re
from collections.abc import Iterator

from karkas.agents.sources.extract import Extract, HeadingPath, one_line, tiled
from karkas.agents.sources.markdown import markdown_blocks, plain
from karkas.server.documents import Block, BlockKind

_MARKDOWN = re.compile(r"^(?:>[ \t]?\[![\w-]+\]|#{1,6}[ \t]+\S|```|\|[ \t]*:?-{3,})", re.MULTILINE)
_CHAT_DATE = re.compile(r"^>[ \t]?\[!\w+\].*?\b(\d\d)\.(\d\d)\.(\d{4})\b", re.MULTILINE)
_LINE = re.compile(r"[^\r\n]+")
_BULLET = re.compile(r"[ \t]*(?:[-*+•–]|\d{1,3}[.)])[ \t]+(?=\S)")
_UNDERLINE = re.compile(r"[ \t]*([=\-~^*_#])\1{2,}[ \t]*$")
_NEXT_PARAGRAPH = 2
_TITLE_CHARS = 120


def read_text(text: str) -> Extract:
    dates = [f"{year}-{month}-{day}" for day, month, year in _CHAT_DATE.findall(text)]
    headings = HeadingPath()
    found = markdown_blocks(text, headings) if _MARKDOWN.search(text) else _paragraphs(text, headings)
    blocks = tiled(text, found)
    title = next(
        (plain(text[block.start : block.end]) for block in blocks if block.kind is BlockKind.HEADING), ""
    )
    return Extract(text, blocks, "text@1", title[:_TITLE_CHARS], max(dates, default=None))


def _paragraphs(text: str, headings: HeadingPath) -> Iterator[Block]:
    """A paragraph ends at an empty line, a list item also at the next bullet."""
    kind, start, end = BlockKind.PARAGRAPH, -1, -1
    lines = [match.span() for match in _LINE.finditer(text) if match.group().strip()]
    for number, (begin, stop) in enumerate(lines):
        line = text[begin:stop]
        if _UNDERLINE.match(line):
            if start >= 0:
                alone = text.count("\n", start, begin) == 1
                piece = text[start:end]
                titled = alone and kind is BlockKind.PARAGRAPH and len(piece) <= _TITLE_CHARS
                level = 1 if "=" in line else 2
                if titled:
                    headings.enter(level, "")
                yield Block(BlockKind.HEADING if titled else kind, start, end, headings.above)
                if titled:
                    headings.enter(level, one_line(piece))
            start = -1
            continue
        bullet = _BULLET.match(line)
        apart = number > 0 and text.count("\n", lines[number - 1][0], begin) >= _NEXT_PARAGRAPH
        if start >= 0 and (bullet or apart):
            yield Block(kind, start, end, headings.above)
            start = -1
        if start < 0:
            kind = BlockKind.ITEM if bullet else BlockKind.PARAGRAPH
            start = begin + (bullet.end() if bullet else 0)
        end = stop
    if start >= 0:
        yield Block(kind, start, end, headings.above)
