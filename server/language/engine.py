"""The engine with a language model: each question goes to the function that answers it."""

from collections.abc import Sequence
from time import perf_counter
from typing import cast

from pydantic import BaseModel

from karkas.policies.distillates import EngineInfo
from karkas.policies.errors import EngineRefusedError
from karkas.server import tracing
from karkas.server.asking import Models
from karkas.server.documents import Document
from karkas.server.language.compose import compose
from karkas.server.language.distil import distil
from karkas.server.language.judge import judge_action, judge_map
from karkas.server.language.prompt import Asking
from karkas.server.language.propose import propose
from karkas.server.language.review import review
from karkas.server.language.scouting import what_next
from karkas.server.language.support import check_support
from karkas.server.protocol import AnswerT, Caller, Question, Reply, Request
from karkas.server.questions import (
    QUESTIONS,
    CheckSupport,
    Compose,
    Distil,
    JudgeAction,
    JudgeMap,
    Propose,
    Review,
    WhatNext,
)

VERSION = "1"
"""Raised with every change that gives other answers for the same request and the same words of the model."""


class LanguageEngine:
    """Asks `models`, and believes them nothing that it can check."""

    def __init__(self, models: Models, caller: Caller | None = None) -> None:
        self._models = models
        self._caller = caller or Caller()
        self._info = EngineInfo(kind="llm", name="language-model", version=VERSION)

    @property
    def info(self) -> EngineInfo:
        """Before the first answer without the models, whose names may still be to be asked of their servers."""
        return self._info

    def answers(self, question: type[Question]) -> bool:
        return question in QUESTIONS

    @tracing.agent
    async def ask(self, request: Request[AnswerT]) -> Reply[AnswerT]:
        """Raises what `Models.ask` raises, where nothing of an answer can be saved."""
        begun = perf_counter()
        self._info = await self._models.info()
        asking = Asking(self._models, request, self._caller)
        value = await _answer(asking, request.question, request.documents)
        usage = asking.usage.model_copy(update={"wall_s": perf_counter() - begun})
        return Reply(value=cast("AnswerT", value), engine=self._info, usage=usage)


async def _answer(asking: Asking, question: Question, documents: Sequence[Document]) -> BaseModel:  # noqa: PLR0911
    match question:
        case WhatNext():
            return await what_next(asking, question)
        case Distil():
            return await distil(asking, question, documents)
        case Compose():
            return await compose(asking, question, documents)
        case CheckSupport():
            return await check_support(asking, question, documents)
        case Review():
            return await review(asking, question, documents)
        case Propose():
            return await propose(asking, question)
        case JudgeAction():
            return await judge_action(asking, question)
        case JudgeMap():
            return await judge_map(asking, question, documents)
        case _:
            raise EngineRefusedError(f"the engine knows no question {type(question).__name__!r}")
