"""The client and the real wire: what vLLM says in each case, and what is made of it."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from karkas.policies.errors import ContextTooLongError, RequestRejectedError
from karkas.server.client import Client
from karkas.server.wire import ChatRequest, Message, ServedModel

from .conftest import Server

DEADLINE_S = 30


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    client = Client(server.base_url)
    yield client
    await client.aclose()


def asking(server: Server, text: str = "Say something.", **changes: object) -> ChatRequest:
    request = ChatRequest(model=server.model, messages=(Message(role="user", content=text),), max_tokens=8)
    return request.model_copy(update=changes)


async def test_several_answers_come_with_what_they_cost(client: Client, server: Server) -> None:
    got = await client.chat(asking(server, n=3, temperature=1.0, priority=5))
    assert [choice.finish for choice in got.choices] == ["length"] * 3
    assert all(choice.text for choice in got.choices)
    assert got.usage.completion_tokens == 24
    assert got.usage.prompt_tokens > 3
    assert got.model == server.model


async def test_a_stream_gives_the_same_answer_as_a_whole(client: Client, server: Server) -> None:
    request = asking(server, temperature=0.0, max_tokens=40)
    told: list[int] = []
    streamed = await client.chat(request, told=told.append)
    whole = await client.chat(request)
    assert streamed.choices == whole.choices
    assert streamed.usage.completion_tokens == whole.usage.completion_tokens == 40
    assert streamed.usage.prompt_tokens == whole.usage.prompt_tokens
    assert told == sorted(told)
    assert told[-1] == 40


async def test_a_prompt_seen_before_is_found_in_the_cache(client: Client, server: Server) -> None:
    request = asking(server, "The quick brown fox jumps over the lazy dog. " * 100)
    await client.chat(request)
    assert (await client.chat(request)).usage.cached_tokens >= 128


async def test_an_adapter_answers_by_its_own_name(client: Client, server: Server) -> None:
    for adapter in server.adapters:
        assert (await client.chat(asking(server, model=adapter))).choices[0].text


async def test_what_is_served_is_listed(client: Client, server: Server) -> None:
    listed = await client.models()
    assert listed[0] == ServedModel(server.model, 16384, None)
    assert {model.id: model.parent for model in listed[1:]} == dict.fromkeys(server.adapters, server.model)


async def test_its_tokenizer_counts_what_the_prompt_will_cost(client: Client, server: Server) -> None:
    text = "Сколько здесь токенов? " * 20
    counted = await client.tokenize(server.model, text)
    cost = (await client.chat(asking(server, text, max_tokens=1))).usage.prompt_tokens
    assert counted is not None
    assert counted <= cost <= counted + 20


async def test_it_is_ready_and_tells_its_metrics(client: Client, server: Server) -> None:
    await client.probe(server.model)
    text = await client.metrics()
    assert text is not None
    assert "vllm:num_requests_running" in text


@pytest.mark.parametrize("told", [None, lambda _: None])
async def test_its_refusals_are_told_apart(
    client: Client, server: Server, told: Callable[[int], None] | None
) -> None:
    with pytest.raises(RequestRejectedError, match="does not exist"):
        await client.chat(asking(server, model="nobody"), told=told)
    with pytest.raises(ContextTooLongError, match="16384"):
        await client.chat(asking(server, "word " * 40_000), told=told)
    with pytest.raises(ContextTooLongError, match="16384"):
        await client.chat(asking(server, max_tokens=40_000), told=told)
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {"type": "string"}}}}
    with pytest.raises(RequestRejectedError, match="not"):
        await client.chat(asking(server, response_format=schema), told=told)
    with pytest.raises(RequestRejectedError):
        await client.probe("nobody")


@pytest.mark.parametrize("told", [None, lambda _: None])
async def test_who_is_cancelled_frees_the_place_on_the_server(
    client: Client, server: Server, told: Callable[[int], None] | None
) -> None:
    """Long answers of the random model never end by themselves: without the hang-up they would run for minutes."""

    async def until(holds: Callable[[float], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not holds((await asyncio.to_thread(server.metrics))["vllm:num_requests_running"]):  # noqa: ASYNC110 - a server tells it
                await asyncio.sleep(0.1)

    request = asking(server, max_tokens=15_000)
    digits = {"name": "x", "schema": {"type": "string", "minLength": 100_000, "maxLength": 100_001}}
    request = request.model_copy(
        update={"response_format": {"type": "json_schema", "json_schema": digits}, "n": 4}
    )
    call = asyncio.ensure_future(client.chat(request, told=told))
    await until(lambda running: running >= 4)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda running: running < 4)
