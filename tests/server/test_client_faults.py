"""What a server does wrong, and what becomes of it: only what may pass is worth another attempt."""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import respx

from karkas.policies.errors import ContextTooLongError, EngineError, RequestRejectedError
from karkas.server.client import Client
from karkas.server.faults import PassingFaultError
from karkas.server.wire import ChatRequest, Message

CHAT = "/v1/chat/completions"
REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="Hello"),), max_tokens=10)
GOOD = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}


@pytest.fixture
async def client(routed: str) -> AsyncIterator[Client]:
    client = Client(routed, key="s3cret")
    yield client
    await client.aclose()


async def fault_of(call: Awaitable[object]) -> EngineError:
    with pytest.raises(EngineError) as raised:
        await call
    return raised.value


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, {"error": {"message": "slow down"}}),
        (503, {"error": {"message": "The server is overloaded: too many queued requests"}}),
        (500, {"error": {"message": "EngineCore encountered an issue. See stack trace (above)"}}),
        (500, {"error": {"message": "cannot schedule new futures after shutdown"}}),
        (502, "<html>Bad gateway</html>"),
        (408, ""),
        (529, ""),
    ],
)
async def test_an_overloaded_or_dying_server_may_answer_later(
    client: Client, router: respx.MockRouter, status: int, body: object
) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    router.post(CHAT).respond(status, text=text)
    fault = await fault_of(client.chat(REQUEST))
    assert isinstance(fault, PassingFaultError)
    assert fault.busy is (status in {429, 503})
    assert fault.reached is not fault.busy
    assert fault.retry_after is None
    assert str(status) in str(fault)


async def test_retry_after_is_read_as_seconds_or_as_a_date(client: Client, router: respx.MockRouter) -> None:
    async def after(header: str) -> float | None:
        router.post(CHAT).respond(429, headers={"Retry-After": header})
        fault = await fault_of(client.chat(REQUEST))
        assert isinstance(fault, PassingFaultError)
        return fault.retry_after

    assert await after("7") == 7
    assert await after("soon") is None
    assert await after("-1") is None
    later = await after(format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True))
    assert later is not None
    assert 500 < later <= 600
    assert await after(format_datetime(datetime(2001, 1, 1, tzinfo=UTC), usegmt=True)) == 0


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"message": "This model's maximum context length is 16384 tokens. However, ..."}),
        (400, {"message": "too much", "code": "context_length_exceeded"}),
        (400, {"message": "max_tokens=4200 cannot be greater than max_model_len=4096. Please request fewer"}),
        (
            400,
            {
                "message": "the request exceeds the available context size",
                "type": "exceed_context_size_error",
            },
        ),
        (413, {"message": "Request Entity Too Large"}),
    ],
)
async def test_a_prompt_that_does_not_fit_is_told_as_such(
    client: Client, router: respx.MockRouter, status: int, error: dict[str, str]
) -> None:
    router.post(CHAT).respond(status, json={"error": error})
    assert isinstance(await fault_of(client.chat(REQUEST)), ContextTooLongError)


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (400, {"error": {"message": 'Grammar error: Unimplemented keys: ["uniqueItems"]'}}, "uniqueItems"),
        (401, {"error": "Unauthorized"}, "api_key_env"),
        (403, {"detail": "no"}, "api_key_env"),
        (404, {"error": {"message": "The model `m` does not exist."}}, "'m' answered 404 .*/v1/models"),
        (404, {"detail": "Not Found"}, "base_url"),
        (422, {"detail": [{"loc": ["body"], "msg": "bad"}]}, "bad"),
        (501, {}, "501"),
    ],
)
async def test_a_rejection_says_why_and_what_to_correct(
    client: Client, router: respx.MockRouter, status: int, body: object, says: str
) -> None:
    router.post(CHAT).respond(status, json=body)
    fault = await fault_of(client.chat(REQUEST))
    assert type(fault) is RequestRejectedError
    assert client.base_url in str(fault)
    with pytest.raises(RequestRejectedError, match=says):
        raise fault


async def test_a_server_that_echoes_the_key_does_not_make_it_public(
    client: Client, router: respx.MockRouter
) -> None:
    router.post(CHAT).respond(401, json={"error": {"message": "Incorrect API key provided: s3cret"}})
    assert "s3cret" not in str(await fault_of(client.chat(REQUEST)))


async def test_a_servers_words_cannot_paint_on_the_terminal(client: Client, router: respx.MockRouter) -> None:
    router.post(CHAT).respond(400, json={"error": {"message": "\x1b[2J\u202eok\n" + "x" * 5000}})
    words = str(await fault_of(client.chat(REQUEST)))
    assert words.isprintable()
    assert len(words) < 500


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(client: Client, router: respx.MockRouter, status: int) -> None:
    route = router.route().respond(status, headers={"Location": "https://elsewhere.example/v1"})
    fault = await fault_of(client.chat(REQUEST))
    assert isinstance(fault, RequestRejectedError)
    assert "https://elsewhere.example/v1" in str(fault)
    assert route.call_count == 1


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<html>Sign in</html>", "text/html"),
        (json.dumps(GOOD).encode(), "text/html"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'{"choices": []}', "application/json"),
        (b'{"choices": [{"message": {"content": 5}}]}', "application/json"),
        (b'{"choices": [{"message": {"content": "\xff"}}]}', "application/json"),
        (b'{"error": {"message": "provider down"}}', "application/json"),
    ],
)
async def test_what_is_no_chat_completion_may_come_from_something_in_between(
    client: Client, router: respx.MockRouter, content: bytes, kind: str
) -> None:
    router.post(CHAT).respond(200, content=content, content_type=kind)
    assert isinstance(await fault_of(client.chat(REQUEST)), PassingFaultError)


async def test_an_error_under_a_200_counts_by_its_code(client: Client, router: respx.MockRouter) -> None:
    router.post(CHAT).respond(json={"error": {"message": "no such model", "code": 404}})
    assert isinstance(await fault_of(client.chat(REQUEST)), RequestRejectedError)


PIECE = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (PIECE, PassingFaultError),
        (b"", PassingFaultError),
        (b"data: [DONE]\n\n", PassingFaultError),
        (PIECE + b"data: {oops}\n\ndata: [DONE]\n\n", PassingFaultError),
        (PIECE + b'data: {"error": {"message": "EngineCore", "code": 500}}\n\n', PassingFaultError),
        (b'data: {"error": {"message": "no"}}\n\ndata: [DONE]\n\n', PassingFaultError),
        (b'data: {"error": {"message": "bad grammar", "code": 400}}\n\n', RequestRejectedError),
    ],
)
async def test_half_a_stream_is_no_answer(
    client: Client, router: respx.MockRouter, body: bytes, expected: type[EngineError]
) -> None:
    router.post(CHAT).respond(200, content=body, content_type="text/event-stream")
    assert type(await fault_of(client.chat(REQUEST, told=lambda _: None))) is expected


async def test_models_and_counts_that_are_none_are_faults_or_nothing(
    client: Client, router: respx.MockRouter
) -> None:
    router.get("/v1/models").respond(json={"data": "many"})
    assert isinstance(await fault_of(client.models()), PassingFaultError)
    router.post("/tokenize").respond(500)
    assert isinstance(await fault_of(client.tokenize("m", "text")), PassingFaultError)


Speak = Callable[[asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def serving(speak: Speak) -> AsyncIterator[tuple[str, list[asyncio.Event]]]:
    """A server that hears a request out and then does as it is told; the events tell that a caller hung up."""
    gone: list[asyncio.Event] = []
    talking: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        gone.append(asyncio.Event())
        talk = asyncio.ensure_future(speak(writer))
        talking.add(talk)
        with suppress(ConnectionError):
            await reader.read()
        gone[-1].set()
        talk.cancel()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", gone
    finally:
        server.close()
        await asyncio.gather(*talking, return_exceptions=True)


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Content-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await asyncio.sleep(0.01)


async def flood(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Content-Length: 99999999999\r\n\r\n")
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Content-Length: 1000\r\n\r\n{")
    await writer.drain()
    writer.close()


async def hang_up_at_once(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def babble(writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


async def mumble(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/\xff\r\nContent-Length: 1\r\n\r\n{")


async def bomb(writer: asyncio.StreamWriter) -> None:
    body = gzip.compress(b" " * 50_000_000)
    writer.write(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize(
    ("speak", "timeout_s", "says"),
    [
        (silence, 0.2, "said nothing for 0.2 s; .*timeout_s"),
        (drip, 0.2, "not ended its answer"),
        (flood, 60, "more than"),
        (hang_up, 60, "lost"),
        (hang_up_at_once, 60, "lost"),
        (babble, 60, "lost"),
        (bomb, 60, "compressed"),
        (mumble, 60, "answered text/.+ in place of JSON"),
    ],
)
async def test_a_server_that_stalls_floods_or_breaks_off_ends_the_call(
    speak: Speak, timeout_s: float, says: str
) -> None:
    async with serving(speak) as (url, gone):
        client = Client(url, timeout_s=timeout_s)
        fault = await fault_of(client.chat(REQUEST))
        assert isinstance(fault, PassingFaultError)
        assert re.search(says, str(fault))
        assert str(fault).isprintable()
        assert fault.reached
        await gone[0].wait()
        await client.aclose()


@pytest.mark.parametrize("told", [None, lambda _: None])
async def test_who_gives_up_hangs_up(told: Callable[[int], None] | None) -> None:
    """A server sees by the closed connection that nobody wants the answer any more."""

    async def stream(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + PIECE)
        heard.set()
        await asyncio.Event().wait()

    async def quiet(writer: asyncio.StreamWriter) -> None:
        heard.set()
        await asyncio.Event().wait()

    heard = asyncio.Event()
    async with serving(stream if told else quiet) as (url, gone):
        client = Client(url)
        call = asyncio.ensure_future(client.chat(REQUEST, told=told))
        await heard.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await gone[0].wait()
        await client.aclose()


async def test_a_call_in_flight_ends_when_the_client_is_closed() -> None:
    heard = asyncio.Event()

    async def listen(writer: asyncio.StreamWriter) -> None:
        heard.set()
        await asyncio.Event().wait()

    async with serving(listen) as (url, _):
        client = Client(url)
        call = asyncio.ensure_future(client.chat(REQUEST))
        await heard.wait()
        await client.aclose()
        assert isinstance(await fault_of(call), PassingFaultError)


async def test_what_is_not_there_was_not_reached(unused_tcp_port: int) -> None:
    for url in (f"http://127.0.0.1:{unused_tcp_port}", "http://nowhere.invalid:8000"):
        client = Client(url)
        fault = await fault_of(client.chat(REQUEST))
        assert isinstance(fault, PassingFaultError)
        assert not fault.reached
        assert url in str(fault)
        await client.aclose()


async def test_five_hundred_calls_wait_side_by_side() -> None:
    waiting = 0
    all_here = asyncio.Event()

    async def together(writer: asyncio.StreamWriter) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == 500:
            all_here.set()
        await all_here.wait()
        body = json.dumps(GOOD).encode()
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async with serving(together) as (url, _):
        client = Client(url)
        got = await asyncio.gather(*(client.chat(REQUEST) for _ in range(500)))
        assert {answer.choices[0].text for answer in got} == {"yes"}
        await client.aclose()


async def test_an_error_of_who_listens_is_no_fault_of_the_server(
    client: Client, router: respx.MockRouter
) -> None:
    def told(_: int) -> None:
        raise BrokenPipeError

    router.post(CHAT).respond(200, content=PIECE + b"data: [DONE]\n\n", content_type="text/event-stream")
    with pytest.raises(BrokenPipeError):
        await client.chat(REQUEST, told=told)
