"""Runs that go on after a decision, in the background, while the person reads the next gate."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from karkas.policies.errors import KarkasError
from karkas.project import Project
from karkas.queue.outcome import ELSEWHERE
from karkas.storage import LeaseError, Run

if TYPE_CHECKING:
    from karkas.workflows.progress import Progress

PATIENCE_S = 5.0
"""How long a run is waited for that another process is just letting go of."""
ENDING_S = 30.0


@dataclass(frozen=True)
class Ended:
    """How a run stands after it was advanced here; without one, why it was not."""

    id: str
    run: Run | None
    why: str = ""


@dataclass
class Works:
    """One thread with one event loop for all of them, so that the screen never waits for a run.

    `tell` is called in that thread, of everything that there is to tell: progress, then the end.
    """

    project: Project
    tell: Callable[["Ended | None"], None]
    doing: dict[str, str] = field(default_factory=dict)
    """What each run at work is doing, by its id."""
    _tasks: dict[str, Future[None]] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None

    def go_on(self, run: str) -> None:
        """Advances a run; one that is at work here takes up its gates' decisions by itself."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop.run_forever, name="karkas-runs", daemon=True)
            self._thread.start()
        before = self._tasks.get(run)
        self.doing[run] = "goes on"
        self._tasks[run] = asyncio.run_coroutine_threadsafe(self._advance(run, before), self._loop)

    def close(self) -> list[str]:
        """Ends what is at work, so that it can be resumed: each run is queued again, once its tool is done.

        Gives the runs whose tool was not done after `ENDING_S`; they end with the process.
        """
        for task in self._tasks.values():
            task.cancel()
        if self._thread is not None:
            with suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(_until_ended(), self._loop).result(ENDING_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(1.0)
        if not self._loop.is_running():
            self._loop.close()
        return list(self.doing)

    async def _advance(self, run: str, before: "Future[None] | None") -> None:
        if before is not None:
            await asyncio.wait([asyncio.wrap_future(before)])
            self.doing[run] = "goes on"
        try:
            ended = Ended(run, await self._patiently(run))
        except LeaseError:
            ended = Ended(run, None, ELSEWHERE)
        except KarkasError as error:
            ended = Ended(run, None, str(error))
        except asyncio.CancelledError:
            self.doing.pop(run, None)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the person is told and the screen stays
            ended = Ended(run, None, f"{type(error).__name__}: {error}; `karkas runs show {run}`")
        self.doing.pop(run, None)
        self.tell(ended)

    async def _patiently(self, run: str) -> Run:
        from karkas.runner import advance

        until = asyncio.get_running_loop().time() + PATIENCE_S
        found = await asyncio.to_thread(self.project.store.runs.get, run)
        attended = found.deadline is None  # nobody waits for a run with a deadline
        while True:
            try:
                return await advance(self.project, run, progress=self._progress(run), waiting=attended)
            except LeaseError:
                if asyncio.get_running_loop().time() > until:
                    raise
                await asyncio.sleep(0.1)

    def _progress(self, run: str) -> "Progress":
        def shown(doing: str, /, *, done: int = 0, total: int | None = None) -> None:
            self.doing[run] = f"{doing} {done} of {total}" if total else doing
            self.tell(None)

        return shown


async def _until_ended() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
