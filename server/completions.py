"""What a server answers to a chat request, read with suspicion: whole, or as a stream of events."""

import re
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from karkas.server.counting import estimated
from karkas.server.faults import PassingFaultError, fault
from karkas.server.protocol import Usage
from karkas.server.wire import ChatAnswer, ChatRequest, Choice

_LARGEST_TEMPLATE = 10_000
"""Tokens that a chat template may add."""
_HIDDEN_REASONING = 32_768
"""Tokens of reasoning that a server may count for each answer beyond `max_tokens`."""
_THINKING = re.compile(r"\s*<think>(.*?)(?:</think>\s*|\Z)", re.DOTALL)


class _Said(BaseModel):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Said
    finish_reason: str | None = None


class _Completion(BaseModel):
    model: str | None = None
    choices: list[_Choice] = Field(min_length=1)
    usage: Any = None


class _Piece(BaseModel):
    index: int = Field(default=0, ge=0)
    delta: _Said | None = None
    finish_reason: str | None = None


class _Chunk(BaseModel):
    model: str | None = None
    choices: list[_Piece] = []
    usage: Any = None
    error: Any = None


def completion(body: bytes, request: ChatRequest, *, address: str, wall_s: float) -> ChatAnswer:
    """Raises the fault that the server tells of in place of an answer, or `PassingFaultError` for another shape."""
    try:
        found = _Completion.model_validate_json(body)
    except ValidationError:
        raise _no_completion(body, request, address) from None
    choices = tuple(_choice(each.message, each.finish_reason) for each in found.choices[: request.n])
    return ChatAnswer(choices, _usage(found.usage, request, choices, wall_s), found.model or request.model)


def _no_completion(body: bytes, request: ChatRequest, address: str) -> Exception:
    try:
        told = from_json(body)
    except ValueError:
        told = None
    if isinstance(told, dict) and told.get("error"):
        return fault(_status(told["error"]), body, address=address, model=request.model)
    return PassingFaultError(
        f"the model server at {address} answered with something that is no chat completion"
    )


def _status(error: object) -> int:
    """The status of an error that came under a 200; what names none may pass."""
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code <= 599 else 500  # noqa: PLR2004


class Streamed:
    """An answer that grows by server-sent events."""

    def __init__(self, request: ChatRequest, *, address: str, told: Callable[[int], None]) -> None:
        self._request = request
        self._address = address
        self._told = told
        self._said = [_Parts() for _ in range(request.n)]
        self._tail: list[bytes] = []
        self._usage: Any = None
        self._model = ""
        self._tokens = 0
        self._begun = False
        self.done = False

    def feed(self, data: bytes) -> None:
        """Takes bytes as they come. Raises what the server tells of in place of an answer."""
        if b"\n" not in data:
            self._tail.append(data)
            return
        *lines, rest = b"".join((*self._tail, data)).split(b"\n")
        self._tail = [rest]
        for line in lines:
            if line.startswith(b"data:") and not self.done:
                self._event(line[5:].strip())

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.done = True
            return
        try:
            chunk = _Chunk.model_validate_json(data)
        except ValidationError:
            raise self._broken("sent something that is no part of a chat completion") from None
        if chunk.error:
            raise fault(_status(chunk.error), data, address=self._address, model=self._request.model)
        self._model = chunk.model or self._model
        self._usage = chunk.usage or self._usage
        for piece in chunk.choices:
            self._begun = True
            if piece.index < len(self._said):
                self._tokens += self._said[piece.index].add(piece)
        self._told(self._tokens)

    def answer(self, *, wall_s: float) -> ChatAnswer:
        """Raises `PassingFaultError` where the stream ended before the answer did."""
        if not self.done or not self._begun:
            raise self._broken("ended its stream in the middle of an answer")
        choices = tuple(parts.choice() for parts in self._said)
        return ChatAnswer(
            choices, _usage(self._usage, self._request, choices, wall_s), self._model or self._request.model
        )

    def _broken(self, how: str) -> PassingFaultError:
        return PassingFaultError(f"the model server at {self._address} {how}")


class _Parts:
    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.finish = ""

    def add(self, piece: _Piece) -> int:
        """Returns how many tokens it brought: servers send them one by one, or a few at once under load."""
        self.finish = piece.finish_reason or self.finish
        said = piece.delta or _Said()
        reasoning = said.reasoning or said.reasoning_content or ""
        self.content.append(said.content or "")
        self.reasoning.append(reasoning)
        self.refusal.append(said.refusal or "")
        return 1 if said.content or reasoning or said.refusal else 0

    def choice(self) -> Choice:
        said = _Said(
            content="".join(self.content), reasoning="".join(self.reasoning), refusal="".join(self.refusal)
        )
        return _choice(said, self.finish)


def _choice(said: _Said, finish: str | None) -> Choice:
    text, reasoning = said.content or "", said.reasoning or said.reasoning_content or ""
    if (thought := _THINKING.match(text)) is not None:
        text, reasoning = text[thought.end() :], "\n".join(filter(None, (reasoning, thought[1].strip())))
    return Choice(text, finish or "", reasoning, said.refusal or "")


def _usage(told: object, request: ChatRequest, choices: tuple[Choice, ...], wall_s: float) -> Usage:
    """What the server says that it cost; where it says nothing possible, an upper estimate from the text's length."""
    counts: dict[Any, Any] = told if isinstance(told, dict) else {}
    characters = sum(len(message.content) for message in request.messages)
    prompt = _count(counts.get("prompt_tokens"), at_most=4 * characters + _LARGEST_TEMPLATE)
    if not prompt:
        prompt = sum(estimated(message.content) for message in request.messages)
    answered = any(choice.text or choice.reasoning or choice.refusal for choice in choices)
    written = _count(
        counts.get("completion_tokens"), at_most=request.n * (request.max_tokens + _HIDDEN_REASONING)
    )
    if written is None or (answered and not written):
        written = sum(
            estimated(choice.text + choice.reasoning + choice.refusal) for choice in choices if answered
        )
    details = counts.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens"), at_most=prompt) if isinstance(details, dict) else None
    return Usage(prompt_tokens=prompt, completion_tokens=written, cached_tokens=cached or 0, wall_s=wall_s)


def _count(told: object, *, at_most: int) -> int | None:
    if isinstance(told, int) and not isinstance(told, bool) and 0 <= told <= at_most:
        return told
    return None
