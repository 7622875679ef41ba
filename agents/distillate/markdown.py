"""The distillate as Markdown that a person would rather read. Sources cannot put structure, HTML or links into it."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from karkas.agents.distillate.document import made_by
from karkas.agents.distillate.places import Places, limits
from karkas.policies.actions import Evidence
from karkas.policies.distillates import Claim, ClaimMode, Conflict, Distillate, Facet, SourceStatus
from karkas.policies.rendering import visible_line

_STOPPED = {
    "saturated": "further reading brought nothing new",
    "budget": "the budget was spent",
    "deadline": "the deadline came",
    "sources_exhausted": "every source was read",
    "stopped": "it was stopped",
}
_FACETS = {
    Facet.DEFINITION: "What things are",
    Facet.MECHANISM: "How it works",
    Facet.PARAMETER: "Parameters and defaults",
    Facet.LIMITS: "Limits and traps",
    Facet.COMPARISON: "Comparisons",
    Facet.PROCEDURE: "How it is done",
}
_TABLE_CELL = 240
"""Code points; longer claims read better in a list than in a table."""

_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\s[^()]*)?\)")
_REFERENCE = re.compile(r"\[(`[^`]+`)\]")
_ROLE = re.compile(r":(?:\w+:)?\w+:`~?(?:[^`<]*<)?(?:[\w.]*\.)?([^`<>]+?)>?`")
_LITERAL = re.compile(r"``([^`]+)``")
_BOLD = re.compile(r"(?<![\w*])\*\*([^*\s](?:[^*]*[^*\s])?)\*\*(?![\w*])")
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_SPECIAL = re.compile(r"[\\`*\[\]|~$@^]|(?<![^\W_])_|_(?![^\W_])")
_START = re.compile(r"^(?:([#+=>-])|(\d+)([.)]))")
_CELL = re.compile(r"\s*(?<!\\)\|\s*")
_AUTOLINK = re.compile(r"(https?|ftp)(://)|(www)(\.)|(mailto|xmpp)(:)", re.IGNORECASE)


def to_markdown(distillate: Distillate, text_of: Callable[[str], str | None] | None = None) -> str:
    """The distillate in reading order, each claim with a footnote to its source.

    With `text_of` (the stored text of a SHA-256, or None) footnotes give lines; without it, code points.
    """
    return "\n".join(_Page(distillate, text_of).lines()).rstrip() + "\n"


def escaped(text: str) -> str:
    """`text` on one line as Markdown that shows it: links lose their targets, bold its stars, code spans stay.

    Inline markup of reStructuredText, as docstrings have it, is shown as code spans too.
    """
    text = visible_line(" ".join(text.split()))
    text = _LITERAL.sub(r"`\1`", _ROLE.sub(r"`\1`", text))
    text = _BOLD.sub(r"\1", _REFERENCE.sub(r"\1", _LINK.sub(r"\1", text)))
    parts, at = [], 0
    for code in _CODE.finditer(text):
        parts += [_plain(text[at : code.start()]), f"`{code[1].replace('|', chr(92) + '|')}`"]
        at = code.end()
    parts.append(_plain(text[at:]))
    return _START.sub(
        lambda match: f"\\{match[1]}" if match[1] else f"{match[2]}\\{match[3]}", "".join(parts)
    )


def _cells(text: str) -> str:
    """A row of a table as its cells, side by side."""
    row = text.strip()
    return " · ".join(_CELL.split(row.strip("|").strip())) if row[:1] == "|" == row[-1:] else text


def code(text: str) -> str:
    """`text` as a code span, whatever it holds."""
    text = visible_line(" ".join(text.split())).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text[:1] in {"`", ""} or text[-1:] == "`" else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _plain(text: str) -> str:
    text = _SPECIAL.sub(lambda match: f"\\{match[0]}", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _AUTOLINK.sub(lambda match: "\\".join(part for part in match.groups() if part), text)


@dataclass
class _Page:
    distillate: Distillate
    text_of: Callable[[str], str | None] | None
    notes: dict[str, int] = field(default_factory=dict)
    texts: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.claims = {claim.id: claim for claim in self.distillate.claims}
        self.sources = {source.id: source for source in self.distillate.sources}
        self.places = Places(self.distillate.sources)

    def lines(self) -> Iterator[str]:
        yield from self._head()
        told: set[str] = set()
        for section in self.distillate.summary:
            claims = self._named(section.claims)
            if claims and "disagree" not in section.title.lower():
                yield from (f"## {escaped(section.title)}", "", *self._claims(claims), "")
                told.update(claim.id for claim in claims)
        yield from self._conflicts()
        yield from self._gaps()
        yield from self._rest(told)
        yield from self._sources()
        yield from self._footnotes()

    def _head(self) -> Iterator[str]:
        one = self.distillate
        used = sum(source.status is SourceStatus.USED for source in one.sources)
        counted = f"{_many(len(one.claims), 'claim')} out of {_many(used, 'source')}"
        disagree = _many(len(one.conflicts), "place")
        doubts = f"{disagree} where sources disagree, {_many(len(one.weak_spots), 'weak spot')}"
        cycles = f"{_many(one.run.cycles, 'cycle')} of reading"
        yield from (f"# Zone {one.zone}", "", f"> {escaped(made_by(one))}", ">")
        by = f" ({one.run.stopped_by})" if one.run.stopped_by else ""
        yield f"> {counted}; {doubts}. It ended after {cycles}: {_STOPPED[one.run.stop_reason]}{by}."
        if one.honesty.dropped_claims:
            drafts = _many(one.honesty.dropped_claims, "further draft")
            yield f"> Dropped: {drafts} of claims, since what they quote stands in no source."
        yield "> Each note at the end says where a sentence stands. `karkas distillate verify FILE` proves the quotes."
        yield from (
            "> Links and bold type of the sources are left out here; the YAML file has the exact text.",
            "",
        )

    def _named(self, ids: Iterable[str]) -> list[Claim]:
        return [self.claims[one] for one in ids if one in self.claims]

    def _claims(self, claims: Sequence[Claim]) -> Iterator[str]:
        rows = [
            claim for claim in claims if claim.facet is Facet.PARAMETER and len(claim.text) <= _TABLE_CELL
        ]
        if len(rows) > 1 and len(rows) * 2 > len(claims):
            yield from ("| parameter | what the source says | where it holds |", "|---|---|---|")
            for claim in rows:
                yield f"| {code(claim.subject)} | {self._said(claim)} | {_scope(claim.scope)} |"
            rest = [claim for claim in claims if claim not in rows]
            yield from ["", *self._items(rest)] if rest else []
        else:
            yield from self._items(claims)

    def _items(self, claims: Sequence[Claim]) -> Iterator[str]:
        for claim in claims:
            scope = f" ({held})" if (held := _scope(claim.scope)) else ""
            yield f"- **{escaped(claim.subject)}**{scope}: {self._said(claim)}"

    def _said(self, claim: Claim) -> str:
        text = code(claim.text) if claim.mode is ClaimMode.CODE else escaped(_cells(claim.text))
        own = " *(in the model's words)*" if claim.mode is ClaimMode.ABSTRACTIVE else ""
        return f"{text}{own}{self._note(claim)}"

    def _note(self, claim: Claim) -> str:
        return f"[^{self.notes.setdefault(claim.id, len(self.notes) + 1)}]"

    def _conflicts(self) -> Iterator[str]:
        if not self.distillate.conflicts:
            return
        yield from ("## Where the sources disagree", "")
        if self.distillate.engine.kind == "extractive":
            yield from ("Found by rule and judged by nobody yet: some are no real conflicts.", "")
        for conflict in self.distillate.conflicts:
            yield from (*self._conflict(conflict), "")

    def _conflict(self, conflict: Conflict) -> Iterator[str]:
        claims = self._named(conflict.claims)
        subjects = ", ".join(dict.fromkeys(escaped(claim.subject) for claim in claims))
        scope = f", for {held}" if (held := _scope(conflict.scope)) else ""
        yield from (f"### {subjects or conflict.id} ({conflict.kind})", "")
        label = f"{_judged(conflict)}{scope}; {escaped(conflict.id)}"
        yield f"{escaped(conflict.why)} *{label}*".strip()
        yield ""
        if conflict.reviewer and conflict.why not in conflict.reviewer:
            yield from (escaped(conflict.reviewer), "")
        yield f"| {' | '.join(code(self.places.path(claim.evidence[0].source)) for claim in claims)} |"
        yield "|" + "---|" * len(claims)
        yield f"| {' | '.join(self._said(claim) for claim in claims)} |"

    def _gaps(self) -> Iterator[str]:
        one = self.distillate
        if one.weak_spots:
            yield from ("## Weak spots", "")
            for spot in one.weak_spots:
                notes = "".join(self._note(claim) for claim in self._named(spot.claims))
                yield f"- {spot.kind.replace('_', ' ')}: {escaped(spot.why)}{notes}"
            yield ""
        if one.open_questions:
            yield from ("## Open questions", "")
            for question in one.open_questions:
                yield f"- {escaped(question.text)} *Would settle it: {escaped(question.would_settle)}.*"
            yield ""
        if one.not_covered:
            yield from ("## Not covered", "")
            yield from (f"- {escaped(gap.topic)}: {escaped(gap.why)}" for gap in one.not_covered)
            yield ""

    def _rest(self, told: set[str]) -> Iterator[str]:
        rest = [claim for claim in self.distillate.claims if claim.id not in told]
        if not rest:
            return
        yield from ("## Everything else that was found", "")
        for facet, title in _FACETS.items():
            claims = [claim for claim in rest if claim.facet is facet]
            if claims:
                yield from (f"### {title}", "", *self._claims(claims), "")

    def _sources(self) -> Iterator[str]:
        cited: dict[str, int] = defaultdict(int)
        for claim in self.distillate.claims:
            for name in {span.source for span in claim.evidence}:
                cited[name] += 1
        yield from (
            "## Sources",
            "",
            *([f"Paths are below {code(self.places.root)}.", ""] if self.places.root else []),
        )
        yield from (
            "| source | rank | language | licence | claims | |",
            "|---|---|---|---|---|---|",
        )
        for source in sorted(self.distillate.sources, key=lambda one: -cited[one.id]):
            state = (
                ""
                if source.status is SourceStatus.USED
                else f"{source.status}: {escaped(source.reason or '')}"
            )
            twin = self.sources.get(source.near_duplicate_of or "")
            state += f" nearly the same as {code(self.places.path(twin.id))}" if twin else ""
            repairs = source.text.repairs if source.text else ()
            state += f" repaired: {escaped('; '.join(repairs))}" if repairs else ""
            yield (
                f"| {code(self.places.path(source.id))} | {source.rank} | {escaped(source.lang or '')} |"
                f" {escaped(source.license or '')} | {cited[source.id] or ''} | {state.strip(' :')} |"
            )
        yield ""

    def _footnotes(self) -> Iterator[str]:
        for claim_id, number in self.notes.items():
            claim = self.claims[claim_id]
            spans = "; ".join(
                f"{code(self.places.path(span.source))}, {self._place(span)}" for span in claim.evidence
            )
            yield f"[^{number}]: {spans} ({escaped(claim.id)}, confidence {claim.confidence.level})"

    def _place(self, span: Evidence) -> str:
        text = self._text(span.source)
        if text is None or text[span.start : span.end] != span.quote:
            return f"characters {span.start} to {span.end}"
        first = text.count("\n", 0, span.start) + 1
        last = first + span.quote.count("\n")
        return f"line {first}" if first == last else f"lines {first} to {last}"

    def _text(self, source: str) -> str | None:
        if source not in self.texts:
            record = self.sources.get(source)
            stored = record.text if record else None
            self.texts[source] = self.text_of(stored.artifact) if stored and self.text_of else None
        return self.texts[source]


def _judged(conflict: Conflict) -> str:
    """What was made of it: a reviewer's step from 0 to 10, the score of a rule, or what the person said."""
    if conflict.label.isdecimal():
        return f"step {escaped(conflict.label)} of 10, by a model"
    return f"{escaped(conflict.label)}, score {conflict.score:.2f}"


def _scope(scope: dict[str, str]) -> str:
    return ", ".join(escaped(limit) for limit in limits(scope))


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
