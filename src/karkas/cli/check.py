"""`karkas check`: do the workflows and tools of a file keep to the gates?"""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from karkas.cli import exits
from karkas.cli.options import JsonOption, room

if TYPE_CHECKING:
    from karkas.testing import Report

app = room()


@app.command()
def check(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py[:NAME]", help="The file, and the workflow or tool in it (default: all)."
        ),
    ],
    *,
    input_: Annotated[
        str | None,
        typer.Option("--input", "-i", metavar="JSON", help="A workflow's input; without it none is run."),
    ] = None,
    perform: Annotated[
        bool,
        typer.Option(
            "--perform", help="Approve, and let tools take effect. They run unconfined, with your rights."
        ),
    ] = False,
    files: Annotated[
        Path | None,
        typer.Option("--files", metavar="DIR", help="Text files to put into each throw-away project."),
    ] = None,
    answer: Annotated[
        list[str] | None,
        typer.Option(
            "--answer", metavar="NAME=TEXT", help="A person's answer to a question of the workflow."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check that workflows and tools keep to the gates, in throw-away projects; yours is not opened.

    The file is imported, so its top level runs as your own code. Without --input and --perform nothing else of it runs
    but previews and preconditions of tools with examples. Exits with 1 where a check failed; what was not checked is
    listed with the reason, and is no proof.

    \b
    Examples:
      karkas check flows.py
      karkas check flows.py:publish --input '{"topic": "adapters"}' --perform
    """
    from karkas.cli.checking import report_on

    with redirect_stdout(sys.stderr):  # what the file prints is not the report
        report = report_on(subject, input_, perform=perform, files=files, answers=tuple(answer or ()))
    _as_json(report) if json else _tell(report)
    if not report.holds:
        raise typer.Exit(exits.FAILED)


def _tell(report: "Report") -> None:
    from karkas.cli import screen
    from karkas.testing import NOT_PROVED, Status

    for subject in dict.fromkeys(one.subject for one in report):
        screen.line(subject, style="bold")
        rows = [
            (one.check.name, one.found.status.value, one.found.why or one.check.proves)
            for one in report
            if one.subject == subject
        ]
        screen.table(("check", "result", "why, or what it proves"), rows)
        screen.say()
    counts = {status: sum(one.found.status is status for one in report) for status in Status}
    screen.line(", ".join(f"{number} {status}" for status, number in counts.items()))
    screen.line("Not proved, whatever passed:")
    for one in NOT_PROVED:
        screen.line(f"- {one}")


def _as_json(report: "Report") -> None:
    from karkas.cli import screen
    from karkas.testing import NOT_PROVED

    checked = [
        {
            "subject": one.subject,
            "check": one.check.name,
            "proves": one.check.proves,
            "result": one.found.status.value,
            "why": one.found.why,
        }
        for one in report
    ]
    screen.as_json({"holds": report.holds, "checked": checked, "not_proved": list(NOT_PROVED)})
