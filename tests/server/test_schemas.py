"""Schemas that every grammar takes; tests/vllm/test_schemas.py puts them to the real one."""

from datetime import date
from enum import StrEnum
from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, JsonValue, WithJsonSchema, create_model

from karkas.agents.tools import ToolBox
from karkas.server import language
from karkas.server.language.propose import Proposal, answer_for
from karkas.server.schemas import (
    LARGEST_INTEGER,
    LARGEST_NUMBER,
    MOST_CHARACTERS,
    MOST_ITEMS,
    MOST_KEYS,
    SchemaError,
    bounded,
    response_format,
    schema_of,
)


class Kind(StrEnum):
    A = "a"
    B = "b"


class Part(BaseModel):
    zeta: str = Field(max_length=5, description="the last letter first")
    alpha: int = Field(default=1, gt=0, lt=4)


class Answer(BaseModel):
    """Not for the model."""

    kind: Kind
    choice: Literal["x", 2]
    fixed: Literal["only"]
    maybe: str | None = Field(default=None, max_length=9, pattern="^a")
    parts: tuple[Part, ...] = Field(default=(), min_length=1, max_length=3)
    pair: tuple[bool, Annotated[float, Field(ge=0, le=1)]]
    day: date


def test_everything_is_required_bounded_in_order_and_in_one_place() -> None:
    part = {
        "type": "object",
        "properties": {
            "zeta": {"type": "string", "maxLength": 5},
            "alpha": {"type": "integer", "minimum": 1, "maximum": 3},
        },
        "required": ["zeta", "alpha"],
        "additionalProperties": False,
    }
    pair = [{"type": "boolean"}, {"type": "number", "minimum": 0, "maximum": 1}]
    expected: dict[str, Any] = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["a", "b"]},
            "choice": {"enum": ["x", 2]},
            "fixed": {"enum": ["only"]},
            "maybe": {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}]},
            "parts": {"type": "array", "items": part, "minItems": 1, "maxItems": 3},
            "pair": {"type": "array", "prefixItems": pair, "minItems": 2, "maxItems": 2},
            "day": {"type": "string", "format": "date"},
        },
        "required": ["kind", "choice", "fixed", "maybe", "parts", "pair", "day"],
        "additionalProperties": False,
    }
    got = schema_of(Answer)
    assert got == expected
    assert list(got["properties"]) == list(expected["required"])
    assert list(got["properties"]["parts"]["items"]["properties"]) == ["zeta", "alpha"]
    assert response_format(Answer) == {
        "type": "json_schema",
        "json_schema": {"name": "Answer", "schema": expected},
    }


class Tree(BaseModel):
    children: list["Tree"] = Field(max_length=3)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (str, "Made.field is a string without max_length"),
        (list[Part], "Made.field is an array without max_length"),
        (Annotated[list[str], Field(max_length=3)], r"Made.field.\[\] is a string without max_length"),
        (Annotated[int, Field(ge=0)], "Made.field is a number without ge and le"),
        (float, "Made.field is a number without ge and le"),
        (dict[str, bool], "Made.field has free keys; make it a list of pairs"),
        (Any, "Made.field has no type"),
        (Tree, r"Made.field.children.\[\] is recursive"),
    ],
)
def test_what_has_no_bound_is_named(kind: Any, says: str) -> None:
    with pytest.raises(SchemaError, match=says):
        schema_of(create_model("Made", field=(kind, ...)))


class Arguments(BaseModel):
    path: str
    times: int = 3
    ratio: float = Field(default=0.5, gt=0)
    env: dict[str, str] = {}
    tags: set[str] | None = None
    code: str = Field(default="", pattern="^[a-z]+$", max_length=4)
    anything: Any = None
    kind: Kind = Kind.A


def test_a_tools_parameters_get_bounds_and_what_is_optional_stays_so() -> None:
    text = {"type": "string", "maxLength": MOST_CHARACTERS}
    number = {"type": "number", "minimum": -LARGEST_NUMBER, "maximum": LARGEST_NUMBER}
    got = bounded(Arguments.model_json_schema())
    assert got["required"] == ["path"]
    assert got["additionalProperties"] is False
    assert got["properties"] == {
        "path": text,
        "times": {"type": "integer", "minimum": -LARGEST_INTEGER, "maximum": LARGEST_INTEGER},
        "ratio": {"type": "number", "minimum": 0, "maximum": LARGEST_NUMBER},
        "env": {"type": "object", "additionalProperties": text, "maxProperties": MOST_KEYS},
        "tags": {"anyOf": [{"type": "array", "items": text, "maxItems": MOST_ITEMS}, {"type": "null"}]},
        "code": {"type": "string", "maxLength": 4},
        "anything": {"anyOf": [text, number, {"type": "boolean"}, {"type": "null"}]},
        "kind": {"enum": ["a", "b"]},
    }


def test_a_tools_parameters_stand_within_another_answer_as_they_are() -> None:
    parameters = bounded(Arguments.model_json_schema())
    call = create_model("Call", args=(Annotated[dict[str, JsonValue], WithJsonSchema(parameters)], ...))
    within = schema_of(call)["properties"]["args"]
    assert within == {key: value for key, value in parameters.items() if key != "$comment"}


def test_bounds_that_are_given_are_kept() -> None:
    given_ = {
        "type": "object",
        "properties": {
            "text": {"type": "string", "minLength": 30_000},
            "list": {"type": "array", "items": {"type": "null"}, "minItems": 70},
            "large": {"type": "integer", "minimum": 2**60},
            "none": {"type": "array", "maxItems": 0},
        },
    }
    found = bounded(given_)["properties"]
    assert found["text"] == {"type": "string", "minLength": 30_000, "maxLength": 30_000}
    assert (found["list"]["minItems"], found["list"]["maxItems"]) == (70, 70)
    assert found["large"]["minimum"] == 2**60 <= found["large"]["maximum"]
    assert found["none"]["maxItems"] == 0


@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        (False, "allows no value"),
        ({"enum": []}, "allows no value"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "allows no value"),
        ({"$ref": "#/$defs/Gone"}, "refers to"),
        ({"$ref": "#/$defs/Loop"}, "recursive"),
        ({"type": "file"}, "no type"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "joins parts that each say type"),
        (["string"], "no schema"),
    ],
)
def test_a_parameter_that_no_grammar_holds_is_named(parameter: object, says: str) -> None:
    schema = {
        "type": "object",
        "properties": {"good": {"type": "string"}, "bad": parameter},
        "$defs": {"Loop": {"type": "array", "items": {"$ref": "#/$defs/Loop"}}},
    }
    with pytest.raises(SchemaError, match=rf"write_file\.bad.* {says}"):
        bounded(schema, of="write_file")


def test_parts_that_are_joined_become_one() -> None:
    schema = {"$defs": {"Kind": {"enum": ["a"]}}, "allOf": [{"$ref": "#/$defs/Kind"}], "default": "a"}
    assert bounded(schema)["enum"] == ["a"]


BOUNDS = st.integers(-5, 5)
LENGTHS = st.integers(0, 5)


def having(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


SCHEMAS = st.recursive(
    having(type=st.sampled_from(["string", "integer", "number", "boolean", "null"]), title=st.just("T"))
    .flatmap(
        lambda base: having(
            minimum=BOUNDS,
            exclusiveMaximum=BOUNDS,
            minLength=LENGTHS,
            maxLength=LENGTHS,
            pattern=st.just("(?!x)"),
            format=st.sampled_from(["uri", "date", "binary"]),
            multipleOf=st.just(3),
        ).map(lambda more: base | more)
    )
    .filter(lambda schema: schema.get("minLength", 0) <= schema.get("maxLength", 5)),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"type": st.just("array"), "uniqueItems": st.booleans(), "items": inner}),
        st.fixed_dictionaries(
            {
                "type": st.just("object"),
                "properties": st.dictionaries(st.sampled_from("abc"), inner),
                "required": st.just(["a"]),
                "propertyNames": st.just({"maxLength": 3}),
                "patternProperties": st.just({"^x": {}}),
            }
        ),
        st.fixed_dictionaries({"type": st.just("object"), "additionalProperties": inner}),
    ),
    max_leaves=8,
)
KNOWN = {
    "string": {"type", "minLength", "maxLength", "format"},
    "integer": {"type", "minimum", "maximum"},
    "number": {"type", "minimum", "maximum"},
    "boolean": {"type"},
    "null": {"type"},
    "array": {"type", "items", "minItems", "maxItems"},
    "object": {"type", "properties", "required", "additionalProperties", "maxProperties"},
}


def check(schema: dict[str, Any]) -> None:
    """Nothing but keywords that both grammars take, and a bound on everything."""
    if "anyOf" in schema:
        assert set(schema) == {"anyOf"}
        for member in schema["anyOf"]:
            check(member)
        return
    if "enum" in schema:
        assert schema["enum"]
        return
    assert set(schema) <= KNOWN[schema["type"]]
    match schema["type"]:
        case "string":
            assert "maxLength" in schema or schema["format"] == "date"
        case "integer" | "number":
            assert schema["minimum"] <= schema["maximum"]
        case "array":
            assert schema["maxItems"] >= schema.get("minItems", 0)
            check(schema["items"])
        case "object" if "properties" in schema:
            assert set(schema["required"]) <= set(schema["properties"])
            assert schema["additionalProperties"] is False
            for member in schema["properties"].values():
                check(member)
        case "object":
            assert schema["maxProperties"] == MOST_KEYS
            check(schema["additionalProperties"])


@given(schema=SCHEMAS)
def test_whatever_a_tool_declares_is_bounded_or_named(schema: dict[str, Any]) -> None:
    try:
        got = bounded(schema)
    except SchemaError as error:
        if "allows no value" not in str(error):
            raise
        return
    assert got.pop("$comment") == "bounded"
    check(got)


def test_everything_that_the_language_engine_asks_for_is_bounded() -> None:
    modules = [
        import_module(f"{language.__name__}.{found.name}") for found in iter_modules(language.__path__)
    ]
    answers = {
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind.__module__ == module.__name__
    }
    tools = [tool.spec() for tool in ToolBox.builtin().values()]
    for answer in (answers - {Proposal}) | {answer_for(tools)}:
        check(schema_of(answer))
