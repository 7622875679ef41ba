"""URLs: only from hosts that are allowed, every redirect checked, no more bytes than allowed."""

import asyncio
import ipaddress
import socket
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urlsplit

from karkas.agents.sources.found import Found, Limits, Payload
from karkas.agents.sources.survey import SUFFIXES, suffix_of
from karkas.policies.distillates import SourceRank
from karkas.policies.errors import SourceError

if TYPE_CHECKING:
    import httpx

_SUFFIX_OF_TYPE = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/markdown": ".md",
    "text/x-markdown": ".md",
    "text/x-rst": ".rst",
    "text/prs.fallenstein.rst": ".rst",
    "application/pdf": ".pdf",
    "application/x-ipynb+json": ".ipynb",
    "text/x-python": ".py",
    "text/x-script.python": ".py",
}
_BY_ADDRESS = frozenset(
    {"text/plain", "application/octet-stream", "application/json", "binary/octet-stream", ""}
)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_ATTEMPTS = 3
_LONGEST_WAIT_S = 10.0
_BUSY = 429
_SERVER_ERROR = 500
_BAD = 400


class _RetryError(Exception):
    """The server may answer if it is asked again."""


def discover_url(spec: str, *, limits: Limits) -> Iterator[Found]:
    """One candidate, without asking the network. Raises `SourceError` for a host that is not allowed."""
    url = urldefrag(spec).url
    _check_allowed(url, limits)
    parts = urlsplit(url)
    host = parts.hostname or ""
    official = host.startswith("docs.") or host.endswith((".readthedocs.io", ".readthedocs.org"))
    yield Found(
        key=url,
        kind="url",
        path=url,
        title=parts.path.rstrip("/").rpartition("/")[2] or host,
        rank=SourceRank.OFFICIAL_DOCS if official else SourceRank.WEB,
        locator={"url": url},
        at=url,
    )


async def fetch(found: Found, limits: Limits) -> Payload:
    """The page's bytes. Connection errors, 429 and 5xx are tried again, anything else is final."""
    import httpx
    from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    again = retry_if_exception_type(
        (_RetryError, httpx.ConnectError, httpx.TimeoutException, httpx.ReadError)
    )
    attempts = AsyncRetrying(
        retry=again,
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT_S),
        reraise=True,
    )
    try:
        async with httpx.AsyncClient(timeout=limits.timeout_s, headers={"User-Agent": "karkas"}) as client:
            return await attempts(_follow, client, found.at, limits)
    except (_RetryError, httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceError(f"not fetched: {error or type(error).__name__}") from None


async def _follow(client: "httpx.AsyncClient", url: str, limits: Limits) -> Payload:
    for _ in range(_MOST_REDIRECTS + 1):
        _check_allowed(url, limits)
        await _check_address(url, limits)
        async with client.stream("GET", url, follow_redirects=False) as response:
            if response.status_code in _REDIRECTS and "location" in response.headers:
                url = urldefrag(str(response.url.join(response.headers["location"]))).url
                continue
            if response.status_code == _BUSY or response.status_code >= _SERVER_ERROR:
                raise _RetryError(f"the server answered {response.status_code}")
            if response.status_code >= _BAD:
                raise SourceError(f"the server answered {response.status_code} {response.reason_phrase}")
            return await _body(response, url, limits)
    raise SourceError(f"more than {_MOST_REDIRECTS} redirects")


async def _body(response: "httpx.Response", url: str, limits: Limits) -> Payload:
    raw = bytearray()
    async for part in response.aiter_bytes():
        raw += part
        if len(raw) > limits.max_bytes:
            raise SourceError(f"larger than {limits.max_bytes:,} bytes")
    stated = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    suffix = _SUFFIX_OF_TYPE.get(stated, "")
    if not suffix and stated in _BY_ADDRESS:
        by_address = suffix_of(urlsplit(url).path.rpartition("/")[2])
        suffix = by_address if by_address in SUFFIXES else ".txt" * (stated == "text/plain")
    if not suffix:
        raise SourceError(f"no reader for {stated or 'a page without a content type'}")
    modified = None
    if dated := response.headers.get("last-modified"):
        try:
            modified = parsedate_to_datetime(dated).date().isoformat()
        except ValueError:
            modified = None
    return Payload(bytes(raw), suffix, response.charset_encoding, modified)


def _check_allowed(url: str, limits: Limits) -> None:
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower().rstrip("."), parts.port
    except ValueError:
        raise SourceError(f"{url!r} is not a URL") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise SourceError(f"{url!r} is not an http(s) URL with a host")
    if parts.username is not None:
        raise SourceError(f"the URL for {host} carries a user name; remove it")
    if not _listed(host, port, limits) and not any(
        allowed.startswith("*.") and host.endswith(allowed[1:].lower()) for allowed in limits.allowed_hosts
    ):
        raise SourceError(
            f"the host {host} is not allowed; add it to `allowed_hosts` under [explore] in karkas.toml"
        )


def _listed(host: str, port: int | None, limits: Limits) -> bool:
    return any(allowed.lower() in {host, f"{host}:{port}", f"[{host}]"} for allowed in limits.allowed_hosts)


async def _check_address(url: str, limits: Limits) -> None:
    """A host that only a pattern allows must not lead into the private network."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower().rstrip(".")
    if _listed(host, parts.port, limits):
        return
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(
            host, parts.port or 443, type=socket.SOCK_STREAM
        )
    except OSError:
        return
    for *_, address in answers:
        if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global:
            raise SourceError(
                f"the host {host} is on a private address; list it by its exact name to allow it"
            )
