"""Logs: structlog events as JSON lines in `.karkas/logs/karkas.log`, what is of one run in `RUN.log` beside it too,
and on the terminal only when asked for.

Only the command line sets this up; a script that uses karkas keeps its own logging.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import structlog

FILE = Path("logs", "karkas.log")
DOING = "doing"
"""The event that says what a run is doing now; only the run's own log has it."""
OF_RUN_BYTES = 4_000_000
"""A run's log becomes `RUN.log.1` then, in place of the one before."""

_RUN = re.compile(r"r-[0-9a-f]+")

_STAMPS: tuple[structlog.typing.Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def route() -> None:
    """Sends structlog events to the standard `logging`, silently until somebody adds a handler.

    structlog alone would print them on stdout. Where a script has configured structlog, its way holds.
    """
    logging.getLogger("karkas").addHandler(logging.NullHandler())
    if not structlog.is_configured():
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,  # before anything is done for what nobody reads
                *_STAMPS,
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
        )


def log_to(folder: Path) -> None:
    """Writes what is logged from now on to `folder/logs/karkas.log`, other libraries' warnings too."""
    from logging.handlers import WatchedFileHandler

    path = folder / FILE
    path.parent.mkdir(mode=0o700, exist_ok=True)
    logging.raiseExceptions = (
        False  # a log on a full disk is no reason to print tracebacks among what is told
    )
    handler = WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace", delay=True)
    handler.addFilter(lambda record: _event(record).get("event") != DOING)
    for one in (handler, RunLogs(path.parent)):
        _add(
            one,
            # Without the local variables of frames, which hold keys and what sources say.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        )


class RunLogs(logging.Handler):
    """Each run's events in a file of its own, `RUN.log`: those with a `run_id`, and others while it is bound."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def emit(self, record: logging.LogRecord) -> None:
        run = str(_event(record).get("run_id") or structlog.contextvars.get_contextvars().get("run_id"))
        if not _RUN.fullmatch(run):
            return
        path = of_run(self._folder.parent, run)
        try:
            line = f"{self.format(record)}\n".encode("utf-8", "backslashreplace")
            # Opened for each event: there may be hundreds of runs, and few events of each.
            with path.open("ab") as file:
                full = file.tell() + len(line) > OF_RUN_BYTES
                if not full:
                    file.write(line)
            if full:
                path.replace(path.with_name(f"{path.name}.1"))
                path.write_bytes(line)
        except Exception:  # noqa: BLE001  a full disk, for one
            self.handleError(record)


@contextmanager
def no_run_logs() -> Iterator[None]:
    """For runs of throw-away projects: they leave no files in the project whose log this is."""
    root = logging.getLogger()
    handlers = [one for one in root.handlers if isinstance(one, RunLogs)]
    for handler in handlers:
        root.removeHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            root.addHandler(handler)


def of_run(folder: Path, run: str) -> Path:
    """Where the log of a run is; what it had before it grew too long is beside it, with `.1` at the end."""
    return folder / FILE.parent / f"{run}.log"


def _event(record: logging.LogRecord) -> dict[str, object]:
    return record.msg if isinstance(record.msg, dict) else {}


def log_to_terminal(stream: TextIO | None = None) -> None:
    """Shows what is logged from now on, on stderr unless `stream` is given."""
    _add(logging.StreamHandler(stream), structlog.dev.ConsoleRenderer(colors=False))


def _add(handler: logging.Handler, *renderers: structlog.typing.Processor) -> None:
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_STAMPS,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    # One of a kind: a second project in the same process takes over.
    for old in [one for one in root.handlers if type(one) is type(handler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    logging.getLogger("karkas").setLevel(logging.INFO)
    route()
