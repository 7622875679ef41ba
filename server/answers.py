"""From text to a validated answer: what is cut, wrong or empty is asked again, a few times, and never guessed."""

import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from json import JSONDecoder, dumps
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from karkas.policies.errors import (
    ContextTooLongError,
    InvalidAnswerError,
    RefusedAnswerError,
    TruncatedAnswerError,
)
from karkas.policies.rendering import visible_line
from karkas.server.language.neutral import neutral
from karkas.server.protocol import AnswerT
from karkas.server.wire import ChatAnswer, ChatRequest, Choice, Message

_CORRECTIONS = 2
_MOST_FAULTS = 3
_LONGEST_FAULT = 300
_LONGEST_QUOTE = 2000
_MOST_STARTS = 32
_FENCE = re.compile(r"```(?:json)?[^\S\n]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
"""One line break at its head, no run of white space: a weak model pads with it, and a run would be tried from each."""
_REFUSALS = frozenset({"content_filter", "refusal"})

Send = Callable[[ChatRequest], Awaitable[ChatAnswer]]
Note = Callable[[str], Awaitable[None]]


async def ask_typed(
    send: Send, request: ChatRequest, answer: type[AnswerT], *, room: int, note: Note
) -> tuple[AnswerT, ...]:
    """At least one valid answer, at most `request.n`.

    An answer that does not end within `request.max_tokens` is asked again with twice as much, up to `room` tokens; one
    that is invalid or empty with what is wrong about it, twice. A type that says `partial: ClassVar[bool] = True` is a
    list of independent items: of one that does not end in all the room, the items that are whole are taken. Each of
    this is told to `note`.

    Raises `TruncatedAnswerError`, `InvalidAnswerError`, `RefusedAnswerError`, and what `send` raises.
    """
    asked, corrections, fault = request, 0, None
    while True:
        try:
            choices = (await send(asked)).choices
        except ContextTooLongError:
            if fault is None:
                raise
            raise _invalid(answer, fault) from None  # it is the correction that does not fit
        read = [_read(choice, answer) for choice in choices]
        valid = tuple(each for each in read if isinstance(each, answer))
        faults = [each for each in read if isinstance(each, _Fault)]
        if valid:
            if faults:
                await note(f"{len(faults)} of {len(read)} answers were left out: {faults[0].what}")
            return valid
        if any(fault.cut for fault in faults):
            more = min(2 * asked.max_tokens, room)
            if more > asked.max_tokens:
                await note(
                    f"an answer did not end within {asked.max_tokens} tokens; it is asked again with {more}"
                )
                asked = asked.model_copy(update={"max_tokens": more})
                continue
            return await _recovered(choices, answer, asked.max_tokens, note)
        if all(fault.refused for fault in faults):
            raise RefusedAnswerError(f"the model refused to answer: {faults[0].what}")
        fault = next(fault for fault in faults if not fault.refused)
        if corrections == _CORRECTIONS:
            raise _invalid(answer, fault)
        corrections += 1
        await note(f"an answer was of no use and is asked again: {fault.what}")
        asked = request.model_copy(
            update={"messages": _corrected(request.messages, fault), "max_tokens": asked.max_tokens}
        )


def _invalid(answer: type[AnswerT], fault: "_Fault") -> InvalidAnswerError:
    return InvalidAnswerError(
        f"the model's answer is no {answer.__name__}, also when it was asked again: {fault.what}; a larger model or a"
        " server with structured outputs would help"
    )


@dataclass(frozen=True)
class _Fault:
    what: str
    text: str
    cut: bool = False
    refused: bool = False


def _read(choice: Choice, answer: type[AnswerT]) -> AnswerT | _Fault:
    """The answer, or what is wrong."""
    if choice.refusal or choice.finish in _REFUSALS:
        return _Fault(_short(choice.refusal or "without a reason"), choice.text, refused=True)
    cut = choice.finish == "length"
    try:
        whole = answer.model_validate_json(choice.text)
    except ValidationError as error:
        fault = _Fault(_described(error, choice.text), choice.text, cut=cut)
    else:
        return _Fault(_SEVERAL, choice.text, cut=cut) if _says_twice(choice.text) else whole
    found: list[AnswerT] = []
    for value in _embedded(choice.text, cut=cut):
        try:
            found.append(answer.model_validate_json(dumps(value)))
        except ValidationError as error:
            fault = _Fault(_described(error, choice.text), choice.text, cut=cut)
    if any(one != found[0] for one in found):
        return _Fault(_SEVERAL, choice.text, cut=cut)
    return found[0] if found else fault


_SEVERAL = "it holds more than one answer, and they differ"
"""Which of them the model means nobody can know, least of all where one of them is a pass."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError(_SEVERAL)
    return found


_DECODER = JSONDecoder(strict=False, object_pairs_hook=_once)
"""Takes raw control characters in strings, which xgrammar lets through."""


def _says_twice(text: str) -> bool:
    """Whether a key stands twice in an object: which of them counts differs from reader to reader (RFC 8259, 4)."""
    try:
        _DECODER.decode(text)
    except (ValueError, RecursionError):
        return True
    return False


def _embedded(text: str, *, cut: bool) -> Iterator[Any]:
    """JSON objects in a fence or among other words, as servers without structured outputs give them. Of a text that was
    cut only the first can be whole: what opens within it are its parts.
    """
    for fenced in _FENCE.finditer(text):
        yield from _objects(fenced[1], most=1)
    yield from _objects(text, most=1 if cut else _MOST_STARTS)


def _objects(text: str, *, most: int) -> Iterator[Any]:
    at = 0
    for _ in range(most):
        at = text.find("{", at)
        if at < 0:
            return
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
        else:
            yield value


def _described(error: ValidationError, text: str) -> str:
    if not text.strip():
        return "it was empty"
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    said = [
        f"{'.'.join(str(part) for part in fault['loc']) or 'the answer'}: {fault['msg']}"
        for fault in faults[:_MOST_FAULTS]
    ]
    return _short("; ".join(said))


def _short(text: str) -> str:
    line = visible_line(" ".join(text.split()))
    return line if len(line) <= _LONGEST_FAULT else f"{line[:_LONGEST_FAULT]} ..."


def _corrected(messages: tuple[Message, ...], fault: _Fault) -> tuple[Message, ...]:
    """The prompt with what was wrong at its end. Roles take turns, since many chat templates insist on it.

    What a model says may be a source's words: a turn of its own, spelled as the chat template spells it.
    """
    what = neutral(fault.what)
    wrong = (
        f"This answer is of no use: {what}. Answer again, with JSON of the form asked for and nothing else."
    )
    if fault.text.strip():
        quote = Message(role="assistant", content=neutral(fault.text[:_LONGEST_QUOTE]))
        return (*messages, quote, Message(role="user", content=wrong))
    last = messages[-1]
    if last.role != "user":
        return (*messages, Message(role="user", content=wrong))
    return (*messages[:-1], last.model_copy(update={"content": f"{last.content}\n\n{wrong}"}))


async def _recovered(
    choices: tuple[Choice, ...], answer: type[AnswerT], tokens: int, note: Note
) -> tuple[AnswerT, ...]:
    """The whole items of answers that were cut."""
    if getattr(answer, "partial", False):
        wholes = tuple(
            whole for choice in choices if (whole := _without_last(choice.text, answer)) is not None
        )
        if wholes:
            await note(
                f"an answer did not end within {tokens} tokens; its whole items are taken, the last is dropped"
            )
            return wholes
    raise TruncatedAnswerError(
        f"the model's answer did not end within {tokens} tokens; ask for less at once, or serve a model with a larger"
        " context (max_model_len)"
    )


def _without_last(text: str, answer: type[AnswerT]) -> AnswerT | None:
    """Valid without the part that was being written when the text was cut; None if no item is left."""
    try:
        found = from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return None
    if not isinstance(found, dict) or not found:
        return None
    last = next(reversed(found))
    found[last] = found[last][:-1] if isinstance(found[last], list) else None
    if found[last] is None:
        del found[last]
    if not any(isinstance(value, list) and value for value in found.values()):
        return None
    try:
        return answer.model_validate_json(to_json(found))
    except ValidationError:
        return None
