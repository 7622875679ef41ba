"""A worker in this terminal: what it does, line by line as runs end, and how the night went."""

import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import structlog
import typer

from karkas import notify, telemetry
from karkas.cli import ending, exits, progress, screen
from karkas.cli.lasting import lasting
from karkas.policies.errors import KarkasError
from karkas.policies.runs import RunStatus
from karkas.project import person
from karkas.report.figures import is_stuck, look, worked
from karkas.report.text import first_line
from karkas.work.shift import Over, Shift

if TYPE_CHECKING:
    from karkas.project import Project
    from karkas.storage import Run
    from karkas.storage.nights import Night

log = structlog.get_logger("karkas.work")

REDRAW_S = 0.5


@lasting()
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
    try:
        over = _work(shift, json=json)
    except BaseException as error:
        log.error("night_broken_off", night=opened.id, error=repr(error))  # noqa: TRY400
        with suppress(KarkasError):
            project.store.nights.close(opened.id, why=f"broken off: {type(error).__name__}")
        raise
    closed = project.store.nights.close(opened.id, why=over.value)
    log.info("night_ended", night=opened.id, why=over.value, told_by=shift.told_by or None)
    runs = worked(project, opened.opened_at)
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
        _tell(closed, _why(over, closed, shift), runs, left=left, waiting=waiting)
    notify.morning(project, look(project, since=opened.opened_at))
    if over is Over.STOPPED:
        raise typer.Exit(exits.INTERRUPTED)
    if any(run.status is RunStatus.FAILED for run in runs):
        raise typer.Exit(exits.FAILED)
    cut = left or any(ending.exit_code(run) == exits.STOPPED for run in runs)
    if cut and over in {Over.DEADLINE, Over.BUDGET}:
        raise typer.Exit(exits.STOPPED)
    if waiting:
        raise typer.Exit(exits.PARKED)


@lasting()
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
        screen.say(f"stopped by {shift.told_by}; what was at work is queued again")


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
    say(f"{project.store.clock().astimezone():%H:%M:%S} {_stands(run)}")


def _held_up(project: "Project", say: Callable[[str], None], why: str) -> None:
    told = f"held up, nothing is lost: {why}" if why else "goes on"
    say(f"{project.store.clock().astimezone():%H:%M:%S} {told}")


@contextmanager
def _stopping(shift: Shift) -> Iterator[None]:
    """The first signal ends the shift in order; what was begun ends first. A second one is the terminal's own."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # One that is ignored stays so: `nohup`, and shells in the background, ask for that.
    before = {
        number: handler for number in numbers if (handler := signal.getsignal(number)) is not signal.SIG_IGN
    }

    def stop(number: int, _: object) -> None:
        if number == signal.SIGINT and sys.stdout.isatty():
            print()  # after the terminal's ^C
        shift.told_by = signal.Signals(number).name
        shift.stop()
        for one, handler in before.items():
            signal.signal(one, handler)

    for number in before:
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
    zone = f" {run.zone}" if run.zone else ""
    told = [part.split("\n", 1)[0] for part in (run.reason, run.error) if part]
    how = f", {': '.join(told)}" if told else ""
    return f"{run.id} {run.workflow}{zone}: {run.status.value}{how}"


def _why(over: Over, night: "Night", shift: Shift) -> str:
    match over:
        case Over.DRAINED:
            return "all that was queued was worked off"
        case Over.DEADLINE:
            return f"the night is over, it was {night.until.astimezone():%H:%M}" if night.until else "over"
        case Over.BUDGET:
            return "the night's budget is spent"
        case Over.STOPPED:
            return f"ended by {shift.told_by}; nothing is lost, `karkas night` goes on"


def _tell(night: "Night", why: str, runs: "list[Run]", *, left: int, waiting: int) -> None:
    """Says first what a tired person must not miss."""
    failed = [run for run in runs if run.status is RunStatus.FAILED]
    stuck = [run for run in runs if is_stuck(run)]
    if first := first_line([run.id for run in failed], [run.id for run in stuck]):
        screen.say(first, style="bold red")
    counted = Counter(run.status.value for run in runs if run.status.ended or run.status is RunStatus.PARKED)
    counts = ", ".join(f"{number:,} {status}" for status, number in counted.items()) or "nothing was done"
    tokens = f"; {night.spent.tokens:,} tokens" if night.spent.tokens else ""
    screen.say(f"{why}: {counts}{tokens}")
    if left:
        screen.say(f"{screen.counted(left, 'run')} left for the next night")
    for run in (*failed, *stuck):
        screen.line(f"  {_stands(run)}")
    if waiting:
        screen.say(f"{waiting:,} {'gate waits' if waiting == 1 else 'gates wait'} for you: karkas queue")
