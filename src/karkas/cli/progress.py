"""Progress on stderr while agents work: one live line on a terminal, nothing elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from karkas.policies.rendering import visible_line
from karkas.workflows.context import Progress, silent


@contextmanager
def shown(*, quiet: bool = False) -> Iterator[Progress]:
    """A `Progress` that draws what is being done, how far, and for how long."""
    if quiet or not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True, highlight=False, markup=False)
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def progress(doing: str, /, *, done: int = 0, total: int | None = None) -> None:
            bar.update(task, description=visible_line(doing), completed=done, total=total)

        yield progress
