"""The executor's proposals: calls of registered tools, whose arguments are those of the tool and nothing else."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from typing import Annotated, Any, Literal, get_args

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import extend
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, WithJsonSchema, create_model

from karkas.server.language.neutral import barred, line, neutral, restored, spoken
from karkas.server.language.prompt import Asking
from karkas.server.protocol import Role
from karkas.server.questions import Propose, Proposed, ToolCall, ToolSpec
from karkas.server.schemas import SchemaError, bounded

ANSWER = 2_048
"""Tokens that one proposal may take at first; one that was cut is asked again with more room."""
_WHY = 400
_CLOSED = ConfigDict(extra="forbid", frozen=True)

_Validator = extend(Draft202012Validator, {"pattern": lambda *_: ()})  # type: ignore[no-untyped-call]
"""Patterns are in the syntax of the tool's own validation, which checks them again before a gate opens."""


class Proposal(BaseModel):
    """Why, and the call, whose type is made of the tools."""

    model_config = _CLOSED

    why: str = Field(max_length=_WHY)
    call: Any


async def propose(asking: Asking, question: Propose) -> Proposed:
    """At most `question.at_most` different calls, out of one prompt; none where nothing can be proposed."""
    offered = _offered(json.dumps([vars(tool) for tool in question.tools]))
    for why in offered.unfit:
        await asking.caller.note(f"{Role.EXECUTOR}: a tool was not shown to the model: {why}")
    if offered.answer is None:
        return Proposed(calls=(), why="no tool is registered that a model could call")
    asked = await asking.ask(
        "propose",
        offered.answer,
        question=_shown(question, offered.shown),
        max_tokens=ANSWER,
        n=question.at_most,
    )
    back = _back(f"{question.frame}\n{question.task}\n{question.feedback}")
    calls: dict[str, ToolCall] = {}
    for value in asked.values:
        if value.call is not None:
            tool, args = value.call.tool, _restored(value.call.args, back)
            key = json.dumps([tool, args], sort_keys=True)
            calls.setdefault(key, ToolCall(tool=tool, args=args, why=spoken(value.why)))
    found = tuple(calls.values())[: question.at_most]
    return Proposed(calls=found, why=found[0].why if found else spoken(asked.value.why))


@dataclass(frozen=True)
class _Offered:
    """Tools as a model is asked for calls of them: what it is shown, the type of its answer where a tool is left, and
    why the others are not offered.
    """

    shown: str
    answer: type[Proposal] | None
    unfit: tuple[str, ...]


@lru_cache(maxsize=64)
def _offered(tools: str) -> _Offered:
    """`tools` as JSON, so that what is remembered is theirs as they are now."""
    found = [(tool, _unfit(tool)) for tool in map(ToolSpec.model_validate, json.loads(tools))]
    fit = [tool for tool, why in found if why is None]
    lines = ["tools"]
    for tool in fit:
        lines += [f"tool {line(tool.name)}", barred(tool.description)]
        lines += ["its parameters", barred(json.dumps(tool.parameters, ensure_ascii=False))]
    return _Offered(
        shown="\n".join((*lines, "end of tools")),
        answer=answer_for(fit) if fit else None,
        unfit=tuple(why for _, why in found if why is not None),
    )


def answer_for(tools: Sequence[ToolSpec]) -> type[Proposal]:
    """The type of a proposal: why, and a call of one of these tools, or `null`.

    Raises `SchemaError`, which names the parameter that no grammar can hold.
    """
    calls: Any = reduce(or_, (_call(tool.name, tool.parameters) for tool in tools))
    if get_args(calls):
        calls = Annotated[calls, Field(discriminator="tool")]
    one_or_none: Any = calls | None
    return create_model("Proposal", __base__=Proposal, call=(one_or_none, ...))


def _unfit(tool: ToolSpec) -> str | None:
    """What keeps a tool's parameters from being asked of a model, if something does."""
    try:
        bounded(tool.parameters, of=tool.name)
    except SchemaError as error:
        return str(error)
    return None


def _call(tool: str, parameters: dict[str, Any]) -> Any:
    names: Any = Literal[tool]
    return create_model("Call", __config__=_CLOSED, tool=(names, ...), args=(_args(tool, parameters), ...))


def _args(tool: str, parameters: dict[str, Any]) -> Any:
    """A tool's arguments: checked by its own schema, shown to the grammar of the server in a bounded form of it."""
    own = _Validator({"additionalProperties": False, **parameters})

    def check(args: dict[str, JsonValue]) -> dict[str, JsonValue]:
        wrong: ValidationError | None = best_match(own.iter_errors(args))
        if wrong is not None:
            raise ValueError(f"arguments of {tool}, at {wrong.json_path}: {wrong.message[:300]}")
        return args

    return Annotated[
        dict[str, JsonValue], AfterValidator(check), WithJsonSchema(bounded(parameters, of=tool))
    ]


def _shown(question: Propose, tools: str) -> str:
    """What is the same for every task first: the tools, then the frame."""
    lines = [
        tools,
        "",
        "the person's frame",
        framed(question.frame) or "(none)",
        "end of the frame",
    ]
    lines += ["", "the person's task", neutral(question.task), "end of the task"]
    if question.feedback:
        lines += ["", "the person on an earlier proposal", neutral(question.feedback), "end of it"]
    return "\n".join(lines)


@lru_cache(maxsize=64)
def framed(frame: str) -> str:
    """The frame's text: what the person wrote as it stands, what sources and models say behind bars.

    In it, one line each, the person's nodes begin with a dash, and what stands indented below them is recalled.
    """
    return "\n".join(
        barred(one) if one[:1] == " " and not one.lstrip().startswith("- ") else neutral(one)
        for one in frame.rstrip().split("\n")
    )


def _back(shown: str) -> dict[int, str]:
    """From the marks that stand in what the model was shown only because `neutral` put them there."""
    return {ord(mark): restored(mark) for mark in set(neutral(shown)) - set(shown)}


def _restored(value: Any, back: Mapping[int, str]) -> Any:
    match value:
        case str():
            return value.translate(back)
        case list():
            return [_restored(one, back) for one in value]
        case dict():
            return {name: _restored(one, back) for name, one in value.items()}
        case _:
            return value
