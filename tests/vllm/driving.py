"""Whole runs over a real server: a project, what is explored in it, and what was said on the wire meanwhile."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from karkas import runner
from karkas.agents.distillate import load
from karkas.policies.budgets import Budget
from karkas.policies.distillates import ClaimMode, Distillate, EngineInfo
from karkas.project import Project
from karkas.server.client import Client
from karkas.server.offline import OfflineEngine
from karkas.server.protocol import AnswerT, Engine, Question, Reply, Request
from karkas.server.questions import Distil, Distilled
from karkas.server.wire import ChatAnswer, ChatRequest
from karkas.storage import Run
from karkas.workflows.mapping import distillate_path

DOCUMENTS = Path(__file__).parents[1] / "workflows" / "documents"
PAGE = 30
"""Sections of a document: about 3500 tokens of the tiny model."""


class Literate:
    """The language-model engine, but for its claims: those of the offline engine, called the model's own words.

    A random model quotes nothing that stands in a source, so that all its claims are dropped and nobody is asked to
    review them. All prompts are sent, and all answers but those of the summarizer's reading are used.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine, self._offline = engine, OfflineEngine()

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    def answers(self, question: type[Question]) -> bool:
        return self._engine.answers(question)

    async def ask(self, request: Request[AnswerT]) -> Reply[AnswerT]:
        reply = await self._engine.ask(request)
        if not isinstance(request.question, Distil):
            return reply
        quoted: Any = (await self._offline.ask(request)).value
        own = [claim.model_copy(update={"mode": ClaimMode.ABSTRACTIVE}) for claim in quoted.claims]
        value: Any = Distilled(claims=tuple(own))
        return Reply(value=value, engine=reply.engine, usage=reply.usage)

    @classmethod
    def teach(cls, patch: pytest.MonkeyPatch) -> None:
        """All projects of this process have such an engine."""
        make = Project.engine
        patch.setattr(Project, "engine", lambda *all_: cls(make(*all_)))


@dataclass
class Call:
    """One request, and what became of it: `answer` or `error`, or neither while it is under way."""

    address: str
    request: ChatRequest
    answer: ChatAnswer | None = None
    error: BaseException | None = None

    @property
    def ended(self) -> bool:
        return self.answer is not None or self.error is not None


@dataclass
class Wire:
    """All requests of this process to model servers, in the order in which they went out."""

    calls: list[Call] = field(default_factory=list)

    @property
    def answered(self) -> list[ChatAnswer]:
        return [call.answer for call in self.calls if call.answer is not None]

    @classmethod
    @contextmanager
    def overheard(cls) -> Iterator["Wire"]:
        wire, chat = cls(), Client.chat

        async def overheard(client: Client, request: ChatRequest, **more: Any) -> ChatAnswer:
            call = Call(client.base_url, request)
            wire.calls.append(call)
            try:
                call.answer = await chat(client, request, **more)
            except BaseException as error:
                call.error = error
                raise
            return call.answer

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Client, "chat", overheard)
            yield wire


def make_project(root: Path, *urls: str, more: str = "") -> Path:
    """A project whose model is served at `urls`, and in its folder `docs` a few small documents."""
    Project.init(root).close()
    shutil.copytree(DOCUMENTS, root / "docs")
    (root / "karkas.toml").write_text(f"[model]\nbase_url = {json.dumps(urls)}\n{more}")
    return root


def write_pages(folder: Path, number: int) -> Path:
    """Documents of `PAGE` sections each, all different."""
    folder.mkdir(exist_ok=True)
    for page in range(number):
        parts = [
            f"## Channel {at}\n\nThe `limit_{page}_{at}` parameter of channel {at} defaults to {page + at}. A parcel"
            f" that waits longer than {at + 2} seconds in depot {page} is sent again, because the depot forgets it."
            for at in range(PAGE)
        ]
        (folder / f"page{page}.md").write_text(f"# Depot {page}\n\n" + "\n\n".join(parts) + "\n")
    return folder


def begin(project: Project, folder: Path, zone: str = "depot", *, budget: Budget | None = None) -> Run:
    return runner.begin(
        project, "explore", {"zone": zone, "sources": [str(folder)]}, zone=zone, budget=budget
    )


def explore(project: Project, folder: Path, zone: str = "depot", *, budget: Budget | None = None) -> Run:
    run = begin(project, folder, zone, budget=budget)
    return asyncio.run(runner.advance(project, run.id))


def distillate(project: Project, zone: str = "depot") -> Distillate:
    return load(distillate_path(project.root, zone).read_text())


def notes(project: Project, run: Run) -> list[str]:
    """What the engine noted on the record: what was split, cut, dropped, lost or asked again."""
    events = project.store.audit.log(subject=f"run:{run.id}")
    return [
        str(one.data["text"]) for one in events if one.event == "engine_noted" and isinstance(one.data, dict)
    ]
