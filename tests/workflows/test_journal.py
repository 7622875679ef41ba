"""A run that is taken up again asks no model what it was answered before, and pays for nothing twice."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import END, START
from langgraph.runtime import Runtime
from sqlalchemy import text

from karkas.agents.distillate import load, verify
from karkas.policies.errors import ModelUnavailableError
from karkas.project import Project
from karkas.runner import begin, context
from karkas.server.endpoints import Patience
from karkas.server.pool import ModelPool
from karkas.server.protocol import Instructions, Request, Role
from karkas.server.questions import JudgeAction, Judged
from karkas.storage import Run, RunStatus
from karkas.workflows.context import Context
from karkas.workflows.define import Workflow
from karkas.workflows.lanes import WorkflowState
from karkas.workflows.mapping import distillate_path, text_of

from .conftest import Bench
from .scripted_server import ScriptedServer

KARKAS = Path(sys.executable).with_name("karkas")
WORDS = ["depot", "parcel", "courier", "retry", "wait", "limit", "server", "client", "queue", "batch"]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.stop()


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    chance = random.Random(1)
    for number in range(12):
        lines = [
            f"The {chance.choice(WORDS)} {number} of a {chance.choice(WORDS)} is kept for {at} seconds.\n"
            for at in range(400)
        ]
        (folder / f"{number}.md").write_text(f"# Part {number}\n\n" + "\n".join(lines))
    return folder


def project_at(root: Path, server: ScriptedServer, more: str = "") -> Project:
    Project.init(root).close()
    (root / "karkas.toml").write_text(f'{more}\n[model]\nbase_url = "{server.url}"\n[explore]\nbatch = 8\n')
    return Project.open(root)


def journalled(project: Project, run: str) -> Counter[str]:
    """What an answer is kept of, by the request's digest."""
    with project.store.database.read() as session:
        query = text("SELECT digest FROM journal WHERE run = :run AND answer IS NOT NULL")
        return Counter(session.execute(query, {"run": run}).scalars())


@pytest.mark.parametrize("seed", range(2))
def test_after_a_kill_no_answer_that_was_delivered_is_asked_for_again(
    tmp_path: Path, sources: Path, seed: int
) -> None:
    server, chance = ScriptedServer(delay_s=0.05, at_once=3), random.Random(seed)
    with project_at(tmp_path / "project", server) as project:
        run = begin(project, "explore", {"zone": "depots", "sources": [str(sources)]}, zone="depots")
        resume = [str(KARKAS), "runs", "resume", run.id, "--json"]
        kept, asked, twice = Counter[str](), Counter[str](), Counter[str]()
        for _ in range(2):
            want = kept.total() + chance.randint(3, 6)
            process = subprocess.Popen(resume, cwd=project.root, stdout=subprocess.DEVNULL, stderr=-3)
            while process.poll() is None and journalled(project, run.id).total() < want:
                time.sleep(0.005)
            time.sleep(chance.random() / 20)
            assert process.poll() is None
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            twice += Counter({digest: server.asked[digest] - asked[digest] for digest in kept})
            kept, asked = journalled(project, run.id), Counter(server.asked)
        ended = subprocess.run(resume, cwd=project.root, check=False, capture_output=True, text=True)
        assert json.loads(ended.stdout)["status"] == "parked"
        twice += Counter({digest: server.asked[digest] - asked[digest] for digest in kept})
        assert twice == Counter()
        spent = project.store.runs.get(run.id).spent
        figures = project.store.journal.figures(run=run.id)
        assert (spent.model_calls, spent.tokens) == (len(figures), 30 * len(figures))
        found = load(distillate_path(project.root, "depots").read_bytes())
        assert found.claims
        assert verify(found, text_of(project.store)) == []
        assert project.store.verify() == []
    server.stop()


Asked = list[str]


def judging(*tasks: str, fail: list[bool], said: Asked) -> Workflow:
    """One node that asks about each task in turn, and breaks down at its end while `fail` says so."""

    async def ask(state: WorkflowState, runtime: Runtime[Context]) -> None:
        said.clear()
        for task in tasks:
            reply = await runtime.context.engine.ask(question(task))
            said.append(reply.value.reason)
        if fail.pop():
            raise ModelUnavailableError("the machine lost power")

    workflow = Workflow()
    workflow.add_node("ask", ask)
    return workflow.add_edge(START, "ask").add_edge("ask", END)


def question(task: str) -> Request[Judged]:
    from karkas.agents.prompts import instructions

    told: Instructions = instructions(Role.CRITIC)
    asked = JudgeAction(zone="notes", task=task, frame="", shown=f"write {task}")
    return Request(role=Role.CRITIC, instructions=told, question=asked, answer=Judged)


@pytest.fixture
def asked_by(bench: Bench, server: ScriptedServer) -> Any:
    """The bench's project with that server behind it: gives a run's context."""
    toml = bench.root / "karkas.toml"
    toml.write_text(f'{toml.read_text()}\n[model]\nbase_url = "{server.url}"\n')
    project = bench.project = Project.open(bench.root)
    config = project.settings.language_models
    assert config is not None
    patience = Patience(unattended_s=0.5, waiting_s=0.5)
    project._models = ModelPool(config, environ={}, patience=patience)

    def made(run: Run | None = None) -> Context:
        found = run or project.store.runs.create("test")
        return context(project, found.id)

    return made


def go_on(bench: Bench, asked_by: Any, graph: Workflow, run: Run | None = None) -> Run:
    made = asked_by(run)

    async def within() -> Run:
        from functools import partial

        from karkas.storage import open_checkpointer
        from karkas.workflows.runs import advance as advance_graph

        models = bench.project.models()
        assert models is not None
        async with models:
            return await advance_graph(made, graph, partial(open_checkpointer, bench.project.folder))

    return asyncio.run(within())


def test_a_run_passes_what_was_answered_also_while_no_server_answers(
    bench: Bench, asked_by: Any, server: ScriptedServer
) -> None:
    said: Asked = []
    graph = judging("a", "b", "a", fail=[False, True], said=said)
    run = go_on(bench, asked_by, graph)
    first, spent = list(said), bench.project.store.runs.get(run.id).spent
    assert (run.status, server.asked.total(), spent.model_calls) == (RunStatus.PARKED, 3, 3)
    server.stop()
    run = go_on(bench, asked_by, graph, run)
    assert (run.status, said, server.asked.total()) == (RunStatus.DONE, first, 3)
    assert (run.spent.tokens, run.spent.model_calls) == (spent.tokens, spent.model_calls)
    server.start()


def test_two_equal_requests_stay_two_calls_and_get_the_same_two_answers_again(
    bench: Bench, asked_by: Any, server: ScriptedServer
) -> None:
    said: Asked = []
    verdicts = ["first", "second"]
    server.garbage = [
        json.dumps({"code": "", "findings": [], "reason": one, "verdict": "unsure"}) for one in verdicts[::-1]
    ]
    graph = judging("a", "a", fail=[False, True], said=said)
    run = go_on(bench, asked_by, graph)
    assert [one.rpartition(": ")[2] for one in said] == verdicts
    assert set(server.asked.values()) == {2}
    again = go_on(bench, asked_by, graph, run)
    assert [one.rpartition(": ")[2] for one in said] == verdicts
    assert (again.status, server.asked.total()) == (RunStatus.DONE, 2)


def test_an_answer_that_was_of_no_use_was_paid_for_and_is_not_asked_for_again(
    bench: Bench, asked_by: Any, server: ScriptedServer
) -> None:
    said: Asked = []
    server.garbage = ["no JSON at all"]
    graph = judging("a", fail=[False, True], said=said)
    run = go_on(bench, asked_by, graph)
    assert server.asked.total() == 2  # it was corrected
    again = go_on(bench, asked_by, graph, run)
    assert (again.status, server.asked.total(), again.spent.model_calls) == (RunStatus.DONE, 2, 2)


@pytest.mark.parametrize(
    "forged",
    [
        """UPDATE journal SET answer = replace(answer, 'unsure', 'pass')""",
        """UPDATE journal SET answer = '{"model": "tiny", "choices": []}'""",
        """UPDATE journal SET seal = NULL""",
        """UPDATE journal SET learnt = '{"served:default": ["other", 100, true]}'""",
        """UPDATE journal SET n = n + 0, engine = engine, role = 'executor'""",
    ],
)
def test_an_answer_that_somebody_wrote_into_the_journal_is_not_used_and_that_is_noted(
    bench: Bench, asked_by: Any, server: ScriptedServer, forged: str
) -> None:
    said: Asked = []
    server.said["verdict"] = "unsure"
    graph = judging("a", fail=[False, True], said=said)
    run = go_on(bench, asked_by, graph)
    store = bench.project.store
    with store.database.connection(write=True) as connection:
        connection.execute(text(forged))
    again = go_on(bench, asked_by, graph, run)
    assert (again.status, server.asked.total()) == (RunStatus.DONE, 2)
    (noted,) = [one for one in store.audit.log(subject=f"run:{run.id}") if one.event == "journal_refused"]
    assert noted.data == {"answers": 1}


def test_another_runs_answer_is_nobody_elses(bench: Bench, asked_by: Any, server: ScriptedServer) -> None:
    said: Asked = []
    for graph in (judging("a", fail=[True], said=said), judging("a", fail=[False], said=said)):
        go_on(bench, asked_by, graph)
    assert server.asked.total() == 2


def test_what_a_model_said_before_a_person_switched_is_not_what_another_says(
    bench: Bench, asked_by: Any, server: ScriptedServer
) -> None:
    said: Asked = []
    graph = judging("a", fail=[False, True], said=said)
    run = go_on(bench, asked_by, graph)
    bench.project.store.runs.release_engine(run.id, by="ada", reason="switched")
    go_on(bench, asked_by, graph, run)
    assert server.asked.total() == 2


def test_when_the_run_is_done_its_figures_stay_and_its_answers_go(
    bench: Bench, asked_by: Any, server: ScriptedServer
) -> None:
    run = go_on(bench, asked_by, judging("a", "b", fail=[False], said=[]))
    journal = bench.project.store.journal
    assert journalled(bench.project, run.id) == Counter()
    figures = journal.figures(run=run.id)
    assert [(one.role, one.model, one.tokens, one.segment) for one in figures] == [
        ("critic", "tiny", 30, 1)
    ] * 2
    assert journal.figures(since=figures[1].at)[-1] == figures[1]
    assert journal.figures(until=figures[0].at) == []


def test_a_call_that_no_server_answered_leaves_nothing_in_the_journal(
    bench: Bench, asked_by: Any, server: ScriptedServer
) -> None:
    server.fail_after = 1
    run = go_on(bench, asked_by, judging("a", "b", fail=[False], said=[]))
    assert run.status is RunStatus.PARKED
    assert sum(journalled(bench.project, run.id).values()) == 1
    assert run.spent.tokens == 30
