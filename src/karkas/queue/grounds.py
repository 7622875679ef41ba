"""What a proposal rests on, in its context: evidence in the stored text of its source, arguments in their material."""

from typing import TYPE_CHECKING

from karkas.cli.screen import counted
from karkas.policies.actions import Digest, Evidence, Proposal, Variant
from karkas.policies.errors import KarkasError
from karkas.policies.provenance import ArgumentOrigin
from karkas.policies.zones import ZoneName
from karkas.queue.blocks import Block, Context, Heading, Line, Tone
from karkas.storage import Store

if TYPE_CHECKING:
    from karkas.policies.distillates import SourceRecord

AROUND = 160
"""Code points of a source that are shown on each side of a quote."""


class Sources:
    """The sources of the zones' distillates, each distillate read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[Digest, dict[str, SourceRecord]] = {}

    def of(self, zones: tuple[ZoneName, ...]) -> "dict[str, SourceRecord]":
        """By id."""
        from karkas.agents.distillate import load

        found: dict[str, SourceRecord] = {}
        for zone in zones:
            artifact = self._store.zones.ground(zone).distillate_artifact
            if artifact is None:
                continue
            if artifact not in self._read:
                distillate = load(self._store.artifacts.text(artifact))
                self._read[artifact] = {source.id: source for source in distillate.sources}
            found |= self._read[artifact]
        return found

    def text(self, source: "SourceRecord | None") -> str | None:
        """The stored extracted text that spans point into, or None where it is not stored."""
        if source is None or source.text is None:
            return None
        try:
            return self._store.artifacts.text(Digest(source.text.artifact))
        except KarkasError:
            return None


def evidence(sources: Sources, proposal: Proposal) -> list[Block]:
    """Every span that the proposal names, with its quote in the words around it."""
    from karkas.agents.distillate.places import source_path

    if not proposal.evidence:
        return []
    known = sources.of(proposal.zones)
    blocks: list[Block] = [Heading(f"Evidence ({counted(len(proposal.evidence), 'span')})")]
    for span in proposal.evidence:
        source = known.get(span.source)
        where = source_path(source) if source else span.source
        blocks += [Line(f"{where} [{span.start}:{span.end}]"), _in_context(span, sources.text(source))]
        if source is not None and not _stands(span, sources.text(source)):
            blocks.append(Line("(!) this quote does not stand there in the stored text", Tone.WARNING))
    return blocks


def _stands(span: Evidence, text: str | None) -> bool:
    return text is not None and text[span.start : span.end] == span.quote


def _in_context(span: Evidence, text: str | None) -> Context:
    if text is None or not _stands(span, text):
        return Context("", span.quote, "")
    return Context(
        text[max(span.start - AROUND, 0) : span.start], span.quote, text[span.end : span.end + AROUND]
    )


def arguments(variant: Variant) -> list[Block]:
    """Where each argument came from, and where it stands there."""
    blocks: list[Block] = [Heading("Where its arguments come from")]
    return blocks + [block for origin in variant.origins for block in argument(origin)]


def argument(origin: ArgumentOrigin) -> list[Block]:
    mark, tone = ("   ", Tone.PLAIN) if origin.grounded else ("(!)", Tone.WARNING)
    blocks: list[Block] = [Line(f"{mark} {origin.pointer}: {origin.origin}{_where(origin)}", tone)]
    if origin.place is not None:
        place = origin.place
        more = place.end - place.start - len(place.text)
        rest = f" [{more:,} characters more, whole above] " if more else ""
        words = Context(place.before, f"{place.text}{rest}", place.after, mark="      > ", around="      . ")
        blocks.append(words)
    return blocks


def _where(origin: ArgumentOrigin) -> str:
    if not origin.label:
        return ""
    place = origin.place
    return f" ({origin.label}{f' [{place.start}:{place.end}]' if place is not None else ''})"
