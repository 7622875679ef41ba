"""YAML as karkas writes and reads it: pleasant to read, exact to the last invisible character, nothing executed.

Written: block style where it is long, flow style where it fits on a line. Characters that a person could not see
(control, bidi, zero-width, line separators) stand escaped inside double quotes. Read: the core schema of YAML
1.2.2, section 10.3, where `no`, `on` and dates are texts; anchors, aliases, tags and keys given twice are refused.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from karkas.policies.errors import KarkasError
from karkas.policies.rendering import OPEN, TAB, visible_line

Plain: TypeAlias = "str | int | float | bool | Sequence[Plain] | Mapping[str, Plain] | None"
Path: TypeAlias = "tuple[str | int, ...]"
ModelT = TypeVar("ModelT", bound=BaseModel)

WIDTH = 110
MAX_BYTES = 64 * 1024 * 1024
_MAX_DEPTH = 50
_MOST_FAULTS = 10
_LONG_KEY = 1000
"""YAML 1.2.2, 7.4.2: a key of more than 1024 characters must be marked as one."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN = re.compile(r"[^\W\d_](?:[\w./@+-]|(?<! ) (?! ))*(?<! )")
_RESERVED = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NAMED: dict[str, bool | None] = {
    **dict.fromkeys(("null", "Null", "NULL", "~", "")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_ODD = {".inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}
_SHORT_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
_MARKS = {OPEN, TAB}
"""Escaped on a screen because they mark escapes there; here they mean themselves."""


def written(value: Mapping[str, Plain]) -> str:
    """`value` as YAML; reading it gives exactly the same value."""
    return "\n".join(_mapping(value, 0)) + "\n"


def inline(value: Plain) -> str:
    """`value` as YAML in flow style, on one line."""
    match value:
        case str():
            plain = _PLAIN.fullmatch(value) and _seen(value) and value.lower() not in _RESERVED
            return value if plain else quoted(value)
        case Mapping():
            return "{" + ", ".join(f"{_key(key)}: {inline(item)}" for key, item in value.items()) + "}"
        case Sequence():
            return "[" + ", ".join(inline(item) for item in value) + "]"
        case float():
            return _float(value)
        case _:
            return "null" if value is None else str(value).lower()


def quoted(text: str) -> str:
    """`text` in double quotes, everything that could not be seen escaped."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def read(data: str | bytes, model: type[ModelT], error: type[KarkasError], *, what: str) -> ModelT:
    """The `model` that is written in `data`, or `error` with the line and what is wrong there."""
    if len(data) > MAX_BYTES:
        raise error(f"the {what} is larger than {MAX_BYTES // 1024 // 1024} MiB and is not read")
    try:
        text = data.decode() if isinstance(data, bytes) else data
        found = _Reading(text).document()
    except UnicodeError as fault:
        raise error(f"the {what} is not UTF-8 text: {fault}") from fault
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        where = f"{what}, line {mark.line + 1}" if mark is not None else f"the {what}"
        raise error(f"{where}: {fault.problem or fault.context}") from fault
    except yaml.YAMLError as fault:
        raise error(f"the {what} is not YAML: {fault}") from fault
    return _validated(found, model, error, what)


def _seen(text: str) -> bool:
    """Whether a person sees all of `text` as it is; a letter may carry its accents."""
    return visible_line(text) == text


def _escaped(character: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    if _seen(character) or character in _MARKS:
        return character
    code = ord(character)
    return f"\\x{code:02X}" if code <= 0xFF else f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"  # noqa: PLR2004


def _float(value: float) -> str:
    text = repr(value)
    if text.lstrip("-") in {"inf", "nan"}:
        return text.replace("inf", ".inf").replace("nan", ".nan")
    # YAML 1.1 readers take an exponent without a point for a text.
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


def _fits(value: Plain, indent: int) -> bool:
    if isinstance(value, str):
        return "\n" not in value and len(value) + indent <= WIDTH
    return indent + len(inline(value)) <= WIDTH


def _mapping(value: Mapping[str, Plain], indent: int) -> Iterator[str]:
    for key, item in value.items():
        name = _key(key)
        if not name.startswith("? "):
            yield from _entry(f"{' ' * indent}{name}:", item, indent)
        else:
            yield f"{' ' * indent}{name}"
            yield from _entry(f"{' ' * indent}:", item, indent)


def _key(key: str) -> str:
    text = inline(key)
    return text if len(text) < _LONG_KEY else f"? {text}"


def _entry(head: str, item: Plain, indent: int) -> Iterator[str]:
    if isinstance(item, str):
        yield from _text(head, item, indent)
    elif isinstance(item, Mapping) and item and not _fits(item, len(head) + 1):
        yield head
        yield from _mapping(item, indent + 2)
    elif isinstance(item, Sequence) and item and not _flat(item, len(head) + 1):
        yield head
        yield from _sequence(item, indent)
    else:
        yield f"{head} {inline(item)}"


def _flat(items: Sequence[Plain], indent: int) -> bool:
    return not any(isinstance(item, Mapping) for item in items) and _fits(items, indent)


def _sequence(items: Sequence[Plain], indent: int) -> Iterator[str]:
    flow = all(_fits(item, indent + 2) for item in items)
    for item in items:
        if isinstance(item, Mapping) and item and not flow:
            first, *rest = _mapping(item, indent + 2)
            yield f"{' ' * indent}- {first[indent + 2 :]}"
            yield from rest
        elif isinstance(item, str):
            yield from _text(f"{' ' * indent}-", item, indent)
        else:
            yield f"{' ' * indent}- {inline(item)}"


def _text(head: str, text: str, indent: int) -> Iterator[str]:
    pad = " " * (indent + 2)
    body, chomp = (text[:-1], "") if text.endswith("\n") else (text, "-")
    lines = body.split("\n")
    seen = all(_seen(line) and not line.endswith(" ") for line in lines)
    if not seen or not lines[0] or not lines[-1] or lines[0].startswith(" ") or _fits(text, len(head) + 3):
        yield f"{head} {inline(text)}"
    elif len(lines) > 1:
        yield f"{head} |{chomp}"
        yield from (pad + line if line else "" for line in lines)
    else:
        yield f"{head} >{chomp}"
        yield from (pad + line for line in _folded(body, WIDTH - len(pad)))


def _folded(line: str, width: int) -> Iterator[str]:
    """Cuts at single spaces only: a reader joins the lines with one space each."""
    start = at = 0
    for space in re.finditer(r"(?<! ) (?! )", line):
        if space.start() - start > width and at > start:
            yield line[start:at]
            start = at + 1
        at = space.start()
    if len(line) - start > width and at > start:
        yield line[start:at]
        start = at + 1
    yield line[start:]


class _Reading:
    """Builds the value from the parser's events: its own composer takes aliases, and recurses without bound."""

    def __init__(self, text: str) -> None:
        self._events = yaml.parse(text, Loader=_LOADER)
        self.lines: dict[Path, int] = {}
        self.value: Any = None

    def document(self) -> "_Reading":
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.value = self._node(next(self._events), ())
                break
        rest = next((one for one in self._events if isinstance(one, yaml.DocumentStartEvent)), None)
        if rest is not None:
            raise _refused(rest, "a second document begins here; one file holds one")
        return self

    def line(self, path: Path) -> int:
        """The line of `path`, or of the nearest part above it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def _node(self, event: Any, path: Path) -> Any:
        self.lines.setdefault(path, _line(event))
        if isinstance(event, yaml.AliasEvent):
            raise _refused(event, f"the alias *{event.anchor} stands for another part; write that out")
        if event.tag is not None:
            raise _refused(event, f"the tag {event.tag} is not read; remove it")
        if len(path) > _MAX_DEPTH:
            raise _refused(event, f"nested deeper than {_MAX_DEPTH} levels")
        if isinstance(event, yaml.ScalarEvent):
            return event.value if event.style else _scalar(event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            return [self._node(item, (*path, index)) for index, item in enumerate(self._until_end())]
        return self._mapping(path)

    def _mapping(self, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for event in self._until_end():
            if not isinstance(event, yaml.ScalarEvent):
                raise _refused(event, "a key must be a text")
            if event.value in found:
                raise _refused(event, f"the key {event.value!r} stands there twice")
            below = (*path, event.value)
            self.lines[below] = _line(event)
            found[event.value] = self._node(next(self._events), below)
        return found

    def _until_end(self) -> Iterator[Any]:
        for event in self._events:
            if isinstance(event, yaml.CollectionEndEvent):
                return
            yield event


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


def _refused(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _scalar(text: str) -> str | int | float | bool | None:
    if text in _NAMED:
        return _NAMED[text]
    if _INT.fullmatch(text) and len(text) < 20:  # noqa: PLR2004
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else _ODD.get(text, text)


def _validated(found: _Reading, model: type[ModelT], error: type[KarkasError], what: str) -> ModelT:
    if found.value is None:
        raise error(f"the {what} is empty")
    try:
        return model.model_validate(found.value)
    except ValidationError as fault:
        said = []
        for one in fault.errors(include_url=False)[:_MOST_FAULTS]:
            path = ".".join(str(step + 1) if isinstance(step, int) else str(step) for step in one["loc"])
            said.append(f"{what}, line {found.line(one['loc'])}: {path or 'the whole'}: {one['msg']}")
        more = fault.error_count() - len(said)
        raise error("\n".join([*said, *([f"and {more} more"] if more else [])])) from fault
