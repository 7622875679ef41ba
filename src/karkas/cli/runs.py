"""`karkas runs`: what ran, what waits, and going on."""

from typing import TYPE_CHECKING, Annotated

import typer

from karkas.cli.options import AtOption, DetachOption, JsonOption, ProjectOption, due_at, open_project, room

if TYPE_CHECKING:
    from karkas.settings import Settings
    from karkas.storage import Run

app = room("List, watch, show, resume and stop runs.")

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or its beginning.")]


@app.command("list")
def list_(
    *,
    zone: Annotated[str | None, typer.Option(help="Only runs of this zone.")] = None,
    status: Annotated[
        str | None, typer.Option(help="Only runs that are queued, running, parked, done, failed or stopped.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """List the runs, the newest first.

    \b
    Examples:
      karkas runs list --status parked
    """
    from karkas.cli import ending, screen
    from karkas.cli.choices import run_status
    from karkas.runner import is_orphaned

    with open_project(project) as opened:
        if zone is not None:
            opened.zone(zone)
        runs = opened.store.runs.list(status=run_status(status), zone=zone, limit=limit)
        orphans = {run.id for run in runs if is_orphaned(opened, run)}
    if json:
        screen.as_json([ending.run_json(run) for run in runs])
    elif not runs:
        screen.say("no runs; begin one: karkas explore, karkas act or karkas run")
    else:
        screen.table(
            ("run", "workflow", "zone", "status", "since", "spent"),
            [
                (
                    run.id,
                    run.workflow,
                    run.zone or "",
                    _status(run, broken_off=run.id in orphans),
                    f"{run.changed_at.astimezone():%Y-%m-%d %H:%M}",
                    f"{run.spent.wall_s:.0f} s, {run.spent.tokens:,} tokens",
                )
                for run in runs
            ],
        )
        if any(run.id in orphans and run.due_at is None for run in runs):
            screen.say("broken off: the process that ran it is gone; karkas runs resume RUN goes on")
        if any(run.id in orphans and run.due_at is not None for run in runs):
            screen.say("broken off: its worker is gone; the next one goes on with it by itself")
        for run in runs:
            if run.status.value == "parked" and run.reason and run.due_at is None:
                screen.line(f"{run.id} waits for more than a decision: karkas runs show {run.id}")
        if any(_interrupted(run) for run in runs):
            screen.say("interrupted: karkas runs resume RUN goes on")


def _status(run: "Run", *, broken_off: bool) -> str:
    if _interrupted(run):
        return "interrupted"
    return "broken off" if broken_off else run.status.value


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _interrupted(run: "Run") -> bool:
    """Whether it was begun and waits for nobody but a person who resumes it."""
    return (
        run.status.value == "queued"
        and run.segment > 0
        and run.reason == "interrupted"
        and run.due_at is None
    )


@app.command()
def show(run: RunArgument, *, json: JsonOption = False, project: ProjectOption = None) -> None:
    """Show how a run stands: its input, engine, what it spent, what became of its actions, what it waits for.

    \b
    Examples:
      karkas runs show r-3f9a
    """
    from karkas.cli import ending, screen
    from karkas.runner import is_orphaned

    with open_project(project) as opened:
        found = opened.store.runs.get(run)
        gates, orphaned = ending.waiting(opened, found), is_orphaned(opened, found)
        if json:
            screen.as_json(
                ending.run_json(found) | {"orphaned": orphaned, "gates": [gate.id for gate in gates]}
            )
            return
        spent = found.spent
        tokens = f"{spent.tokens:,} tokens" + (
            f" ({spent.cached_tokens:,} cached)" if spent.cached_tokens else ""
        )
        work = ", ".join(
            (
                f"{tokens} in {screen.counted(spent.model_calls, 'call')}",
                screen.counted(spent.sources, "source"),
                screen.counted(spent.cycles, "cycle"),
            )
        )
        screen.facts(
            [
                ("run", f"{found.id}, {found.workflow}"),
                ("input", [f"{name}: {value}" for name, value in found.input.items()] or "none"),
                ("engine", ending.engine(found)),
                ("created", f"{found.created_at.astimezone():%Y-%m-%d %H:%M:%S}"),
                (
                    "changed",
                    f"{found.changed_at.astimezone():%Y-%m-%d %H:%M:%S}, taken up {_times(found.segment)}",
                ),
                ("spent", f"{spent.wall_s:.1f} s, {work}"),
            ]
        )
        ending.tell_summary(opened, found, gates)
        if orphaned:
            screen.say(f"the process that ran it is gone; go on: karkas runs resume {found.id}")


@app.command()
def watch(
    *,
    every: Annotated[
        float, typer.Option(min=0.2, metavar="SECONDS", help="How often it is looked again.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Show what is going on, again and again: runs in flight and waiting, workers, model servers, what waits for you.

    Runs of other processes, and of other hosts on the same database, are seen too. `new` is the share of new subjects
    in the last cycle, `ends by` which bound ends the run first, and about when. Without a terminal it looks once; with
    --json each look is one line. Ctrl-C leaves, and ends nothing else.

    \b
    Examples:
      karkas runs watch
      karkas runs watch --json --every 10 >> night.jsonl
    """
    from karkas.cli import watch as watching

    with open_project(project) as opened:
        watching.watch(opened, every_s=every, as_json=json, once=once)


@app.command()
def log(
    run: RunArgument,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on printing what comes, until the run is left.")
    ] = False,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Print what was logged of a run on this machine: what it did when, and what went wrong.

    \b
    Examples:
      karkas runs log r-3f9a
      karkas runs log r-3f9a --follow
    """
    from karkas.cli import watch as watching

    with open_project(project) as opened:
        watching.log(opened, run, follow=follow, as_json=json)


@app.command()
def resume(
    run: RunArgument,
    *,
    switch_engine: Annotated[
        bool,
        typer.Option(
            "--switch-engine", help="Go on with the engine that is configured now, whoever began it."
        ),
    ] = False,
    detach: DetachOption = False,
    at: AtOption = None,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Go on with a run: after Ctrl-C or a crash, after a decision at its gates, or after mending what made it fail.

    Nothing that was done is done again: actions are in the ledger, and what was read is stored. A run keeps to the
    engine that began it; only --switch-engine, on the record, lets another model take over, or a model the offline
    engine's place.

    \b
    Examples:
      karkas runs resume r-3f9a
      karkas runs resume r-3f9a --switch-engine
      karkas runs resume r-3f9a --detach
    """
    from karkas.cli import ending, explore, screen
    from karkas.runner import reopen
    from karkas.storage import RunStatus

    with open_project(project) as opened:
        before = opened.store.runs.get(run)
        found = reopen(opened, run, switch_engine=switch_engine)
        if before.status is RunStatus.STOPPED and not json:
            why = f": {before.reason}" if before.reason else ""
            screen.say(f"run {found.id} was stopped{why}; it is opened again")
        if _keeps_offline(found, opened.settings) and not json:
            screen.say(
                f"run {found.id} was begun by the offline engine and goes on with it; --switch-engine lets the model"
                " take over"
            )
        if found.options != before.options and not json:
            file = found.workflow.rpartition(":")[0]
            screen.say(f"{file} changed since the run was begun; it goes on with the file as it is now")
        if (due := due_at(opened, detach=detach, at=at)) is not None:
            ending.tell_queued(opened, opened.store.runs.hand_over(found.id, at=due), json=json)
            return
        found = ending.drive(opened, found, quiet=json)
        told = explore.tell if found.workflow == "explore" else ending.tell
        told(opened, found, json=json)


def _keeps_offline(run: "Run", settings: "Settings") -> bool:
    return bool(run.engine and run.engine.startswith("offline ") and settings.language_models)


@app.command()
def stop(
    run: RunArgument,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it goes on the record.")] = "",
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Stop a run: its waiting gates are cancelled and its unused permits are void.

    A process that is at work on it notices within seconds and ends: calls of a model are given up, a tool that has
    begun is waited for. What was stored stays; `karkas runs resume` opens the run again and goes on from there.

    \b
    Examples:
      karkas runs stop r-3f9a --reason "wrong folder"
    """
    from karkas.cli import ending, screen
    from karkas.project import person
    from karkas.storage import RunStatus

    with open_project(project) as opened:
        found = opened.store.runs.get(run)
        stopped = opened.store.runs.set_status(
            found.id, RunStatus.STOPPED, reason=reason or f"stopped by {person()}", by=person()
        )
    if json:
        screen.as_json(ending.run_json(stopped))
    else:
        screen.say(f"run {stopped.id}: stopped")
