"""What an agent asks an engine, and what it gets: the same for a language model and for the offline engine.

An agent builds a `Request`: its role, its stable instructions, the documents it shows, one typed question. The
engine answers with exactly the type that belongs to the question, or raises `EngineRefusedError` where it cannot
answer honestly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from karkas.policies.distillates import EngineInfo
from karkas.server.documents import Document


class Role(StrEnum):
    SCOUT = "scout"
    SUMMARIZER = "summarizer"
    REVIEWER = "reviewer"
    EXECUTOR = "executor"
    CRITIC = "critic"


class Wire(BaseModel):
    """What goes to an engine, or comes back."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Question(Wire):
    """The varying part of a request."""


AnswerT_co = TypeVar("AnswerT_co", bound=BaseModel, covariant=True)
AnswerT = TypeVar("AnswerT", bound=BaseModel)


@dataclass(frozen=True)
class Request(Generic[AnswerT]):
    """One typed question of one agent. `instructions` and `documents` are stable, `question` varies."""

    role: Role
    instructions: str
    question: Question
    answer: type[AnswerT]
    documents: Sequence[Document] = ()


class Usage(Wire):
    """What a call cost. Tokens are 0 where no language model was asked."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    wall_s: float = 0.0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Reply(Generic[AnswerT]):
    value: AnswerT
    engine: EngineInfo
    usage: Usage


class Engine(Protocol):
    """Whatever answers requests."""

    @property
    def info(self) -> EngineInfo: ...

    def answers(self, question: type[Question]) -> bool:
        """Whether it can answer such a question honestly."""
        ...

    async def ask(self, request: Request[AnswerT]) -> Reply[AnswerT]:
        """Answers, or raises `EngineRefusedError` or another `EngineError`."""
        ...
