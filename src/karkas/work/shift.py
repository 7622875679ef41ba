"""A worker's shift: it takes up what is due, beside others on this and other hosts, until it is told to end."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from time import monotonic

import structlog

from karkas import notify
from karkas.policies.budgets import Bound, over, reached
from karkas.policies.errors import KarkasError
from karkas.project import Project
from karkas.runner import advance, collect_less
from karkas.storage import BuriedError, LeaseError, LeaseLostError, Run, RunStatus
from karkas.storage.database import database_url
from karkas.storage.nights import Night
from karkas.storage.workers import BEAT_S
from karkas.work.schedules import fire, next_time
from karkas.workflows import failure
from karkas.workflows.queue import RunQueue, Turn
from karkas.workflows.runs import LONGEST_PAUSE_S, Unattended, pause_s

log = structlog.get_logger("karkas.work")

TICK_S = 1.0
GRACE_S = 600.0
"""How long what is at work may take to end with what it has, once the night is over."""
ENDING_S = 30.0
"""How long a run may take to let go when the worker is told to end: a tool that was begun is waited for."""
LONGEST_REST_S = 30.0
"""Before a run is taken up again that the store failed, or that somebody else was at work on."""
AT_MOST = 1000
"""Runs that are queued ahead; the rest follow when these have gone."""


class Over(StrEnum):
    """Why a shift ended."""

    DRAINED = "drained"
    DEADLINE = "deadline"
    BUDGET = "budget"
    STOPPED = "stopped"


@dataclass
class Shift:
    """One in a process. `tell` is called from other threads, of each run that ended, parked or was put back."""

    project: Project
    places: int
    night: Night | None = None
    """What its runs may spend together, and until when; none: no end and no bound."""
    drain: bool = False
    """Ends when nothing is left to do before the night's end."""
    tell: Callable[[Run], None] = lambda _: None
    held_up: Callable[[str], None] = lambda _: None
    """Is told why nothing can be done just now, and "" when it goes on; from other threads too."""
    doing: dict[str, str] = field(default_factory=dict)
    """What each run at work here is doing."""
    told_by: str = ""
    """The signal that told it to end."""
    trouble: str = ""
    """Why nothing can be done just now."""
    _tasks: "dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Task[Run]]]" = field(default_factory=dict)
    _not_before: dict[str, tuple[float, int]] = field(default_factory=dict)
    _ended: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _winding_up: threading.Event = field(default_factory=threading.Event)
    _gone: threading.Event = field(default_factory=threading.Event)
    _buried: BuriedError | None = None
    _troubled: set[str] = field(default_factory=set)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def stop(self) -> None:
        """Ends it soon: what is at work here is queued again, and goes on where it was. For signal handlers."""
        self._stop.set()

    def work(self) -> Over:
        """Works until it is over, in this thread and those of the queue."""
        store = self.project.store
        self.me = store.workers.join(self.places)
        try:
            queue = RunQueue(
                store.folder,
                database_url(store.folder, self.project.settings.storage.url),
                worker=self.me.id,
                places=self.places,
                zones=self.project.settings.work.zones,
                advance=self._advance,
            )
            collect_less()
            heart = threading.Thread(target=self._beat, name="karkas-heart", daemon=True)
            heart.start()
            try:
                return self._loop(queue)
            finally:
                self._let_go()
                queue.close(patience_s=1)  # what was just being taken up sees that it is over, and leaves
                self._gone.set()
                heart.join()
        finally:
            with suppress(KarkasError):
                store.workers.leave()

    def _beat(self) -> None:
        """Says again and again that this worker lives, whatever else it is doing, until it has let go of all runs."""
        while not self._gone.wait(BEAT_S):
            try:
                self.project.store.workers.beat()
                self._goes_on("beat")
            except BuriedError as error:
                self._buried = error
                self._stop.set()
                return
            except Exception as error:  # noqa: BLE001  it is tried again, and the others count the silence
                self._is_held_up("beat", error)

    def _loop(self, queue: RunQueue) -> Over:
        while not self._stop.is_set():
            try:
                over = self._tick(queue)
                self._goes_on("tick")
            except Exception as error:  # noqa: BLE001
                # A full disk, a database that is away: it passes or a person mends it, and the night goes on.
                over = None
                self._is_held_up("tick", error)
            if over is not None:
                return over
            self._stop.wait(TICK_S)
        if self._buried is not None:
            raise self._buried
        return Over.STOPPED

    def _is_held_up(self, at: str, error: Exception) -> None:
        with self._mutex:
            first = not self._troubled
            self._troubled.add(at)
            if first:
                self.trouble = str(error).split("\n", 1)[0] or type(error).__name__
                log.error("worker_held_up", at=at, exc_info=error)
                self.held_up(self.trouble)

    def _goes_on(self, at: str) -> None:
        with self._mutex:
            if at in self._troubled:
                self._troubled.remove(at)
                if not self._troubled:
                    self.trouble = ""
                    log.info("worker_goes_on")
                    self.held_up("")

    def _tick(self, queue: RunQueue) -> Over | None:
        store, now = self.project.store, self.project.store.clock()
        for dead in store.workers.dead():
            if store.workers.bury(dead):
                log.warning("worker_died", worker=dead.id, host=dead.host, pid=dead.pid)
        if taken := queue.take_over(lambda: {one.id for one in store.workers.all()}):
            log.warning("runs_taken_over", runs=taken)
        ended, self._ended = self._ended, set()
        queue.forget(ended)
        store.gates.wake_due(now)
        if self.night is not None and (bound := self._bound(self.night, now)) is not None:
            return self._wind_up(Over(bound.reason.value))
        notify.soon(self.project)
        fire(self.project, now)
        due = store.runs.due(now, limit=AT_MOST)
        if self.drain and not due and not self._tasks and not self._more_comes(now):
            return Over.DRAINED
        queue.put(
            [
                Turn(run.id, run.segment, run.zone, max(run.priority, 1))
                for run in due
                if self._not_before.get(run.id, (0.0, 0))[0] <= monotonic()
            ]
        )
        return None

    def _bound(self, night: Night, now: datetime) -> Bound | None:
        spent = self.project.store.nights.get(night.id).spent
        return over(deadline=None, until=night.until, now=now) or reached(night.budget, spent)

    def _more_comes(self, now: datetime) -> bool:
        """Whether it is worth waiting: something is due before the night ends."""
        end = self.night.until if self.night else None
        until = end or now + timedelta(seconds=LONGEST_PAUSE_S)
        runs = self.project.store.runs.next_due(now)
        if runs is not None and runs <= until:
            return True
        schedules = self.project.settings.schedules.values() if end else ()
        return any(next_time(one.cron, now) <= until for one in schedules)

    def _wind_up(self, over: Over) -> Over:
        """Takes up nothing more; what is at work sees the same end, and ends with what it has."""
        self._winding_up.set()
        give_up = monotonic() + GRACE_S
        while self._tasks and monotonic() < give_up and not self._stop.wait(0.2):
            pass
        return over

    def _let_go(self) -> None:
        self._stop.set()
        give_up = monotonic() + ENDING_S
        for loop, task in list(self._tasks.values()):
            loop.call_soon_threadsafe(task.cancel)
        while self._tasks and monotonic() < give_up:
            threading.Event().wait(0.05)

    async def _advance(self, name: str) -> None:
        """One segment of a run. Whatever comes of it stands in the run's row, so the queue is told nothing."""
        if self._stop.is_set() or self._winding_up.is_set():
            return
        work = self.project.settings.work
        unattended = Unattended(self.me.id, retries=work.retries, crashes=work.crashes)
        task = asyncio.create_task(
            advance(
                self.project,
                name,
                unattended=unattended,
                night=self.night.id if self.night else None,
                progress=self._progress(name),
            )
        )
        self._tasks[name] = asyncio.get_running_loop(), task
        self.doing[name] = ""
        try:
            stands: Run | None = await task
            self._not_before.pop(name, None)
        except LeaseError:
            self._pause(name)  # somebody is at work on it, who goes on from here when they get there
            return
        except LeaseLostError as error:
            log.warning("run_let_go", run_id=name, why=str(error))  # another worker goes on with it
            return
        except asyncio.CancelledError:
            if not self._stop.is_set():
                raise
            return
        except Exception as error:  # noqa: BLE001  whatever it was, the other runs go on
            stands = await asyncio.to_thread(self._not_advanced, name, error)
        finally:
            self._tasks.pop(name, None)
            self.doing.pop(name, None)
        if stands is not None:
            if stands.status.ended:
                self._ended.add(stands.id)
            self.tell(stands)

    def _not_advanced(self, name: str, error: Exception) -> Run | None:
        """A run that could not even be begun: for its own fault it fails, for the store's it is tried again."""
        log.error("run_not_advanced", run_id=name, exc_info=error)
        if failure.of_storage(error) or not isinstance(error, KarkasError):
            self._pause(name)
            return None
        with suppress(KarkasError):
            return self.project.store.runs.set_status(name, RunStatus.FAILED, error=str(error))
        return None

    def _pause(self, name: str) -> None:
        _, tries = self._not_before.get(name, (0.0, 0))
        self._not_before[name] = monotonic() + min(pause_s(tries) / 3, LONGEST_REST_S), tries + 1

    def _progress(self, name: str) -> Callable[..., None]:
        def shown(doing: str, /, *, done: int = 0, total: int | None = None) -> None:
            self.doing[name] = f"{doing} {done} of {total}" if total else doing

        return shown
