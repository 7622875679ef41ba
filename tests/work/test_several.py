"""Several workers at one project, on SQLite and on PostgreSQL: who goes on, and how many at once."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.workflows.scripted_server import ScriptedServer

from karkas.project import Project
from karkas.runner import begin
from karkas.storage import Run, RunStatus

from .conftest import command, on_both, queue, seen, standing, until, worker


@on_both
def test_what_a_killed_worker_was_at_work_on_goes_on_elsewhere_by_itself(
    root: Path, opened: Callable[[], Project]
) -> None:
    project = opened()
    (root / "wait").touch()
    runs = queue(project, "steps", *"abcdef")
    with worker("--concurrency", "3") as first:
        until(lambda: len(seen()) == 3)
        (one,) = project.store.workers.all()
        assert (one.pid, one.concurrency, len(one.runs)) == (first.pid, 3, 3)
        with worker("--concurrency", "6"):
            until(lambda: len(seen()) == 6)
            first.kill()
            first.wait()
            until(lambda: len(seen()) == 9)  # the three that were begun begin again
            (root / "wait").unlink()
            until(lambda: set(standing(project, runs)) == {RunStatus.DONE})
    assert Counter(line for line in seen() if line.startswith("ends")) == Counter(
        f"ends {name}" for name in "abcdef"
    )
    assert project.store.verify() == []


@on_both
def test_a_zone_has_its_limit_over_all_workers_and_the_others_go_on(
    root: Path, opened: Callable[[], Project]
) -> None:
    with (root / "karkas.toml").open("a") as file:
        file.write("\n[work]\nzones = {notes = 1}\n")
    project = opened()
    (root / "wait").touch()
    bound = queue(project, "steps", "a", "b", "c", zone="notes")
    free = queue(project, "steps", "x", "y")
    with worker("--concurrency", "4"), worker("--concurrency", "4"):
        until(lambda: len(seen()) == 3)
        assert Counter(standing(project, bound)) == {RunStatus.RUNNING: 1, RunStatus.QUEUED: 2}
        assert standing(project, free) == [RunStatus.RUNNING] * 2
        (root / "wait").unlink()
        until(lambda: set(standing(project, bound + free)) == {RunStatus.DONE})
    order = [line for line in seen() if line[-1] in "abc"]
    assert [line.split()[0] for line in order] == ["begins", "ends"] * 3


@on_both
def test_what_a_person_just_decided_goes_before_the_night(root: Path, opened: Callable[[], Project]) -> None:
    project = opened()
    (root / "wait").touch()
    queue(project, "steps", "first")
    with worker("--concurrency", "1"):
        until(lambda: seen() == ["begins first"])
        queue(project, "steps", "night")
        (decided,) = queue(project, "steps", "decided")
        until(lambda: len(project.store.runs.due(project.store.clock())) == 3)
        with project.store.database.connection(write=True) as connection:
            connection.execute(text("UPDATE run SET priority = 0 WHERE id = :id"), {"id": decided.id})
        time.sleep(3)  # all three have found their places in the queue
        (root / "wait").unlink()
        until(lambda: len(seen()) == 6)
    assert [line for line in seen() if line.startswith("begins")] == [
        "begins first",
        "begins decided",
        "begins night",
    ]


FLOW = '''
import asyncio

from langgraph.runtime import Runtime

from karkas import END, START, Context, Workflow, WorkflowState
from karkas.agents.prompts import instructions
from karkas.policies.distillates import SourceRank
from karkas.server.protocol import Request, Role
from karkas.server.questions import Candidate, ReadNext, WhatNext


class State(WorkflowState, total=False):
    name: str


async def ask(state: State, runtime: Runtime[Context]) -> State:
    """Asks eight questions at once."""

    async def one(number: int) -> None:
        candidates = tuple(
            Candidate(key=key, title=key, path=key, rank=SourceRank.UNKNOWN, excerpt="text") for key in ("a", "b")
        )
        queries = (f"{number} of {state['name']}",)
        question = WhatNext(zone="notes", queries=queries, candidates=candidates, at_most=1)
        asked = Request(role=Role.SCOUT, instructions=instructions(Role.SCOUT), question=question, answer=ReadNext)
        await runtime.context.engine.ask(asked)

    await asyncio.gather(*map(one, range(8)))
    return {}


flow = Workflow(State)
flow.add_node("ask", ask)
flow.add_edge(START, "ask").add_edge("ask", END)
'''
QUESTIONS = 8


class Server(ScriptedServer):
    """Also says whose question it answered, in order."""

    def __init__(self) -> None:
        super().__init__(delay_s=0.2)
        self.answered: list[str] = []

    def reply(self, body: dict[str, Any], tokens: int) -> dict[str, Any]:
        self.answered += re.findall(r"\d of (\w+)", json.dumps(body["messages"]))[:1]
        return super().reply(body, tokens)


@pytest.fixture
def servers(root: Path, request: pytest.FixtureRequest) -> Iterator[list[Server]]:
    """Servers of the project's model, each of which may have one call in flight."""
    servers = [Server() for _ in range(request.param)]
    (root / "asks.py").write_text(FLOW)
    with (root / "karkas.toml").open("a") as file:
        urls = [server.url for server in servers]
        file.write(f"\n[model]\nbase_url = {urls}\nmodel = 'tiny'\ncontext = 8192\nmax_in_flight = 1\n")
    yield servers
    for server in servers:
        server.stop()


def askers(project: Project, names: str) -> list[Run]:
    now = project.store.clock()
    return [begin(project, "asks.py:flow", {"name": name}, due_at=now) for name in names]


def who_took_up(project: Project) -> set[str]:
    return {entry.actor for entry in project.store.happened.events("run_taken_up")}


@on_both
@pytest.mark.parametrize("servers", [2], indirect=True)
def test_each_model_server_has_its_limit_over_all_workers(
    opened: Callable[[], Project], servers: list[Server]
) -> None:
    project = opened()
    runs = askers(project, "abcdefgh")
    with worker("--concurrency", "2"), worker("--concurrency", "2"):
        until(lambda: set(standing(project, runs)) == {RunStatus.DONE})
    assert len(who_took_up(project)) == 2
    assert all(server.answered for server in servers)
    assert sum(len(server.answered) for server in servers) == QUESTIONS * len(runs)
    assert [server.most for server in servers] == [1, 1]
    assert project.store.verify() == []


@on_both
@pytest.mark.parametrize("servers", [1], indirect=True)
def test_who_waits_for_an_answer_goes_before_the_night_of_all_workers(
    opened: Callable[[], Project], servers: list[Server]
) -> None:
    project, (server,) = opened(), servers
    runs = askers(project, "abcdefghijklmnopqrstuvwxyz")
    with worker("--concurrency", "4"), worker("--concurrency", "4"):
        until(lambda: len(who_took_up(project)) == 2 and len(server.answered) > 2)
        assert command("run", "asks.py:flow", "--input", '{"name": "ada"}').code == 0
        assert RunStatus.QUEUED in standing(project, runs), "the night was through before"
    first = server.answered.index("ada")
    assert server.answered[first + 1 :].count("ada") == QUESTIONS - 1
    assert server.answered[first + 2 : first + 1 + QUESTIONS].count("ada") >= QUESTIONS - 2
    assert server.most == 1
