"""Logs: structlog events as JSON lines in `.karkas/logs/karkas.log`, on the terminal only when asked for.

Only the command line sets this up; a script that uses karkas keeps its own logging.
"""

import logging
from pathlib import Path
from typing import TextIO

import structlog

FILE = Path("logs", "karkas.log")

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
            processors=[*_STAMPS, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
        )


def log_to(folder: Path) -> None:
    """Writes what is logged from now on to `folder/logs/karkas.log`, other libraries' warnings too."""
    from logging.handlers import WatchedFileHandler

    path = folder / FILE
    path.parent.mkdir(mode=0o700, exist_ok=True)
    handler = WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace", delay=True)
    _add(
        handler,
        # Without the local variables of frames, which hold keys and what sources say.
        structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        ),
        structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
    )


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
