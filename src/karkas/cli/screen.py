"""What is printed: whole, honest, and the same in a pipe as on a terminal, but for colour and line breaks."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from pydantic_core import PydanticSerializationError, to_json
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from karkas import cells
from karkas.policies.rendering import visible, visible_line, visible_once

UNBROKEN = 1 << 16
"""Columns of a pipe: no reader there wants lines broken."""

GAP = 2
"""Blanks between columns."""

IDS = {"gate", "run"}
"""Columns of ids: where a table begins with one, the id is there to be copied, and is not folded."""

ROOMY = 50
"""Columns of a terminal on which an id leaves room for the rest."""

STYLES = {
    "ok": "green",
    "warning": "yellow",
    "problem": "bold red",
    "autonomous": "green",
    "propose-only": "yellow",
    "draft-only": "red",
    "framed": "green",
    "passed": "green",
    "not checked": "yellow",
    "failed": "bold red",
}
"""Colours of the words that a glance should find; colour never says what no word says."""


def console() -> Console:
    """Stdout as it is now. Nothing that is printed through it is read as markup."""
    width = None if sys.stdout.isatty() else UNBROKEN
    return Console(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False)


def say(text: str = "", *, style: str | None = None) -> None:
    """Prints text, data in it included, with everything invisible shown."""
    console().print(Text(visible(text), style=style or ""))


def line(text: str, *, style: str | None = None) -> None:
    """Prints one line, whatever is in it: data that has lines of its own cannot pretend to be others of ours."""
    console().print(Text(visible_line(text), style=style or ""))


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def quote(text: str, *, mark: str = "  | ") -> None:
    """Prints somebody's words, each of their lines marked as such."""
    console().print(Text("\n".join(f"{mark}{visible(one)}" for one in text.split("\n"))))


def context(before: str, text: str, after: str, *, mark: str, around: str) -> None:
    """Prints a piece of a text between what stands before and after it, each line marked as what it is."""
    for part, its, style in ((before, around, "dim"), (text, mark, ""), (after, around, "dim")):
        if part.strip():
            shown = "\n".join(f"{its}{visible(one)}" for one in part.strip("\n").split("\n"))
            console().print(Text(shown, style=style))


def told(text: str, *, indent: str = "") -> None:
    """Prints text that was made visible when it was recorded, such as a tool's error, each line indented."""
    _print_trimmed(console(), Padding(Text(visible_once(text)), (0, 0, 0, len(indent)), expand=False))


def heading(text: str) -> None:
    """Prints a heading with a blank line above it."""
    console().print(Text(f"\n{visible_line(text)}", style="bold"))


def diff(text: str, *, mark: str = "") -> None:
    """Prints what `Tool.show` gave whole, `mark` before each line; added and removed lines are coloured."""
    out, colours = console(), {"+": "green", "-": "red", "@": "cyan"}
    for one in visible_once(text).split("\n"):
        out.print(Text(f"{mark}{one}", style=colours.get(one[:1], "")))


def cell(value: str) -> Text:
    """One line of data, in its colour where it has one."""
    return Text(visible_line(value), style=STYLES.get(value, ""))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints columns. On a narrow terminal cells fold; nothing is cut."""
    out = console()
    shown = [[visible_line(value) for value in row] for row in rows]
    natural = [max(map(cells.length, column)) for column in zip(headings, *shown, strict=True)]
    whole = 1 if headings and headings[0] in IDS and out.width >= ROOMY else 0
    widths = cells.shared(natural, out.width - GAP * (len(natural) - 1), fixed=whole)
    out.print(Text("\n".join(_folded(headings, widths)), style="bold"))
    if not (out.is_terminal and out.color_system is not None):
        print("\n".join(line for row in shown for line in _folded(row, widths)))
        return
    for at in range(0, len(shown), 100):
        lines = Text("\n").join(_row(row, widths) for row in shown[at : at + 100])
        out.print(lines, soft_wrap=True)


def _folded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The lines of one row."""
    folded = [cells.wrap(value, width) for value, width in zip(row, widths, strict=True)]
    return [
        (" " * GAP).join(cells.fit(one, width) for one, width in zip(line, widths, strict=True)).rstrip()
        for line in zip_longest(*folded, fillvalue="")
    ]


def _row(row: Sequence[str], widths: Sequence[int]) -> Text:
    """The same with the words coloured that a glance should find."""
    lines = Text("\n".join(_folded(row, widths)))
    at = 0
    for value, width in zip(row, widths, strict=True):
        if (style := STYLES.get(value)) and cells.length(value) <= width:
            lines.stylize(style, at, at + len(value))
        at += len(cells.fit(value, width)) + GAP if cells.length(value) <= width else width + GAP
    return lines


def facts(pairs: Iterable[tuple[str, str | Iterable[str]]]) -> None:
    """Prints names and what belongs to them, one line each item."""
    out = console()
    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        lines = [value] if isinstance(value, str) else list(value)
        for index, one in enumerate(lines):
            grid.add_row(Text(name if index == 0 else ""), cell(one))
    _print_trimmed(out, grid)


def record(head: str, details: str) -> None:
    """Prints one row of a log: on one line in a pipe, the details below it on a terminal."""
    out = console()
    if not out.is_terminal:
        out.print(Text(visible_line(f"{head}  {details}".rstrip())))
        return
    out.print(Text(visible_line(head)))
    if details:
        out.print(Padding(Text(visible_line(details), style="dim"), (0, 0, 0, 7), expand=False))


def as_json(value: Any, *, line: bool = False) -> None:
    """Prints JSON, in one `line` where more follow. Invisible characters stand as escapes, so it is as honest as the
    rest.
    """
    text = json.dumps(value, ensure_ascii=False) if line else _indented(value)
    print(re.sub(r"[^\n -~]", _escaped_unless_printable, text), flush=line)


def _indented(value: Any) -> str:
    """As `json` does it, which indents without its C part and takes five times as long."""
    try:
        return to_json(value, indent=2).decode()
    except PydanticSerializationError:  # a lone surrogate, as in the name of a file
        return json.dumps(value, ensure_ascii=False, indent=2)


def _escaped_unless_printable(match: re.Match[str]) -> str:
    char = match[0]
    return char if visible(char) == char else json.dumps(char)[1:-1]


def _print_trimmed(out: Console, shown: RenderableType) -> None:
    """Prints without the blanks that pad the last column."""
    with out.capture() as captured:
        out.print(shown)
    for one in captured.get().splitlines():
        print(one.rstrip())
