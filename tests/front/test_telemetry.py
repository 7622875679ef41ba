"""Traces by OpenTelemetry and metrics by Prometheus, of real runs."""

import asyncio
import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import JsonValue

from karkas import runner, telemetry
from karkas.policies.errors import SettingsError
from karkas.policies.verdicts import Approve
from karkas.project import Project
from karkas.server import tracing
from karkas.settings import TelemetrySettings

FLOW = """
from karkas import END, START, Workflow, WorkflowState, call

class State(WorkflowState):
    title: str

write = Workflow(State, zones=("lab",))
write.add_action("make", lambda state: call("write_file", path="lab/a.md", content=state["title"]))
write.add_edge(START, "make")
write.add_edge("make", END)
"""
ON = TelemetrySettings(traces=True)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Every span that ends meanwhile; the tracer provider is one a process."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    root = tmp_path / "project"
    Project.init(root).close()
    with (root / "karkas.toml").open("a") as file:
        file.write('\n[zones.lab]\nunderstanding = 4\ncritical = true\nscope = {paths = ["lab/**"]}\n')
    (root / "flows.py").write_text(FLOW)
    (root / "a.md").write_text("# A\n\nA courier waits 5 minutes by default. The secret is swordfish.\n")
    with Project.open(root) as opened:
        yield opened


def explored(project: Project) -> str:
    sources: list[JsonValue] = [str(project.root / "a.md")]
    run = runner.begin(project, "explore", {"zone": "courier", "sources": sources}, zone="courier")
    return asyncio.run(runner.advance(project, run.id)).id


def acted(project: Project, title: str = "disk") -> str:
    run = runner.begin(project, "flows.py:write", {"title": title}, zone="lab")
    asyncio.run(runner.advance(project, run.id))
    (gate,) = project.store.gates.list(run=run.id)
    project.store.gates.decide(gate.id, Approve(), by="ada")
    return asyncio.run(runner.advance(project, run.id)).id


def the(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = (span for span in spans.get_finished_spans() if span.name == name)
    return found


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def test_a_run_is_a_span_and_what_its_agents_were_asked_lies_in_it(
    project: Project, spans: InMemorySpanExporter
) -> None:
    run = explored(project)
    segment = the(spans, "invoke_workflow explore")
    assert attributes(segment) == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.agent.name": "explore",
        "gen_ai.conversation.id": run,
        "karkas.zone": "courier",
        "karkas.run.segment": 1,
        "karkas.run.status": "parked",
    }
    reviewer = the(spans, "invoke_agent reviewer")
    assert reviewer.parent is not None
    assert segment.context is not None
    assert reviewer.parent.span_id == segment.context.span_id
    assert attributes(reviewer)["gen_ai.operation.name"] == "invoke_agent"
    assert attributes(reviewer)["karkas.question"] == "Review"
    gate = the(spans, "gate frame")
    assert attributes(gate)["karkas.gate.zones"] == ("courier",)


def test_a_tool_is_a_span_of_the_segment_that_performed_it(
    project: Project, spans: InMemorySpanExporter
) -> None:
    acted(project)
    tool = the(spans, "execute_tool write_file")
    assert attributes(tool)["gen_ai.operation.name"] == "execute_tool"
    assert attributes(tool)["gen_ai.tool.name"] == "write_file"
    assert str(attributes(tool)["gen_ai.tool.call.id"]).startswith("p-")
    segments = [one for one in spans.get_finished_spans() if one.name == "invoke_workflow flows.py:write"]
    assert [attributes(one)["karkas.run.segment"] for one in segments] == [1, 2]
    assert tool.parent is not None
    assert segments[1].context is not None
    assert tool.context is not None
    assert tool.context.trace_id == segments[1].context.trace_id


def test_spans_hold_no_text_unless_asked(project: Project, spans: InMemorySpanExporter) -> None:
    explored(project)
    acted(project, "swordfish")
    assert "swordfish" not in json.dumps([attributes(one) for one in spans.get_finished_spans()])
    tracing.show_texts()
    try:
        spans.clear()
        acted(project, "swordfish too")
        assert "swordfish too" in str(attributes(the(spans, "execute_tool write_file")))
    finally:
        tracing.show_texts(on=False)


def test_of_an_error_a_span_has_the_type_and_not_the_words(spans: InMemorySpanExporter) -> None:
    with pytest.raises(LookupError), tracing.span("work", {}):
        raise LookupError("swordfish")
    work = the(spans, "work")
    assert attributes(work) == {"error.type": "LookupError"}
    assert not work.status.is_ok
    assert "swordfish" not in work.to_json()


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_started", False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(SettingsError, match=r"pip install 'karkas\[otel\]'"):
        telemetry.start(ON)
    telemetry.start(TelemetrySettings(traces=False))


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp, console, none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "4318"),
    ],
)
def test_a_variable_that_asks_for_what_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setattr(telemetry, "_started", False)
    monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable) as caught:
        telemetry.start(ON)
    assert said in str(caught.value)


def scraped(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}


def test_prometheus_reads_what_all_processes_did(project: Project) -> None:
    server, thread = telemetry.serve_metrics(project, 0)
    try:
        assert scraped(server.server_port)['karkas_runs{status="parked"}'] == 0
        with Project.open(project.root) as other:
            explored(other)
            project.store.workers.join(2)
        found = scraped(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        project.store.workers.leave()
    assert found['karkas_runs{status="parked"}'] == 1
    assert found['karkas_gates_waiting{age="under 1h",kind="frame"}'] == 1
    assert found["karkas_sources_total"] == 1
    assert found["karkas_oldest_gate_seconds"] > 0
    assert found["karkas_model_requests_in_flight"] == 0
    (silent,) = (value for name, value in found.items() if name.startswith("karkas_worker_silent_seconds"))
    assert silent < 20


def test_a_port_that_is_taken_is_named(project: Project) -> None:
    server, thread = telemetry.serve_metrics(project, 0)
    try:
        with pytest.raises(SettingsError, match=f":{server.server_port}"):
            telemetry.serve_metrics(project, server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
