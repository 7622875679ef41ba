"""One OpenAI-compatible server: one attempt a call, nothing of what it says is taken on trust."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from karkas.policies.errors import RequestRejectedError, SettingsError
from karkas.policies.rendering import visible_line
from karkas.server.completions import Streamed, completion
from karkas.server.faults import PassingFaultError, fault
from karkas.server.wire import ChatAnswer, ChatRequest, Message, ServedModel

if TYPE_CHECKING:
    import aiohttp

_CONNECT_S = 10.0
_SHORT_S = 30.0
"""For questions that no model has to think about."""
_PROBE_S = 120.0
_KEEP_ALIVE_S = 1.0
"""Far less than uvicorn's 5: a server that is too busy to read closes a connection on which a request has come in, and
that cannot be told from a server that dies of the request.
"""
_ENVELOPE = 1 << 20
_BYTES_PER_TOKEN = 1 << 10
_LARGEST_PAGE = 16 << 20
_OK = 200
_REDIRECTS = range(300, 400)
_ABSENT = frozenset({404, 405, 501})


class _Line(BaseModel):
    id: str
    max_model_len: int | None = None
    parent: str | None = None


class _Lines(BaseModel):
    data: list[_Line]


class _Tokens(BaseModel):
    count: int


class Client:
    """Asks one server. It connects in the running loop when it is first used, and again after `aclose`.

    `base_url` is the server's root without `/v1`. No proxy out of the environment is used and no redirect is
    followed: prompts and key go to the address that is configured, and nowhere else.
    """

    def __init__(
        self,
        base_url: str,
        *,
        key: str | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        """`timeout_s` may pass without a word from the server."""
        key = key.strip() if key else ""
        if not (key.isascii() and key.isprintable()):
            raise SettingsError(
                f"the key for {base_url} holds characters that no HTTP header takes; correct the variable that"
                " api_key_env names in karkas.toml"
            )
        self.base_url = base_url.rstrip("/")
        self._key = key
        self._headers = {
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": "karkas",
            **({"Authorization": f"Bearer {key}"} if key else {}),
        }
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"Client({self.base_url!r})"

    async def chat(self, request: ChatRequest, *, told: Callable[[int], None] | None = None) -> ChatAnswer:
        """One attempt. With `told` the answer is streamed, and `told` gets the number of tokens written so far.

        Raises `PassingFaultError`, `ContextTooLongError` or `RequestRejectedError`.
        """
        begun = perf_counter()
        body: dict[str, Any] = {name: value for name, value in request if value is not None}
        limit_s = 2 * self._timeout_s
        if told is not None:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            limit_s += request.max_tokens  # a token a second at least, or it is no use waiting
        limit = _ENVELOPE + request.n * request.max_tokens * _BYTES_PER_TOKEN
        async with self._ask("POST", "/v1/chat/completions", body, limit_s) as response:
            await self._check(response, model=request.model)
            kind = response.headers.get("content-type", "")
            if told is not None and kind.startswith("text/event-stream"):
                streamed = Streamed(request, address=self.base_url, told=told)
                async for data in self._bounded(response, limit):
                    streamed.feed(data)
                    if streamed.done:
                        break
                return streamed.answer(wall_s=perf_counter() - begun)
            if not kind.startswith("application/json"):
                said = visible_line(kind) or "without a content type"
                raise self._fault(f"answered {said} in place of JSON")
            data = await self._read(response, limit)
        return completion(data, request, address=self.base_url, wall_s=perf_counter() - begun)

    async def tokenize(self, model: str, text: str) -> int | None:
        """How many tokens the model's tokenizer makes of `text`; None where the server has no such way."""
        body = {"model": model, "prompt": text}
        limit = _ENVELOPE + 16 * len(text.encode("utf-8", "replace"))
        async with self._ask("POST", "/tokenize", body, _SHORT_S) as response:
            if response.status in _ABSENT:
                return None
            await self._check(response, model=model)
            data = await self._read(response, limit)
        try:
            return _Tokens.model_validate_json(data).count
        except ValidationError:
            return None

    async def models(self) -> tuple[ServedModel, ...]:
        """What it serves, adapters included."""
        async with self._ask("GET", "/v1/models", None, _SHORT_S) as response:
            await self._check(response)
            data = await self._read(response, _LARGEST_PAGE)
        try:
            lines = _Lines.model_validate_json(data).data
        except ValidationError:
            raise self._fault("answered /v1/models with something that is no list of models") from None
        return tuple(ServedModel(line.id, line.max_model_len, line.parent) for line in lines)

    async def metrics(self) -> str | None:
        """The text of `/metrics` (Prometheus); None where there is none."""
        async with self._ask("GET", "/metrics", None, _SHORT_S) as response:
            if response.status in _ABSENT:
                return None
            await self._check(response)
            if not response.headers.get("content-type", "").startswith(
                ("text/plain", "application/openmetrics")
            ):
                return None
            return (await self._read(response, _LARGEST_PAGE)).decode("utf-8", "replace")

    async def probe(self, model: str) -> None:
        """Returns when the server is ready: its `/health`, if it has one, is good (vLLM's is also while it drains or
        sleeps), and `model` answers with a token. Raises what `chat` raises.
        """
        async with self._ask("GET", "/health", None, _SHORT_S) as response:
            if response.status not in _ABSENT:
                await self._check(response)
        request = ChatRequest(model=model, messages=(Message(role="user", content="?"),), max_tokens=1)
        try:
            async with asyncio.timeout(_PROBE_S):
                await self.chat(request)
        except TimeoutError:
            raise self._fault(f"gave no token within {_PROBE_S:.0f} s") from None

    async def aclose(self) -> None:
        """Closes all connections; calls in flight end in `PassingFaultError`."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None, limit_s: float
    ) -> "AsyncIterator[aiohttp.ClientResponse]":
        """By aiohttp: httpx takes twice its CPU for a call, and at some hundred connections seconds more."""
        import aiohttp

        silence_s = min(self._timeout_s, limit_s)
        asked = self._connected().request(
            method,
            f"{self.base_url}{path}",
            data=None if body is None else to_json(body),
            allow_redirects=False,
            timeout=_timeout(silence_s),
        )
        try:
            async with asyncio.timeout(limit_s), asked as response:
                yield response
        except aiohttp.ClientError as error:
            raise self._lost(error, silence_s) from error
        except TimeoutError:
            raise self._fault(f"had not ended its answer after {limit_s:.0f} s") from None

    def _connected(self) -> "aiohttp.ClientSession":
        if self._session is None:
            self._session = _session(self.base_url, self._headers)
        return self._session

    async def _bounded(self, response: "aiohttp.ClientResponse", limit: int) -> AsyncIterator[bytes]:
        if (coding := response.headers.get("content-encoding", "identity")) != "identity":
            raise self._fault(
                f"compressed its answer ({coding!r}), which was not asked for"
            )  # a bomb, for one
        size = 0
        async for data in response.content.iter_any():
            size += len(data)
            if size > limit:
                raise self._fault(f"answered with more than {limit} bytes")
            yield data

    async def _read(self, response: "aiohttp.ClientResponse", limit: int) -> bytes:
        return b"".join([data async for data in self._bounded(response, limit)])

    async def _check(self, response: "aiohttp.ClientResponse", *, model: str = "") -> None:
        """Raises what a status other than 200 means."""
        status = response.status
        if status == _OK:
            return
        if status in _REDIRECTS:
            raise RequestRejectedError(
                f"the model server at {self.base_url} redirects to {response.headers.get('location', '')!r}, and"
                " redirects are not followed; if that is where it is, name it as base_url in karkas.toml"
            )
        body = await self._read(response, _ENVELOPE)
        if self._key:
            body = body.replace(self._key.encode(), b"***")
        raise fault(
            status,
            body,
            address=self.base_url,
            model=model,
            retry_after=response.headers.get("retry-after"),
        )

    def _lost(self, error: "aiohttp.ClientError", silence_s: float) -> PassingFaultError:
        import aiohttp

        if isinstance(error, aiohttp.SocketTimeoutError):
            return self._fault(
                f"said nothing for {silence_s:g} s; where it only is slow, timeout_s in karkas.toml allows more"
            )
        never = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        words = (error.strerror if isinstance(error, aiohttp.ClientConnectorError) else None) or str(error)
        how = "cannot be reached" if never else "was lost in the middle of a call"
        return PassingFaultError(
            f"the model server at {self.base_url} {how}: {words or type(error).__name__}", reached=not never
        )

    def _fault(self, how: str) -> PassingFaultError:
        return PassingFaultError(f"the model server at {self.base_url} {how}")


@cache
def _timeout(silence_s: float) -> "aiohttp.ClientTimeout":
    import aiohttp

    return aiohttp.ClientTimeout(sock_connect=_CONNECT_S, sock_read=silence_s)


def _session(base_url: str, headers: dict[str, str]) -> "aiohttp.ClientSession":
    """Without what must not happen here: redirects, cookies, proxies, and bodies that unpack themselves."""
    import aiohttp

    tls = base_url.startswith("https:")
    context = ssl.create_default_context() if tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S, ssl=context),
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )
