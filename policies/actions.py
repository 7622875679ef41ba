"""Actions and proposals: what an agent wants to do, in a form that can be hashed, shown and judged."""

import json
import shlex
from collections.abc import Iterator
from enum import StrEnum
from hashlib import sha256
from typing import Any, NewType

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from karkas.policies.errors import KarkasError
from karkas.policies.provenance import ArgumentOrigin
from karkas.policies.zones import ZoneName

Digest = NewType("Digest", str)
"""A SHA-256 in lower-case hexadecimal."""


class Effect(StrEnum):
    """What a tool does to the world; a later member is graver."""

    READ = "read"
    REVERSIBLE = "reversible"
    IRREVERSIBLE = "irreversible"


_GRAVITY = tuple(Effect)


class ActionError(KarkasError):
    """The action's arguments cannot be written as canonical JSON (RFC 8785)."""


class Action(BaseModel):
    """One call of a tool. Two actions are the same exactly when their digests are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool: str = Field(min_length=1, max_length=200)
    args: dict[str, JsonValue]
    effect: Effect

    @property
    def digest(self) -> Digest:
        """SHA-256 over the RFC 8785 form of tool, arguments and effect."""
        return digest_of({"tool": self.tool, "args": self.args, "effect": self.effect.value})


class Evidence(BaseModel):
    """A span of a stored extracted text: `text[start:end] == quote`, in code points, half open."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    quote: str


class Variant(BaseModel):
    """One way to do what is proposed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Action
    why: str = ""
    origins: tuple[ArgumentOrigin, ...] = ()


EDITED_BY = ", edited by "
"""Between who proposed and who changed that, in the proposer's name of an edit."""


class Proposal(BaseModel):
    """One to n variants of an action, why, and the evidence. `proposer` names agent and engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    zones: tuple[ZoneName, ...]
    task: str
    why: str
    proposer: str
    variants: tuple[Variant, ...] = Field(min_length=1, max_length=16)
    evidence: tuple[Evidence, ...] = ()

    @property
    def digest(self) -> Digest:
        return digest_of(self.model_dump(mode="json"))

    @property
    def title(self) -> str:
        """What is proposed, in a few words, for a line of a list; nobody decides by it."""
        action = self.variants[0].action
        more = f" ({len(self.variants)} variants)" if len(self.variants) > 1 else ""
        return f"{action.tool} {_target(action.args)}".strip() + more

    @property
    def effect(self) -> Effect:
        """The gravest of all variants."""
        return max((variant.action.effect for variant in self.variants), key=_GRAVITY.index)


def _target(args: dict[str, JsonValue]) -> str:
    """What the action is about: the file that it touches, the command that it runs, or its first short word."""
    words = (value for value in args.values() if isinstance(value, str) and "\n" not in value)
    short = (value for value in words if 0 < len(value) <= _SHORT)
    target = args.get("path") or args.get("argv") or next(short, "")
    if isinstance(target, list):
        target = shlex.join(map(str, target))
    return str(target)


_SHORT = 60
"""Code points of an argument that a title repeats."""


def canonical(value: JsonValue) -> bytes:
    """The RFC 8785 form of `value`; read back it gives the same form again, or it is refused here."""
    try:
        if _plain(value):
            text = _ENCODER.encode(value)
            if text.isascii() or max(text) < _SURROGATES:
                return text.encode()
        if any(isinstance(one, float) and _UNSAFE <= abs(one) < _EXPONENT for one in _scalars(value)):
            raise ActionError("a number of 2^53 or more cannot be kept exactly as JSON; give it as text")
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise ActionError(f"cannot be written as canonical JSON (RFC 8785): {error}") from error


_UNSAFE, _EXPONENT = 2**53, 1e21
"""Between them RFC 8785 writes a float like an integer, and refuses that integer when it is read back."""

_SURROGATES = "\ud800"
"""Below it code points are in the order of their UTF-16, by which RFC 8785 sorts keys."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False)
"""Writes what `_plain` finds as RFC 8785 does, many times faster."""


_LEAVES = frozenset({str, bool, type(None)})


def _plain(value: Any) -> bool:
    """Whether it is made of texts, truth values, nulls and small integers alone. Asked of all that is signed or hashed,
    so it is written to take few calls.
    """
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        value = value.values()
    elif kind is not list:
        return -_UNSAFE < value < _UNSAFE if kind is int else kind in _LEAVES
    for one in value:  # noqa: SIM110
        if type(one) not in _LEAVES and not _plain(one):
            return False
    return True


def _scalars(value: JsonValue) -> Iterator[JsonValue]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _scalars(item)
    else:
        yield value


def digest_of(value: JsonValue) -> Digest:
    return Digest(sha256(canonical(value)).hexdigest())


def digest_of_bytes(data: bytes) -> Digest:
    return Digest(sha256(data).hexdigest())
