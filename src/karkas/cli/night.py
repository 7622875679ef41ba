"""`karkas night`: works off what is queued until morning, unattended."""

from typing import Annotated

import typer

from karkas.cli.options import JsonOption, ProjectOption, open_project, room

app = room()


@app.command()
def night(
    *,
    until: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="When the night ends: 07:00, 8h, 2026-11-23T07:00."),
    ] = None,
    budget_tokens: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Tokens that all runs of the night may spend together."),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=1000, metavar="N", help="Runs at once, instead of [work].")
    ] = None,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Work off what is queued, until it is done, the night is over or its budget is spent.

    Queue runs with --detach or --at (explore, act, run, runs resume), or by schedules in karkas.toml. A run that
    reaches a gate parks, and the others go on; a decision wakes it. A model server that is away pauses its runs, a run
    that fails is tried again and then marked, and neither stops the night. When it ends, explorations end with what
    they have, in a valid file that says what stopped them; all else goes on the next night. Nothing asks you anything.

    Its last words begin with what failed. Exits 0 when all is done, 1 when a run failed, 3 when gates wait for you, 4
    when the end or the budget cut something short. It outlasts its terminal where it was begun with nohup. In the
    morning: karkas queue.

    \b
    Examples:
      karkas explore lora -s ~/docs/peft --detach
      karkas explore retries -s pkg:tenacity --at 23:00
      karkas night --until 07:00 --budget-tokens 5000000
    """
    from karkas.cli import times, working

    with open_project(project) as opened:
        now = opened.store.clock().astimezone()
        ends = None if until is None else times.future(until, now=now)
        working.night(opened, until=ends, budget_tokens=budget_tokens, places=concurrency, json=json)
