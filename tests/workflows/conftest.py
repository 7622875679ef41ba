"""A real project in a temporary folder, and an engine that answers as the test says (a fake only for the model)."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from karkas import runner
from karkas.agents.distillate import dump
from karkas.policies.budgets import StopReason
from karkas.policies.distillates import Distillate, EngineInfo, Honesty, RunInfo
from karkas.policies.errors import BudgetReachedError, EngineRefusedError
from karkas.policies.frames import Frame, Rule
from karkas.project import Project
from karkas.server.protocol import AnswerT, Caller, Question, Reply, Request, Usage
from karkas.storage import Gate, Run, open_checkpointer
from karkas.workflows.context import Context
from karkas.workflows.runs import Graph, Unattended, advance

ZONES = """
[zones.notes]
understanding = 3
scope = {paths = ["notes"]}

[zones.drafts]
understanding = 0
scope = {paths = ["drafts"]}

[zones.lab]
understanding = 5
scope = {paths = ["lab"]}
"""


SCRIPTED = EngineInfo(kind="llm", name="scripted", version="1", model="a test's script")


@dataclass
class ScriptedEngine:
    """Answers the questions that it has an answer for, and refuses the others as the offline engine does."""

    replies: dict[type[Question], Callable[[Any], Any]] = field(default_factory=dict)
    asked: list[Question] = field(default_factory=list)
    info: EngineInfo = field(default_factory=lambda: SCRIPTED)
    caller: Caller = field(default_factory=Caller)

    def answers(self, question: type[Question]) -> bool:
        return question in self.replies

    async def ask(self, request: Request[AnswerT]) -> Reply[AnswerT]:
        self.asked.append(request.question)
        if not self.answers(type(request.question)):
            raise EngineRefusedError("there is no language model")
        if not await self.caller.before(self.info, request):
            raise BudgetReachedError
        value = self.replies[type(request.question)](request.question)
        usage = Usage(prompt_tokens=10, completion_tokens=5)
        await self.caller.after(usage)
        return Reply(value=value, engine=self.info, usage=usage)


@dataclass
class Bench:
    """A project, an engine, and the runs of one test."""

    project: Project
    engine: ScriptedEngine

    @property
    def root(self) -> Path:
        return self.project.root

    def begin(self, graph: Graph, **input_: Any) -> tuple[Run, Context]:
        run = self.project.store.runs.create("test", input=input_)
        context = replace(runner.context(self.project, run.id), engine=self.engine)
        self.engine.caller = context.caller
        return run, context

    def advance(self, context: Context, graph: Graph, *, unattended: Unattended | None = None) -> Run:
        saver = partial(open_checkpointer, self.project.folder)
        return asyncio.run(advance(context, graph, saver, unattended=unattended))

    def run(self, graph: Graph, **input_: Any) -> tuple[Run, Context]:
        _, context = self.begin(graph, **input_)
        return self.advance(context, graph), context

    def waiting(self) -> list[Gate]:
        return [gate for gate in self.project.store.gates.list() if gate.status.waits]

    def the_gate(self) -> Gate:
        (gate,) = self.waiting()
        return gate


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    root = tmp_path / "project"
    root.mkdir()
    (root / "karkas.toml").write_text(ZONES)
    with Project.init(root) as project:
        for zone in ("notes", "drafts"):
            frame_by_hand(project, zone)
        yield Bench(project, ScriptedEngine())


def frame_by_hand(project: Project, zone: str, *, rule: Rule = Rule.ALLOW, **selectors: Any) -> None:
    """Puts a zone on framed ground at the level that its understanding gives, without exploring it."""
    zones, level = project.store.zones, project.zones()[zone].level
    distillate = Distillate(
        id="d-by-hand",
        zone=zone,
        engine=EngineInfo(kind="extractive", name="by hand", version="1"),
        honesty=Honesty(abstractive=False, unsupported_claims=0, dropped_claims=0),
        run=RunInfo(id="r-0", cycles=1, stop_reason=StopReason.SATURATED, budget={}, spent={}),
        sources=(),
        claims=(),
    )
    artifact = project.store.artifacts.put_text(dump(distillate))
    zones.set_distillate(
        zone, id=distillate.id, sha256=artifact, artifact=artifact, path="by-hand.yaml", actor="test"
    )
    nodes = [
        {"id": "n1", "level": 1, "title": "Area"},
        {"id": "n1.1", "level": 2, "title": "Mechanism", "parent": "n1"},
        {"id": "n1.1.1", "level": 3, "title": "Rule", "parent": "n1.1", "rule": rule.value, **selectors},
    ]
    frame = {
        "schema": "karkas.frame/1",
        "zone": zone,
        "distillate": {"id": distillate.id, "sha256": artifact},
        "author": "ada",
        "level": level.value,
        "nodes": nodes,
    }
    text = json.dumps(Frame.model_validate(frame).model_dump(mode="json", by_alias=True))
    zones.set_frame(
        zone,
        frame=project.store.artifacts.put_text(text),
        level=level,
        author="ada",
        distillate_sha256=artifact,
    )
