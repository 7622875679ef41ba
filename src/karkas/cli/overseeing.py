"""The model servers that another terminal or the background looks after: how they stand, and how they are ended."""

import asyncio
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress

import typer

from karkas.cli import exits, progress, screen
from karkas.cli.serving import POLL_SECONDS, as_json
from karkas.server.config import ModelSettings
from karkas.server.process import ENDED, Patience, Probe, ServeError, State, Watchbook
from karkas.server.process.group import Group

STOP_SECONDS = 90.0


def status(book: Watchbook, chosen: Iterable[tuple[str, ModelSettings]], *, json: bool) -> None:
    """Exits 1 unless all of them answer."""
    found = [asyncio.run(_standing(book, name, model)) for name, model in chosen]
    if json:
        screen.as_json({"servers": found})
    else:
        rows = [[str(one[key] or "") for key in ("name", "state", "at", "pid", "restarts")] for one in found]
        screen.table(("name", "state", "at", "pid", "restarts"), rows)
        for one in found:
            if one["detail"] and not one["answers"]:
                screen.say(f"\n{one['name']}: {one['detail']}")
    if not all(one["answers"] for one in found):
        raise typer.Exit(exits.FAILED)


async def _standing(book: Watchbook, name: str, model: ModelSettings) -> dict[str, str | int | bool | None]:
    at = model.serve.base_url if model.serve else ""
    record = book.read(name)
    probe = Probe(at, key=os.environ.get(model.api_key_env) if model.api_key_env else None)
    try:
        answers = await probe.healthy()
    finally:
        await probe.close()
    watched = record is not None and record.state not in ENDED
    state = record.state.value if record else "not running"
    if answers and not watched and state != State.LEFT:
        state = "not watched"
    return {
        "name": name,
        "state": state,
        "model": record.model if record else model.model,
        "at": at,
        "answers": answers,
        "detail": record.detail if record else "",
        "since": record.since.isoformat(timespec="seconds") if record else None,
        "pid": record.pid if record and watched else None,
        "restarts": record.restarts if record else 0,
        "log": str(book.log(name)),
    }


def stop(book: Watchbook, names: list[str], *, json: bool) -> None:
    """Ends the karkas that looks after each, and what a killed one has left behind."""
    together: dict[int, list[str]] = defaultdict(list)
    for name in book.names():
        record = book.read(name)
        if record is not None and record.state not in ENDED:
            together[record.supervisor].append(name)
    for supervisor, its in together.items():
        others = sorted(set(its) - set(names))
        if others and len(others) < len(its):
            raise ServeError(
                f"the karkas serve of pid {supervisor} has {', '.join(others)} too; stop all of it:"
                f" karkas serve --stop {' '.join(its)}"
            )
    for name in names:
        before = book.read(name)
        _stop(book, name)
        after = book.read(name)
        if json and after is not None:
            as_json(after)
        elif not json:
            ran = before is not None and (before.state not in ENDED or before.state is State.LEFT)
            screen.line(f"{name}: {(after and after.detail) or 'stopped' if ran else 'was not running'}")


def _stop(book: Watchbook, name: str) -> None:
    record = book.read(name)
    if record is None:
        return
    if record.state is State.LEFT and record.group is not None:
        asyncio.run(record.group.stop(Patience().stop))
        book.write(record.model_copy(update={"state": State.STOPPED, "detail": "", "pid": None}))
        return
    if record.state in ENDED:
        return
    supervisor = Group.led_by(record.supervisor)
    with suppress(ProcessLookupError):
        os.kill(record.supervisor, signal.SIGTERM)
    until = time.monotonic() + STOP_SECONDS
    with progress.shown() as spin:
        spin(f"{name}: stopping")
        # It lets go of its book, and is gone a moment later.
        while book.is_held(name) or record.supervisor in supervisor.members():
            if time.monotonic() > until:
                raise ServeError(
                    f"karkas serve (pid {record.supervisor}) does not end; kill -9 {record.supervisor}, then"
                    f" `karkas serve --stop {name}` again, which ends what it leaves behind"
                )
            time.sleep(POLL_SECONDS)
