"""The distillate: what agents found out about a zone, every claim with its span."""

from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum
from hashlib import sha256
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from karkas.policies.actions import Evidence
from karkas.policies.budgets import StopReason
from karkas.policies.zones import ZoneName


class SourceRank(StrEnum):
    """How much a source's word weighs; a later member weighs less."""

    CODE = "code"
    OFFICIAL_DOCS = "official-docs"
    PACKAGE_DOCS = "package-docs"
    README = "readme"
    REPOSITORY = "repository"
    NOTE = "note"
    WEB = "web"
    UNKNOWN = "unknown"

    @property
    def weight(self) -> int:
        """0 is the weightiest."""
        return _RANKS.index(self)


_RANKS = tuple(SourceRank)


class SourceStatus(StrEnum):
    USED = "used"
    DUPLICATE = "duplicate"
    UNREADABLE = "unreadable"
    SKIPPED = "skipped"


class Facet(StrEnum):
    DEFINITION = "definition"
    MECHANISM = "mechanism"
    PARAMETER = "parameter"
    LIMITS = "limits"
    COMPARISON = "comparison"
    PROCEDURE = "procedure"


class ClaimMode(StrEnum):
    VERBATIM = "verbatim"
    VERBATIM_TRIMMED = "verbatim-trimmed"
    CODE = "code"
    ABSTRACTIVE = "abstractive"


class SupportLabel(StrEnum):
    VERBATIM = "verbatim"
    ENTAILED = "entailed"
    CONTRADICTED = "contradicted"
    UNCLEAR = "unclear"


class ConflictKind(StrEnum):
    NUMERIC = "numeric"
    NEGATION = "negation"
    DEFINITION = "definition"
    VERSION = "version"
    DOC_VS_CODE = "doc-vs-code"


class WeakSpotKind(StrEnum):
    SINGLE_SOURCE = "single_source"
    LOW_RANK_SOURCE = "low_rank_source"
    STALE = "stale"
    NO_EXAMPLE = "no_example"
    UNSUPPORTED = "unsupported"
    """Its passages do not say what the claim says, or say the opposite."""
    UNREADABLE = "unreadable"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EngineInfo(_Part):
    """Which engine spoke. `extractive` is no language model: it copies sentences and compares them by rule."""

    kind: Literal["extractive", "llm"]
    name: str
    version: str
    model: str | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version}{f' ({self.model})' if self.model else ''}"


class Honesty(_Part):
    abstractive: bool
    unsupported_claims: int
    dropped_claims: int


class RunInfo(_Part):
    id: str
    resumed_from: str | None = None
    cycles: int
    stop_reason: StopReason
    stopped_by: str | None = None
    """Which budget or deadline it was: "tokens of the night"."""
    budget: dict[str, float | int | None]
    spent: dict[str, float | int]


class ExtractedText(_Part):
    """The stored extracted text that spans point into: artifact hash, extractor, encoding, repairs made."""

    artifact: str
    extractor: str
    encoding: str
    repairs: tuple[str, ...] = ()
    chars: int
    sha256: str


class SourceRecord(_Part):
    id: str
    kind: str
    """file, package, code, git, url"""
    locator: dict[str, str]
    rank: SourceRank
    title: str = ""
    license: str | None = None
    lang: str | None = None
    modified: str | None = None
    """ISO 8601 date of the source itself where it tells one."""
    status: SourceStatus
    reason: str | None = None
    near_duplicate_of: str | None = None
    bytes: int
    sha256_raw: str
    text: ExtractedText | None = None


class Support(_Part):
    label: SupportLabel
    checked_by: str


class Confidence(_Part):
    level: Literal["high", "medium", "low"]
    why: str


class Claim(_Part):
    id: str
    facet: Facet
    subject: str
    scope: dict[str, str] = {}
    text: str
    mode: ClaimMode
    evidence: tuple[Evidence, ...] = Field(min_length=1)
    support: Support
    confidence: Confidence


class Conflict(_Part):
    id: str
    kind: ConflictKind
    claims: tuple[str, ...] = Field(min_length=2)
    scope: dict[str, str] = {}
    detector: str
    why: str = ""
    score: float = Field(ge=0, le=1)
    label: str = "candidate"
    reviewer: str | None = None
    person: str | None = None


class WeakSpot(_Part):
    id: str
    kind: WeakSpotKind
    claims: tuple[str, ...] = ()
    why: str


class OpenQuestion(_Part):
    id: str
    text: str
    raised_by: str
    would_settle: str


class NotCovered(_Part):
    topic: str
    why: str


class SummarySection(_Part):
    """A part of the summary: a heading and the claims that make it up, in reading order."""

    title: str
    claims: tuple[str, ...]


class Distillate(BaseModel):
    """`karkas.distillate/1`: ONE YAML file that says how a zone works, and how it is known."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal["karkas.distillate/1"] = Field(default="karkas.distillate/1", alias="schema")
    id: str
    zone: ZoneName
    engine: EngineInfo
    honesty: Honesty
    run: RunInfo
    summary: tuple[SummarySection, ...] = ()
    sources: tuple[SourceRecord, ...]
    claims: tuple[Claim, ...]
    conflicts: tuple[Conflict, ...] = ()
    weak_spots: tuple[WeakSpot, ...] = ()
    open_questions: tuple[OpenQuestion, ...] = ()
    not_covered: tuple[NotCovered, ...] = ()


def part_id(prefix: str, *parts: object) -> str:
    """A short id that derives from content alone, so that a repeated run gives the same one.

    >>> part_id("c", "abc", 0, 10) == part_id("c", "abc", 0, 10)
    True
    """
    body = "\x1f".join(str(part) for part in parts)
    return f"{prefix}-{sha256(body.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def distillate_id(content: dict[str, Any]) -> str:
    """Derived from what was found (sources, claims, conflicts, ...), not from the run that found it."""
    return part_id("d", *(f"{key}={content[key]}" for key in sorted(content)))


def breaks(distillate: Distillate, text_of: Callable[[str], str | None]) -> Iterable[str]:
    """Names each break of the chain claim → span → stored text; `text_of` gives the text of an artifact, or None."""
    sources = {source.id: source for source in distillate.sources}
    texts: dict[str, str] = {}
    for source in distillate.sources:
        if source.text is not None:
            text = text_of(source.text.artifact)
            broken = _broken_text(source.text, text)
            if broken is not None:
                yield f"source {source.id}: {broken}"
            elif text is not None:
                texts[source.id] = text
    for claim in distillate.claims:
        for span in claim.evidence:
            broken = _broken_span(span, sources, texts)
            if broken is not None:
                yield f"claim {claim.id}, {span.source}[{span.start}:{span.end}]: {broken}"
        copied = bool(claim.text) and any(claim.text in span.quote for span in claim.evidence)
        if claim.mode is not ClaimMode.ABSTRACTIVE and not copied:
            yield f"claim {claim.id}: says it is {claim.mode}, but its text stands in none of its quotes"
    yield from _dishonest(distillate)
    yield from dangling(distillate)


def _broken_text(record: ExtractedText, text: str | None) -> str | None:
    if text is None:
        return f"its extracted text {record.artifact[:12]} is not stored here"
    if sha256(text.encode("utf-8", "surrogatepass")).hexdigest() != record.sha256:
        return "its stored text does not have the hash that the distillate names"
    if len(text) != record.chars:
        return f"its stored text has {len(text)} characters, not {record.chars}"
    return None


def _broken_span(span: Evidence, sources: dict[str, SourceRecord], texts: dict[str, str]) -> str | None:
    if span.source not in sources:
        return "the distillate has no such source"
    if sources[span.source].text is None:
        return "the source has no text"
    if not span.quote or len(span.quote) != span.end - span.start:
        return "the quote is empty, or not as long as the span"
    if span.source in texts and texts[span.source][span.start : span.end] != span.quote:
        return "the text there is not the quote"
    return None


def _dishonest(distillate: Distillate) -> Iterable[str]:
    """What the file says of itself and does not keep."""
    own_words = [claim for claim in distillate.claims if claim.mode is ClaimMode.ABSTRACTIVE]
    if own_words and not distillate.honesty.abstractive:
        yield f"it says that nothing is abstractive, but claim {own_words[0].id} is"
    if own_words and distillate.engine.kind == "extractive":
        yield f"an extractive engine has no words of its own, but claim {own_words[0].id} is abstractive"
    for claim in own_words:
        if claim.support.label is SupportLabel.VERBATIM:
            yield f"claim {claim.id}: is abstractive, so its support cannot be verbatim"


def dangling(distillate: Distillate) -> Iterable[str]:
    """Names each id given twice, and each reference to a claim or source that the distillate does not hold."""
    parts = {
        "source": [one.id for one in distillate.sources],
        "claim": [one.id for one in distillate.claims],
        "conflict": [one.id for one in distillate.conflicts],
        "weak spot": [one.id for one in distillate.weak_spots],
        "question": [one.id for one in distillate.open_questions],
    }
    for kind, ids in parts.items():
        yield from (
            f"{kind} {name} stands {count} times" for name, count in Counter(ids).items() if count > 1
        )
    claims, sources = set(parts["claim"]), set(parts["source"])
    for owner, names in (
        *((f"conflict {one.id}", one.claims) for one in distillate.conflicts),
        *((f"weak spot {one.id}", one.claims) for one in distillate.weak_spots),
        *((f"summary {one.title!r}", one.claims) for one in distillate.summary),
    ):
        yield from (
            f"{owner}: names claim {name}, which is not there" for name in names if name not in claims
        )
    for source in distillate.sources:
        twin = source.near_duplicate_of
        if twin is not None and twin not in sources:
            yield f"source {source.id}: is nearly the same as {twin}, which is not there"
