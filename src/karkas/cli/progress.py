"""Progress on stderr while agents work: one live line on a terminal, nothing elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from karkas.cli import screen
from karkas.policies.rendering import visible_line
from karkas.workflows.progress import Progress, silent

if TYPE_CHECKING:
    from rich.console import Console

BEFORE = 11
"""Columns that the spinner and the time take."""


class Shown(NamedTuple):
    progress: Progress
    say: Callable[[str], None]
    """Prints a line on stdout, above the live line where both are on one terminal."""


@contextmanager
def beside_lines(*, quiet: bool = False) -> Iterator[Shown]:
    """As `shown`, for work that prints lines meanwhile."""
    with _live(quiet=quiet) as (progress, console):
        yield Shown(progress, screen.line if console is None else partial(_above, console))


def _above(console: "Console", text: str) -> None:
    console.print(visible_line(text))


@contextmanager
def shown(*, quiet: bool = False) -> Iterator[Progress]:
    """A `Progress` that draws what is being done, how far, and for how long."""
    with _live(quiet=quiet) as (progress, _):
        yield progress


@contextmanager
def _live(*, quiet: bool) -> "Iterator[tuple[Progress, Console | None]]":
    """With the console to print on where stdout is the same terminal, since only that one knows of the live line."""
    if quiet or not sys.stderr.isatty():
        yield silent, None
        return
    from rich.console import Console
    from rich.progress import Progress as Line
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    console = Console(stderr=True, highlight=False, markup=False)
    with Line(*columns, console=console, transient=True) as line:
        task = line.add_task("starting", total=None)

        def progress(doing: str, /, *, done: int = 0, total: int | None = None) -> None:
            far = f" {done} of {total}" if total is not None else ""
            room = console.width - BEFORE - len(far)
            text = visible_line(doing)
            short = text if len(text) <= room else f"{text[: room - 1]}…"
            line.update(task, description=short + far)

        yield progress, console if sys.stdout.isatty() else None
