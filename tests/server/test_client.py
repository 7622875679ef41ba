"""What goes out and what is made of a good answer; tests/vllm/test_client.py asks the real server."""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from karkas.policies.errors import EngineError, SettingsError
from karkas.server.client import Client
from karkas.server.completions import Streamed, completion
from karkas.server.wire import ChatRequest, Choice, Message, ServedModel

URL = "http://model:8000"
REQUEST = ChatRequest(
    model="m",
    messages=(Message(role="system", content="Be short."), Message(role="user", content="Что такое повтор?")),
    max_tokens=50,
)


def answer(*texts: str, usage: object = None, finish: str = "stop", **message: object) -> dict[str, object]:
    choices = [
        {"index": index, "message": {"content": text, **message}, "finish_reason": finish}
        for index, text in enumerate(texts)
    ]
    return {"model": "m-served", "choices": choices, "usage": usage}


def read(body: object, request: ChatRequest = REQUEST) -> Any:
    return completion(json.dumps(body).encode(), request, address=URL, wall_s=1.5)


@pytest.fixture
async def client(routed: str) -> AsyncIterator[Client]:
    client = Client(routed)
    yield client
    await client.aclose()


async def test_what_is_none_is_not_sent(client: Client, router: respx.MockRouter) -> None:
    route = router.post("/v1/chat/completions").respond(json=answer("yes"))
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [None, 1]}}}
    await client.chat(REQUEST.model_copy(update={"priority": 0, "response_format": schema}))
    assert json.loads(route.calls.last.request.content) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Что такое повтор?"},
        ],
        "max_tokens": 50,
        "n": 1,
        "priority": 0,
        "response_format": schema,
    }


async def test_the_key_goes_along_only_where_there_is_one(routed: str, router: respx.MockRouter) -> None:
    route = router.get("/v1/models").respond(json={"data": []})
    for client in (Client(routed), Client(routed, key=" s3cret\n")):
        await client.models()
        await client.aclose()
    without, having = (call.request.headers for call in route.calls)
    assert "authorization" not in without
    assert having["authorization"] == "Bearer s3cret"


def test_a_key_that_no_header_takes_is_refused_without_being_shown() -> None:
    with pytest.raises(SettingsError, match="api_key_env") as raised:
        Client(URL, key="s3c\nret")
    assert "ret" not in str(raised.value)
    assert "s3cret" not in repr(Client(URL, key="s3cret"))


async def test_every_choice_comes_back_with_how_it_ended(client: Client, router: respx.MockRouter) -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 16}}
    router.post("/v1/chat/completions").respond(json=answer("one", "two", usage=usage, finish="length"))
    got = await client.chat(REQUEST.model_copy(update={"n": 2}))
    assert got.choices == (Choice("one", "length"), Choice("two", "length"))
    assert got.model == "m-served"
    assert (got.usage.prompt_tokens, got.usage.completion_tokens, got.usage.cached_tokens) == (20, 7, 16)
    assert got.usage.wall_s > 0


def test_no_more_choices_are_taken_than_were_asked_for() -> None:
    assert [choice.text for choice in read(answer("one", "two")).choices] == ["one"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": None}, Choice("", "stop")),
        ({"content": "a", "reasoning": "so"}, Choice("a", "stop", "so")),
        ({"content": "a", "reasoning_content": "so"}, Choice("a", "stop", "so")),
        ({"content": "\n<think>\nso\n</think>\n\n{}"}, Choice("{}", "stop", "so")),
        ({"content": "<think>so and"}, Choice("", "stop", "so and")),
        ({"content": "{'tag': '<think>a</think>'}"}, Choice("{'tag': '<think>a</think>'}", "stop")),
        ({"content": None, "refusal": "I will not."}, Choice("", "stop", "", "I will not.")),
    ],
)
def test_reasoning_and_refusal_are_no_part_of_the_text(message: dict[str, object], expected: Choice) -> None:
    assert read({"choices": [{"message": message, "finish_reason": "stop"}]}).choices == (expected,)


def test_an_answer_that_does_not_say_how_it_ended_has_no_finish() -> None:
    assert read({"choices": [{"message": {"content": "a"}, "finish_reason": None}]}).choices[0].finish == ""


@pytest.mark.parametrize(
    "usage",
    [
        None,
        "much",
        [],
        {},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": -5, "completion_tokens": -1},
        {"prompt_tokens": True, "completion_tokens": 1.5},
        {"prompt_tokens": "20", "completion_tokens": None},
        {"prompt_tokens": 10**9, "completion_tokens": 10**9},
        {"prompt_tokens": 1e400, "completion_tokens": 10**400},
    ],
)
def test_a_usage_that_cannot_be_is_replaced_by_an_upper_estimate(usage: object) -> None:
    got = read(answer("The answer is long enough.", usage=usage)).usage
    words = sum(len(message.content.split()) for message in REQUEST.messages)
    assert words < got.prompt_tokens < 200
    assert 5 < got.completion_tokens < 100


def test_more_cached_tokens_than_the_prompt_has_are_not_believed() -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 21}}
    assert read(answer("a", usage=usage)).usage.cached_tokens == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("choices", "message", "content", "usage", "error", "code", "prompt_tokens")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(body=JSON, usage=JSON)
def test_whatever_a_server_sends_it_is_an_answer_with_a_cost_or_a_fault(body: object, usage: object) -> None:
    for sent in (body, answer("text", usage=usage)):
        try:
            got = read(sent)
        except EngineError:
            continue
        assert got.usage.prompt_tokens > 0
        assert got.usage.completion_tokens > 0 or not got.choices[0].text


def events(*deltas: dict[str, object], tail: bytes = b"data: [DONE]\n\n") -> bytes:
    chunks = [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}]
    chunks += [{"choices": [delta]} for delta in deltas]
    return (
        b": ping\r\n\r\n" + b"".join(b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in chunks) + tail
    )


def piece(text: str, *, index: int = 0, finish: str | None = None) -> dict[str, object]:
    return {"index": index, "delta": {"content": text}, "finish_reason": finish}


async def test_a_streamed_answer_tells_how_far_it_is(client: Client, router: respx.MockRouter) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}
    body = events(
        piece("Пов"),
        piece("тор"),
        piece(".", finish="stop"),
        tail=b"data: %s\n\ndata: [DONE]\n\n" % json.dumps(usage).encode(),
    )
    route = router.post("/v1/chat/completions").respond(
        content=body, content_type="text/event-stream; charset=utf-8"
    )
    told: list[int] = []
    got = await client.chat(REQUEST, told=told.append)
    sent = json.loads(route.calls.last.request.content)
    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})
    assert got.choices == (Choice("Повтор.", "stop"),)
    assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (9, 3)
    assert sorted(set(told)) == [0, 1, 2, 3]


async def test_a_server_that_does_not_stream_is_taken_at_its_whole_word(
    client: Client, router: respx.MockRouter
) -> None:
    router.post("/v1/chat/completions").respond(json=answer("yes"))
    assert (await client.chat(REQUEST, told=lambda _: None)).choices == (Choice("yes", "stop"),)


@given(cuts=st.lists(st.integers(0, 400), max_size=12), newline=st.sampled_from([b"\n", b"\r\n"]))
def test_where_a_stream_is_cut_into_packets_changes_nothing(cuts: list[int], newline: bytes) -> None:
    body = events(piece("а", index=0), piece("b", index=1), piece("в\n", index=0, finish="stop"))
    body = body.replace(b"\n", newline)
    streamed = Streamed(REQUEST.model_copy(update={"n": 2}), address=URL, told=lambda _: None)
    places = [0, *sorted(cuts), len(body)]
    for start, end in pairwise(places):
        streamed.feed(body[start:end])
    assert [choice.text for choice in streamed.answer(wall_s=0).choices] == ["ав\n", "b"]


async def test_tokens_are_counted_by_the_server_where_it_can(
    client: Client, router: respx.MockRouter
) -> None:
    route = router.post("/tokenize")
    route.respond(json={"count": 3, "tokens": [1, 2, 3]})
    assert await client.tokenize("m", "text") == 3
    assert json.loads(route.calls.last.request.content) == {"model": "m", "prompt": "text"}
    for status in (404, 405, 501):
        route.respond(status)
        assert await client.tokenize("m", "text") is None
    route.respond(json={"tokens": [1]})
    assert await client.tokenize("m", "text") is None


async def test_models_are_listed_with_what_they_adapt(client: Client, router: respx.MockRouter) -> None:
    lines = [{"id": "base", "max_model_len": 4096}, {"id": "lora", "max_model_len": None, "parent": "base"}]
    router.get("/v1/models").respond(json={"data": lines})
    assert await client.models() == (ServedModel("base", 4096), ServedModel("lora", None, "base"))


async def test_metrics_are_text_or_nothing(client: Client, router: respx.MockRouter) -> None:
    route = router.get("/metrics")
    route.respond(text="vllm:num_requests_running 1.0", content_type="text/plain; version=1.0.0")
    assert await client.metrics() == "vllm:num_requests_running 1.0"
    route.respond(html="<html>welcome</html>")
    assert await client.metrics() is None
    route.respond(404)
    assert await client.metrics() is None


async def test_a_server_is_ready_when_it_is_healthy_and_answers(
    client: Client, router: respx.MockRouter
) -> None:
    health = router.get("/health").respond(200)
    chat = router.post("/v1/chat/completions").respond(json=answer("a"))
    await client.probe("m")
    assert json.loads(chat.calls.last.request.content)["max_tokens"] == 1
    health.respond(404)
    await client.probe("m")
    chat.respond(500)
    with pytest.raises(EngineError):
        await client.probe("m")
    chat.respond(json=answer("a"))
    health.respond(503)
    with pytest.raises(EngineError):
        await client.probe("m")


async def test_after_it_is_closed_a_client_connects_again(unused_tcp_port: int) -> None:
    reply = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"data": []}'

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", unused_tcp_port):
        client = Client(f"http://127.0.0.1:{unused_tcp_port}")
        assert await client.models() == ()
        await client.aclose()
        assert await client.models() == ()
        await client.aclose()
