"""Slots, without a network: whatever comes, goes, is cancelled or falls out, none is lost and no limit is passed."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karkas.policies.errors import ModelUnavailableError
from karkas.server.config import ModelSettings
from karkas.server.endpoint import Endpoint
from karkas.server.endpoints import Endpoints, Patience
from karkas.server.faults import PassingFaultError
from karkas.server.limiter import Limit
from karkas.server.protocol import Caller


def endpoints_of(*limits: int) -> Endpoints:
    urls = tuple(f"http://server{number}" for number in range(len(limits)))
    endpoints = Endpoints(ModelSettings(base_url=urls), patience=Patience())
    for endpoint, limit in zip(endpoints.each, limits, strict=True):
        endpoint.ready, endpoint.limit = True, Limit(limit)
    return endpoints


def caller_of(run: str, *, waiting: bool = False) -> Caller:
    caller = Caller()
    caller.run, caller.waiting = run, waiting
    return caller


class User:
    """Takes a slot, holds it until told to let go."""

    def __init__(self, endpoints: Endpoints, run: str, n: int, prefix: str, *, waiting: bool) -> None:
        self.endpoint: Endpoint | None = None
        self.n = n
        self.release = asyncio.Event()
        self.task = asyncio.create_task(self.use(endpoints, caller_of(run, waiting=waiting), prefix))

    async def use(self, endpoints: Endpoints, caller: Caller, prefix: str) -> None:
        async with endpoints.slot(caller, n=self.n, prefix=prefix) as self.endpoint:
            await self.release.wait()


async def settled() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["come", "come", "go", "cancel", "hand over"]), st.integers(0, 100), st.booleans()
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), MOVES)
async def test_no_slot_is_lost_and_no_limit_is_passed(
    limits: list[int], moves: list[tuple[str, int, bool]]
) -> None:
    endpoints = endpoints_of(*limits)
    users: list[User] = []
    for move, number, pause in moves:
        match move:
            case "come":
                prefix = "page" if number % 2 else ""
                users.append(User(endpoints, "abc"[number % 3], 1 + number % 3, prefix, waiting=number > 80))
            case "go" if users:
                users[number % len(users)].release.set()
            case "cancel" if users:
                users[number % len(users)].task.cancel()
            case "hand over" if users:
                # One slot comes free in the very moment in which somebody who waits for it gives up.
                users[number % len(users)].release.set()
                await asyncio.sleep(0)
                users[-1].task.cancel()
        if pause:
            await settled()
            users = [user for user in users if not user.task.done()]
            check(endpoints, limits, users)
    for user in users:
        user.release.set()
    await asyncio.gather(*(user.task for user in users), return_exceptions=True)
    assert [endpoint.in_flight for endpoint in endpoints.each] == [0] * len(limits)


def check(endpoints: Endpoints, limits: list[int], users: list[User]) -> None:
    for endpoint, limit in zip(endpoints.each, limits, strict=True):
        held = [user.n for user in users if user.endpoint is endpoint]
        assert endpoint.in_flight == sum(held)
        assert endpoint.in_flight <= limit or len(held) == 1, "only what fits nowhere has a server to itself"
    if any(user.endpoint is None for user in users):
        assert not any(endpoint.fits(3) for endpoint in endpoints.each), "a slot idles while somebody waits"


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=30))
async def test_everybody_who_waits_is_served(runs: list[str]) -> None:
    endpoints = endpoints_of(2, 1)
    served = 0

    async def use(run: str) -> None:
        nonlocal served
        async with endpoints.slot(caller_of(run), n=1):
            await asyncio.sleep(0)
        served += 1

    await asyncio.gather(*(use(run) for run in runs))
    assert served == len(runs)


async def test_the_least_loaded_server_comes_first_whatever_its_size() -> None:
    endpoints = endpoints_of(4, 40)
    async with AsyncExitStack() as stack:
        for _ in range(22):
            await stack.enter_async_context(endpoints.slot(Caller(), n=1))
        assert [endpoint.in_flight for endpoint in endpoints.each] == [2, 20]


async def test_when_a_server_goes_only_its_own_prefixes_move() -> None:
    endpoints = endpoints_of(10, 10, 10)

    async def home(prefix: str) -> Endpoint:
        async with endpoints.slot(Caller(), n=1, prefix=prefix) as endpoint:
            return endpoint

    before = {str(page): await home(str(page)) for page in range(30)}
    gone = endpoints.each[1]
    endpoints.failed(gone, PassingFaultError("gone", reached=False))
    after = {page: await home(page) for page in before}
    assert any(endpoint is gone for endpoint in before.values())
    assert all(after[page] is endpoint for page, endpoint in before.items() if endpoint is not gone)
    assert gone not in after.values()


async def test_a_server_leaves_after_some_faults_in_a_row_and_a_busy_one_stays() -> None:
    endpoints = endpoints_of(10)
    (endpoint,) = endpoints.each
    for _ in range(10):
        endpoints.failed(endpoint, PassingFaultError("full", busy=True))
    assert endpoint.ready
    assert endpoint.limit.value < 10
    endpoints.failed(endpoint, PassingFaultError("odd"))
    endpoints.failed(endpoint, PassingFaultError("odd"))
    assert endpoint.ready
    endpoints.failed(endpoint, PassingFaultError("odd"))
    assert not endpoint.ready


async def test_a_request_does_not_return_to_a_server_that_failed_it_while_another_answers() -> None:
    endpoints = endpoints_of(10, 1)
    failing, other = endpoints.each
    async with endpoints.slot(Caller(), n=1, avoid=[failing]) as endpoint:
        assert endpoint is other
        waiting = asyncio.create_task(first_of(endpoints, avoid=[failing]))
        await settled()
        assert not waiting.done(), "it rather waits for its turn"
    assert await waiting is other
    other.ready = False
    assert await first_of(endpoints, avoid=[failing]) is failing


async def first_of(endpoints: Endpoints, *, avoid: list[Endpoint]) -> Endpoint:
    async with endpoints.slot(Caller(), n=1, avoid=avoid) as endpoint:
        return endpoint


async def test_whoever_comes_long_after_the_servers_died_has_its_own_patience() -> None:
    now = 0.0
    settings = ModelSettings(base_url="http://server")
    endpoints = Endpoints(settings, patience=Patience(unattended_s=100.0), clock=lambda: now)
    now = 1000.0
    waiting = asyncio.create_task(first_of(endpoints, avoid=[]))
    await settled()
    now = 1099.0
    endpoints._give_up()
    await settled()
    assert not waiting.done()
    now = 1100.0
    endpoints._give_up()
    with pytest.raises(ModelUnavailableError, match="100 s"):
        await waiting


@pytest.mark.parametrize("waiting", [True, False])
async def test_a_server_that_is_known_to_be_starting_is_waited_for(*, waiting: bool) -> None:
    now, starting = 0.0, 900.0
    patience = Patience(starting_s=lambda: starting)
    endpoints = Endpoints(ModelSettings(base_url="http://server"), patience=patience, clock=lambda: now)
    caller = Caller()
    caller.waiting = waiting

    async def slot() -> None:
        async with endpoints.slot(caller, n=1):
            pass

    asked = asyncio.create_task(slot())
    await settled()
    now = 899.0
    endpoints._give_up()
    await settled()
    assert not asked.done()
    starting = 0.0
    endpoints._give_up()
    with pytest.raises(ModelUnavailableError, match="899 s"):
        await asked
