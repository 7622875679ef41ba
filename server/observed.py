"""What is seen from outside of each request to a model: a span of OpenTelemetry, and counters for Prometheus."""

import json
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, TypeVar

from opentelemetry import trace
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from karkas.server.tracing import heard, span, texts_shown
from karkas.server.wire import ChatAnswer, ChatRequest

if TYPE_CHECKING:
    from karkas.server.call import Call

REGISTRY = CollectorRegistry()
"""What is counted in this process."""
IN_FLIGHT = Gauge(
    "karkas_model_requests_in_flight", "Requests to models, those that wait for a server included.",
    registry=REGISTRY,
)  # fmt: skip
SECONDS = Histogram(
    "karkas_model_request_seconds", "Until a model answered, with all repetitions.", ("role",),
    buckets=(0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000), registry=REGISTRY,
)  # fmt: skip
RETRIES = Counter("karkas_model_retries", "Requests to models that were sent again.", registry=REGISTRY)
REFUSALS = Counter("karkas_model_refusals", "Answers of servers that they are too busy.", registry=REGISTRY)

SendT = TypeVar("SendT", bound=Callable[..., Awaitable[ChatAnswer]])


def chat(send: SendT) -> SendT:
    """Each request to a model is a span, from when it is made until it is answered, with all repetitions."""

    @wraps(send)
    async def counted(call: "Call", request: ChatRequest) -> ChatAnswer:
        with IN_FLIGHT.track_inprogress(), SECONDS.labels(call.request.role.value).time():
            return await (traced(call, request) if heard() else send(call, request))

    async def traced(call: "Call", request: ChatRequest) -> ChatAnswer:
        attributes = {
            "gen_ai.operation.name": "chat",
            # vLLM's own field tells its servers from others that speak OpenAI's API.
            "gen_ai.provider.name": "vllm" if request.priority is not None else "openai",
            "gen_ai.request.model": request.model,
            "gen_ai.request.max_tokens": request.max_tokens,
            "gen_ai.request.choice.count": request.n if request.n != 1 else None,
            "gen_ai.request.temperature": request.temperature,
            "gen_ai.request.top_p": request.top_p,
            "gen_ai.output.type": "json" if request.response_format else "text",
            "gen_ai.prompt.name": call.request.role.value,
            "gen_ai.prompt.version": call.request.instructions.version or None,
            "gen_ai.conversation.id": call.caller.run or None,
        }
        with span(f"chat {request.model}", attributes, kind=SpanKind.CLIENT) as current:
            if texts_shown():
                current.set_attribute("gen_ai.input.messages", _messages(request))
            answer = await send(call, request)
            current.set_attribute("gen_ai.response.model", answer.model)
            current.set_attribute("gen_ai.response.finish_reasons", [one.finish for one in answer.choices])
            current.set_attribute("gen_ai.usage.input_tokens", answer.usage.prompt_tokens)
            current.set_attribute("gen_ai.usage.output_tokens", answer.usage.completion_tokens)
            current.set_attribute("gen_ai.usage.cache_read.input_tokens", answer.usage.cached_tokens)
            # Of what the run was answered before a crash, no model was asked again.
            current.set_attribute("karkas.answer.kept", not answer.usage.calls)
            if texts_shown():
                current.set_attribute("gen_ai.output.messages", _choices(answer))
            return answer

    return counted  # type: ignore[return-value]  # the same signature


def retried(*, busy: bool) -> None:
    """A request to a model is sent again, since its server did not answer it or was `busy`."""
    RETRIES.inc()
    if busy:
        REFUSALS.inc()
    trace.get_current_span().add_event("karkas.retried", {"karkas.server.busy": busy})


def _messages(request: ChatRequest) -> str:
    return json.dumps(
        [{"role": one.role, "parts": [{"type": "text", "content": one.content}]} for one in request.messages],
        ensure_ascii=False,
    )


def _choices(answer: ChatAnswer) -> str:
    return json.dumps(
        [
            {
                "role": "assistant",
                "parts": [{"type": "text", "content": one.text}],
                "finish_reason": one.finish,
            }
            for one in answer.choices
        ],
        ensure_ascii=False,
    )
