"""What schemas allow, the real grammars take, and what they let a model write is a valid answer.

The model is random, so its answers try out what a grammar allows rather than what a model would say.
"""

import json
import subprocess
from collections.abc import AsyncIterator, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, JsonValue, WithJsonSchema

from karkas.policies.errors import RequestRejectedError
from karkas.server.answers import ask_typed
from karkas.server.client import Client
from karkas.server.schemas import bounded, response_format, schema_of
from karkas.server.wire import ChatRequest, Message

from .conftest import Server


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Finding(Strict):
    text: str = Field(max_length=30)
    weight: float = Field(ge=0, le=1)
    step: int = Field(ge=0, le=10)


class Everything(Strict):
    verdict: Literal["pass", "object", "unsure"]
    findings: tuple[Finding, ...] = Field(min_length=1, max_length=3)
    pair: tuple[bool, Annotated[int, Field(gt=-3, lt=3)]]
    maybe: Annotated[str, Field(max_length=5)] | None = None
    which: UUID
    number_or_word: Annotated[int, Field(ge=0, le=1)] | Annotated[str, Field(max_length=3)]


class Arguments(Strict):
    """As a tool declares them: without bounds, with what grammars do not know."""

    path: str = Field(pattern=r"^\S+$")
    times: int = 3
    ratio: float = Field(default=0.5, multiple_of=0.25)
    env: dict[str, bool] = {}
    tags: set[str] | None = None
    day: date | None = None
    link: Annotated[str, WithJsonSchema({"type": "string", "format": "uri"})] = ""
    anything: Any = None


class Call(Strict):
    tool: Literal["write_file"]
    args: Annotated[dict[str, JsonValue], WithJsonSchema(bounded(Arguments.model_json_schema()))]


class Listed(Strict):
    partial: ClassVar[bool] = True
    items: tuple[Finding, ...] = Field(max_length=200)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> Any:
        """As if all of them had to be there, so that the answer is cut for certain."""
        schema = handler(core)
        schema["properties"]["items"]["minItems"] = 200
        return schema


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    client = Client(server.base_url)
    yield client
    await client.aclose()


def asking(server: Server, answer: type[BaseModel], **changes: object) -> ChatRequest:
    request = ChatRequest(
        model=server.model,
        messages=(Message(role="user", content="Answer in JSON."),),
        max_tokens=2000,
        n=8,
        temperature=1.0,
        response_format=response_format(answer),
    )
    return request.model_copy(update=changes)


async def whole_answers(client: Client, server: Server, answer: type[BaseModel]) -> Sequence[BaseModel]:
    got = await client.chat(asking(server, answer))
    whole = [choice.text for choice in got.choices if choice.finish == "stop"]
    return [answer.model_validate_json(text) for text in whole]


async def test_whatever_the_grammar_lets_through_is_valid(client: Client, server: Server) -> None:
    assert len(await whole_answers(client, server, Everything)) == 8


async def test_a_tools_own_schema_is_refused_and_its_bounded_one_taken(
    client: Client, server: Server
) -> None:
    own = {"type": "json_schema", "json_schema": {"name": "x", "schema": Arguments.model_json_schema()}}
    with pytest.raises(RequestRejectedError):
        await client.chat(asking(server, Call, response_format=own, max_tokens=1))
    got = await client.chat(asking(server, Call))
    for choice in got.choices:
        assert choice.text.startswith('{"tool":"write_file","args":{"path":"')
        if choice.finish == "stop":
            assert set(Call.model_validate_json(choice.text).args) <= set(Arguments.model_fields)


async def test_what_is_cut_is_asked_again_until_it_is_whole(client: Client, server: Server) -> None:
    notes: list[str] = []

    async def note(text: str) -> None:
        notes.append(text)

    request = asking(server, Everything, max_tokens=8, n=1)
    (got,) = await ask_typed(client.chat, request, Everything, room=4000, note=note)
    assert isinstance(got, Everything)
    assert "asked again with 16" in notes[0]


async def test_of_a_list_that_does_not_end_the_whole_items_are_taken(client: Client, server: Server) -> None:
    notes: list[str] = []

    async def note(text: str) -> None:
        notes.append(text)

    request = asking(server, Listed, max_tokens=400, n=1)
    (got,) = await ask_typed(client.chat, request, Listed, room=400, note=note)
    assert 0 < len(got.items) < 200
    assert "the last is dropped" in notes[0]


XGRAMMAR = """
import json, sys
import xgrammar
from xgrammar.testing import _is_grammar_accept_string as accepts
from vllm.v1.structured_output.backend_xgrammar import has_xgrammar_unsupported_json_features as refuses

found = []
for schema, texts in json.load(sys.stdin):
    assert not refuses(schema), schema
    grammar = xgrammar.Grammar.from_json_schema(schema, any_whitespace=False, separators=(",", ":"))
    found.append([accepts(grammar, text) for text in texts])
print(json.dumps(found))
"""


def test_xgrammar_takes_the_same_schemas(vllm: Path) -> None:
    """Asked directly, since a server has the one grammar that it was started with."""
    finding = '{"text":"a","weight":0.5,"step":%d}'
    answer = '{"verdict":"pass","findings":[%s],"pair":[true,-2],"maybe":null,"which":"8c9e9a3a-6a53-4c2e-9c3c-3f3c1c8a5a10","number_or_word":"a"}'
    findings = [",".join([finding % 3] * number) for number in (1, 3, 4)]
    call = '{"tool":"write_file","args":{"path":"a"%s}}'
    tried = [
        (schema_of(Everything), [*(answer % each for each in findings), answer % (finding % 11), "{}"]),
        (
            schema_of(Call),
            [call % "", call % ',"times":4,"env":{"a":true},"day":"2026-01-31"', call % ',"other":1', "{}"],
        ),
    ]
    ran = subprocess.run(
        [vllm.with_name("python"), "-c", XGRAMMAR],
        input=json.dumps(tried),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == [
        [True, True, False, False, False],
        [True, True, False, False],
    ]
