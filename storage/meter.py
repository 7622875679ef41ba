"""What a run writes to disk: artifacts that were not there, checkpoints, journalled answers.

Not counted: the rows of the domain's database, indexes, logs, the zones' files, and what tools do.
"""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Meter:
    written: int = 0
    """Bytes."""


METER: ContextVar[Meter | None] = ContextVar("karkas_meter", default=None)
"""That of the run which is at work in this context; tasks and threads that it begins inherit it."""


def count(size: int) -> None:
    if (meter := METER.get()) is not None:
        meter.written += size
