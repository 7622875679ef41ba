"""What is seen from outside of requests to models: spans, and counts."""

import json
from collections.abc import Iterator

import pytest
from aiohttp import web
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from karkas.policies.errors import ModelUnavailableError
from karkas.server import tracing
from karkas.server.observed import REGISTRY

from . import test_pool
from .test_pool import IMPATIENT, Recording, Start, ask, pool_of

start = test_pool.start


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


async def test_a_request_is_a_span_with_its_model_and_tokens(
    start: Start, spans: InMemorySpanExporter
) -> None:
    async with pool_of(await start()) as pool:
        await ask(pool, Recording(run="r-1"), n=2)
    (span,) = spans.get_finished_spans()
    assert span.name == "chat big"
    assert span.kind is SpanKind.CLIENT
    told = dict(span.attributes or {})
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.provider.name"] == "vllm"
    assert told["gen_ai.request.model"] == told["gen_ai.response.model"] == "big"
    assert told["gen_ai.request.choice.count"] == 2
    assert told["gen_ai.conversation.id"] == "r-1"
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (20, 10)
    assert told["gen_ai.response.finish_reasons"] == ("stop", "stop")
    assert not {"gen_ai.input.messages", "gen_ai.output.messages"} & set(told)


async def test_texts_are_in_it_only_where_they_were_asked_for(
    start: Start, spans: InMemorySpanExporter
) -> None:
    tracing.show_texts()
    try:
        async with pool_of(await start()) as pool:
            await ask(pool, question="Is it so?")
    finally:
        tracing.show_texts(on=False)
    told = dict(spans.get_finished_spans()[0].attributes or {})
    system, user = json.loads(str(told["gen_ai.input.messages"]))
    assert system["role"] == "system"
    assert "Is it so?" in user["parts"][0]["content"]
    (said,) = json.loads(str(told["gen_ai.output.messages"]))
    assert said["role"] == "assistant"
    assert "from" in said["parts"][0]["content"]


async def test_repetitions_belong_to_one_span_and_are_counted(
    start: Start, spans: InMemorySpanExporter
) -> None:
    retries, refusals = counted("karkas_model_retries_total"), counted("karkas_model_refusals_total")
    busy = web.Response(status=503, headers={"Retry-After": "0"})
    async with pool_of(await start(faults=[web.Response(status=500), busy])) as pool:
        await ask(pool)
    (span,) = spans.get_finished_spans()
    assert [event.name for event in span.events] == ["karkas.retried", "karkas.retried"]
    assert counted("karkas_model_retries_total") == retries + 2
    assert counted("karkas_model_refusals_total") == refusals + 1
    assert counted("karkas_model_requests_in_flight") == 0


async def test_a_request_that_nobody_answers_ends_its_span_with_the_kind_of_error(
    start: Start, spans: InMemorySpanExporter
) -> None:
    server = await start()
    async with pool_of(server, patience=IMPATIENT) as pool:
        await ask(pool)
        spans.clear()
        await server.stop()
        with pytest.raises(ModelUnavailableError):
            await ask(pool)
    (span,) = spans.get_finished_spans()
    assert dict(span.attributes or {})["error.type"] == "ModelUnavailableError"
    assert not span.status.is_ok
