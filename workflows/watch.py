"""The watch: whether runs were stopped from elsewhere, or taken away, looked up for all runs of a process at once."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import structlog

from karkas.policies.errors import KarkasError
from karkas.storage import Lease, RunId, Store

log = structlog.get_logger("karkas.runs")

WATCH_S = 1.0
"""Seconds between two looks."""


class Watch:
    """Of one store, in one event loop. 200 runs that each looked for themselves took a tenth of what they cost."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watched: dict[RunId, tuple[Lease, asyncio.Future[None]]] = {}
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def over(self, run: RunId, lease: Lease) -> Iterator["asyncio.Future[None]"]:
        """Done when the run is stopped. `LeaseLostError` where another process may be at work on it."""
        stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watched[run] = lease, stopped
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            yield stopped
        finally:
            del self._watched[run]
            stopped.cancel()
            if not self._watched:
                self._looking.cancel()
                self._looking = None

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            for lease, stopped in self._watched.values():
                try:
                    lease.check()
                except Exception as error:  # noqa: BLE001  it is told to that run, and the others stay watched
                    if not stopped.done():
                        stopped.set_exception(error)
            try:
                found = await self._store.aside(self._store.runs.stopped, frozenset(self._watched))
            except KarkasError as error:
                log.warning("runs_not_watched", error=str(error))
                continue
            except Exception:  # nobody else watches
                log.exception("runs_not_watched")
                continue
            for run in found & self._watched.keys():
                if not (stopped := self._watched[run][1]).done():
                    stopped.set_result(None)


_WATCHES: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[Store, Watch]] = WeakKeyDictionary()


def watch_of(store: Store) -> Watch:
    watches = _WATCHES.setdefault(asyncio.get_running_loop(), WeakKeyDictionary())
    return watches.setdefault(store, Watch(store))
