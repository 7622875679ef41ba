"""Provenance: where each argument of an action came from, found by looking, never by asking a model."""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, JsonValue


class Origin(StrEnum):
    """Where a value came from; a later member is trusted less."""

    TASK = "task"
    FRAME = "frame"
    TRUSTED_SOURCE = "trusted-source"
    MODEL = "model"
    UNTRUSTED_SOURCE = "untrusted-source"
    UNKNOWN = "unknown"

    @property
    def distrust(self) -> int:
        return list(type(self)).index(self)


GROUNDED = frozenset({Origin.TASK, Origin.FRAME, Origin.TRUSTED_SOURCE})
"""Only values of these origins may stay in autonomy."""


class Material(BaseModel):
    """A text that a value may have come from. `label` names it to the person (a source id, "the task")."""

    model_config = ConfigDict(frozen=True)

    origin: Origin
    label: str
    text: str


class ArgumentOrigin(BaseModel):
    """The origin of one leaf of the arguments. `pointer` is its JSON Pointer (RFC 6901)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pointer: str
    origin: Origin
    label: str = ""
    start: int | None = None
    """Code point at which the value stands in the material, where it is one span of it."""

    @property
    def grounded(self) -> bool:
        return self.origin in GROUNDED


def trace(
    args: Mapping[str, JsonValue], materials: Iterable[Material], *, by_model: bool
) -> tuple[ArgumentOrigin, ...]:
    """Traces every leaf of `args` to the most trusted material that holds it.

    A value that no material holds is the model's own where `by_model`, else unknown. A text of several lines is
    as trustworthy as its least trustworthy line.
    """
    ordered = sorted(materials, key=lambda material: material.origin.distrust)
    texts = [(material, folded(material.text)) for material in ordered]
    nowhere = Origin.MODEL if by_model else Origin.UNKNOWN
    return tuple(_trace_leaf(pointer, value, texts, nowhere) for pointer, value in leaves(args))


def leaves(value: JsonValue | Mapping[str, JsonValue], pointer: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Every leaf and every key below `value`, with its JSON Pointer; an empty container is a leaf."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from leaves(item, f"{pointer}/{index}")
    else:
        yield pointer, value  # type: ignore[misc]


def folded(text: str) -> str:
    return re.sub(r"\s+", " ", text).casefold().strip()


def _trace_leaf(
    pointer: str, value: JsonValue, texts: list[tuple[Material, str]], nowhere: Origin
) -> ArgumentOrigin:
    whole = _as_text(value)
    found = _find(whole, texts)
    if found is not None:
        start = found.text.find(whole) if whole else -1
        return ArgumentOrigin(
            pointer=pointer, origin=found.origin, label=found.label, start=start if start >= 0 else None
        )
    lines = [line for line in whole.splitlines() if line.strip()]
    if len(lines) > 1:
        parts = [_find(line, texts) for line in lines]
        worst = max(((part.origin if part else nowhere) for part in parts), key=lambda origin: origin.distrust)
        labels = sorted({part.label for part in parts if part and part.origin is worst})
        return ArgumentOrigin(pointer=pointer, origin=worst, label=", ".join(labels))
    return ArgumentOrigin(pointer=pointer, origin=nowhere)


def _as_text(value: JsonValue) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None or value in ({}, []) else str(value)


def _find(text: str, texts: list[tuple[Material, str]]) -> Material | None:
    """The most trusted material in which `text` stands as whole words; white space and case do not count."""
    wanted = folded(text)
    if not wanted:
        return None
    pattern = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)")
    return next((material for material, body in texts if pattern.search(body)), None)
