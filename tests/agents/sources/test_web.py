import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import respx

from karkas.agents.sources import Limits, Reading, discover, read
from karkas.agents.sources import web as web_module
from karkas.policies.distillates import SourceRank, SourceStatus
from karkas.policies.errors import SourceError

Write = Callable[[str, str | bytes], Path]
ALLOWED = Limits(allowed_hosts=("docs.example.org", "example.org"), max_bytes=2_000, timeout_s=20)
PAGE = "<main><h1>Waiting</h1><p>Waits one second.</p></main>"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_module, "_LONGEST_WAIT_S", 0.01)


async def fetched(url: str, limits: Limits = ALLOWED) -> Reading:
    (found,) = discover(url, root=Path(), limits=limits)
    return await read(found, limits=limits)


def html(content: str = PAGE, **headers: str) -> httpx.Response:
    return httpx.Response(200, content=content.encode(), headers={"content-type": "text/html", **headers})


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    handler = partial(_Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


async def test_a_page_from_a_real_server_is_read(server: str, write: Write) -> None:
    write("guide.html", PAGE)
    write("notes.md", "# Notes\n\nIn Markdown.\n")
    limits = Limits(allowed_hosts=("127.0.0.1",))
    page, notes = (
        await fetched(f"{server}/guide.html#top", limits),
        await fetched(f"{server}/notes.md", limits),
    )
    assert page.text == "Waiting\n\nWaits one second.\n"
    assert page.record.locator == {"url": f"{server}/guide.html"}
    assert page.record.modified is not None
    assert notes.record.text is not None
    assert notes.record.text.extractor == "markdown@1"
    missing = await fetched(f"{server}/none.html", limits)
    assert missing.record.status is SourceStatus.UNREADABLE
    assert "404" in (missing.record.reason or "")


@respx.mock
async def test_documentation_hosts_rank_above_the_rest_of_the_web() -> None:
    respx.get("https://docs.example.org/a").mock(html())
    respx.get("https://example.org/a").mock(html())
    assert (await fetched("https://docs.example.org/a")).record.rank is SourceRank.OFFICIAL_DOCS
    assert (await fetched("https://example.org/a")).record.rank is SourceRank.WEB


@respx.mock
async def test_a_redirect_to_a_host_that_is_not_allowed_is_not_followed() -> None:
    respx.get("https://example.org/a").mock(
        httpx.Response(302, headers={"location": "http://169.254.169.254/"})
    )
    secret = respx.get("http://169.254.169.254/").mock(html())
    reading = await fetched("https://example.org/a")
    assert "169.254.169.254 is not allowed" in (reading.record.reason or "")
    assert not secret.called


@respx.mock
async def test_redirects_among_allowed_hosts_are_followed_but_not_for_ever() -> None:
    respx.get("https://example.org/a").mock(httpx.Response(301, headers={"location": "//docs.example.org/b"}))
    respx.get("https://docs.example.org/b").mock(html())
    respx.get("https://example.org/loop").mock(httpx.Response(301, headers={"location": "/loop"}))
    assert (await fetched("https://example.org/a")).record.status is SourceStatus.USED
    assert "redirects" in ((await fetched("https://example.org/loop")).record.reason or "")


@respx.mock
@pytest.mark.parametrize(("status", "asked"), [(429, 3), (503, 3), (404, 1), (403, 1)])
async def test_only_passing_errors_are_asked_again(status: int, asked: int) -> None:
    route = respx.get("https://example.org/a").mock(httpx.Response(status))
    reading = await fetched("https://example.org/a")
    assert reading.record.status is SourceStatus.UNREADABLE
    assert str(status) in (reading.record.reason or "")
    assert route.call_count == asked


@respx.mock
async def test_a_connection_that_fails_once_is_made_again() -> None:
    respx.get("https://example.org/a").mock(side_effect=[httpx.ConnectError("refused"), html()])
    assert (await fetched("https://example.org/a")).record.status is SourceStatus.USED


@respx.mock
async def test_a_page_is_read_only_up_to_the_limit() -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(10):
            yield b"x" * 1_000
        raise AssertionError("read far beyond the limit")

    respx.get("https://example.org/a").mock(
        httpx.Response(200, headers={"content-type": "text/html"}, stream=_Stream(endless()))
    )
    assert "larger than 2,000 bytes" in ((await fetched("https://example.org/a")).record.reason or "")


class _Stream(httpx.AsyncByteStream):
    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts

    async def __aiter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204 - httpx's own signature
        for part in self._parts:
            yield part


@respx.mock
async def test_what_has_no_reader_says_so_and_the_stated_charset_counts() -> None:
    respx.get("https://example.org/p").mock(httpx.Response(200, headers={"content-type": "image/png"}))
    respx.get("https://example.org/r").mock(
        httpx.Response(
            200, content="Ранг.".encode("koi8-r"), headers={"content-type": "text/plain; charset=koi8-r"}
        )
    )
    assert (await fetched("https://example.org/p")).record.reason == "no reader for image/png"
    assert (await fetched("https://example.org/r")).text == "Ранг."


@pytest.mark.parametrize(
    ("allowed", "url", "good"),
    [
        ("example.org", "https://example.org/", True),
        ("example.org", "https://www.example.org/", False),
        ("*.example.org", "https://www.example.org/", True),
        ("*.example.org", "https://example.org/", False),
        ("*.example.org", "https://evilexample.org/", False),
        ("example.org", "https://example.org@evil.org/", False),
        ("example.org", "https://example.org.evil.org/", False),
        ("example.org", "https://user:pw@example.org/", False),
        ("localhost:8000", "http://localhost:9000/", False),
        ("localhost:8000", "http://localhost:8000/", True),
        ("Example.org", "https://EXAMPLE.org./", True),
    ],
)
def test_a_host_is_allowed_exactly_or_by_its_pattern(allowed: str, url: str, good: bool) -> None:  # noqa: FBT001
    limits = Limits(allowed_hosts=(allowed,))
    if good:
        assert len(list(discover(url, root=Path(), limits=limits))) == 1
    else:
        with pytest.raises(SourceError):
            discover(url, root=Path(), limits=limits)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.8", "169.254.169.254", "::1", "fd00::1"])
async def test_a_pattern_does_not_open_the_private_network(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolved(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (address, 443))]

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", resolved)
    reading = await fetched("https://inner.example.org/", Limits(allowed_hosts=("*.example.org",)))
    assert "private address" in (reading.record.reason or "")
