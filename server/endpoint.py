"""One server of a model: our sequences on it and its health; and which of several suits a request best."""

import asyncio
from collections.abc import Callable, Collection
from hashlib import blake2b

import structlog

from karkas.policies.errors import EngineError
from karkas.server.client import Client
from karkas.server.config import ModelSettings
from karkas.server.limiter import Limit
from karkas.server.metrics import load_of
from karkas.server.served import Served, served_by

log = structlog.get_logger("karkas.models")


class Endpoint:
    """One server, our sequences on it, and its health."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.limit = Limit()
        self.in_flight = 0
        self.ready = False
        self.fault: EngineError | None = None
        """Why it is out of rotation."""
        self.faults = 0
        self.tells_load = False
        self.stirred = asyncio.Event()

    @property
    def load(self) -> float:
        return self.in_flight / self.limit.value

    def fits(self, n: int) -> bool:
        """A request for more sequences than the limit has an idle server to itself."""
        return not self.in_flight or self.in_flight + n <= self.limit.value

    def take(self, n: int) -> None:
        self.in_flight += n
        self.stirred.set()

    def revive(self) -> None:
        self.ready, self.fault, self.faults, self.limit = True, None, 0, Limit()

    async def examine(
        self, settings: ModelSettings, *, adapters: Collection[str], before: Served | None
    ) -> Served:
        """What it serves; after a fault it must give a token too. Raises an `EngineError` where it is not fit."""
        served = served_by(
            await self.client.models(),
            address=self.client.base_url,
            settings=settings,
            adapters=adapters,
            before=before,
        )
        if self.fault is not None:
            await self.client.probe(served.model)
        try:
            metrics = await self.client.metrics()
        except EngineError:
            metrics = None
        self.tells_load = load_of(metrics or "") is not None
        return served

    async def look(self, *, wanted: Callable[[], bool]) -> bool:
        """Corrects the limit by the server's load, and tells whether that changed it."""
        try:
            load = load_of(await self.client.metrics() or "")
        except EngineError:
            return False  # its calls tell what is wrong with it
        if load is None:
            return False
        before = self.limit.value
        self.limit.looked(load, ours=self.in_flight, wanted=wanted())
        if self.limit.value == before:
            return False
        log.debug(
            "limit_changed",
            address=self.client.base_url,
            limit=self.limit.value,
            in_flight=self.in_flight,
            running=load.running,
            waiting=load.waiting,
        )
        return True


def chosen(
    endpoints: Collection[Endpoint], n: int, *, prefix: str, avoid: Collection[Endpoint]
) -> Endpoint | None:
    """The least loaded, or the one that most likely has the prefix in its cache, unless it is clearly busier.

    A server whose last call failed comes last: it has little to do, because all it gets fails at once.
    """
    ready = [endpoint for endpoint in endpoints if endpoint.ready]
    if len(endpoints) > 1:
        ready = [endpoint for endpoint in ready if endpoint not in avoid] or ready
    free = [endpoint for endpoint in ready if endpoint.fits(n)]
    if len(free) <= 1:
        return free[0] if free else None
    least = min(free, key=lambda endpoint: (endpoint.faults, endpoint.load))
    if not prefix:
        return least
    home = max(ready, key=lambda endpoint: _weight(prefix, endpoint.client.base_url))
    close = home.in_flight <= least.in_flight + max(4, least.in_flight // 2)
    return home if close and home.fits(n) and not home.faults else least


def _weight(prefix: str, address: str) -> bytes:
    """Rendezvous hashing: when a server goes, only what it had moves. Source: Thaler and Ravishankar, 1998."""
    key = blake2b(address.encode(), digest_size=16).digest()
    return blake2b(prefix.encode("utf-8", "replace"), key=key, digest_size=8).digest()
