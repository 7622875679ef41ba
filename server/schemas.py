r"""JSON schemas that model servers turn into grammars: bounded everywhere, of keywords that guidance and xgrammar take.

An array, a string or a number without a bound lets a weak model write to the end of its room. Both grammars keep the
order of properties; a bounded string of xgrammar cannot hold `\"` or a line break (mlc-ai/xgrammar#800).
Tried with llguidance 1.7 and xgrammar 0.2.8.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from math import ceil, floor
from typing import Any

from pydantic import BaseModel

from karkas.policies.errors import KarkasError

MOST_CHARACTERS = 20_000
MOST_ITEMS = 50
MOST_KEYS = 32
LARGEST_INTEGER = 2**53 - 1
LARGEST_NUMBER = 1e15
"""What `bounded` allows where a foreign schema names no bound."""

_BOUNDED = "bounded"
"""As `$comment`: made by `bounded`, taken as it is within another schema, where all would become required."""
_SHORT_FORMATS = frozenset({"date", "uuid", "ipv4"})
"""Bounds of their own, alike in both grammars. A date may still be one that no calendar has, such as 0000-03-01."""
_ANNOTATIONS = frozenset({"title", "description", "default", "examples", "deprecated", "$comment", "$defs"})


class SchemaError(KarkasError):
    """The type cannot be asked of a model; give each string, array and number a bound."""


@lru_cache(maxsize=256)
def schema_of(answer: type[BaseModel]) -> dict[str, Any]:
    """The schema of an answer. All properties are required, so that the model decides on each: a default means
    something only as null or as an empty value.

    Raises `SchemaError`, which names the field, for a string or array without `max_length`, a number without `ge` and
    `le`, keys that are free, and recursion.
    """
    schema = answer.model_json_schema()
    return _Grammar(schema.get("$defs", {}), of=answer.__name__, foreign=False).read(schema, ())


@lru_cache(maxsize=256)
def response_format(answer: type[BaseModel]) -> dict[str, Any]:
    """What `ChatRequest.response_format` takes, for answers of this type."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", answer.__name__)[:64]
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema_of(answer)}}


def bounded(schema: Mapping[str, Any], *, of: str = "parameters") -> dict[str, Any]:
    """A foreign schema, such as that of a tool's parameters, made acceptable. Optional properties stay optional.

    Bounds are added where there are none, and what a grammar cannot hold is dropped: the tool itself checks its
    arguments again. Keys that are free are bounded in number, not in length. It may stand in another type as
    `Annotated[..., WithJsonSchema(bounded(...))]`. Raises `SchemaError`, which names the parameter, for recursion and
    for what no value can fulfil.
    """
    grammar = _Grammar(schema.get("$defs", schema.get("definitions", {})), of=of, foreign=True)
    return {"$comment": _BOUNDED, **grammar.read(schema, ())}


class _Grammar:
    def __init__(self, defs: Mapping[str, Any], *, of: str, foreign: bool) -> None:
        self._defs = defs
        self._of = of
        self._foreign = foreign
        self._open: list[str] = []

    def read(self, node: Any, at: tuple[str, ...]) -> dict[str, Any]:  # noqa: PLR0911 - one a keyword
        if node is False or (isinstance(node, dict) and node.get("enum") == []):
            raise self._error(at, "allows no value")
        node = {} if node is True else node
        match node:
            case {"$comment": str(comment)} if comment == _BOUNDED:
                return {key: value for key, value in node.items() if key not in _ANNOTATIONS}
            case {"allOf": _}:
                return self.read(self._merged(node, at), at)
            case {"$ref": ref}:
                return self._referred(ref, at)
            case {"const": value}:
                return {"enum": [value]}
            case {"enum": values}:
                return {"enum": list(values)}
            case {"anyOf": members} | {"oneOf": members}:
                return _union([self.read(each, at) for each in members])
            case {"type": list(kinds)}:
                return _union([self._typed(kind, node, at) for kind in kinds])
            case dict(schema):
                return self._typed(schema.get("type", _kind_unsaid(schema)), schema, at)
            case _:
                raise self._error(at, "is no schema")

    def _typed(self, kind: str | None, node: dict[str, Any], at: tuple[str, ...]) -> dict[str, Any]:
        match kind:
            case "null" | "boolean":
                return {"type": kind}
            case "string":
                return self._string(node, at)
            case "integer" | "number":
                return self._number(kind, node, at)
            case "array":
                return self._array(node, at)
            case "object":
                return self._object(node, at)
            case None if self._foreign:
                return _union([self._typed(each, {}, at) for each in ("string", "number", "boolean", "null")])
            case _:
                raise self._error(at, "has no type that a grammar can hold; say which")

    def _string(self, node: dict[str, Any], at: tuple[str, ...]) -> dict[str, Any]:
        if node.get("format") in _SHORT_FORMATS:
            return {"type": "string", "format": node["format"]}
        default = max(MOST_CHARACTERS, node.get("minLength", 0))
        most = self._bound(node.get("maxLength"), default, at, "a string without max_length")
        return {"type": "string", **_kept(node, "minLength"), "maxLength": most}

    def _number(self, kind: str, node: dict[str, Any], at: tuple[str, ...]) -> dict[str, Any]:
        """A bound that is excluded from a fraction is checked again when the answer is read."""
        low = node.get("minimum", node.get("exclusiveMinimum"))
        high = node.get("maximum", node.get("exclusiveMaximum"))
        if kind == "integer":
            low = floor(low) + 1 if low is not None and "minimum" not in node else low
            high = ceil(high) - 1 if high is not None and "maximum" not in node else high
        largest = max(
            LARGEST_INTEGER if kind == "integer" else LARGEST_NUMBER, 2 * abs(low or 0), 2 * abs(high or 0)
        )
        low = self._bound(low, -largest, at, "a number without ge and le")
        high = self._bound(high, largest, at, "a number without ge and le")
        if low > high:
            raise self._error(at, "allows no value")
        return {"type": kind, "minimum": low, "maximum": high}

    def _array(self, node: dict[str, Any], at: tuple[str, ...]) -> dict[str, Any]:
        if node.get("prefixItems"):
            items = [self.read(each, (*at, str(place))) for place, each in enumerate(node["prefixItems"])]
            return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
        default = max(MOST_ITEMS, node.get("minItems", 0))
        most = self._bound(node.get("maxItems"), default, at, "an array without max_length")
        if most == 0:
            return {"type": "array", "items": {"type": "null"}, "maxItems": 0}
        item = self.read(node.get("items", {}), (*at, "[]"))
        return {"type": "array", "items": item, **_kept(node, "minItems"), "maxItems": most}

    def _object(self, node: dict[str, Any], at: tuple[str, ...]) -> dict[str, Any]:
        named = node.get("properties", {})
        values = node.get("additionalProperties", self._foreign and "properties" not in node)
        if values is not False and not named:
            if not self._foreign:
                raise self._error(at, "has free keys; make it a list of pairs")
            most = self._bound(node.get("maxProperties"), MOST_KEYS, at, "")
            return {
                "type": "object",
                "additionalProperties": self.read(values, (*at, "*")),
                "maxProperties": most,
            }
        required = (
            [name for name in named if name in node.get("required", ())] if self._foreign else list(named)
        )
        return {
            "type": "object",
            "properties": {name: self.read(each, (*at, name)) for name, each in named.items()},
            "required": required,
            "additionalProperties": False,
        }

    def _referred(self, ref: str, at: tuple[str, ...]) -> dict[str, Any]:
        if ref in self._open:
            raise self._error(at, "is recursive; give each level a type of its own")
        self._open.append(ref)
        found = self.read(self._resolved(ref, at), at)
        self._open.pop()
        return found

    def _resolved(self, ref: str, at: tuple[str, ...]) -> Any:
        name = ref.rpartition("/")[2]
        if name not in self._defs:
            raise self._error(at, f"refers to {ref!r}, which is not there")
        return self._defs[name]

    def _merged(self, node: dict[str, Any], at: tuple[str, ...]) -> dict[str, Any]:
        merged = {key: value for key, value in node.items() if key != "allOf"}
        for part in node["allOf"]:
            if clash := set(merged) & set(part) - _ANNOTATIONS:
                raise self._error(
                    at, f"joins parts that each say {', '.join(sorted(clash))}; write it as one"
                )
            merged |= part
        return merged

    def _bound(self, said: Any, default: Any, at: tuple[str, ...], unsaid: str) -> Any:
        if said is not None:
            return said
        if not self._foreign:
            raise self._error(at, f"is {unsaid}")
        return default

    def _error(self, at: tuple[str, ...], why: str) -> SchemaError:
        return SchemaError(f"{'.'.join((self._of, *at))} {why}")


def _union(members: list[dict[str, Any]]) -> dict[str, Any]:
    return members[0] if len(members) == 1 else {"anyOf": members}


def _kind_unsaid(node: dict[str, Any]) -> str | None:
    if "properties" in node:
        return "object"
    return "array" if "items" in node or "prefixItems" in node else None


def _kept(node: dict[str, Any], key: str) -> dict[str, Any]:
    return {key: node[key]} if node.get(key) else {}
