"""Faults of `karkas.toml` in a user's words: the line, the key, what is wrong, what to do."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from karkas.policies.zones import Zone
from karkas.server.protocol import Role

ZONE_NAME = "lower-case letters, digits, `-` and `_`, at most 64, beginning with a letter or digit"
EXPORT = (
    "the key itself never stands here: export it, and name its variable, for example"
    ' api_key_env = "KARKAS_API_KEY"'
)


def told(error: ValidationError, text: str, *, settings: type[BaseModel]) -> list[str]:
    """Each fault of pydantic's as `, line N: key: what is wrong; what to do`; `settings` is what `text` should be."""
    return [_fault(fault, text, settings) for fault in _one_a_key(error.errors(include_url=False))]


def looks_secret(key: str) -> bool:
    return re.search(r"(?i)(^|_)(api_?key|key|token|secret|password|passwd|bearer|auth)$", key) is not None


def _fault(fault: Any, text: str, settings: type[BaseModel]) -> str:
    where = tuple(str(part) for part in fault["loc"])
    if where[:1] == ("zones",) and where[2:] == ("name",):
        return f"{place(text, where[:2])}: zones.{where[1]} is no zone name: {ZONE_NAME}"
    line, key = place(text, where), ".".join(where)
    if where[-1:] == ("[key]",):
        return f"{line}: {'.'.join(where[:-1])} is unknown; {near(where[-2], [role.value for role in Role])}"
    if fault["type"] == "extra_forbidden":
        secret = where[0] in {"model", "models"} and looks_secret(where[-1])
        return f"{line}: {key} is unknown; {EXPORT if secret else near(where[-1], _known_keys(settings, where[:-1]))}"
    if fault["type"] == "string_pattern_mismatch":
        return f'{line}: {key} = {fault["input"]!r} should read "FILE.py:NAME", such as "tools.py:deploy"'
    if fault["type"] == "missing":
        return f"{line}: {key} is missing"
    return f"{line}: {key}{_said_of(fault)}"


def _said_of(fault: Any) -> str:
    close = get_close_matches(str(fault["input"]), re.findall(r"'([^']+)'", fault["msg"]), n=1, cutoff=0.5)
    mend = f"; did you mean {close[0]!r}?" if close else ""
    hidden = isinstance(fault["input"], dict) or "password" in fault["msg"]
    given = "" if hidden else f" = {json.dumps(fault['input'], ensure_ascii=False)}"
    message = (
        fault["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("an object", "a table")
    )
    return f"{given} {message}{mend}"


def near(given: str, known: Sequence[str]) -> str:
    """What may have been meant, or else all that there is."""
    close = get_close_matches(given, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"


def _one_a_key(faults: Iterable[Any]) -> Iterator[Any]:
    """The faults, where a key may be of several types the one of the type that was meant."""
    found: dict[tuple[Any, ...], Any] = {}
    for fault in faults:
        # Pydantic puts the type that it tried behind the key: `function-after[...]`, `tuple[...]`.
        types = [at for at, part in enumerate(fault["loc"]) if re.search(r"\w\[", str(part))]
        where = fault["loc"][: types[0]] if types else fault["loc"]
        if where not in found or fault["type"] == "value_error":
            found[where] = {**fault, "loc": where}
    yield from found.values()


def _known_keys(settings: type[BaseModel], where: tuple[str, ...]) -> list[str]:
    """The keys that `karkas.toml` may have in the table at `where`."""
    found: Any = settings
    for part in where:
        found = _table(found.model_fields[part].annotation if _is_model(found) else get_args(found)[1])
    return [name for name in found.model_fields if not (found is Zone and name == "name")]


def _table(annotation: Any) -> Any:
    """The table among the types that a key may have."""
    options = [annotation, *(() if get_origin(annotation) is dict else get_args(annotation))]
    return next((one for one in options if _is_model(one) or get_origin(one) is dict), annotation)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def place(text: str, where: tuple[str, ...]) -> str:
    """`, line N` of a key, as far as it is written plainly: `key =` under its `[table]`, or that table."""
    table: tuple[str, ...] = ()
    found, depth = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+([^\]]+)\]+", line):
            path = table = _keys(header[1])
        elif assignment := re.match(r"\s*([^#=\[\]{}]+)=", line):
            path = (*table, *_keys(assignment[1]))
        else:
            continue
        shared = min(len(path), len(where))
        if path[:shared] == where[:shared] and shared > depth:
            found, depth = f", line {number}", shared
    return found


def _keys(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.\s]+", dotted))
