"""Faults of a model server: which may pass, and what its refusals mean.

Sources: vLLM's entrypoints (error bodies, 503 on a full queue, 500 of a dying engine), RFC 9110 (Retry-After).
"""

import re
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pydantic_core import from_json

from karkas.policies.errors import ContextTooLongError, EngineError, RequestRejectedError
from karkas.policies.rendering import visible_line

_LONGEST_WORDS = 300
_UNAUTHORISED = frozenset({401, 403})
_NOT_FOUND = frozenset({404, 405})
_TOO_LARGE = 413
_PASSING = frozenset({408, 425, 429})
_BUSY = frozenset({429, 503})
_SERVER_ERROR = 500
_LASTING_SERVER_ERRORS = frozenset({501, 505})
_TOO_LONG = re.compile(
    r"context[ _](length|size|window)|input tokens exceed|prompt is too long|longer than the (maximum )?model"
    r"|max_model_len",
    re.IGNORECASE,
)
"""How vLLM, OpenAI (`context_length_exceeded`), llama.cpp, SGLang and others say it."""


class PassingFaultError(EngineError):
    """The model server did not answer as it should; it may the next time."""

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after: float | None = None,
        reached: bool = True,
        busy: bool = False,
    ) -> None:
        """`retry_after` are the seconds that the server asked for; `reached` says whether it can have begun to work on
        the request, false where no connection came about or where it was too `busy` to take it.
        """
        super().__init__(message)
        self.retry_after = retry_after
        self.reached = reached and not busy
        self.busy = busy


def fault(
    status: int, body: bytes, *, address: str, model: str = "", retry_after: str | None = None
) -> EngineError:
    """What an answer with an error status means. `model` is the one asked, `retry_after` the header."""
    words, code = _said(body)
    told = f" ({words})" if words else ""
    if status in _PASSING or (status >= _SERVER_ERROR and status not in _LASTING_SERVER_ERRORS):
        return PassingFaultError(
            f"the model server at {address} answered {status}{told}",
            retry_after=_seconds(retry_after),
            busy=status in _BUSY,
        )
    if status == _TOO_LARGE or (status not in _UNAUTHORISED and _TOO_LONG.search(f"{code} {words}")):
        return ContextTooLongError(
            f"the model server at {address} holds less than this prompt{told}; ask with fewer or shorter documents"
        )
    if status in _UNAUTHORISED:
        return RequestRejectedError(
            f"the model server at {address} answered {status}{told}; put a key that it accepts into the variable that"
            " api_key_env names in karkas.toml"
        )
    if status in _NOT_FOUND:
        asked = f" asked for the model {model!r}" if model else ""
        return RequestRejectedError(
            f"the model server at {address}{asked} answered {status}{told}; base_url, model and adapter in karkas.toml"
            f" must be what it serves: {address}/v1/models lists it"
        )
    return RequestRejectedError(f"the model server at {address} rejected the request: {status}{told}")


def _said(body: bytes) -> tuple[str, object]:
    """The server's own words, of whatever shape, on one line and not too many; and the code that it gives, if any."""
    found: object = body.decode("utf-8", "replace")
    code: object = ""
    with suppress(ValueError):
        found = from_json(body)
    while isinstance(found, dict):
        code = found.get("code", code)
        found = next((found[key] for key in ("error", "message", "detail") if found.get(key)), "")
    text = visible_line(" ".join(str(found).split()))
    return (text if len(text) <= _LONGEST_WORDS else f"{text[:_LONGEST_WORDS]} ..."), code


def _seconds(retry_after: str | None) -> float | None:
    """`Retry-After` is a number of seconds or a date."""
    if retry_after is None:
        return None
    if re.fullmatch(r"\d{1,9}", retry_after.strip()):
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max((at - datetime.now(UTC)).total_seconds(), 0.0)
