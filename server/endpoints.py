"""The servers of one model: which of them answer, and who gets the next free slot on which."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import uniform
from time import monotonic
from typing import Any, TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential, wait_random

from karkas.policies.errors import EngineError, KarkasError, ModelUnavailableError, RequestRejectedError
from karkas.server.client import Client
from karkas.server.config import ModelSettings
from karkas.server.endpoint import Endpoint, chosen
from karkas.server.faults import PassingFaultError
from karkas.server.limiter import Line
from karkas.server.protocol import Caller, Usage
from karkas.server.served import Served
from karkas.server.slots import Slot, Turnstile, Turnstiles

LOOK_S = 0.5
"""Between two looks at a server's load while it works for us."""
SICK = 3
"""So many faults in a row, or one call that cannot reach it, and a server gets no more until it passes a probe."""
PROBE_S, LONGEST_PROBE_S = 0.5, 10.0
"""The pause before the second probe of a sick server, and the longest that it grows to."""
QUIET_S = 2.0
"""Nothing is said of a wait that is shorter, unless something is known to be wrong."""
AGAIN_S = (0.01, 0.03)
"""Between two looks for a slot that all processes share; none is favoured."""
PROMPT_WEIGHT = 16
"""A token of the prompt takes about this part of the time of one that is written."""

log = structlog.get_logger("karkas.models")

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """Seconds that a request waits while no server of its model answers at all: unattended long enough for a server
    that died to load its model again, and not long where a person looks on. `starting_s` says how long one may take
    that is known to be starting, or to have started just now; whoever it is for waits for that.
    """

    unattended_s: float = 300.0
    waiting_s: float = 20.0
    starting_s: Callable[[], float] = lambda: 0.0

    def of(self, caller: Caller) -> float:
        usual = self.waiting_s if caller.waiting else self.unattended_s
        return max(usual, self.starting_s())


@dataclass(eq=False)
class _Waiter:
    caller: Caller
    n: int
    prefix: str
    avoid: Collection[Endpoint]
    since: float
    slot: asyncio.Future["_Place"]
    told: bool = False


@dataclass(frozen=True)
class _Place:
    endpoint: Endpoint
    n: int
    shared: Slot | None = None
    """Its slot of those that all processes share."""


class Endpoints:
    """All servers of one model. Between `start` and `aclose` each of them has a task that watches it."""

    def __init__(
        self,
        settings: ModelSettings,
        *,
        adapters: Iterable[str] = (),
        key: str | None = None,
        patience: Patience,
        clock: Callable[[], float] = monotonic,
        slots: Turnstiles | None = None,
    ) -> None:
        """`slots` are asked only where the model has `max_in_flight`."""
        self._settings = settings
        self._adapters = frozenset(adapters)
        self._patience = patience
        self._clock = clock
        self._line = Line[_Waiter]()
        self._dead_since = clock()
        self._tasks: list[asyncio.Task[None]] = []
        self.each = tuple(
            Endpoint(Client(url, key=key, timeout_s=settings.timeout_s)) for url in settings.base_urls
        )
        self._turnstiles: dict[Endpoint, Turnstile] = {}
        if settings.max_in_flight is not None:
            if slots is None:
                raise ValueError("max_in_flight needs slots that all processes share")
            self._turnstiles = {one: slots(one.client.base_url, settings.max_in_flight) for one in self.each}
        self._stirred = asyncio.Event()
        self._errands: set[asyncio.Future[Any]] = set()
        self.answered_at = float("-inf")
        self._served: Served | None = None
        self._others: set[tuple[str, str]] = set()

    def start(self) -> None:
        watches = [partial(self._watch, endpoint) for endpoint in self.each]
        self._tasks = [asyncio.create_task(_for_ever(watch)) for watch in watches]
        self._tasks.append(asyncio.create_task(_for_ever(self._lose_patience)))
        if self._turnstiles:
            self._tasks.append(asyncio.create_task(_for_ever(self._share)))

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*self._errands, return_exceptions=True)
        await self._leave_turnstiles()
        for endpoint in self.each:
            await endpoint.client.aclose()

    async def served(self, caller: Caller) -> Served:
        """Waits until one of them has said what it serves. Raises `ModelUnavailableError` or `RequestRejectedError`."""
        if self._served is None:
            async with self.slot(caller, n=0):
                pass
        assert self._served is not None
        return self._served

    @asynccontextmanager
    async def slot(
        self, caller: Caller, *, n: int, prefix: str = "", avoid: Collection[Endpoint] = ()
    ) -> AsyncIterator[Endpoint]:
        """A place for `n` sequences on the server that suits best, when its turn has come.

        `prefix` is the text that the request shares with others: they go to the same server, whose cache has it.
        What is to `avoid` is taken only where no other server answers.
        """
        shared = n > 0 and bool(self._turnstiles)
        endpoint = None if self._line or shared else chosen(self.each, n, prefix=prefix, avoid=avoid)
        if endpoint is not None:
            endpoint.take(n)
            place = _Place(endpoint, n)
        else:
            place = await self._turn(caller, n, prefix, avoid)
        try:
            yield place.endpoint
        finally:
            self._give_back(place)

    def answered(self, endpoint: Endpoint, usage: Usage) -> None:
        endpoint.faults = 0
        self.answered_at = self._clock()
        if not endpoint.tells_load:
            tokens = usage.completion_tokens + usage.prompt_tokens // PROMPT_WEIGHT
            wanted, ours = bool(self._line), endpoint.in_flight
            endpoint.limit.answered(usage.wall_s, tokens, ours=ours, wanted=wanted)

    def first_from(self, model: str, *, run: str) -> bool:
        """Whether no answer of another model than the one asked has come to this run from `model` before."""
        known = (model, run) in self._others
        self._others.add((model, run))
        return not known

    def failed(self, endpoint: Endpoint, fault: PassingFaultError) -> None:
        if fault.busy:
            endpoint.limit.refused(self._clock(), ours=endpoint.in_flight)
            return
        endpoint.faults += 1
        if endpoint.ready and (not fault.reached or endpoint.faults >= SICK):
            log.warning("endpoint_left_rotation", address=endpoint.client.base_url, reason=str(fault))
            endpoint.ready, endpoint.fault = False, fault
            endpoint.stirred.set()
            if not self.any_ready:
                self._dead_since = self._clock()

    @property
    def known(self) -> Served | None:
        """What they serve, as far as one of them has said it."""
        return self._served

    @property
    def best(self) -> Endpoint:
        """The least loaded that is in rotation, or any where none is."""
        return min(self.each, key=lambda endpoint: (not endpoint.ready, endpoint.load))

    @property
    def any_ready(self) -> bool:
        return any(endpoint.ready for endpoint in self.each)

    def others(self, avoid: Collection[Endpoint]) -> bool:
        """Whether any server but these is in rotation."""
        return any(endpoint.ready and endpoint not in avoid for endpoint in self.each)

    async def _turn(self, caller: Caller, n: int, prefix: str, avoid: Collection[Endpoint]) -> _Place:
        slot: asyncio.Future[_Place] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(caller, n, prefix, avoid, self._clock(), slot)
        self._line.join(waiter, run=caller.run, first=caller.waiting)
        self._serve()
        try:
            return await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled() and slot.exception() is None:
                self._give_back(slot.result())
            self._line.leave(waiter, run=caller.run, first=caller.waiting)
            self._serve()
            raise

    def _give_back(self, place: _Place) -> None:
        place.endpoint.in_flight -= place.n
        if place.shared is not None:
            self._errand(asyncio.to_thread(place.shared.free))
        self._serve()

    def _serve(self) -> None:
        """Gives what is free to whose turn it is."""
        if self._turnstiles:
            self._stirred.set()
            return
        while (waiter := self._line.head()) is not None:
            endpoint = None
            if not waiter.slot.done():
                endpoint = chosen(self.each, waiter.n, prefix=waiter.prefix, avoid=waiter.avoid)
                if endpoint is None:
                    return
            self._line.advance()
            if endpoint is not None:
                endpoint.take(waiter.n)
                waiter.slot.set_result(_Place(endpoint, waiter.n))

    async def _share(self) -> None:
        """As `_serve`, where the servers' slots are shared with other processes."""
        self._stirred.clear()
        waiter = self._first()
        if waiter is None:
            await self._leave_turnstiles()
            await self._stirred.wait()
            return
        try:
            asked = await self._give(waiter)
        except KarkasError as error:
            log.warning("slots_out_of_reach", reason=str(error))
            await asyncio.sleep(1.0)
            return
        if asked:
            if not waiter.told and self._clock() - waiter.since > QUIET_S:
                waiter.told = True
                waiter.caller.progress(f"waits: {self._settings.max_in_flight} calls are in flight already")
            await asyncio.sleep(uniform(*AGAIN_S))  # noqa: S311  chance, no secret
        elif not waiter.slot.done():
            await self._stirred.wait()

    async def _give(self, waiter: _Waiter) -> bool:
        """Gives a slot to whose turn it is by the time that there is one. True where all servers with room for `waiter`
        were asked in vain.
        """
        tried: list[Endpoint] = []
        while True:
            left = [endpoint for endpoint in self.each if endpoint not in tried]
            endpoint = chosen(left, waiter.n, prefix=waiter.prefix, avoid=waiter.avoid)
            if endpoint is None:
                return bool(tried)
            shared = None
            if waiter.n > 0:
                shared = await self._taken(self._turnstiles[endpoint], first=waiter.caller.waiting)
                if shared is None:
                    tried.append(endpoint)
                    continue
            now_first = self._first()
            if now_first is None or chosen([endpoint], now_first.n, prefix="", avoid=()) is None:
                if shared is not None:
                    self._errand(asyncio.to_thread(shared.free))
                return False
            self._line.advance()
            endpoint.take(now_first.n)
            now_first.slot.set_result(_Place(endpoint, now_first.n, shared))
            return False

    def _first(self) -> _Waiter | None:
        while (waiter := self._line.head()) is not None and waiter.slot.done():
            self._line.advance()
        return waiter

    async def _taken(self, turnstile: Turnstile, *, first: bool) -> Slot | None:
        """Whoever is cancelled meanwhile leaves no slot taken."""
        taking = self._errand(asyncio.to_thread(turnstile.take, first=first))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(_freed)
            raise

    async def _leave_turnstiles(self) -> None:
        for turnstile in self._turnstiles.values():
            await asyncio.shield(self._errand(asyncio.to_thread(turnstile.leave)))

    def _errand(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        errand = asyncio.ensure_future(work)
        self._errands.add(errand)
        errand.add_done_callback(self._errands.discard)
        return errand

    async def _watch(self, endpoint: Endpoint) -> None:
        if not endpoint.ready:
            await self._revive(endpoint)
        elif not endpoint.in_flight:
            endpoint.stirred.clear()
            await endpoint.stirred.wait()
        else:
            await asyncio.sleep(LOOK_S)
            if endpoint.tells_load and await endpoint.look(wanted=lambda: bool(self._line)):
                self._serve()

    async def _revive(self, endpoint: Endpoint) -> None:
        """Asks a server what it serves, and after a fault for a token, ever more rarely until it is fit."""

        def failed(state: RetryCallState) -> None:
            assert state.outcome is not None
            error = state.outcome.exception()
            assert isinstance(error, EngineError)
            if not isinstance(error, PassingFaultError) and str(error) != str(endpoint.fault):
                log.warning("endpoint_rejected", address=endpoint.client.base_url, reason=str(error))
            endpoint.fault = error
            self._give_up()

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(EngineError),
            wait=wait_exponential(multiplier=PROBE_S, max=LONGEST_PROBE_S) + wait_random(0.0, PROBE_S),
            before_sleep=failed,
        )
        served: Served = await retrying(self._examine, endpoint)
        if endpoint.fault is not None:
            log.info("endpoint_back", address=endpoint.client.base_url)
        self._served = served
        endpoint.revive()
        self._serve()

    async def _examine(self, endpoint: Endpoint) -> Served:
        return await endpoint.examine(self._settings, adapters=self._adapters, before=self._served)

    async def _lose_patience(self) -> None:
        self._give_up()
        await asyncio.sleep(1.0)

    def _give_up(self) -> None:
        """Ends the waiting of whoever has waited too long for any server, and tells the others why they wait."""
        if self.any_ready:
            return
        why = "; ".join(sorted({str(endpoint.fault) for endpoint in self.each if endpoint.fault}))
        rejected = all(isinstance(endpoint.fault, RequestRejectedError) for endpoint in self.each)
        for waiter in list(self._line):
            waited = self._clock() - max(waiter.since, self._dead_since)
            patience = self._patience.of(waiter.caller)
            if waiter.slot.done():
                continue
            if rejected:
                waiter.slot.set_exception(RequestRejectedError(why))
            elif waited >= patience:
                waiter.slot.set_exception(unavailable(why, waited))
            else:
                if why or waited > QUIET_S:
                    reason = why or "the model server has not answered yet"
                    waiter.caller.progress(f"waits {waited:.0f} of {patience:.0f} s: {reason}")
                continue
            self._line.leave(waiter, run=waiter.caller.run, first=waiter.caller.waiting)


def _freed(taking: asyncio.Future[Slot | None]) -> None:
    if not taking.cancelled() and taking.exception() is None and (slot := taking.result()) is not None:
        slot.free()


async def _for_ever(watch: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await watch()
        except Exception:  # a watcher that died in the night would leave everybody waiting
            log.exception("watch_failed")
            await asyncio.sleep(1.0)


def unavailable(why: str, waited: float) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"{why or 'the model server does not answer'}; nothing answered for {waited:.0f} s. Start it (`karkas serve`;"
        " `karkas serve --status` says whether it is starting already)"
        " or correct base_url in karkas.toml, then `karkas runs resume RUN`"
    )
