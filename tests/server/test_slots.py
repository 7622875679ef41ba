"""Slots that processes share, behind the limits of each: no call without one, and none is lost whatever is cancelled."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karkas.policies.errors import StorageError
from karkas.server.config import ModelSettings
from karkas.server.endpoints import Endpoints, Patience
from karkas.server.limiter import Limit
from karkas.server.protocol import Caller
from karkas.server.slots import Slot

URLS = ("http://one", "http://two")


class Shared:
    """What several processes would share: so many slots, and who waits."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken: dict[str, int] = {}
        self.most = 0
        self.waiting: set[Door] = set()
        self.broken = 0

    def __call__(self, address: str, limit: int) -> "Door":
        assert limit == self.limit
        return Door(self, address)


class Door:
    def __init__(self, shared: Shared, address: str) -> None:
        self.shared, self.address, self.first = shared, address, False

    def take(self, *, first: bool) -> Slot | None:
        if self.shared.broken:
            self.shared.broken -= 1
            raise StorageError("the database is away")
        taken = self.shared.taken.get(self.address, 0)
        ahead = any(one.first for one in self.shared.waiting if one is not self) and not first
        if taken >= self.shared.limit or ahead:
            self.first = first
            self.shared.waiting.add(self)
            return None
        self.leave()
        self.shared.taken[self.address] = taken + 1
        self.shared.most = max(self.shared.most, taken + 1)
        return Taken(self)

    def leave(self) -> None:
        self.first = False
        self.shared.waiting.discard(self)


class Taken:
    def __init__(self, door: Door) -> None:
        self.door = door

    def free(self) -> None:
        self.door.shared.taken[self.door.address] -= 1


@asynccontextmanager
async def process(shared: Shared, urls: tuple[str, ...] = URLS) -> AsyncIterator[Endpoints]:
    model = ModelSettings(base_url=urls, max_in_flight=shared.limit)
    endpoints = Endpoints(model, patience=Patience(), slots=shared)
    for endpoint in endpoints.each:
        endpoint.ready, endpoint.limit = True, Limit(64)
    endpoints.start()
    try:
        yield endpoints
    finally:
        await endpoints.aclose()


def caller_of(run: str, *, waiting: bool = False) -> Caller:
    caller = Caller()
    caller.run, caller.waiting = run, waiting
    return caller


async def call(endpoints: Endpoints, run: str, *, seconds: float, waiting: bool = False) -> None:
    async with endpoints.slot(caller_of(run, waiting=waiting), n=1):
        await asyncio.sleep(seconds)


@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(0, 2**32))
async def test_no_slot_is_lost_and_the_limit_holds_over_processes(limit: int, seed: int) -> None:
    chance, shared = Random(seed), Shared(limit)
    async with process(shared) as one, process(shared) as two:
        tasks = [
            asyncio.create_task(
                call(chance.choice((one, two)), "abc"[number % 3], seconds=chance.uniform(0, 0.01))
            )
            for number in range(24)
        ]
        for task in chance.sample(tasks, 8):
            await asyncio.sleep(chance.uniform(0, 0.01))
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        assert [endpoint.in_flight for each in (one, two) for endpoint in each.each] == [0] * 4
    assert 0 < shared.most <= limit
    assert set(shared.taken.values()) == {0}
    assert shared.waiting == set()


async def test_closing_while_calls_wait_leaves_nothing_taken() -> None:
    shared = Shared(1)
    async with process(shared) as endpoints:
        tasks = [asyncio.create_task(call(endpoints, "a", seconds=60)) for _ in range(5)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert set(shared.taken.values()) == {0}


async def test_a_person_passes_those_who_wait_here_and_elsewhere() -> None:
    shared, order = Shared(1), list[str]()

    async def told(endpoints: Endpoints, name: str, *, waiting: bool) -> None:
        async with endpoints.slot(caller_of(name, waiting=waiting), n=1):
            order.append(name)
            await asyncio.sleep(0.02)

    async with process(shared, URLS[:1]) as one, process(shared, URLS[:1]) as two:
        tasks = [asyncio.create_task(told(one, "running", waiting=False))]
        await asyncio.sleep(0.01)
        tasks += [asyncio.create_task(told(end, "night", waiting=False)) for end in (one, two, one, two)]
        await asyncio.sleep(0.05)
        tasks.append(asyncio.create_task(told(two, "person", waiting=True)))
        await asyncio.gather(*tasks)
    assert order.index("person") <= 3
    assert sorted(order) == ["night"] * 4 + ["person", "running"]


async def test_a_server_whose_slots_are_all_taken_is_passed_over() -> None:
    shared = Shared(1)
    async with (
        asyncio.timeout(5),
        process(shared) as one,
        process(shared) as two,
        one.slot(caller_of("a"), n=1) as first,
        two.slot(caller_of("b"), n=1) as second,
    ):
        assert second.client.base_url != first.client.base_url


async def test_a_database_that_is_away_for_a_moment_loses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Shared(1)
    shared.broken = 1
    async with asyncio.timeout(5), process(shared) as endpoints:
        await call(endpoints, "a", seconds=0)


async def test_without_a_limit_nobody_is_asked_for_slots() -> None:
    asked: list[str] = []

    def slots(address: str, limit: int) -> Door:
        raise AssertionError((address, limit, asked))

    endpoints = Endpoints(ModelSettings(base_url=URLS), patience=Patience(), slots=slots)
    endpoints.each[0].ready = True
    async with endpoints.slot(caller_of("a"), n=1) as endpoint:
        assert endpoint is endpoints.each[0]


def test_a_limit_that_nobody_keeps_is_refused() -> None:
    with pytest.raises(ValueError, match="max_in_flight"):
        Endpoints(ModelSettings(base_url=URLS, max_in_flight=1), patience=Patience())


async def test_with_files_two_processes_keep_to_it(tmp_path: Path) -> None:
    from karkas.storage.locks import FileLocks
    from karkas.storage.slots import Slots

    in_flight, most = [0], [0]

    async def counted(endpoints: Endpoints, number: int) -> None:
        async with endpoints.slot(caller_of(f"r{number % 3}"), n=1):
            in_flight[0] += 1
            most[0] = max(most[0], in_flight[0])
            await asyncio.sleep(0.005)
            in_flight[0] -= 1

    model = ModelSettings(base_url=URLS[0], max_in_flight=2)
    ends = [Endpoints(model, patience=Patience(), slots=Slots(FileLocks(tmp_path))) for _ in range(2)]
    for end in ends:
        end.each[0].ready = True
        end.start()
    await asyncio.wait_for(asyncio.gather(*(counted(ends[n % 2], n) for n in range(40))), 30)
    for end in ends:
        await end.aclose()
    assert most == [2]
