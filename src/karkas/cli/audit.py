"""`karkas audit`: the record of who did what, and the proof that it is whole."""

import json as jsonlib
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from pydantic import JsonValue

from karkas.cli import exits
from karkas.cli.options import JsonOption, ProjectOption, open_project, room

app = room("Read the audit log, or prove that nobody changed it.")


@app.command()
def log(
    *,
    limit: Annotated[
        int, typer.Option("--limit", min=0, metavar="N", help="The newest N rows; 0 for all.")
    ] = 50,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="Only rows since then: 2026-11-22, 07:00, 2h, 3d."),
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="TEXT", help="Only rows about it, such as zone:lora.")
    ] = None,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Print the audit log, oldest row first: when, who, what, on what, and the details that are not empty.

    \b
    Examples:
      karkas audit log --since 2h
      karkas audit log --subject zone:lora --json
    """
    from karkas.cli import screen, times

    now = datetime.now().astimezone()
    start = times.past(since, now=now) if since else None
    with open_project(project) as opened:
        entries = opened.store.audit.log(limit=limit + 1 if limit else None, since=start, subject=subject)
    older = limit > 0 and len(entries) > limit
    entries = entries[1:] if older else entries
    if json:
        screen.as_json([entry.model_dump(mode="json") for entry in entries])
    else:
        for entry in entries:
            head = f"{entry.seq:>5}  {entry.at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}  {entry.actor:<10}"
            screen.record(f"{head}  {entry.event:<16}  {entry.subject}", _details(entry.data))
    if older:
        print(f"there are older rows than these {limit}; --limit 0 shows all", file=sys.stderr)


def _details(data: JsonValue) -> str:
    if not isinstance(data, dict):
        return "" if data is None else jsonlib.dumps(data, ensure_ascii=False)
    given = {key: value for key, value in data.items() if value not in (None, "", [], {})}
    return "  ".join(f"{key}={jsonlib.dumps(value, ensure_ascii=False)}" for key, value in given.items())


@app.command()
def verify(*, json: JsonOption = False, project: ProjectOption = None) -> None:
    """Prove that no row of the audit log was changed, dropped, reordered or forged, or name each break.

    Zones, gates and permits are held against the log too. Exits 0 when the log is whole, 1 when it is not.

    \b
    Examples:
      karkas audit verify
    """
    from karkas.cli import screen

    with open_project(project) as opened:
        breaks = opened.store.verify()
        newest = opened.store.audit.log(limit=1)
    rows = newest[-1].seq if newest else 0
    if json:
        screen.as_json({"ok": not breaks, "rows": rows, "breaks": breaks})
    elif not breaks:
        screen.say(f"the audit log is whole: {rows} rows, chained and signed")
    else:
        for one in breaks:
            screen.say(one, style="bold red")
        screen.say(
            "\nThe log was changed from outside karkas. Keep a copy of .karkas/, and restore it from a backup"
            " from before that; until then no decision in it can be relied on."
        )
    if breaks:
        raise typer.Exit(exits.FAILED)
