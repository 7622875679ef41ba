"""Spans of OpenTelemetry, as its conventions for generative AI name them.

Source: https://github.com/open-telemetry/semantic-conventions-genai (v0.1.0). Spans go wherever the process has set up
a tracer provider, and nowhere by default. They hold names, counts and ids; texts only after `show_texts()`.
"""

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from karkas.server.protocol import AnswerT, Reply, Request

_texts = False


def show_texts(*, on: bool = True) -> None:
    """Whether spans of this process hold what models are asked and answer, and tools' arguments."""
    global _texts  # noqa: PLW0603 - one switch a process, like the tracer provider itself
    _texts = on


def texts_shown() -> bool:
    return _texts


def heard() -> bool:
    """Whether anybody listens. Where nobody does, no span is worth its making."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextmanager
def span(name: str, attributes: Mapping[str, Any], *, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[Span]:
    """One span under the current one. Of an error it holds the type; messages quote models and sources."""
    if not heard():
        yield trace.INVALID_SPAN
        return
    known = {key: value for key, value in attributes.items() if value is not None}
    opened = trace.get_tracer("karkas").start_as_current_span(
        name, kind=kind, attributes=known, record_exception=False, set_status_on_exception=False
    )
    with opened as current:
        try:
            yield current
        except BaseException as error:
            current.set_attribute("error.type", type(error).__name__)
            current.set_status(StatusCode.ERROR)
            raise


AskT = TypeVar("AskT", bound=Callable[..., Awaitable[Reply[Any]]])


def agent(ask: AskT) -> AskT:
    """Each question that an agent asks its engine is a span, the requests to models in it."""

    @wraps(ask)
    async def traced(engine: Any, request: Request[AnswerT]) -> Reply[AnswerT]:
        if not heard():
            return await ask(engine, request)
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": request.role.value,
            "gen_ai.agent.version": request.instructions.version or None,
            "karkas.question": type(request.question).__name__,
        }
        with span(f"invoke_agent {request.role}", attributes) as current:
            reply = await ask(engine, request)
            current.set_attribute("karkas.engine", str(reply.engine))
            if reply.engine.kind == "llm":
                current.set_attribute("gen_ai.usage.input_tokens", reply.usage.prompt_tokens)
                current.set_attribute("gen_ai.usage.output_tokens", reply.usage.completion_tokens)
                current.set_attribute("karkas.model_calls", reply.usage.calls)
            return reply

    return traced  # type: ignore[return-value]  # the same signature, generic in the answer


@contextmanager
def tool(name: str, *, permit: str, effect: str, arguments: Any) -> Iterator[Span]:
    """The execution of one permitted action."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": permit,
        "karkas.effect": effect,
        "gen_ai.tool.call.arguments": json.dumps(arguments, ensure_ascii=False) if _texts else None,
    }
    with span(f"execute_tool {name}", attributes) as current:
        yield current


GateT = TypeVar("GateT", bound=Callable[..., Any])


def gate(opening: GateT) -> GateT:
    """The opening of a gate. That it waits is no span, since whoever opened it may be gone when it is decided."""

    @wraps(opening)
    def traced(gates: Any, new: Any, **rest: Any) -> Any:
        attributes = {
            "karkas.gate.kind": new.kind.value,
            "karkas.gate.zones": tuple(new.zones),
            "karkas.gate.level": new.level.value,
            "karkas.gate.policy": new.policy.verdict.value,
            "gen_ai.conversation.id": new.run,
        }
        with span(f"gate {new.kind}", attributes) as current:
            opened = opening(gates, new, **rest)
            current.set_attribute("karkas.gate.id", opened.id)
            return opened

    return traced  # type: ignore[return-value]  # the same signature


@contextmanager
def segment(workflow: str, *, run: str, zone: str | None, number: int) -> Iterator[Span]:
    """A run from when it is taken up until it is left."""
    attributes = {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.agent.name": workflow,
        "gen_ai.conversation.id": run,
        "karkas.zone": zone,
        "karkas.run.segment": number,
    }
    with span(f"invoke_workflow {workflow}", attributes) as current:
        yield current
