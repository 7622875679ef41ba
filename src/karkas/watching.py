"""Looking on while a run is at work: its line in the store, its own log, its span."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from opentelemetry.trace import Span
from structlog.contextvars import bound_contextvars

from karkas import notify, telemetry
from karkas.logs import DOING
from karkas.policies.errors import KarkasError
from karkas.project import Project
from karkas.server import tracing
from karkas.storage import Run
from karkas.workflows.progress import Progress

log = structlog.get_logger("karkas.runs")


@dataclass
class Watched:
    """`told` is seen from other processes too. `left` is the run as it was left; looked up where that is not said."""

    told: Progress
    left: Run | None = None


@contextmanager
def watched(project: Project, run: Run, progress: Progress) -> Iterator[Watched]:
    """Around one segment of a run. What is logged meanwhile bears the run's id."""
    telemetry.start(project.settings.telemetry)
    last = ""

    def told(doing: str, /, *, done: int = 0, total: int | None = None) -> None:
        nonlocal last
        progress(doing, done=done, total=total)
        project.store.doings.tell(run.id, doing, done=done, total=total)
        if doing != last:
            log.info(DOING, doing=doing)
            last = doing

    number = run.segment + 1
    with (
        bound_contextvars(run_id=run.id),
        tracing.segment(run.workflow, run=run.id, zone=run.zone, number=number) as span,
    ):
        log.info("run_begun", workflow=run.workflow, zone=run.zone, segment=number)
        seen = Watched(told)
        try:
            yield seen
        finally:
            _tell_end(project, run, span, seen.left)


def _tell_end(project: Project, run: Run, span: Span, left: Run | None) -> None:
    try:
        left = left or project.store.runs.get(run.id)
    except KarkasError as error:
        log.warning("run_left", error=str(error))
        return
    span.set_attribute("karkas.run.status", left.status.value)
    notify.soon(project)
    log.info("run_left", status=left.status.value, reason=left.reason or None, tokens=left.spent.tokens)
