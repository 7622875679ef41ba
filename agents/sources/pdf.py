"""PDF: the text layer by PDFium, page after page; paragraphs by the gaps between lines."""

import re
import threading
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from karkas.agents.sources.extract import Composer, Extract, one_line
from karkas.policies.errors import SourceError
from karkas.server.documents import BlockKind

_pdfium = threading.Lock()
"""PDFium is not thread-safe (pypdfium2's documentation)."""

_HYPHENATED = re.compile("(?<=[^\\W\\d_])(?:[\u00ad\ufffe\x02]\n?|-\n)(?=[^\\W\\d_])")
_HYPHEN = re.compile("[\u00ad\ufffe\x02]")
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,3})\.?\s+\S")
_BULLET = re.compile(r"(?:[•▪◦‣·–*-]|\d{1,2}[.)]|\([a-z\d]\))\s+(?=\S)")
_DATE = re.compile(r"D:(\d{4})(\d\d)(\d\d)")
_ENDS = (".", "!", "?", ":")
_PAGE_NUMBERS = (re.compile(r"^\d{1,4}\b"), re.compile(r"\b\d{1,4}$"))
_LEADERS = re.compile(r"(?:\.[ ]?){6}")
_OFTEN = 3
_GAP = 1.45
_WIDE = 1.6
_HEADING_CHARS = 90
_LEAST_CHARS = 20


class _Line(NamedTuple):
    """Where its first character stands and where its last one does, and the size of its type, in points."""

    text: str
    top: float
    bottom: float
    size: float


def read_pdf(raw: bytes) -> Extract:
    import pypdfium2 as pdfium

    with _pdfium:
        try:
            document = pdfium.PdfDocument(raw)
        except pdfium.PdfiumError as error:
            reason = str(error).lower()
            if "password" in reason or "security" in reason:
                raise SourceError(
                    "the PDF is encrypted; save it without a password and name that file"
                ) from None
            raise SourceError(f"not a PDF that can be opened: {error}") from None
        try:
            about = document.get_metadata_dict()
            outline = {one_line(mark.get_title()).lower() for mark in document.get_toc()}
            pages = [_lines(document[number]) for number in range(len(document))]
        finally:
            document.close()
    if sum(len(line.text) for page in pages for line in page) < _LEAST_CHARS:
        raise SourceError("the PDF has no text layer, only pictures; run OCR on it and name that file")
    running = _running(pages)
    composer = Composer()
    joined = _paragraphs(composer, [[line for line in page if not running(line)] for page in pages], outline)
    left_out = sum(running(line) for page in pages for line in page)
    date = _DATE.match(about.get("ModDate") or about.get("CreationDate") or "")
    repairs = (
        f"hyphenation: {joined} words joined" if joined else "",
        f"page headers and numbers: {left_out} lines left out" if left_out else "",
    )
    return composer.extract(
        "pdf@1",
        title=one_line(about.get("Title") or ""),
        modified="-".join(date.groups()) if date else None,
        repairs=tuple(filter(None, repairs)),
    )


def _lines(page: Any) -> list[_Line]:
    """PDFium joins a hyphenated line to the next with U+FFFE, so a line may begin higher than it ends."""
    textpage = page.get_textpage()
    try:
        lines, place, last = list[_Line](), 0, textpage.count_chars() - 1
        for text in textpage.get_text_range().split("\n"):
            words = text.strip()
            if words and place <= last:
                begin = place + len(text) - len(text.lstrip())
                _, top, _, ceiling = textpage.get_charbox(min(begin, last), loose=True)
                bottom = textpage.get_charbox(min(begin + len(words) - 1, last), loose=True)[1]
                lines.append(_Line(words, top, bottom, ceiling - top))
            place += len(text) + 1
        return lines
    finally:
        textpage.close()
        page.close()


def _running(pages: list[list[_Line]]) -> Callable[[_Line], bool]:
    """Tells the lines at the edges of pages that return on page after page, and those that count the pages."""
    edges = [
        (line, {line.text, *(_counting(line.text, number, page) for page in _PAGE_NUMBERS)})
        for number, lines in enumerate(pages)
        for line in {*lines[:1], *lines[-1:]}
    ]
    counted = Counter(form for _, forms in edges for form in forms)
    often = max(_OFTEN, len(pages) // _OFTEN)
    return {
        line for line, forms in edges if line.text.isdigit() or any(counted[form] >= often for form in forms)
    }.__contains__


def _counting(text: str, number: int, page: re.Pattern[str]) -> str:
    """The line with its page number relative to the page that it stands on."""
    return page.sub(lambda match: f"\0{int(match[0]) - number}", text, count=1)


def _paragraphs(composer: Composer, pages: list[list[_Line]], outline: set[str]) -> int:
    """Puts the paragraphs, also those that go on on the next page; how many hyphenated words were joined."""
    joined, paragraph = 0, list[str]()
    for page in pages:
        steps = [above.bottom - below.top for above, below in pairwise(page)]
        usual = median([step for step in steps if step > 0] or [0.0])
        for line, step in zip(page, [None, *steps], strict=False):
            heading = _heading(line.text, outline)
            ended = bool(paragraph) and paragraph[-1].endswith(_ENDS)
            if step is None:
                apart = ended or not line.text[0].islower()
            else:
                apart = (ended and step > _WIDE * line.size) or step > _GAP * usual or step < -usual
            if heading or apart or _BULLET.match(line.text):
                joined += _put(composer, paragraph)
                paragraph = []
            if heading:
                composer.heading(heading, line.text)
            else:
                paragraph.append(line.text)
    return joined + _put(composer, paragraph)


def _put(composer: Composer, lines: list[str]) -> int:
    text, joined = _HYPHENATED.subn("", "\n".join(lines))
    text = _HYPHEN.sub("-", text)
    bullet = _BULLET.match(text)
    if bullet:
        composer.put(BlockKind.ITEM, text[bullet.end() :])
    else:
        composer.put(BlockKind.OTHER if _LEADERS.search(text) else BlockKind.PARAGRAPH, text)
    return joined


def _heading(line: str, outline: set[str]) -> int:
    """The level of a heading, 0 for none: in the outline, or numbered, short and without a full stop."""
    line = one_line(line)
    if not line or len(line) > _HEADING_CHARS:
        return 0
    numbered = _NUMBERED.match(line)
    number = numbered[1] if numbered else ""
    bare = line[len(number) :].lstrip(". ")
    if line.lower() in outline or bare.lower() in outline:
        return number.count(".") + 1
    if number and bare[:1].isupper() and not line.endswith((".", ",", ";", ":")) and "." in number:
        return number.count(".") + 1
    return 0
