"""The pool on a real server: what it says of its load, its sizes and its adapters, and what it does with priorities."""

import asyncio
from collections.abc import Callable
from typing import Any

from pydantic import Field
from structlog.testing import capture_logs

from karkas.server.asking import Asked, Prompt
from karkas.server.config import ModelsConfig, ModelSettings, RoleSettings
from karkas.server.metrics import load_of
from karkas.server.pool import ModelPool
from karkas.server.protocol import Caller, Instructions, Question, Request, Role, Wire

from .conftest import Server, StartServer


class Said(Wire):
    text: str = Field(min_length=100, max_length=200)


class Long(Wire):
    """Takes the tiny model half a minute: `/metrics` may take seconds to tell of it."""

    text: str = Field(min_length=16_000, max_length=20_000)


def pool_of(*urls: str, **roles: RoleSettings) -> ModelPool:
    config = ModelsConfig(
        {"default": ModelSettings(base_url=urls)}, {Role(name): of for name, of in roles.items()}
    )
    return ModelPool(config, environ={})


async def ask(
    pool: ModelPool,
    answer: type[Any] = Said,
    *,
    caller: Caller | None = None,
    question: str = "What is it about?",
    documents: str = "",
    n: int = 1,
    max_tokens: int = 600,
) -> Asked[Any]:
    request = Request(role=Role.CRITIC, instructions=Instructions(), question=Question(), answer=answer)
    prompt = Prompt("You say what a passage is about.", documents, "Say it.", question)
    return await pool.ask(
        prompt, answer, request=request, caller=caller or Caller(), max_tokens=max_tokens, n=n
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  it is about what another process does
            await asyncio.sleep(0.1)


async def test_what_the_server_tells_of_itself_is_understood(server: Server) -> None:
    async with pool_of(server.base_url, critic=RoleSettings(adapter=server.adapters[0])) as pool:
        assert (await pool.info()).model == f"{server.model}; critic: {server.adapters[0]}"
        assert await pool.context(Role.CRITIC) == await pool.context(Role.SCOUT) > 1000
        assert 2 <= await pool.count(Role.SCOUT, "some words of a text") <= 20
        text = await pool._open["default"].each[0].client.metrics()
    assert load_of(text or "") is not None


async def test_answers_of_an_adapter_are_typed_and_counted(server: Server) -> None:
    async with pool_of(server.base_url, critic=RoleSettings(adapter=server.adapters[0])) as pool:
        asked = await ask(pool, n=2)
    assert all(100 <= len(value.text) <= 200 for value in asked.values)
    assert asked.usage.completion_tokens > 20


async def test_a_person_who_waits_sees_the_answer_grow(server: Server) -> None:
    seen: list[tuple[str, int, int | None]] = []

    class Waiting(Caller):
        waiting = True

        def progress(self, doing: str, /, *, done: int = 0, total: int | None = None) -> None:
            seen.append((doing, done, total))

    async with pool_of(server.base_url) as pool:
        asked = await ask(pool, caller=Waiting())
    assert {doing for doing, _, _ in seen} == {"the critic writes, in tokens:"}
    assert seen[-1][2] == 600
    assert 0 < seen[-1][1] <= asked.usage.completion_tokens


async def test_of_several_calls_none_tells_how_its_answer_grows(server: Server) -> None:
    seen: list[str] = []

    class Several(Caller):
        waiting = True

        @property
        def alone(self) -> bool:
            return False

        def progress(self, doing: str, /, *, done: int = 0, total: int | None = None) -> None:
            del done, total
            seen.append(doing)

    async with pool_of(server.base_url) as pool:
        await ask(pool, caller=Several())
    assert seen == []


async def test_a_burst_is_found_out_and_all_of_it_is_answered(server: Server) -> None:
    """More at once than the server takes up: the limit follows, and nobody is lost."""
    with capture_logs() as logs:
        async with pool_of(server.base_url) as pool:
            questions = [f"Passage {number}: what is it about?" for number in range(120)]
            asked = await asyncio.gather(*(ask(pool, question=question) for question in questions))
    assert len(asked) == 120
    limits = [line["limit"] for line in logs if line["event"] == "limit_changed"]
    assert not limits or min(limits) >= 4


async def test_cancelling_frees_the_servers_slots(server: Server) -> None:
    async with pool_of(server.base_url) as pool:
        await ask(pool)
        asking = [asyncio.create_task(ask(pool, Long, max_tokens=8000)) for _ in range(4)]
        await until(lambda: server.metrics()["vllm:num_requests_running"] >= 4)
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
        assert pool._open["default"].each[0].in_flight == 0
        await until(lambda: server.metrics()["vllm:num_requests_running"] == 0)


async def test_shared_documents_are_found_in_the_prefix_cache(server: Server) -> None:
    documents = "A passage that several agents are shown, one after the other. " * 60
    async with pool_of(server.base_url) as pool:
        await ask(pool, documents=documents, question="first")
        second = await ask(pool, documents=documents, question="second")
    assert second.usage.cached_tokens > second.usage.prompt_tokens / 2


async def test_one_of_two_servers_dies_and_everything_is_answered(
    server: Server, start_server: StartServer
) -> None:
    other = await asyncio.to_thread(start_server)
    with capture_logs() as logs:
        async with pool_of(server.base_url, other.base_url) as pool:
            await ask(pool)
            endpoints = pool._open["default"]
            await until(lambda: all(endpoint.ready for endpoint in endpoints.each))
            asking = [asyncio.create_task(ask(pool, question=str(number))) for number in range(60)]
            await until(lambda: endpoints.each[1].in_flight > 0)
            other.kill()
            asked = await asyncio.gather(*asking)
    assert len(asked) == 60
    assert other.base_url in {line["address"] for line in logs if line["event"] == "endpoint_left_rotation"}
