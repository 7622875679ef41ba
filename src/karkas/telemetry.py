"""Traces and metrics: what goes to OpenTelemetry, and what Prometheus reads. Both are off until asked for."""

import os
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from karkas.policies.errors import SettingsError
from karkas.policies.gates import GateStatus
from karkas.server import tracing
from karkas.settings import TelemetrySettings
from karkas.storage import RunStatus

if TYPE_CHECKING:
    from threading import Thread
    from wsgiref.simple_server import WSGIServer

    from opentelemetry.sdk.trace.export import SpanExporter
    from prometheus_client.core import Metric

    from karkas.project import Project

EXPORTERS = ("otlp", "console", "none")
AGES = {"1h": timedelta(hours=1), "8h": timedelta(hours=8), "24h": timedelta(hours=24)}
"""Gates that wait are counted by how long they have waited: less than these, or longer."""

_started = False


def start(settings: TelemetrySettings) -> None:
    """Sends spans from now on where the `OTEL_...` variables say, once in a process. A tracer provider that a script
    has set up itself stays.

    Raises `SettingsError` where the extra is missing, or a variable asks for what is not there.
    """
    global _started  # noqa: PLW0603 - the tracer provider is one a process
    if _started or not settings.traces:
        return
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(
            "[telemetry] traces = true needs OpenTelemetry's SDK: pip install 'karkas[otel]', or set it to false"
        ) from error
    tracing.show_texts(on=settings.content)
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        exporter = _exporter()
        name = os.environ.get("OTEL_SERVICE_NAME", "karkas")
        provider = TracerProvider(resource=Resource.create({"service.name": name}))
        if exporter is not None:
            provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
    _started = True


def _exporter() -> "SpanExporter | None":
    wanted = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() or "otlp"
    match wanted:
        case "none":
            return None
        case "console":
            import sys

            from opentelemetry.sdk.trace.export import ConsoleSpanExporter

            return ConsoleSpanExporter(out=sys.stderr)
        case "otlp":
            protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
                "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
            )
            if protocol != "http/protobuf":
                raise SettingsError(
                    f"OTEL_EXPORTER_OTLP_PROTOCOL asks for {protocol!r}, and karkas sends 'http/protobuf'; give that,"
                    " and the collector's HTTP port (usually 4318)"
                )
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            return OTLPSpanExporter()
        case _:
            raise SettingsError(
                f"OTEL_TRACES_EXPORTER is {wanted!r}; karkas knows {', '.join(EXPORTERS)};"
                " let a collector pass them on"
            )


def serve_metrics(project: "Project", port: int, *, host: str = "127.0.0.1") -> "tuple[WSGIServer, Thread]":
    """Answers `GET /metrics` until the process ends, or `.shutdown()` of the server. `port` 0 takes a free one
    (`.server_port`). Raises `SettingsError` where the port is taken.

    What is counted over all processes is read off the store at each look; the rest is of this process.
    """
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.registry import Collector

    from karkas.server.observed import REGISTRY

    class OfStore(Collector):
        def collect(self) -> "Iterator[Metric]":
            yield from _of_store(project)
            yield from REGISTRY.collect()

    registry = CollectorRegistry()
    registry.register(OfStore())
    try:
        return start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise SettingsError(
            f"no metrics can be served at {host}:{port}: {error.strerror}; give another port"
        ) from error


def _of_store(project: "Project") -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    store = project.store
    now, lines = store.clock(), store.waiting.lines()
    statuses, spent = store.happened.runs_by_status(), store.happened.totals()
    family = GaugeMetricFamily("karkas_runs", "Runs by how they stand.", labels=("status",))
    for status in RunStatus:
        family.add_metric((status.value,), statuses.get(status, 0))
    yield family
    sums = {
        "karkas_model_calls": ("Requests that reached a model, of all runs.", "model_calls"),
        "karkas_tokens": ("Tokens of prompts and answers, of all runs.", "tokens"),
        "karkas_cached_tokens": ("Those that servers found in their caches.", "cached_tokens"),
        "karkas_sources": ("Sources that were read, of all runs.", "sources"),
    }
    for name, (text, field) in sums.items():
        yield CounterMetricFamily(name, text, value=getattr(spent, field))
    waits = Counter(
        (line.kind.value, _age(now - line.opened_at)) for line in lines if line.status is GateStatus.OPEN
    )
    family = GaugeMetricFamily(
        "karkas_gates_waiting", "Gates that wait for a person, by how long.", labels=("kind", "age")
    )
    for (kind, age), number in sorted(waits.items()):
        family.add_metric((kind, age), number)
    yield family
    oldest = max(((now - line.opened_at).total_seconds() for line in lines), default=0.0)
    yield GaugeMetricFamily(
        "karkas_oldest_gate_seconds", "How long the oldest gate has waited.", value=oldest
    )
    silent = GaugeMetricFamily(
        "karkas_worker_silent_seconds",
        "Since a worker was last heard of, on whatever host.",
        labels=("worker", "host"),
    )
    at_work = GaugeMetricFamily(
        "karkas_worker_runs", "What a worker is at work on.", labels=("worker", "host")
    )
    for worker in store.workers.all():
        silent.add_metric((worker.id, worker.host), worker.silent_s)
        at_work.add_metric((worker.id, worker.host), len(worker.runs))
    yield from (silent, at_work)


def _age(waited: timedelta) -> str:
    return next((f"under {name}" for name, bound in AGES.items() if waited < bound), "longer")
