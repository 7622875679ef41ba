"""The engine without a language model: it copies, counts and compares, says so, and refuses the rest."""

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import cast

from pydantic import BaseModel

from karkas.policies.distillates import EngineInfo
from karkas.policies.errors import ModelNeededError
from karkas.server import tracing
from karkas.server.documents import Document
from karkas.server.offline.compose import compose
from karkas.server.offline.distil import distil
from karkas.server.offline.review import review
from karkas.server.offline.scouting import what_next
from karkas.server.protocol import AnswerT, Caller, Question, Reply, Request, Usage
from karkas.server.questions import Compose, Distil, Review, WhatNext

VERSION = "2"
"""Raised with every change that gives other claims, conflicts or maps for the same input."""


class OfflineEngine:
    """Extractive and deterministic: the same request gives the same answer. Nothing leaves the process."""

    def __init__(self, caller: Caller | None = None) -> None:
        self._caller = caller or Caller()

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(kind="extractive", name="offline", version=VERSION)

    def answers(self, question: type[Question]) -> bool:
        return question in {WhatNext, Distil, Compose, Review}

    @tracing.agent
    async def ask(self, request: Request[AnswerT]) -> Reply[AnswerT]:
        """Answers in a worker thread; raises `ModelNeededError` for what needs judgement."""
        if not self.answers(type(request.question)):
            raise ModelNeededError(
                f"the offline engine has no language model and cannot answer {type(request.question).__name__}"
                " honestly; name a model server under [model] in karkas.toml (`karkas doctor` checks it), or decide"
                " yourself"
            )
        begun = perf_counter()
        await self._caller.before(self.info, request)
        value = await asyncio.to_thread(_answer, request.question, request.documents)
        usage = Usage(wall_s=perf_counter() - begun)
        await self._caller.after(usage)
        return Reply(value=cast("AnswerT", value), engine=self.info, usage=usage)


def _answer(question: Question, documents: Sequence[Document]) -> BaseModel:
    match question:
        case WhatNext():
            return what_next(question)
        case Distil():
            return distil(question, documents)
        case Review():
            return review(question, documents)
        case Compose():
            return compose(question, documents)
        case _:
            raise AssertionError(question)
