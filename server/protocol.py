"""What an agent asks an engine, and what it gets: the same for a language model and for the offline engine.

An agent builds a `Request`: its role, its stable instructions, the documents it shows, one typed question. The
engine answers with exactly the type that belongs to the question, or raises `EngineRefusedError` where it cannot
answer honestly.
"""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

from karkas.policies.distillates import EngineInfo
from karkas.policies.errors import BudgetReachedError
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
class Instructions:
    """What a role is told, out of readable files: what all roles are told alike, what it is, and how it does each of
    its tasks. `version` is a hash of all of it.
    """

    shared: str = ""
    role: str = ""
    tasks: Mapping[str, str] = field(default_factory=dict)
    version: str = ""

    @cached_property
    def text(self) -> str:
        """All of it as one text that a person reads."""
        tasks = [f"# {name}\n\n{text}" for name, text in self.tasks.items()]
        return "\n\n".join(part for part in (self.shared, self.role, *tasks) if part) + "\n"


@dataclass(frozen=True)
class Request(Generic[AnswerT]):
    """One typed question of one agent. `instructions` and `documents` are stable, `question` varies."""

    role: Role
    instructions: Instructions
    question: Question
    answer: type[AnswerT]
    documents: Sequence[Document] = ()


class Usage(Wire):
    """What an answer cost, over all its calls. Tokens are 0 where no language model was asked."""

    calls: int = 1
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    wall_s: float = 0.0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{name: used + getattr(other, name) for name, used in vars(self).items()})


@dataclass(frozen=True)
class Reply(Generic[AnswerT]):
    value: AnswerT
    engine: EngineInfo
    usage: Usage


@dataclass(frozen=True)
class Answered:
    """An answer as it came (JSON), to be kept before it is used: what digest its request had, and how often the same
    had been asked before.
    """

    role: Role
    engine: EngineInfo
    model: str
    digest: str
    n: int
    text: str


class Caller:
    """For whom an engine asks. Engines report every call to it; this one allows everything and records nothing."""

    run: str = ""
    """Slots of a model server are shared out evenly over runs."""
    waiting: bool = False
    """A person waits for the answer: it goes first, and progress is shown while it is written."""

    @property
    def alone(self) -> bool:
        """Whether no other call is under way: of several, none tells how many tokens it has written."""
        return True

    async def before(self, engine: EngineInfo, request: Request[Any]) -> bool:
        """Called before each call. False: a budget is reached, so the engine winds up with what it has.

        Raises `EngineChangedError` where another engine began the run.
        """
        del engine, request
        return True

    def reached(self) -> BudgetReachedError:
        """What to raise where `before` has allowed no call."""
        return BudgetReachedError()

    def under_way(self, tokens: int) -> AbstractAsyncContextManager[str | None]:
        """Entered as soon as `before` has allowed a call, and left when it has ended in whatever way: by then it may
        cost as many `tokens`, which are reserved. Gives the name of what is reserved.

        Raises `BudgetReachedError` where others have used up meanwhile what is shared with them.
        """
        del tokens
        return nullcontext()

    async def after(self, usage: Usage, *, hold: str | None = None, answer: Answered | None = None) -> None:
        """Called as soon as it is known what one call cost, also where its answer was of no use; with the answer, if
        there is one, before anybody looks at it.
        """

    def asks(self, digest: str) -> int:
        """Counts a request; says how often it was made before."""
        del digest
        return 0

    def takes_back(self, digest: str) -> None:
        """The request that was just counted is made in another way."""

    async def kept(self, engine: EngineInfo, digest: str, n: int) -> str | None:
        """What this engine answered to the request before the run was taken up: it is not asked again."""
        del engine, digest, n
        return None

    async def recall(self, key: str) -> JsonValue:
        """What was learnt of the servers under this key, so that a run that goes on asks as it began; else None."""
        del key
        return None

    def learn(self, key: str, value: JsonValue) -> None:
        """Something that requests depend on, to be kept with the next answer."""

    async def code(self, text: str, size: int) -> str:
        """As many bytes, in hexadecimal, as nobody can know who wrote `text` or anything in it."""
        del text
        return secrets.token_hex(size)

    async def note(self, text: str) -> None:
        """Something that the record should hold, in a sentence: what was trimmed, split, dropped or asked again."""

    def progress(self, doing: str, /, *, done: int = 0, total: int | None = None) -> None:
        """What is being done, and how far."""


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
