"""`karkas report`: what the night did."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from karkas.cli.options import JsonOption, ProjectOption, open_project, room

if TYPE_CHECKING:
    from karkas.report.figures import Figures

app = room()


@app.command()
def report(
    *,
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="From when on: 12h, 22:00, 2026-11-22T18:00.")
    ] = "12h",
    night: Annotated[
        str | None, typer.Option("--night", metavar="ID", help="That night, from its begin to its end.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write it as one HTML page that needs nothing else."),
    ] = None,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Tell what agents did meanwhile: runs, cycles, claims, tokens, what came of gates, and what to decide first.

    \b
    Examples:
      karkas report
      karkas report --since 22:00 --html night.html
    """
    from karkas.cli import gateview, screen, times
    from karkas.report import text
    from karkas.report.figures import look

    with open_project(project) as opened:
        if night is not None:
            one = opened.store.nights.get(night)
            found = look(opened, since=one.opened_at, until=one.closed_at)
        else:
            found = look(opened, since=times.past(since, now=opened.store.clock().astimezone()))
        name = opened.root.name
    if html is not None:
        _write(html, found, title=name)
    if json:
        screen.as_json(found.model_dump(mode="json"))
    elif html is not None:
        screen.line(f"written to {html}")
    else:
        for block in text.lines(found):
            gateview.print_block(block)


def _write(path: Path, found: "Figures", *, title: str) -> None:
    from karkas.policies.errors import UsageError
    from karkas.report.page import page

    try:
        path.write_text(page(found, title=title), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; give another file") from error
