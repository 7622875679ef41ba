"""The check that a tool's arguments are bounded: every text, list, mapping and number has an end."""

from collections.abc import Iterator
from typing import Any

from karkas.agents.tools import Tool
from karkas.testing.suite import PASSED, Found, Setup, failed


def bounded(tool: Tool, _: Setup) -> Found:
    """A model that writes arguments must come to an end, and a person must be able to read them."""
    open_ends = list(dict.fromkeys(_open_ends(tool.args.model_json_schema(), tool.name)))
    if open_ends:
        return failed(
            f"{'; '.join(open_ends)}. Bound each in its type, for example Annotated[str, Field(max_length=200)]"
        )
    return PASSED


def _open_ends(schema: Any, where: str) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    if (missing := _missing(schema)) is not None:
        yield f"{where} is {missing}"
    for inner_name, inner in _inside(schema, where):
        yield from _open_ends(inner, inner_name)


def _missing(schema: dict[str, Any]) -> str | None:
    closed = "enum" in schema or "const" in schema
    match schema.get("type"):
        case "string" if not closed and "maxLength" not in schema:
            return "a text without `max_length`"
        case "array" if "maxItems" not in schema:
            return "a list without `max_length`"
        case "integer" | "number" if not closed:
            below = {"minimum", "exclusiveMinimum"} & schema.keys()
            above = {"maximum", "exclusiveMaximum"} & schema.keys()
            return None if below and above else "a number without `ge` and `le`"
        case "object" if schema.get("additionalProperties") and "maxProperties" not in schema:
            return "a mapping without `max_length`"
    return None


def _inside(schema: dict[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    for key in ("properties", "$defs"):
        yield from schema.get(key, {}).items()
    for key in ("items", "additionalProperties"):
        yield where, schema.get(key)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        yield from ((where, inner) for inner in schema.get(key, ()))
