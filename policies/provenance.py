"""Provenance: where each argument of an action came from, found by looking, never by asking a model."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import cast

from pydantic import BaseModel, ConfigDict, JsonValue


class Origin(StrEnum):
    """Where a value came from; a later member is trusted less."""

    TASK = "task"
    FRAME = "frame"
    TOOL_DEFAULT = "tool-default"
    """The tool's own code gave it, and no agent chose it."""
    TRUSTED_SOURCE = "trusted-source"
    MODEL = "model"
    UNTRUSTED_SOURCE = "untrusted-source"
    UNKNOWN = "unknown"

    @property
    def distrust(self) -> int:
        return _ORIGINS.index(self)


_ORIGINS = tuple(Origin)
GROUNDED = frozenset({Origin.TASK, Origin.FRAME, Origin.TOOL_DEFAULT, Origin.TRUSTED_SOURCE})
"""Only values of these origins may stay in autonomy."""


class Material(BaseModel):
    """A text that a value may have come from. `label` names it to the person (a source id, "the task")."""

    model_config = ConfigDict(frozen=True)

    origin: Origin
    label: str
    text: str


class Place(BaseModel):
    """Where a value, or a piece of it, stands in a material: half open, in code points, with some text around it.

    `text` is what stands there, or the beginning of it where it is long.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    start: int
    end: int
    before: str
    text: str
    after: str


class ArgumentOrigin(BaseModel):
    """The origin of one leaf of the arguments. `pointer` is its JSON Pointer (RFC 6901)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pointer: str
    origin: Origin
    label: str = ""
    start: int | None = None
    """Code point at which the value stands in the material, where it is one span of it."""
    place: Place | None = None
    """The same with its surroundings, for the person; of an untrusted value, the piece of it that was found first."""

    @property
    def grounded(self) -> bool:
        return self.origin in GROUNDED


def trace(
    args: Mapping[str, JsonValue], materials: Iterable[Material], *, by_model: bool
) -> tuple[ArgumentOrigin, ...]:
    """Traces every value of `args`, and every key below the parameters, to a material that holds it.

    A value is grounded only where it stands letter by letter, whole and unjoined in one trusted material: `etc`
    is not grounded by `/etc/passwd`, nor lines gathered from several places. What is too short to be more than
    chance (`a`, `1`, `true`) must stand alone on a line, in quotes, or close after its parameter's name.

    Everything else is untrusted where an untrusted material holds any line or address of it (case, white space and
    invisible characters do not count); otherwise it is the model's own where `by_model`, else unknown.
    """
    ordered = sorted(materials, key=lambda material: material.origin.distrust)
    trusted = [material for material in ordered if material.origin in GROUNDED]
    others = [(one, folded(one.text)) for one in ordered if one.origin is Origin.UNTRUSTED_SOURCE]
    nowhere = Origin.MODEL if by_model else Origin.UNKNOWN
    return tuple(_trace_leaf(pointer, value, trusted, others, nowhere) for pointer, value in leaves(args))


def leaves(value: JsonValue | Mapping[str, JsonValue], pointer: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Every leaf below `value` with its JSON Pointer; an empty container is a leaf.

    Keys below the top (whose keys are the tool's own parameters) are leaves too, `#` after the pointer.
    """
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            below = f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"
            if pointer:
                yield f"{below}#", key
            yield from leaves(item, below)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from leaves(item, f"{pointer}/{index}")
    else:
        yield pointer, cast("JsonValue", value)


def some_of(names: Sequence[str], *, between: str = ", ") -> str:
    """The first few of `names`, and how many more there are."""
    shown = between.join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def folded(text: str) -> str:
    """Without case, compatibility forms, white space and invisible characters."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(filter(str.isprintable, "".join(plain.split())))


_JOINED_BEFORE = re.compile(r"(?:[\w./\\@~$%+-]|\d,)\Z")
_JOINED_AFTER = re.compile(r"[\w/\\@~$%+-]|[.,:]\w")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
# Possessive, and begun only at the beginning of a run: a long word that a model wrote takes linear time.
_ADDRESS = re.compile(r"(?<![\w~%+-])[\w~%+-]++(?:[./:@\\]++[\w~%+-]++)+")
_DOTTED = re.compile(r"(?<![\w-])[\w-]++(?:\.[\w-]++)+")
_NEAR = 20
"""Code points between a parameter's name and a tiny value."""
_SHOWN = 5
_TELLING = 4
"""Shorter pieces stand in any text by chance."""
_AROUND = 60
"""Code points of a material that are kept on each side of a place."""
_KEPT = 240
"""Code points of what stands at a place that are kept; the value itself stands whole in the action."""


def _trace_leaf(
    pointer: str,
    value: JsonValue,
    trusted: list[Material],
    others: list[tuple[Material, str]],
    nowhere: Origin,
) -> ArgumentOrigin:
    name = next((part for part in reversed(pointer.strip("#").split("/")) if not part.isdigit()), "")
    for material in trusted:
        found = _grounding(value, name, material.text)
        if found is not None:
            return ArgumentOrigin(
                pointer=pointer,
                origin=material.origin,
                label=material.label,
                start=found[0],
                place=_place(material, *found),
            )
    holding = _untrusted(_as_text(value), others)
    if holding:
        return ArgumentOrigin(
            pointer=pointer,
            origin=Origin.UNTRUSTED_SOURCE,
            label=some_of([material.label for material in holding]),
            place=_first_place(_as_text(value), holding),
        )
    return ArgumentOrigin(pointer=pointer, origin=nowhere)


def _place(material: Material, start: int, end: int) -> Place:
    text = material.text
    return Place(
        label=material.label,
        start=start,
        end=end,
        before=text[max(start - _AROUND, 0) : start],
        text=text[start : min(end, start + _KEPT)],
        after=text[end : end + _AROUND],
    )


def _first_place(whole: str, holding: list[Material]) -> Place | None:
    """Where the value, or else the first telling piece of it, stands letter by letter, if it does so anywhere."""
    pieces = (piece for piece in _pieces(whole) if len(folded(piece)) >= _TELLING or piece == whole.strip())
    for piece in pieces:
        for material in holding:
            at = material.text.find(piece)
            if at >= 0:
                return _place(material, at, at + len(piece))
    return None


def _pieces(whole: str) -> Iterator[str]:
    """What of a value is looked for: all of it, each of its lines, and each address in it."""
    yield whole
    yield from (line.strip() for line in whole.splitlines())
    yield from _ADDRESS.findall(whole)
    yield from _DOTTED.findall(whole)


def _grounding(value: JsonValue, name: str, text: str) -> tuple[int, int] | None:
    whole = _as_text(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    for start, end in _numbers(str(value), text) if is_number else _places(whole, text):
        tiny = isinstance(value, bool) or len(whole) < (2 if is_number else 3)
        if not tiny or _on_purpose(name, text, start, end):
            return start, end
    return None


def _places(whole: str, text: str) -> Iterator[tuple[int, int]]:
    at = text.find(whole) if whole.strip() else -1
    while at >= 0:
        if _unjoined(text, at, at + len(whole)):
            yield at, at + len(whole)
        at = text.find(whole, at + 1)


def _numbers(number: str, text: str) -> Iterator[tuple[int, int]]:
    for match in _NUMBER.finditer(text):
        if _unjoined(text, *match.span()) and _same(match[0], number):
            yield match.span()


def _same(one: str, other: str) -> bool:
    try:
        return Decimal(one) == Decimal(other)
    except InvalidOperation:  # an exponent beyond all bounds
        return False


def _unjoined(text: str, start: int, end: int) -> bool:
    return not _JOINED_BEFORE.search(text[max(start - 2, 0) : start]) and not _JOINED_AFTER.match(
        text[end : end + 2]
    )


def _on_purpose(name: str, text: str, start: int, end: int) -> bool:
    """Whether a tiny value stands alone on its line, in quotes, or close after its parameter's name."""
    line = text[text.rfind("\n", 0, start) + 1 :].split("\n", 1)[0]
    if line.strip() == text[start:end]:
        return True
    if text[start - 1 : start] in {'"', "'", "`", "«"} and text[end : end + 1] in {'"', "'", "`", "»"}:
        return True
    before = re.split(r"[;\n]|[.,]\s", text[max(start - _NEAR - len(name), 0) : start])[-1]
    return bool(name) and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", before, re.IGNORECASE) is not None


def _untrusted(whole: str, others: list[tuple[Material, str]]) -> list[Material]:
    telling = {piece for one in _pieces(whole) if len(piece := folded(one)) >= _TELLING}
    if not telling and folded(whole):
        lone = re.compile(rf"(?<!\w){re.escape(whole.strip())}(?!\w)", re.IGNORECASE)
        return [material for material, _ in others if lone.search(material.text)]
    return [material for material, body in others if any(piece in body for piece in telling)]


def _as_text(value: JsonValue) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None or value in ({}, []) else str(value)
