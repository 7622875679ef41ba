"""Serving models: in this terminal, or in the background until they answer."""

import asyncio
import json as jsons
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import typer

from karkas.cli import exits, progress, screen
from karkas.policies.errors import KarkasError
from karkas.server.process import (
    Launch,
    Record,
    ServeError,
    State,
    Supervisor,
    Watchbook,
)

ANSWERING = frozenset({State.READY, State.FOUND})
POLL_SECONDS = 0.2


def foreground(book: Watchbook, launches: list[Launch], *, json: bool) -> None:
    """Serves until a signal ends it. Exits 1 where one of several was given up; raises the error of a single one."""
    errors = asyncio.run(_serve(book, launches, json=json))
    if errors and (len(launches) == 1 or not all(isinstance(one, KarkasError | OSError) for one in errors)):
        raise errors[0]
    if errors:
        raise typer.Exit(exits.FAILED)


async def _serve(book: Watchbook, launches: list[Launch], *, json: bool) -> list[Exception]:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    def end(number: signal.Signals) -> None:
        if number is signal.SIGINT and sys.stdout.isatty():
            print()  # after the terminal's ^C
        stopping.set()
        for task in tasks:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
    # One after the other: while it starts, vLLM measures what memory of a GPU is free.
    for launch in launches:
        if not stopping.is_set():
            await _begin(book, launch, tasks, alone=len(launches) == 1, json=json)
    if not json and any(not task.done() for task in tasks):
        screen.say("Ctrl-C ends it; `karkas serve --detach` would go on without this terminal")
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    return [one for one in ended if isinstance(one, Exception)]


async def _begin(
    book: Watchbook, launch: Launch, tasks: list[asyncio.Task[None]], *, alone: bool, json: bool
) -> None:
    """Adds a task that serves it to `tasks`, and returns when it answers or has ended."""
    answers = asyncio.Event()
    told: list[str] = []  # what would break the line that moves is told after it

    def tell(record: Record) -> None:
        if json:
            as_json(record)
        elif words := _words(record, alone=alone):
            told.append(f"{record.since:%H:%M:%S} {words}")
        if not answers.is_set():
            spin(f"{record.name}: {record.detail or record.state}")
        else:
            _flush(told)
        if record.state in ANSWERING:
            answers.set()

    if not json:
        screen.line(
            f"{launch.name}: {launch.model} at {launch.base_url}, log {_short(book.log(launch.name))}"
        )
    with progress.shown(quiet=json) as spin:
        serving = asyncio.create_task(Supervisor(launch, book.folder, tell).run())
        tasks.append(serving)
        answering = asyncio.create_task(answers.wait())
        await asyncio.wait({serving, answering}, return_when=asyncio.FIRST_COMPLETED)
        answering.cancel()
    answers.set()
    _flush(told)


def _flush(lines: list[str]) -> None:
    for line in lines:
        screen.line(line)
    lines.clear()
    sys.stdout.flush()


def _short(path: Path) -> str:
    """From here, where it is below here."""
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _words(record: Record, *, alone: bool = False) -> str | None:
    """What is worth a line."""
    match record.state:
        case State.STARTING:
            return None
        case State.FOUND:
            return f"{record.name}: runs already; it is used, and left running at the end"
        case State.FAILED:
            return None if alone else f"{record.name}: given up: {record.detail}"
        case State.READY:
            return f"{record.name}: ready {record.detail}"
        case State.RESTARTING | State.LEFT:
            return f"{record.name}: {record.detail}"
        case State.STOPPING | State.STOPPED:
            return f"{record.name}: {record.detail or record.state}"


def as_json(record: Record) -> None:
    print(jsons.dumps(record.model_dump(mode="json", exclude={"started"})), flush=True)


def detach(book: Watchbook, launches: list[Launch], root: Path, *, json: bool) -> None:
    """A karkas of its own in the background for each, so that each can be stopped alone; waits until all answer."""
    try:
        for launch in launches:
            if not book.is_held(launch.name):
                _await_answer(book, launch, _background(book, launch, root), json=json)
            elif (record := book.read(launch.name)) is not None:
                _tell_settled(
                    record, f"{record.name}: karkas serve (pid {record.supervisor}) has it already", json=json
                )
    except KeyboardInterrupt:
        screen.say("\nit goes on in the background: `karkas serve --status`, `karkas serve --stop`")
        raise typer.Exit(exits.INTERRUPTED) from None


def _background(book: Watchbook, launch: Launch, root: Path) -> "subprocess.Popen[bytes]":
    book.path(launch.name, "out").parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    karkas = (sys.executable, "-P", "-c", "from karkas.cli import main; main()")
    with book.path(launch.name, "out").open("wb") as out:
        return subprocess.Popen(  # noqa: S603
            [*karkas, "serve", launch.name, "--json", "--project", str(root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=out,
            start_new_session=True,
        )


def _await_answer(book: Watchbook, launch: Launch, child: "subprocess.Popen[bytes]", *, json: bool) -> None:
    with progress.shown(quiet=json) as spin:
        while True:
            code, record = child.poll(), book.read(launch.name)
            if record is not None and record.supervisor == child.pid:
                spin(f"{record.name}: {record.detail or record.state}")
                if record.state in ANSWERING:
                    break
                if record.state is State.FAILED:
                    raise ServeError(record.detail)
            if code is not None:
                said = book.path(launch.name, "out").read_text("utf-8", "replace").strip()
                raise ServeError(
                    f"karkas serve {launch.name} ended with {code} in the background: {said or 'stopped'}"
                )
            time.sleep(POLL_SECONDS)
    where = f"{record.model} at {record.base_url}, log {_short(record.log)}"
    _tell_settled(record, f"{_words(record)}; in the background: {where}", json=json)


def _tell_settled(record: Record, words: str, *, json: bool) -> None:
    if json:
        as_json(record)
    else:
        screen.line(words)
