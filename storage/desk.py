"""The desk: what many async callers ask of a database at once, done by one thread, in one transaction."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

from karkas.storage.database import SpoiltError

T = TypeVar("T")

MOST = 64
"""Calls in one transaction at most, so that the first of them does not wait for long."""


@dataclass(slots=True)
class _Asked:
    call: Callable[[], Any]
    around: Context
    future: "asyncio.Future[Any]"
    lapses: bool
    value: Any = None
    error: BaseException | None = field(default=None)


class Desk:
    """While one transaction is written to the disk, more is asked; all of it is the next one.

    `together` opens that transaction in the thread of the desk and commits it at its end. A caller goes on only after
    that, so whatever it was told is durable. Where one call fails, none of it is committed, and each is done by itself;
    so it may be called twice. If the commit fails, every caller is told so.
    """

    def __init__(self, together: Callable[[], AbstractContextManager[object]], *, name: str) -> None:
        self._together = together
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=f"karkas-{name}")
        self._lock = Lock()
        self._waiting: deque[_Asked] = deque()
        self._at_work = False

    async def do(self, call: Callable[[], T], *, lapses: bool = False) -> T:
        """What `call` gives, made in the thread of the desk; not made, where it `lapses`, once nobody waits for it."""
        return await self.ask(call, lapses=lapses)

    def ask(self, call: Callable[[], T], *, lapses: bool = False) -> "asyncio.Future[T]":
        """As `do`, for whoever goes on meanwhile. What is asked first is done, and told, first."""
        asked = _Asked(call, copy_context(), asyncio.get_running_loop().create_future(), lapses)
        with self._lock:
            self._waiting.append(asked)
            idle, self._at_work = not self._at_work, True
        if idle:
            self._threads.submit(self._work)
        return asked.future

    def close(self) -> None:
        """Waits for what was asked already."""
        self._threads.shutdown()

    def _work(self) -> None:
        while True:
            with self._lock:
                served = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
                if not served:
                    self._at_work = False
                    return
            self._serve(served)
            for loop in {asked.future.get_loop() for asked in served}:
                mine = [asked for asked in served if asked.future.get_loop() is loop]
                with suppress(RuntimeError):  # it was closed meanwhile, and nobody waits any more
                    loop.call_soon_threadsafe(_tell, mine)

    def _serve(self, served: list[_Asked]) -> None:
        try:
            with self._together():
                for asked in served:
                    _do(asked)
        except SpoiltError:
            for asked in served:
                _do(asked)
        except BaseException as error:  # noqa: BLE001  nothing of it stands
            for asked in served:
                asked.error = error


def _do(asked: _Asked) -> None:
    if asked.lapses and asked.future.cancelled():
        return
    try:
        asked.value, asked.error = asked.around.run(asked.call), None
    except BaseException as error:  # noqa: BLE001  it goes to whoever asked
        asked.error = error


def _tell(served: list[_Asked]) -> None:
    for asked in served:
        if asked.future.done():
            continue
        if asked.error is None:
            asked.future.set_result(asked.value)
        else:
            asked.future.set_exception(asked.error)
