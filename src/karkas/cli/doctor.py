"""`karkas doctor`: says what is present and what is not, and how to mend it."""

from typing import Annotated

import typer

from karkas.cli import exits
from karkas.cli.options import JsonOption, ProjectOption, room

app = room()


@app.command()
def doctor(
    *,
    notify: Annotated[bool, typer.Option("--notify", help="Send a message by [notify], too.")] = False,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Check the project and the machine: what was found, what it means, how to mend it.

    A warning leaves something out, a problem stops work. Exits 0 when there is no problem, else 1.

    \b
    Examples:
      karkas doctor
      karkas doctor --notify
      karkas doctor --json | jq '.checks[] | select(.status == "problem")'
    """
    from dataclasses import asdict

    from karkas.cli import screen
    from karkas.cli.checks import Status, checks, tried

    found = [*checks(project), *(tried(project) if notify else ())]
    problems = sum(check.status is Status.PROBLEM for check in found)
    if json:
        screen.as_json({"ok": not problems, "checks": [asdict(check) for check in found]})
    else:
        rows: list[tuple[str, str, str]] = []
        for check in found:
            lines = check.found.splitlines() or [""]
            rows.append((check.name, check.status, lines[0]))
            rows += [("", "", line) for line in (*lines[1:], *([f"→ {check.mend}"] if check.mend else ()))]
        screen.table(("check", "status", "found"), rows)
        warnings = sum(check.status is Status.WARNING for check in found)
        screen.say(f"\n{_count(problems, 'problem')}, {_count(warnings, 'warning')}")
    if problems:
        raise typer.Exit(exits.FAILED)


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
