"""Sentences, items, rows and signatures of a document: what can be quoted, with exact code points.

Sentence boundaries are razdel's, mended where an abbreviation, a code span or a bracket was cut. Only blocks of
prose, items, rows and signatures are looked at.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from karkas.policies.distillates import ClaimMode
from karkas.server.documents import Block, BlockKind, Document
from karkas.server.offline.cues import filler_cue, pattern
from karkas.server.offline.signatures import told

_ABBREVIATION = re.compile(
    r"(?:\b(?:fig|figs|eq|eqs|sec|tab|ref|refs|no|vs|etc|e\.g|i\.e|cf|al|approx|resp|incl|max|min|dr|mr|ms|st)"
    r"|\b(?:рис|табл|гл|стр|см|т\.е|т\.к|т\.д|т\.п|др|пр|им|напр|ок|ср|г|гг|руб|тыс|млн))\.$",
    re.IGNORECASE,
)
_QUOTE_MARK = re.compile(r"(?:>[ \t]?)+")
_LEAD = re.compile(
    r"""(?:
        \s+ | >[ \t]? | \[![A-Za-z_]+\][^\n]*\n? | [-*+][ \t]+(?:\[[ xX]\][ \t]+)?
      | :param\s+(?:\w+\s+)?(?=\w+:) | !!!\s+\w+\s+ | \(?\d{1,3}[.)][ \t]+ | [•·–—▪]\s+
      | (?:\*\*|__)?(?:note|tip|warning|important|caution|hint|a|q|answer|nb|n\.b\.
          |примечание|важно|внимание|совет|вывод)
        (?:\*\*|__)?\s*:\s*(?:\*\*|__)?\s*
      | [^\w\s`"'«“(\[$<*_~!#@&%+-]\ufe0f?\s+
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_BAR = re.compile(r"(?<!\\)\|(?=(?:[^`]*`[^`]*`)*[^`]*$)")
_DOCSTRING_PART = re.compile(
    r"(?:[^\n]|\n(?![ \t]*\n|[ \t]*:(?:param|type|returns?|rtype|raises?|keyword|arg|[ci]?var|meta)\b"
    r"|[ \t]*[-*] |[ \t]*\w+(?: ?\([^)\n]*\))?: ))+"
)
_RULE_LINES = 2
"""Line ends between a table's header and its first row."""
_SHORTEST = 3
_SIGNATURE = 6
"""So much longer may a signature be: only the telling part of it is shown."""
_PAIR = 2
_ARGUMENT = re.compile(r"[*`]{0,2}(\w+)[*`]{0,2}(?:\s*\([^)]*\))?:")
_ITEM = 260
"""A list item up to this length is one claim, however many sentences it has."""
_LEAD_IN = 120
_WINDOW = 20_000
"""Code points in which sentences are looked for at a time; over megabytes of one block it would take minutes."""
_LONGEST = 420
"""Code points; a longer sentence is no claim that a person reads."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Something that could be a claim: `quote` is the whole, `text` what is left of it without lead-in."""

    document: int
    """Index of the document it stands in."""
    kind: BlockKind
    start: int
    end: int
    quote: str
    text: str
    headings: tuple[str, ...]
    place: float
    """Where in the document, 0 (its beginning) to 1."""
    anaphoric: bool
    """Whether it opens with a word such as `this` that points outside of it."""
    columns: tuple[str, ...] = ()
    """Of a table row: the cells of its header."""
    lead: str = ""
    """Of a list item: the sentence that ends in a colon before the list; of a docstring's part, the argument above."""
    opens: bool = False
    """Whether it is the first sentence of a docstring, which says what its owner is."""

    @property
    def mode(self) -> ClaimMode:
        if self.kind is BlockKind.SIGNATURE:
            return ClaimMode.CODE
        return ClaimMode.VERBATIM if self.text == self.quote else ClaimMode.VERBATIM_TRIMMED


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Half-open spans of the sentences of one block.

    >>> [t[a:b] for t in ["See Fig. 3. It is `a. b` here."] for a, b in sentence_spans(t)]
    ['See Fig. 3.', 'It is `a. b` here.']
    """
    spans: list[tuple[int, int]] = []
    at = 0
    while at < len(text):
        end = min(at + _WINDOW, len(text))
        found = _spans(text[at:end])
        if end < len(text) and len(found) > 1:
            found.pop()  # the window may have cut it
            end = at + found[-1][1]
        spans += [(at + start, at + stop) for start, stop in found]
        at = end
    return spans


def _spans(text: str) -> list[tuple[int, int]]:
    from razdel import sentenize

    spans: list[tuple[int, int]] = []
    for piece in sentenize(text):
        if spans and _continues(text[spans[-1][0] : spans[-1][1]]):
            spans[-1] = (spans[-1][0], piece.stop)
        else:
            spans.append((piece.start, piece.stop))
    return spans


def _continues(text: str) -> bool:
    return (
        _ABBREVIATION.search(text) is not None
        or text.count("`") % 2 == 1
        or text.count("(") > text.count(")")
        or text.count("**") % 2 == 1
    ) and len(text) < _LONGEST


def passages(index: int, document: Document) -> list[Passage]:
    """Everything in the document that could be a claim, in reading order; with its predecessor where it needs that."""
    found: list[Passage] = []
    columns: tuple[str, ...] = ()
    table_ends = -1
    before: Block | None = None
    lead = ""
    for block in document.blocks:
        opens = block.kind is BlockKind.DOCSTRING and (
            before is None or before.kind is not BlockKind.DOCSTRING
        )
        before = block
        above, lead = lead, _lead_of(document.text[block.start : block.end], block.kind, lead)
        if block.kind is BlockKind.ROW:
            begins = table_ends < 0 or document.text[table_ends : block.start].count("\n") > _RULE_LINES
            table_ends = block.end
            if begins:
                columns = cells(document.text[block.start : block.end])
                continue
        else:
            table_ends = -1
        for start, end in _units(document.text, block):
            passage = _passage(index, document, block, (start, end), columns)
            if passage is not None:
                above = above if block.kind in {BlockKind.ITEM, BlockKind.DOCSTRING} else ""
                found.append(replace(passage, opens=opens, lead=above) if opens or above else passage)
                opens = False
    return found


def _lead_of(block: str, kind: BlockKind, lead: str) -> str:
    """What the blocks after this one stand under: a sentence with a colon, or the name of a documented argument."""
    match kind:
        case BlockKind.ITEM:
            return lead
        case BlockKind.PARAGRAPH:
            return _lead_in(block)
        case BlockKind.DOCSTRING:
            named = _ARGUMENT.fullmatch(block.strip())
            return named[1] if named else ""
        case _:
            return ""


def _lead_in(paragraph: str) -> str:
    last = paragraph.rstrip().rsplit("\n\n", 1)[-1]
    start, end = (sentence_spans(last) or [(0, 0)])[-1]
    lead = last[start:end].rstrip(":")
    idle = pattern("anaphora").match(lead) or any(
        filler_cue(name).search(lead) for name in ("pointer", "chatter")
    )
    return lead if last.endswith(":") and len(lead) <= _LEAD_IN and not idle else ""


def cells(row: str) -> tuple[str, ...]:
    """The cells of a table row; a bar inside of a code span or behind a backslash parts nothing."""
    return tuple(cell.strip() for cell in _BAR.split(row.strip().strip("|")))


def _units(text: str, block: Block) -> Iterator[tuple[int, int]]:
    body = text[block.start : block.end]
    match block.kind:
        case BlockKind.SIGNATURE | BlockKind.ROW:
            yield block.start, block.end
        case BlockKind.ITEM:
            spans = sentence_spans(body)
            if len(body) <= _ITEM or len(spans) <= 1:
                yield block.start, block.end
            else:
                yield from _with_predecessor(body, spans, block.start)
        case BlockKind.PARAGRAPH:
            yield from _with_predecessor(body, sentence_spans(body), block.start)
        case BlockKind.DOCSTRING:
            for part in _DOCSTRING_PART.finditer(body):
                spans = sentence_spans(part.group())
                yield from _with_predecessor(part.group(), spans, block.start + part.start())
        case _:
            return


def _with_predecessor(body: str, spans: list[tuple[int, int]], offset: int) -> Iterator[tuple[int, int]]:
    for number, (start, end) in enumerate(spans):
        lead = _lead_length(body[start:end])
        if (
            number
            and pattern("anaphora").match(body, start + lead)
            and end - spans[number - 1][0] <= _LONGEST
        ):
            yield offset + spans[number - 1][0], offset + end
        yield offset + start, offset + end


def _lead_length(sentence: str) -> int:
    at = 0
    while match := _LEAD.match(sentence, at):
        at = match.end()
    return at


def _passage(
    index: int, document: Document, block: Block, span: tuple[int, int], columns: tuple[str, ...]
) -> Passage | None:
    text, (start, end) = document.text, span
    size = max(len(text), 1)
    while end > start and text[end - 1].isspace():
        end -= 1
    while start < end and text[start].isspace():
        start += 1
    longest = _LONGEST * (_SIGNATURE if block.kind is BlockKind.SIGNATURE else 2)
    if end - start < _SHORTEST or end - start > longest:
        return None
    quote = text[start:end]
    if block.kind in {BlockKind.SIGNATURE, BlockKind.ROW}:
        first, last = told(quote) if block.kind is BlockKind.SIGNATURE else (0, len(quote))
        return Passage(
            index, block.kind, start, end, quote, quote[first:last], block.headings, start / size,
            anaphoric=False, columns=columns if block.kind is BlockKind.ROW else (),
        )  # fmt: skip
    mark = _QUOTE_MARK.match(quote)
    start += mark.end() if mark else 0
    quote = text[start:end]
    begin = _lead_length(quote)
    rest = quote[begin:]
    while match := pattern("connective").match(rest):
        begin += match.end()
        rest = quote[begin:]
    trimmed = _unwrapped(rest)
    if len(trimmed) < _SHORTEST or len(trimmed) > _LONGEST:
        return None
    return Passage(
        index, block.kind, start, end, quote, trimmed, block.headings, start / size,
        anaphoric=pattern("anaphora").match(trimmed) is not None,
    )  # fmt: skip


def _unwrapped(text: str) -> str:
    """Without emphasis that was opened outside or closes outside of it."""
    for mark in ("**", "__", "*", "_"):
        if text.startswith(mark) and text.count(mark) == 1:
            text = text[len(mark) :]
        if text.endswith(mark) and text.count(mark) == 1:
            text = text[: -len(mark)]
        if (
            text.startswith(mark)
            and text.endswith(mark)
            and text.count(mark) == _PAIR
            and len(text) > 2 * len(mark)
        ):
            text = text[len(mark) : -len(mark)]
    return text.strip()
