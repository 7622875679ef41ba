"""`karkas runs watch` and `karkas runs log`: looking on while runs are at work."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from karkas import cells
from karkas.cli import screen
from karkas.policies.rendering import visible_line

if TYPE_CHECKING:
    from karkas.project import Project
    from karkas.report.live import Flight, Live

HEADINGS = ("run", "zone", "status", "cycle", "tokens", "tok/s", "new", "ends by")
WIDTHS = (14, 11, 10, 5, 10, 6, 4, 12)
"""79 columns, with the blanks between them."""
UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "m"))
BOUNDS = {"wall_s": "time", "model_calls": "calls"}
RESERVED = 7
"""Lines below the runs."""
POLL_S = 0.3


def watch(project: "Project", *, every_s: float, as_json: bool, once: bool) -> None:
    """Shows what is going on until Ctrl-C; once where nobody looks on."""
    from karkas.report.live import Watcher

    watcher = Watcher(project)
    try:
        if as_json:
            while True:
                screen.as_json(watcher.look().model_dump(mode="json"), line=True)
                if once:
                    return
                time.sleep(every_s)
        elif once or not sys.stdout.isatty():
            _print_once(watcher.look())
        else:
            _show(watcher, every_s)
    except KeyboardInterrupt:
        return


def _show(watcher: "object", every_s: float) -> None:
    from rich.live import Live as Screen

    from karkas.report.live import Watcher

    assert isinstance(watcher, Watcher)
    console = screen.console()
    with Screen(console=console, screen=True, auto_refresh=False) as shown:
        while True:
            found = watcher.look()
            lines = list(page(found, console.width, console.height))
            shown.update(Text("\n").join(lines), refresh=True)
            time.sleep(every_s)


def page(found: "Live", width: int, height: int) -> Iterator[Text]:
    """The screen: two lines a run, as many as fit, then what else there is."""
    yield _line(
        f"karkas runs, {found.at.astimezone():%H:%M:%S}  (Ctrl-C leaves, and ends nothing)", width, "bold"
    )
    yield _line(_columns(HEADINGS), width, "bold")
    room = max(height - RESERVED - len(found.choices), 2)
    left = len(found.runs)
    for run in found.runs:
        lines = list(_rows(run, width))
        if room < len(lines) + (1 if left > 1 else 0):
            break
        yield from lines
        room, left = room - len(lines), left - 1
    if left:
        yield _line(f"and {left:,} more: karkas runs list", width, "dim")
    for one in _below(found):
        yield _line(one, width)


def _rows(run: "Flight", width: int) -> Iterator[Text]:
    row = _line(_columns(_cells(run)), width)
    if style := STATUS.get(run.status):
        at = WIDTHS[0] + WIDTHS[1] + 2
        row.stylize(style, at, at + len(run.status))
    yield row
    if run.doing:
        yield _line(f"  {visible_line(run.doing)}", width, "dim")


STATUS = {"running": "green", "broken off": "bold red", "parked": "yellow"}


def _cells(run: "Flight") -> tuple[str, ...]:
    return (
        run.run,
        visible_line(run.zone or run.workflow),
        run.status,
        "" if run.cycle is None else str(run.cycle),
        f"{run.tokens:,}",
        "" if run.rate is None else f"{run.rate:,.0f}",
        "" if run.novelty is None else f"{run.novelty:.0%}",
        _ends(run),
    )


def _ends(run: "Flight") -> str:
    if run.bound is None or run.left_s is None:
        return ""
    return f"{length(run.left_s)} {BOUNDS.get(run.bound, run.bound)}"


def length(seconds: float) -> str:
    """A length of time in two or three characters: `45s`, `12m`, `3h`."""
    for unit, name in UNITS:
        if seconds >= unit:
            return f"{seconds / unit:.0f}{name}"
    return f"{seconds:.0f}s"


def _below(found: "Live") -> Iterator[str]:
    from karkas.report.prices import money

    counts = ", ".join(f"{number:,} {status}" for status, number in sorted(found.counts.items()))
    rate = "" if found.rate is None else f"; {found.rate:,.0f} tokens/s"
    costs = [run.cost for run in found.runs if run.cost is not None]
    cost = f"; these cost {money(sum(costs))}" if costs else ""
    failed = "; karkas runs list --status failed" if found.counts.get("failed") else ""
    yield f"runs     {counts or 'none'}{rate}{cost}{failed}"
    alive = sum(one.alive for one in found.workers)
    gone = [one.name for one in found.workers if not one.alive]
    yield f"workers  {alive} alive" + (f", not heard of: {', '.join(gone)}" if gone else "")
    servers = ", ".join(f"{one.address} {'up' if one.up else 'DOWN'}" for one in found.servers)
    yield f"models   {servers or 'no server configured: the offline engine'}"
    yield (
        f"you      {screen.counted(found.waits, 'gate')} {'waits' if found.waits == 1 else 'wait'} for you"
        + (": karkas queue" if found.waits else "")
    )
    for one in found.choices:
        yield f"         {visible_line(one.what)}: {one.why}"


def _columns(values: tuple[str, ...]) -> str:
    return " ".join(
        cells.fit(value, width).rstrip().rjust(width) if heading in RIGHT else cells.fit(value, width)
        for value, width, heading in zip(values, WIDTHS, HEADINGS, strict=True)
    )


RIGHT = {"cycle", "tokens", "tok/s", "new"}


def _line(text: str, width: int, style: str = "") -> Text:
    return Text(cells.fit(text, width).rstrip(), style=style)


def _print_once(found: "Live") -> None:
    if found.runs:
        screen.table((*HEADINGS, "doing"), [(*_cells(run), run.doing) for run in found.runs])
    else:
        screen.say("no run is in flight, and none waits")
    for one in _below(found):
        screen.line(one)


def log(project: "Project", name: str, *, follow: bool, as_json: bool) -> None:
    """Prints what is logged of a run; with `follow` what comes, until the run is left or Ctrl-C."""
    from karkas.logs import of_run
    from karkas.policies.errors import NotFoundError

    run = project.store.runs.get(name)
    path = of_run(project.folder, run.id)
    before = path.with_name(f"{path.name}.1")
    if not follow and not path.exists() and not before.exists():
        raise NotFoundError(
            f"there is no log of run {run.id} on this machine: {path} is where it would be. Runs that began before"
            " karkas kept one have none, and those of another host have theirs there"
        )
    try:
        for text in (*_lines(before), *_lines(path)):
            _print_logged(text, as_json=as_json)
        if follow:
            for text in _coming(project, run.id, path):
                _print_logged(text, as_json=as_json)
    except KeyboardInterrupt:
        return


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _coming(project: "Project", run: str, path: Path) -> Iterator[str]:
    from karkas.storage import RunStatus

    at, rest = path.stat().st_size if path.exists() else 0, b""
    while True:
        busy = project.store.runs.get(run).status in {RunStatus.RUNNING, RunStatus.QUEUED}
        if path.exists():
            at = 0 if path.stat().st_size < at else at  # it was put aside, and begun anew
            with path.open("rb") as file:
                file.seek(at)
                rest += file.read()
                at = file.tell()
        *whole, rest = rest.split(b"\n")
        yield from (one.decode("utf-8", "replace") for one in whole)
        if not busy:
            return
        time.sleep(POLL_S)


def _print_logged(text: str, *, as_json: bool) -> None:
    try:
        entry = json.loads(text)
    except ValueError:
        entry = {"event": text}
    if as_json:
        screen.as_json(entry, line=True)
        return
    stamp = str(entry.pop("timestamp", ""))
    level, event = entry.pop("level", ""), entry.pop("event", "")
    rest = " ".join(
        f"{key}={value if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False)}"
        for key, value in entry.items()
        if key not in {"run_id", "logger"} and value is not None
    )
    screen.line(f"{_local(stamp)} {level:7} {event} {rest}".rstrip())


def _local(stamp: str) -> str:
    from datetime import datetime

    try:
        return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return stamp
