"""Whole runs while their servers die, come back, fill up and hold too little, and while a person stops them."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from karkas import runner
from karkas.agents.distillate import verify
from karkas.policies.errors import ContextTooLongError
from karkas.policies.gates import GateKind
from karkas.project import Project
from karkas.server import pool
from karkas.server.endpoints import Patience
from karkas.server.faults import PassingFaultError
from karkas.server.limiter import START
from karkas.storage import Run, RunStatus
from karkas.workflows.mapping import text_of

from .conftest import Server, free_port, serving
from .driving import Literate, Wire, begin, distillate, explore, make_project, notes, write_pages

KARKAS = Path(sys.executable).with_name("karkas")
DEADLINE_S = 120
CONTEXT = 4096
PAGES, MANY = 4, 20
RUNS = 8


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110  it is about what another process does
            await asyncio.sleep(0.1)


class Mortal:
    """A server that dies and is started again on the same port."""

    def __init__(self, start: Callable[[], Server]) -> None:
        self._start = start
        self._server: Server | None = None

    def alive(self) -> Server:
        if self._server is None:
            self._server = self._start()
        return self._server

    def kill(self) -> None:
        self.alive().kill()
        self._server = None


@pytest.fixture(scope="module")
def mortal(vllm: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    port, logs = free_port(), tmp_path_factory.mktemp("mortal")
    small: dict[str, Any] = {"max_model_len": CONTEXT, "max_num_batched_tokens": CONTEXT}
    with ExitStack() as stack:
        yield Mortal(lambda: stack.enter_context(serving(vllm, models, logs, port=port, **small)))


@pytest.fixture
def literate(monkeypatch: pytest.MonkeyPatch) -> None:
    Literate.teach(monkeypatch)


def ended_well(project: Project, run: Run) -> None:
    """At the gate of its frame, with a file of which every quote stands, and no answer missing."""
    assert (run.status, run.error, run.reason) == (RunStatus.PARKED, None, "")
    (gate,) = project.store.gates.list(run=run.id)
    assert gate.kind is GateKind.FRAME
    found = distillate(project)
    assert len({span.source for claim in found.claims for span in claim.evidence}) == PAGES
    assert verify(found, text_of(project.store)) == []
    assert not [note for note in notes(project, run) if "was lost" in note or "offline engine" in note]


@pytest.mark.usefixtures("literate")
async def test_one_of_two_servers_dies_in_the_middle_of_a_run_and_nothing_is_lost(
    server: Server, mortal: Mortal, tmp_path: Path
) -> None:
    dying = mortal.alive()
    root = make_project(tmp_path / "project", server.base_url, dying.base_url, more=f"context = {CONTEXT}\n")
    with Wire.overheard() as wire, Project.open(root) as project:
        run = begin(project, write_pages(root / "pages", PAGES))
        running = asyncio.create_task(runner.advance(project, run.id))
        await until(lambda: any(call.address == dying.base_url and not call.ended for call in wire.calls))
        await asyncio.to_thread(mortal.kill)
        await until(lambda: any(call.address == dying.base_url and call.error for call in wire.calls))
        asked = len(wire.calls)
        ended_well(project, await running)
    interrupted = {call.request.messages for call in wire.calls if call.error}
    assert all(call.address == dying.base_url for call in wire.calls if call.error)
    assert interrupted <= {call.request.messages for call in wire.calls if call.answer}
    late = [call.address for call in wire.calls[asked:]]
    assert late
    assert dying.base_url not in late


@pytest.mark.usefixtures("literate")
async def test_a_run_waits_for_its_server_and_goes_on_when_it_is_back(mortal: Mortal, tmp_path: Path) -> None:
    told: list[str] = []
    root = make_project(tmp_path / "project", mortal.alive().base_url)
    with Wire.overheard() as wire, Project.open(root) as project:
        run = begin(project, write_pages(root / "pages", PAGES))

        def progress(doing: str, /, *, done: int = 0, total: int | None = None) -> None:
            del done, total
            told.append(doing)

        running = asyncio.create_task(runner.advance(project, run.id, progress=progress))
        await until(lambda: len(wire.answered) >= 2 and any(not call.ended for call in wire.calls))
        await asyncio.to_thread(mortal.kill)
        await until(lambda: any("waits" in doing for doing in told))
        assert not running.done()
        await asyncio.to_thread(mortal.alive)
        ended_well(project, await running)
        assert [one.event for one in project.store.audit.log(subject=f"run:{run.id}")].count("run_moved") == 2


@pytest.mark.usefixtures("literate")
async def test_a_run_whose_server_stays_away_parks_and_goes_on_at_another_address(
    server: Server, mortal: Mortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Patience, "of", lambda *_: 1.0)
    root = make_project(tmp_path / "project", mortal.alive().base_url)
    with Wire.overheard() as wire, Project.open(root) as project:
        run = begin(project, write_pages(root / "pages", PAGES))
        running = asyncio.create_task(runner.advance(project, run.id))
        await until(lambda: len(wire.answered) >= 2 and any(not call.ended for call in wire.calls))
        address = mortal.alive().base_url
        await asyncio.to_thread(mortal.kill)
        parked = await running
        assert parked.status is RunStatus.PARKED
        assert parked.reason is not None
        assert address in parked.reason
        assert f"karkas runs resume {run.id}" in parked.reason
        assert parked.spent.tokens == sum(answer.usage.tokens for answer in wire.answered) > 0
    toml = root / "karkas.toml"
    toml.write_text(toml.read_text().replace(address, server.base_url))
    with Project.open(root) as project:
        ended_well(project, await runner.advance(project, runner.reopen(project, run.id).id))


@pytest.fixture(scope="module")
def cramped(vllm: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Holds 2048 tokens, answers two requests at a time, and turns away whoever comes while four wait."""
    flags: dict[str, Any] = {
        "max_model_len": 2048,
        "max_num_batched_tokens": 2048,
        "max_num_seqs": 2,
        "max_num_queued_reqs": 4,
    }
    with serving(vllm, models, tmp_path_factory.mktemp("cramped"), **flags) as started:
        yield started


async def test_many_runs_on_a_server_that_turns_requests_away_all_end(
    cramped: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long a server takes for this on a busy machine is not what is tried here.
    monkeypatch.setattr(Patience, "of", lambda *_: 1200.0)
    root = make_project(tmp_path / "project", cramped.base_url)
    with Wire.overheard() as wire, Project.open(root) as project:
        runs = [begin(project, root / "docs", f"zone{at}") for at in range(RUNS)]
        models = project.models()
        assert models is not None
        async with models:
            ended = await asyncio.gather(*(runner.advance(project, run.id) for run in runs))
            limit = models._open["default"].each[0].limit.value
    assert {(run.status, run.error) for run in ended} == {(RunStatus.DONE, None)}
    refused = [call for call in wire.calls if isinstance(call.error, PassingFaultError) and call.error.busy]
    assert refused
    assert limit < START
    answered = {call.request.messages for call in wire.calls if call.answer}
    assert {call.request.messages for call in refused} <= answered


@pytest.mark.usefixtures("literate")
def test_what_is_longer_than_the_models_context_is_read_in_pages_that_fit(
    cramped: Server, tmp_path: Path
) -> None:
    root = make_project(tmp_path / "project", cramped.base_url)
    with Wire.overheard() as wire, Project.open(root) as project:
        run = explore(project, write_pages(root / "pages", 1))
        assert (run.status, run.error) == (RunStatus.PARKED, None)
        found = distillate(project)
        assert found.claims
        assert verify(found, text_of(project.store)) == []
        noted = notes(project, run)
        assert not [note for note in noted if "the prompt takes" in note or "left out" in note]
    assert not [call for call in wire.calls if isinstance(call.error, ContextTooLongError)]
    assert max(answer.usage.prompt_tokens for answer in wire.answered) < 2048
    page = (root / "pages" / "page0.md").read_text()
    read = "".join(call.request.messages[1].content for call in wire.calls)
    assert all(line in read for line in page.split() if line.startswith("`limit_"))


def test_a_task_that_is_longer_than_the_models_context_is_refused_in_words(
    cramped: Server, tmp_path: Path
) -> None:
    more = "[zones.lab]\nunderstanding = 5\n"
    root = make_project(tmp_path / "project", cramped.base_url, more=more)
    with Wire.overheard() as wire, Project.open(root) as project:
        given: Any = {"zone": "lab", "task": "write down every word: " + "depot " * 2_000}
        run = asyncio.run(runner.advance(project, runner.begin(project, "act", given, zone="lab").id))
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert "tiny holds 2048" in run.error
    assert not wire.answered


def test_a_schema_that_the_grammar_refuses_ends_the_run_at_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {"type": "string"}}}}
    monkeypatch.setattr(pool, "response_format", lambda _: schema)
    root = make_project(tmp_path / "project", server.base_url)
    with Wire.overheard() as wire, Project.open(root) as project:
        run = explore(project, root / "docs")
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert f"{server.base_url} rejected the request" in run.error
    assert '"not"' in run.error or "'not'" in run.error or "not" in run.error.split("rejected", 1)[1]
    assert len(wire.calls) == 1


class Driven:
    """`karkas explore` in a process of its own, once the server is at work for it."""

    def __init__(self, root: Path, server: Server) -> None:
        self.root, self.server = root, server
        folder = write_pages(root / "pages", MANY)
        self.process = subprocess.Popen(
            [KARKAS, "explore", "depot", "--source", folder, "--project", root],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def at_work(self) -> Run:
        await until(lambda: self.running() > 0)
        with Project.open(self.root) as project:
            (run,) = project.store.runs.list()
        return run

    def running(self) -> float:
        return self.server.metrics()["vllm:num_requests_running"]

    def ended(self) -> tuple[int, str]:
        out, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, out + err


@pytest.fixture
def driven(server: Server, tmp_path: Path) -> Iterator[Driven]:
    driven = Driven(make_project(tmp_path / "project", server.base_url), server)
    yield driven
    driven.process.kill()
    driven.process.wait()


async def test_a_run_that_is_interrupted_leaves_the_server_and_can_be_resumed(driven: Driven) -> None:
    run = await driven.at_work()
    driven.process.send_signal(signal.SIGINT)
    code, said = await asyncio.to_thread(driven.ended)
    assert code == 130
    assert f"karkas runs resume {run.id}" in said
    await until(lambda: driven.running() == 0)
    with Project.open(driven.root) as project:
        left = project.store.runs.get(run.id)
    assert (left.status, left.reason) == (RunStatus.QUEUED, "interrupted")
