"""A worker in this terminal: what it does, line by line as runs end, and how the night went."""

import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import typer

from karkas import notify, telemetry
from karkas.cli import ending, exits, progress, screen
from karkas.project import person
from karkas.report.figures import look
from karkas.work.shift import Over, Shift

if TYPE_CHECKING:
    from karkas.project import Project
    from karkas.storage import Run
    from karkas.storage.nights import Night

REDRAW_S = 0.5


def night(
    project: "Project", *, until: datetime | None, budget_tokens: int | None, places: int | None, json: bool
) -> None:
    """Works until it is over, tells what came of it, and exits with its code."""
    budget = project.settings.budgets.night
    if budget_tokens is not None:
        budget = budget.model_copy(update={"tokens": budget_tokens})
    opened = project.store.nights.open(until=until, budget=budget, by=person())
    shift = _shift(project, places, night=opened)
    if not json:
        end = f" until {until:%a %H:%M}" if until else ""
        screen.say(f"night{end}: {shift.places} runs at once; Ctrl-C ends it, and nothing is lost")
    over = Over.STOPPED
    try:
        over = _work(shift, json=json)
    finally:
        closed = project.store.nights.close(opened.id, why=over.value)
    runs = [run for run in project.store.runs.list(changed_since=opened.opened_at) if run.segment]
    left = len(project.store.runs.due(project.store.clock()))
    waiting = project.store.waiting.count()
    if json:
        screen.as_json(
            {
                "night": closed.model_dump(mode="json"),
                "left": left,
                "waiting": waiting,
                "runs": [ending.run_json(run) for run in runs],
            }
        )
    else:
        _tell(closed, over, runs, left=left, waiting=waiting)
    notify.morning(project, look(project, since=opened.opened_at))
    if over is Over.STOPPED:
        raise typer.Exit(exits.INTERRUPTED)
    cut = left or any(ending.exit_code(run) == exits.STOPPED for run in runs)
    if cut and over in {Over.DEADLINE, Over.BUDGET}:
        raise typer.Exit(exits.STOPPED)
    if waiting:
        raise typer.Exit(exits.PARKED)


def work(project: "Project", *, places: int | None, metrics_port: int | None, json: bool) -> None:
    shift = _shift(project, places)
    if metrics_port is not None:
        server, _ = telemetry.serve_metrics(project, metrics_port)
        if not json:
            screen.say(f"metrics at http://127.0.0.1:{server.server_port}/metrics")
    if not json:
        screen.say(
            f"working, {shift.places} runs at once; Ctrl-C ends it, and what is at work is queued again"
        )
    _work(shift, json=json)
    if not json:
        screen.say("stopped; what was at work is queued again")


def list_workers(project: "Project", *, json: bool) -> None:
    workers = project.store.workers.all()
    if json:
        screen.as_json([one.model_dump(mode="json") for one in workers])
    elif not workers:
        screen.say("no worker is up; start one: karkas work, or karkas night")
    else:
        screen.table(
            ("worker", "since", "runs at once", "at work on"),
            [
                (
                    one.name,
                    f"{one.started_at.astimezone():%Y-%m-%d %H:%M}",
                    str(one.concurrency),
                    ", ".join(one.runs),
                )
                for one in workers
            ],
        )


def _shift(project: "Project", places: int | None, *, night: "Night | None" = None) -> Shift:
    return Shift(project, places or project.settings.work.concurrency, night=night, drain=night is not None)


def _work(shift: Shift, *, json: bool) -> Over:
    """Works in a thread of its own, so that Ctrl-C and SIGTERM reach this one at once."""
    ended: list[Over | BaseException] = []

    def run() -> None:
        try:
            ended.append(shift.work())
        except BaseException as error:  # noqa: BLE001  it is raised again below
            ended.append(error)

    thread = threading.Thread(target=run, name="karkas-shift")
    with _stopping(shift), progress.beside_lines(quiet=json) as shown:
        shift.tell = _as_json if json else partial(_told, shift.project, shown.say)
        shift.held_up = partial(_held_up, shift.project, ending.print_error if json else shown.say)
        thread.start()
        while thread.is_alive():
            thread.join(REDRAW_S)
            shown.progress(_doing(shift))
    match ended[0]:
        case BaseException() as error:
            raise error
        case over:
            return over


def _as_json(run: "Run") -> None:
    screen.as_json(ending.run_json(run), line=True)


def _told(project: "Project", say: Callable[[str], None], run: "Run") -> None:
    zone = f" {run.zone}" if run.zone else ""
    say(f"{project.store.clock().astimezone():%H:%M:%S} {run.id} {run.workflow}{zone}: {_stands(run)}")


def _held_up(project: "Project", say: Callable[[str], None], why: str) -> None:
    told = f"held up, nothing is lost: {why}" if why else "goes on"
    say(f"{project.store.clock().astimezone():%H:%M:%S} {told}")


@contextmanager
def _stopping(shift: Shift) -> Iterator[None]:
    """The first signal ends the shift in order; what was begun ends first. A second one is the terminal's own."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}

    def stop(number: int, _: object) -> None:
        if number == signal.SIGINT and sys.stdout.isatty():
            print()  # after the terminal's ^C
        shift.stop()
        for one, handler in before.items():
            signal.signal(one, handler)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _doing(shift: Shift) -> str:
    if shift.trouble:
        return f"held up: {shift.trouble}"
    doing = dict(shift.doing)
    if not doing:
        return "waits for work"
    first = next((f"; {run}: {what}" for run, what in doing.items() if what), "")
    return f"{screen.counted(len(doing), 'run')} at work{first}"


def _stands(run: "Run") -> str:
    told = run.reason or (run.error or "").split("\n", 1)[0]
    return f"{run.status.value}{f', {told}' if told else ''}"


def _tell(night: "Night", over: Over, runs: "list[Run]", *, left: int, waiting: int) -> None:
    why = {
        Over.DRAINED: "all that was queued is done or waits",
        Over.DEADLINE: "the night is over",
        Over.BUDGET: "the night's budget is spent",
        Over.STOPPED: "interrupted; nothing is lost, `karkas night` goes on",
    }[over]
    counted = Counter(run.status.value for run in runs if run.status.ended or run.status.value == "parked")
    counts = ", ".join(f"{number:,} {status}" for status, number in counted.items()) or "nothing was done"
    tokens = f"; {night.spent.tokens:,} tokens" if night.spent.tokens else ""
    screen.say(f"{why}: {counts}{tokens}")
    if left:
        screen.say(f"{screen.counted(left, 'run')} left for the next night")
    for run in runs:
        if run.status.value == "failed":
            screen.line(f"  {run.id} failed: karkas runs show {run.id}")
    if waiting:
        screen.say(f"{waiting:,} {'gate waits' if waiting == 1 else 'gates wait'} for you: karkas queue")
