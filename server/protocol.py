"""What an agent asks an engine, and what it gets: the same for a language model and for the offline engine.

An agent builds a `Request`: its role, its stable instructions, the documents it shows, one typed question. The
engine answers with exactly the type that belongs to the question, or raises `EngineRefusedError` where it cannot
answer honestly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

from karkas.policies.distillates import (
    Claim,
    ClaimMode,
    Conflict,
    EngineInfo,
    Facet,
    OpenQuestion,
    SourceRank,
    SummarySection,
    WeakSpot,
)


class Role(StrEnum):
    SCOUT = "scout"
    SUMMARIZER = "summarizer"
    REVIEWER = "reviewer"
    EXECUTOR = "executor"
    CRITIC = "critic"


class BlockKind(StrEnum):
    """What a block of a document is; only prose, items and signatures are quoted as claims."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    ITEM = "item"
    ROW = "row"
    """One row of a table, header row included."""
    CODE = "code"
    SIGNATURE = "signature"
    """One callable or field of Python code with its defaults."""
    DOCSTRING = "docstring"
    OTHER = "other"
    """Front matter, raw HTML, navigation, badges."""


@dataclass(frozen=True, slots=True)
class Block:
    """A half-open range of code points in the document's text."""

    kind: BlockKind
    start: int
    end: int
    headings: tuple[str, ...] = ()
    """The headings above it, outermost first."""


@dataclass(frozen=True, slots=True)
class Document:
    """A source as stored extracted text, cut into blocks in reading order."""

    source: str
    """The source's id; spans name it."""
    title: str
    text: str
    blocks: tuple[Block, ...]
    rank: SourceRank
    kind: str
    """file, package, code, git, url"""
    path: str
    """Where it is from, in words that a person recognises: a path, `pkg:NAME`, a URL."""
    lang: str
    """ISO 639-1 of most of its prose: en, ru, or `und`."""
    sha256: str
    """Of the UTF-8 text."""
    modified: str | None = None
    """ISO 8601 date of the source itself, where it tells one."""
    meta: dict[str, str] = field(default_factory=dict)
    """Scope that holds for the whole document, such as `package`, `version`, `framework`, `module`."""


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Question(_Wire):
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


class Usage(_Wire):
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


# scout


class Candidate(_Wire):
    """A source that could be read next. `excerpt` is its beginning or the passage that matched a query."""

    key: str
    title: str
    path: str
    rank: SourceRank
    excerpt: str


class WhatNext(Question):
    """Which candidates to read next for these queries, best first, and what else to look for."""

    zone: str
    queries: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    at_most: int


class Choice(_Wire):
    key: str
    relevance: float
    why: str = ""


class ReadNext(_Wire):
    choices: tuple[Choice, ...]
    queries: tuple[str, ...] = ()


# summarizer


class Distil(Question):
    """Claims about the zone out of the documents shown; `queries` say what is still open."""

    zone: str
    queries: tuple[str, ...] = ()
    at_most: int


class Citation(_Wire):
    """A verbatim quote out of the document shown at index `document`; `start` is its code point, where known."""

    document: int
    quote: str
    start: int | None = None


class DraftClaim(_Wire):
    """A claim before its citations were resolved. `score` in 0..1 orders claims within a facet."""

    facet: Facet
    subject: str
    scope: dict[str, str] = {}
    text: str
    mode: ClaimMode
    cites: tuple[Citation, ...]
    score: float


class Distilled(_Wire):
    claims: tuple[DraftClaim, ...]


class Compose(Question):
    """The summary (what it is, how the parts fit, what to choose when, parameters and defaults, where sources
    disagree) and a drafted three-level map, both made of these claims by id.
    """

    zone: str
    claims: tuple[Claim, ...]
    conflicts: tuple[Conflict, ...]
    open_questions: tuple[OpenQuestion, ...]


class MapRule(_Wire):
    title: str
    claims: tuple[str, ...]
    unknowns: tuple[str, ...] = ()


class MapMechanism(_Wire):
    title: str
    claims: tuple[str, ...] = ()
    rules: tuple[MapRule, ...] = ()


class MapArea(_Wire):
    title: str
    mechanisms: tuple[MapMechanism, ...] = ()


class Composed(_Wire):
    summary: tuple[SummarySection, ...]
    areas: tuple[MapArea, ...]


# reviewer


class Review(Question):
    """Conflicts, weak spots and open questions among these claims; the documents shown are their sources."""

    zone: str
    claims: tuple[Claim, ...]
    today: str
    """ISO 8601 date against which age is judged."""


class Reviewed(_Wire):
    conflicts: tuple[Conflict, ...]
    weak_spots: tuple[WeakSpot, ...]
    open_questions: tuple[OpenQuestion, ...]


# executor


class ToolSpec(_Wire):
    """A tool as a model sees it: JSON Schema of its arguments."""

    name: str
    description: str
    parameters: dict[str, JsonValue]


class Propose(Question):
    """Variants of one tool call that would do the task within the frame."""

    zone: str
    task: str
    frame: str
    tools: tuple[ToolSpec, ...]
    at_most: int = 1
    feedback: str = ""


class ToolCall(_Wire):
    tool: str
    args: dict[str, JsonValue]
    why: str = ""


class Proposed(_Wire):
    calls: tuple[ToolCall, ...]
    why: str


# critic


class JudgeAction(Question):
    """Whether this exact action serves the task within the frame. Who proposed it is not said."""

    zone: str
    task: str
    frame: str
    shown: str
    """The exact text that a person would be shown."""


class JudgeMap(Question):
    """Whether the map holds: are these claims supported, these conflicts real, is anything important missing?"""

    zone: str
    claims: tuple[Claim, ...]
    conflicts: tuple[Conflict, ...]


class Judged(_Wire):
    verdict: str
    """pass, object or unsure"""
    reason: str
    findings: tuple[str, ...] = ()


QUESTIONS: dict[type[Question], type[Any]] = {
    WhatNext: ReadNext,
    Distil: Distilled,
    Compose: Composed,
    Review: Reviewed,
    Propose: Proposed,
    JudgeAction: Judged,
    JudgeMap: Judged,
}
"""Which answer belongs to which question."""
