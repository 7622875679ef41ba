"""What every reader yields: text, and the blocks that it consists of."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from karkas.server.documents import Block, BlockKind

_BLANKS = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Extract:
    """`blocks` are half-open ranges of code points of `text`, ordered and apart from each other."""

    text: str
    blocks: tuple[Block, ...]
    extractor: str
    title: str = ""
    modified: str | None = None
    repairs: tuple[str, ...] = ()


class HeadingPath:
    """The headings above the point that a reader has reached."""

    def __init__(self, *outermost: str) -> None:
        self._stack = [(0, heading) for heading in outermost if heading]

    def enter(self, level: int, heading: str) -> None:
        self._stack = [(above, text) for above, text in self._stack if above < level]
        if heading and (not self._stack or self._stack[-1][1] != heading):
            self._stack.append((level, heading))

    @property
    def above(self) -> tuple[str, ...]:
        return tuple(text for _, text in self._stack)


class Composer:
    """Builds an extracted text out of pieces, one block a piece, where a source is not text to point at."""

    def __init__(self) -> None:
        self.headings = HeadingPath()
        self.title = ""
        self._pieces: list[str] = []
        self._blocks: list[Block] = []
        self._length = 0

    def put(self, kind: BlockKind, text: str) -> None:
        text = text.strip("\n") if kind is BlockKind.CODE else text.strip()
        if not text.strip():
            return
        start, end = self._length, self._length + len(text)
        self._blocks.append(Block(kind, start, end, self.headings.above))
        self._pieces.append(text)
        self._length = end + 2

    def heading(self, level: int, text: str) -> None:
        text = one_line(text)
        self.headings.enter(level, "")
        self.put(BlockKind.HEADING, text)
        self.headings.enter(level, text)
        self.title = self.title or text

    def extract(
        self,
        extractor: str,
        *,
        title: str = "",
        modified: str | None = None,
        repairs: tuple[str, ...] = (),
    ) -> Extract:
        text = "\n\n".join(self._pieces) + ("\n" if self._pieces else "")
        return Extract(text, tiled(text, self._blocks), extractor, title or self.title, modified, repairs)


def one_line(text: str) -> str:
    return _BLANKS.sub(" ", text).strip()


def tiled(text: str, blocks: Iterable[Block]) -> tuple[Block, ...]:
    """The blocks in reading order, without white space around them; empty and overlapping ones are dropped."""
    kept: list[Block] = []
    reached = 0
    for block in sorted(blocks, key=lambda block: (block.start, block.end)):
        piece = text[block.start : block.end]
        start = block.start
        if block.kind is not BlockKind.CODE:
            start += len(piece) - len(piece.lstrip())
        end = block.start + len(piece.rstrip())
        if start < reached or end <= start:
            continue
        kept.append(Block(block.kind, start, end, block.headings))
        reached = end
    return tuple(kept)
