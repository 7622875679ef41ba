"""Progress on stderr while agents work: one live line on a terminal, nothing elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from karkas.policies.rendering import visible_line
from karkas.workflows.progress import Progress, silent

BEFORE = 11
"""Columns that the spinner and the time take."""


@contextmanager
def shown(*, quiet: bool = False) -> Iterator[Progress]:
    """A `Progress` that draws what is being done, how far, and for how long."""
    if quiet or not sys.stderr.isatty():
        yield silent
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

        yield progress
