"""PDF: the text layer by PDFium, page after page; paragraphs by the gaps between lines."""

import re
import threading
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from karkas.agents.sources.extract import Composer, Extract, one_line
from karkas.policies.errors import SourceError
from karkas.server.protocol import BlockKind

_pdfium = threading.Lock()
"""PDFium is not thread-safe (pypdfium2's documentation)."""

_HYPHENATED = re.compile("(?<=[^\\W\\d_])(?:[\u00ad\ufffe\x02]\n?|-\n)(?=[^\\W\\d_])")
_HYPHEN = re.compile("[\u00ad\ufffe\x02]")
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,3})\.?\s+\S")
_BULLET = re.compile(r"(?:[•▪◦‣·–*-]|\d{1,2}[.)]|\([a-z\d]\))\s+(?=\S)")
_DATE = re.compile(r"D:(\d{4})(\d\d)(\d\d)")
_ENDS = (".", "!", "?", ":")
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
    composer = Composer()
    joined = sum(_page(composer, page, outline) for page in pages)
    date = _DATE.match(about.get("ModDate") or about.get("CreationDate") or "")
    return composer.extract(
        "pdf@1",
        title=one_line(about.get("Title") or ""),
        modified="-".join(date.groups()) if date else None,
        repairs=(f"hyphenation: {joined} words joined",) if joined else (),
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


def _page(composer: Composer, lines: list[_Line], outline: set[str]) -> int:
    """Puts a page's paragraphs; how many hyphenated words were joined."""
    steps = [above.bottom - below.top for above, below in pairwise(lines)]
    usual = median([step for step in steps if step > 0] or [0.0])
    joined, paragraph = 0, list[str]()
    for line, step in zip(lines, [0.0, *steps], strict=False):
        heading = _heading(line.text, outline)
        ended = bool(paragraph) and paragraph[-1].endswith(_ENDS) and step > _WIDE * line.size
        if heading or ended or step > _GAP * usual or step < -usual or _BULLET.match(line.text):
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
    if text.isdigit():
        composer.put(BlockKind.OTHER, text)
    elif bullet:
        composer.put(BlockKind.ITEM, text[bullet.end() :])
    else:
        composer.put(BlockKind.PARAGRAPH, text)
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
