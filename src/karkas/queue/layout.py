"""Blocks as rows of a given width: nothing is cut, and what was broken by us does not look like a line of its own."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TypeAlias, assert_never

from karkas import cells
from karkas.policies.rendering import visible, visible_line, visible_once
from karkas.queue.blocks import Beside, Block, Command, Context, Facts, Heading, Line, Quote, Shown, Tone

Row: TypeAlias = tuple[tuple[str, str], ...]
"""Pieces of text with their styles."""

COLUMN = 56
"""Cells below which two variants are not put side by side."""
BETWEEN = " ║ "
DIFF = {"+": "green", "-": "red", "@": "cyan"}
FURTHER = "↳"
"""Begins the rest of a line that was broken; it stands left of the rule, where no text of others ever stands."""
RULE = "│"
"""Stands between a number and its line of the text that is decided on, and nowhere else at the beginning of a row."""
NAMES = 12
"""Cells for the names of facts; longer ones get up to a third of the width."""


def rows(blocks: Iterable[Block], width: int) -> list[Row]:
    return [row for block in blocks for row in _rows(block, width)]


def _rows(block: Block, width: int) -> Iterator[Row]:
    match block:
        case Facts(pairs=pairs):
            yield from _facts(pairs, width)
        case Heading(text=text):
            yield ()
            yield from (((one, "bold"),) for one in cells.wrap(visible_line(text), width))
        case Line(text=text, tone=tone):
            yield from _hanging(visible_line(text), width, tone)
        case Quote(text=text, mark=mark):
            yield from _marked(text, mark, "", width)
        case Context(before=before, text=text, after=after, mark=mark, around=around):
            yield from _marked(before.strip("\n"), around, "dim", width) if before.strip() else ()
            yield from _marked(text, mark, "", width)
            yield from _marked(after.strip("\n"), around, "dim", width) if after.strip() else ()
        case Shown(text=text, mark=mark):
            yield from _numbered(visible_once(text), mark, width)
        case Command(text=text, why=why):
            yield from (((one, "dim"),) for one in cells.fold(f"  {visible_line(text)}", width))
            if why:
                yield from _hanging(f"    {visible_line(why)}", width, Tone.DIM)
        case Beside(columns=columns):
            yield from _beside(columns, width)
        case _ as never:
            assert_never(never)


def _facts(pairs: Sequence[tuple[str, Sequence[str]]], width: int) -> Iterator[Row]:
    longest = max((cells.length(name) for name, _ in pairs), default=0)
    names = max(NAMES, min(longest, width // 3))
    for name, values in pairs:
        label = cells.fit(name, names)
        for value in values:
            for one in cells.wrap(visible_line(value), max(width - names - 1, cells.NARROWEST)):
                yield (label, "bold"), (f" {one}", "")
                label = " " * names


def _hanging(text: str, width: int, tone: Tone) -> Iterator[Row]:
    """A line of ours; what does not fit goes on below it, further in."""
    indent = " " * (len(text) - len(text.lstrip(" ")) + 4)
    first, *_ = cells.wrap(text, width)
    yield ((first, tone.value),)
    rest = text[len(first) :].lstrip(" ")
    if rest:
        yield from (
            ((indent + one, tone.value),)
            for one in cells.wrap(rest, max(width - len(indent), cells.NARROWEST))
        )


def _marked(text: str, mark: str, style: str, width: int) -> Iterator[Row]:
    """Somebody's words: every row has the mark, also of a line that was broken."""
    for line in visible(text).split("\n"):
        for one in cells.wrap(line, max(width - len(mark), cells.NARROWEST)):
            yield (mark, "dim"), (one, style)


def _numbered(text: str, mark: str, width: int) -> Iterator[Row]:
    """What is decided on, with the number of each of its lines, so that it can be seen that none is missing."""
    lines = text.split("\n")
    digits = len(str(len(lines)))
    room = max(width - digits - 2 - len(mark), cells.NARROWEST)
    for number, line in enumerate(lines, start=1):
        style = DIFF.get(line[:1], "")
        gutter = f"{number:>{digits}} {RULE}"
        for one in cells.fold(line, room):
            yield (gutter, "dim"), (mark, "dim"), (one, style)
            gutter = f"{FURTHER:>{digits}} {RULE}"


def _beside(columns: Sequence[Sequence[Block]], width: int) -> Iterator[Row]:
    each = (width - len(BETWEEN) * (len(columns) - 1)) // len(columns)
    if each < COLUMN:
        yield from (row for column in columns for row in rows(column, width))
        return
    laid = [rows(column, each) for column in columns]
    for across in zip_longest(*laid, fillvalue=()):
        row: list[tuple[str, str]] = []
        for number, pieces in enumerate(across):
            blank = each - sum(cells.length(text) for text, _ in pieces)
            row += [*([(BETWEEN, "dim")] if number else []), *pieces, (" " * blank, "")]
        yield tuple(row)
