"""How many requests a server gets at once, found from its own signals, and whose turn it is.

A limit begins high, because a server that has room must not wait for a slow start, and is corrected by the second look
at what the server says of itself.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from math import log2
from statistics import median
from typing import Generic, TypeVar

from karkas.server.metrics import Load

START = 256
"""vLLM's default for sequences that run at once, on most of its machines."""
MOST = 4096

STEP = 2
SLACK, LEAST_SLACK = 8, 4.0
"""One request in eight may queue at the server, and some in any case: where none does, a slot idles while the next
request is on its way."""
SHARE = 4
"""A quarter of what the server runs is never given up, or clients that do not yield would have it all."""
FULL = 0.9
"""Above this part of the KV cache nothing more is sent: what runs there still grows."""

ARRIVED = 0.75
"""As long as less of what was sent runs, the rest is still on its way, and more would only join it there."""

EASY, LATE = 2.0, 4.0
"""Answers that take less than twice the best time say that there is room, more than four times that they queue."""
FORGET = 1.01
"""How much the best time for answers of a length rises with each of them: servers change."""


class Limit:
    """How many sequences one server should have of us at once.

    Where vLLM tells its load, a short queue there is the aim. Elsewhere the times of answers tell, and refusals.
    """

    def __init__(self, start: float = START) -> None:
        self._value = float(start)
        self._step = STEP
        self._last: Load | None = None
        self._running = 0.0
        self._refused = float("-inf")
        self._best: dict[int, float] = {}
        self._late: list[float] = []

    @property
    def value(self) -> int:
        return int(self._value)

    def looked(self, load: Load, *, ours: int, wanted: bool) -> None:
        """The server's load. `ours` are our sequences there, `wanted` says that more of them wait for their turn."""
        last, self._last = self._last, load
        # Sequences that ended together are missed until the server's next step: the last few looks count too.
        self._running = max(load.running, self._running * 0.9)
        slack = max(LEAST_SLACK, self._running / SLACK)
        if last is not None and load.preempted > last.preempted:
            self._lower(0.9 * min(self._value, ours))
        elif (
            last is not None
            and min(last.waiting, load.waiting) > slack
            and load.running <= 1.1 * last.running
        ):
            # A queue that shrinks because ever more of it runs is a burst, no overload.
            share = ours * (self._running + slack) / (load.running + load.waiting)
            self._value = min(max(min(share, ours), self._running / SHARE, 1.0), MOST)
            self._step = STEP
        elif wanted and load.waiting == 0 and load.cache < FULL and load.running >= ARRIVED * ours:
            self._value = min(MOST, self._value + self._step)
            self._step *= 2
        else:
            self._step = STEP

    def answered(self, seconds: float, tokens: int, *, ours: int, wanted: bool) -> None:
        """An answer of a server that does not tell its load, and how long it took.

        It is compared with the best among those of about its length. A window of them decides.
        """
        length = int(log2(max(tokens, 1)))
        best = self._best[length] = min(seconds, self._best.get(length, seconds) * FORGET)
        self._late.append(seconds / max(best, 1e-6))
        if len(self._late) < max(8, min(self.value, 64)):
            return
        late = median(self._late)
        self._late.clear()
        if late > LATE:
            self._lower(0.7 * min(self._value, ours))
        elif late < EASY and wanted:
            self._value = min(MOST, self._value + max(STEP, self._value / 10))

    def refused(self, now: float, *, ours: int) -> None:
        """The server has no room for a request. Refusals of one moment count once; `now` in seconds."""
        if now - self._refused >= 1.0:
            self._refused = now
            self._lower(0.7 * min(self._value, ours))

    def _lower(self, value: float) -> None:
        self._value = min(max(value, 1.0), self._value)
        self._step = STEP


T = TypeVar("T")


class Line(Generic[T]):
    """Who waits for a slot: those first whom a person waits for; else the runs take turns, each in its own order."""

    def __init__(self) -> None:
        self._lanes: tuple[OrderedDict[str, deque[T]], ...] = (OrderedDict(), OrderedDict())

    def __len__(self) -> int:
        return sum(len(waiters) for lane in self._lanes for waiters in lane.values())

    def __bool__(self) -> bool:
        return any(self._lanes)

    def __iter__(self) -> Iterator[T]:
        return (waiter for lane in self._lanes for waiters in lane.values() for waiter in waiters)

    def join(self, waiter: T, *, run: str, first: bool) -> None:
        self._lanes[not first].setdefault(run, deque()).append(waiter)

    def head(self) -> T | None:
        """Whose turn it is."""
        return next((waiters[0] for lane in self._lanes for waiters in lane.values()), None)

    def advance(self) -> None:
        """The head has got its slot: the next run's turn."""
        lane = next(lane for lane in self._lanes if lane)
        run, waiters = lane.popitem(last=False)
        waiters.popleft()
        if waiters:
            lane[run] = waiters

    def leave(self, waiter: T, *, run: str, first: bool) -> None:
        """It no longer wants a slot. One that is not there is no fault."""
        lane = self._lanes[not first]
        waiters = lane.get(run, deque())
        if waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del lane[run]
