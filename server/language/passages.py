"""Documents as numbered passages that a prompt can hold, and the way back from a quote to the stored text.

Pages derive from the documents, the room and the tokenizer alone: whoever is shown the same documents is shown the
same text, which a server then finds in its prefix cache.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from karkas.server.documents import Block, BlockKind, Document
from karkas.server.language.aside import aside
from karkas.server.language.neutral import UNSEEN, barred, line, neutral
from karkas.server.language.packing import Count, packed
from karkas.server.offline.sentences import sentence_spans
from karkas.server.questions import Citation

BEGIN, END = "passages", "end of passages"

_LEFT_OUT = frozenset({BlockKind.HEADING, BlockKind.OTHER})
_SHORT = 600
"""Code points up to which neighbouring blocks of one section are one passage."""
_LONG = 1200
"""A longer block is cut, prose at ends of sentences, everything else at ends of lines."""
_GAP = 24
"""Code points of markup, such as a fence or a bullet, that may stand between two blocks of one passage."""
_SMALLEST = 200
"""A passage of fewer code points is not halved any more."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A half-open range of code points in the document at index `document`, and the table's header row above it."""

    document: int
    start: int
    end: int
    headings: tuple[str, ...] = ()
    header: tuple[int, int] | None = None

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """What is shown of the document, in reading order."""
        return ((self.start, self.end),) if self.header is None else (self.header, (self.start, self.end))

    def shown(self, document: Document) -> str:
        return "\n".join(document.text[start:end] for start, end in self.spans)


class Place(NamedTuple):
    document: int
    start: int
    end: int


@dataclass(frozen=True)
class Page:
    """Passages numbered from 1, as one prompt holds them. `documents` are all of the request's."""

    passages: tuple[Passage, ...]
    documents: tuple[Document, ...]

    @cached_property
    def text(self) -> str:
        """What a model is shown: every word of a source stands behind a bar."""
        return "\n".join((BEGIN, *self._lines(), END))

    def _lines(self) -> Iterator[str]:
        before: Passage | None = None
        for number, passage in enumerate(self.passages, 1):
            document = self.documents[passage.document]
            if before is None or before.document != passage.document:
                yield f"document, {document.rank}"
                yield f"| {line(document.path)}: {line(document.title)}"
                before = None
            if passage.headings and (before is None or before.headings != passage.headings):
                yield "section"
                yield f"| {line(' / '.join(passage.headings))}"
            yield f"passage {number}"
            yield barred(passage.shown(document))
            before = passage

    def cite(self, number: int, quote: str) -> Citation | None:
        """Where the quote of the passage `number` stands in its document, in the document's own words.

        White space, a bar copied along and what stands in for other characters may differ. Words that stand once, in
        another passage, count; words that stand in several others, or nowhere, do not.
        """
        named = number - 1 if 0 < number <= len(self.passages) else None
        if named is not None:
            place = next(iter(self._found(named, quote)), None)
            if place is not None:
                return self._citation(place)
        others = {
            place for at in range(len(self.passages)) if at != named for place in self._found(at, quote)
        }
        return self._citation(others.pop()) if len(others) == 1 else None

    def numbers(self, source: str, start: int, end: int) -> tuple[int, ...]:
        """The passages that show something of this range of a source."""
        return tuple(
            number
            for number, passage in enumerate(self.passages, 1)
            if self.documents[passage.document].source == source
            and any(begin < end and start < stop for begin, stop in passage.spans)
        )

    def halves(self) -> tuple["Page", ...]:
        """Two pages with half of it each; none where there is nothing left to part."""
        if len(self.passages) > 1:
            middle = len(self.passages) // 2
            return tuple(
                replace(self, passages=part) for part in (self.passages[:middle], self.passages[middle:])
            )
        return tuple(replace(self, passages=(part,)) for one in self.passages for part in _halved(one))

    def _found(self, at: int, quote: str) -> list[Place]:
        """Exact places; else those that are equal when both are folded; else those without the bars copied along."""
        passage = self.passages[at]
        text = self.documents[passage.document].text
        found = [
            Place(passage.document, begin, begin + len(quote))
            for start, end in passage.spans
            for begin in _occurrences(text, quote, start, end)
        ]
        for said in (quote, quote.replace("\n| ", "\n").removeprefix("| ")):
            if found:
                break
            sought = _Folded.of(said).text.strip()
            for (start, _), folded in zip(passage.spans, self._folded[at], strict=True):
                for begin in _occurrences(folded.text, sought, 0, len(folded.text)):
                    first, last = folded.places[begin], folded.places[begin + len(sought) - 1]
                    found.append(Place(passage.document, start + first, start + last + 1))
        return found

    @cached_property
    def _folded(self) -> list[tuple["_Folded", ...]]:
        return [
            tuple(
                _Folded.of(self.documents[passage.document].text[start:end]) for start, end in passage.spans
            )
            for passage in self.passages
        ]

    def _citation(self, place: Place) -> Citation:
        quote = self.documents[place.document].text[place.start : place.end]
        return Citation(document=place.document, quote=quote, start=place.start)


class _Folded(NamedTuple):
    """A text in which spellings that a model may mix up are equal, and the place of each of its characters."""

    text: str
    places: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> "_Folded":
        kept: list[str] = []
        places: list[int] = []
        for at, char in enumerate(neutral(text).translate(_LOOKALIKES)):
            if char == UNSEEN or (char.isspace() and kept[-1:] == [" "]):
                continue
            kept.append(" " if char.isspace() else char)
            places.append(at)
        return cls("".join(kept), tuple(places))


_LOOKALIKES = str.maketrans("‹＜﹤⁅［⁆‘’“”‐‑–—−", "<<<[[]''\"\"-----")


def _occurrences(text: str, words: str, start: int, end: int) -> Iterator[int]:
    at = text.find(words, start, end) if words.strip() else -1
    while at >= 0:
        yield at
        at = text.find(words, at + 1, end)


async def pages(documents: Sequence[Document], room: int, count: Count) -> tuple[Page, ...]:
    """All that can be cited, in pages of at most `room` tokens; a single passage may be longer."""
    known = tuple(documents)
    found = await aside(sum(len(one.text) for one in known), _all, known)
    sizes = [_size(one, known[one.document]) for one in found]

    def text(begin: int, end: int) -> str:
        return Page(tuple(found[begin:end]), known).text

    return tuple(
        Page(tuple(found[begin:end]), known) for begin, end in await packed(sizes, text, room, count)
    )


def _all(documents: Sequence[Document]) -> list[Passage]:
    return [one for index, document in enumerate(documents) for one in passages(index, document)]


def _size(passage: Passage, document: Document) -> int:
    return sum(len(part.encode("utf-8", "replace")) for part in (passage.shown(document), *passage.headings))


def passages(index: int, document: Document) -> list[Passage]:
    """What can be cited of the document at `index`, in reading order; front matter and navigation cannot."""
    found: list[Passage] = []
    joins = False
    header: Block | None = None
    previous: Block | None = None
    for block in document.blocks:
        if block.kind in _LEFT_OUT:
            joins, header, previous = False, None, None
            continue
        if block.kind is not BlockKind.ROW or previous is None or previous.kind is not BlockKind.ROW:
            header = block if block.kind is BlockKind.ROW else None
        above = (header.start, header.end) if header is not None and header is not block else None
        for start, end in _cut(document.text, block):
            one = Passage(index, start, end, block.headings, above)
            if joins and (joined := _joined(found[-1], one)) is not None:
                found[-1] = joined
            else:
                found.append(one)
            joins = True
        previous = block
    return found


def _joined(before: Passage, one: Passage) -> Passage | None:
    near = 0 <= one.start - before.end <= _GAP and before.headings == one.headings
    if not near or one.end - before.start > _SHORT:
        return None
    return replace(before, end=one.end)


def _cut(text: str, block: Block) -> Iterator[tuple[int, int]]:
    """The block in ranges of at most `_LONG` code points, without white space around them."""
    if block.end - block.start <= _LONG:
        yield block.start, block.end
        return
    body = text[block.start : block.end]
    prose = block.kind in {BlockKind.PARAGRAPH, BlockKind.ITEM, BlockKind.DOCSTRING}
    ends = [stop for _, stop in sentence_spans(body)] if prose else _line_ends(body)
    for start, end in _filled(ends, len(body), body):
        piece = body[start:end]
        if piece.strip():
            yield block.start + end - len(piece.lstrip()), block.start + start + len(piece.rstrip())


def _line_ends(body: str) -> list[int]:
    return [at + 1 for at, char in enumerate(body) if char == "\n"]


def _filled(ends: Iterable[int], last: int, body: str) -> Iterator[tuple[int, int]]:
    """As many units as fit, one range after another; a unit that alone is too long is cut at white space."""
    start = reached = 0
    for end in (*ends, last):
        if end - start > _LONG and reached > start:
            yield start, reached
            start = reached
        while end - start > _LONG:
            space = max(body.rfind(" ", start, start + _LONG), body.rfind("\n", start, start + _LONG))
            stop = space if space > start else start + _LONG
            yield start, stop
            start = stop
        reached = end
    if reached > start:
        yield start, reached


def _halved(passage: Passage) -> tuple[Passage, ...]:
    if passage.end - passage.start < _SMALLEST:
        return ()
    middle = (passage.start + passage.end) // 2
    return (replace(passage, end=middle), replace(passage, start=middle))
