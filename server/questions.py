"""The typed questions that agents ask, role by role, and the answer that belongs to each."""

from typing import Any, Literal

from pydantic import Field, JsonValue

from karkas.policies.distillates import (
    Claim,
    ClaimMode,
    Conflict,
    Facet,
    OpenQuestion,
    SourceRank,
    SummarySection,
    SupportLabel,
    WeakSpot,
)
from karkas.server.protocol import Question, Wire


class Candidate(Wire):
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


class Choice(Wire):
    key: str
    relevance: float
    why: str = ""


class ReadNext(Wire):
    choices: tuple[Choice, ...]
    queries: tuple[str, ...] = ()


class Distil(Question):
    """Claims about the zone out of the documents shown; `queries` say what is still open."""

    zone: str
    queries: tuple[str, ...] = ()
    at_most: int


class Citation(Wire):
    """A verbatim quote out of the document shown at index `document`; `start` is its code point, where known."""

    document: int
    quote: str
    start: int | None = None


class DraftClaim(Wire):
    """A claim before its citations were resolved. `score` in 0..1 orders claims within a facet."""

    facet: Facet
    subject: str
    scope: dict[str, str] = Field(default_factory=dict)
    text: str
    mode: ClaimMode
    cites: tuple[Citation, ...]
    score: float


class Distilled(Wire):
    claims: tuple[DraftClaim, ...]


class Compose(Question):
    """The summary (what it is, how the parts fit, what to choose when, parameters and defaults, where sources
    disagree) and a drafted three-level map, both made of these claims by id.
    """

    zone: str
    claims: tuple[Claim, ...]
    conflicts: tuple[Conflict, ...]
    open_questions: tuple[OpenQuestion, ...]


class MapRule(Wire):
    title: str
    claims: tuple[str, ...]
    unknowns: tuple[str, ...] = ()


class MapMechanism(Wire):
    title: str
    claims: tuple[str, ...] = ()
    rules: tuple[MapRule, ...] = ()


class MapArea(Wire):
    title: str
    mechanisms: tuple[MapMechanism, ...] = ()


class Composed(Wire):
    summary: tuple[SummarySection, ...]
    areas: tuple[MapArea, ...]
    by_rule: tuple[Literal["summary", "map"], ...] = ()
    """Parts that follow from the claims by rule: no language model chose their order."""


class CheckSupport(Question):
    """Whether the passages that these claims cite say what the claims say; the documents shown hold the passages."""

    zone: str
    claims: tuple[Claim, ...]


class Supported(Wire):
    """How far its passages carry the claim with this id: `entailed`, `contradicted` or `unclear`."""

    claim: str
    label: SupportLabel
    why: str = ""


class SupportChecked(Wire):
    """A claim that is not named was not judged."""

    claims: tuple[Supported, ...]


class Review(Question):
    """Conflicts, weak spots and open questions among these claims; the documents shown are their sources."""

    zone: str
    claims: tuple[Claim, ...]
    today: str
    """ISO 8601 date against which age is judged."""
    fresh: tuple[str, ...] = ()
    """Claims that no review has seen yet, by id; `known` holds what earlier ones found among the others."""
    known: tuple[Conflict, ...] = ()


class Reviewed(Wire):
    conflicts: tuple[Conflict, ...]
    weak_spots: tuple[WeakSpot, ...]
    open_questions: tuple[OpenQuestion, ...]


class ToolSpec(Wire):
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


class ToolCall(Wire):
    tool: str
    args: dict[str, JsonValue]
    why: str = ""


class Proposed(Wire):
    calls: tuple[ToolCall, ...]
    why: str


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


class Finding(Wire):
    """What speaks against it, and the words of the shown text that show it, where it named some that stand there."""

    text: str
    quote: str = ""


class Judged(Wire):
    verdict: str
    """pass, object or unsure"""
    reason: str
    findings: tuple[Finding, ...] = ()


QUESTIONS: dict[type[Question], type[Any]] = {
    WhatNext: ReadNext,
    Distil: Distilled,
    Compose: Composed,
    CheckSupport: SupportChecked,
    Review: Reviewed,
    Propose: Proposed,
    JudgeAction: Judged,
    JudgeMap: Judged,
}
"""Which answer belongs to which question."""
