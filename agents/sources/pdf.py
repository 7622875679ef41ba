"""PDF: the text layer by PDFium, page after page; paragraphs by the gaps between lines."""

import re
import threading
from itertools import pairwise
from statistics import median
from typing import Any

from karkas.agents.sources.extract import Composer, Extract, one_line
from karkas.policies.errors import SourceError
from karkas.server.protocol import BlockKind

_pdfium = threading.Lock()
"""PDFium is not thread-safe (pypdfium2's documentation)."""

_HYPHENATED = re.compile(r"(?<=[^\W\d_])[-\u00ad\ufffe\x02]\n(?=[^\W\d_])")
_BROKEN_HYPHEN = re.compile("[\u00ad\ufffe\x02]")
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,3})\.?\s+\S")
_BULLET = re.compile(r"(?:[•▪◦‣·–*-]|\d{1,2}[.)]|\([a-z\d]\))\s+(?=\S)")
_DATE = re.compile(r"D:(\d{4})(\d\d)(\d\d)")
_GAP = 1.45
_HEADING_CHARS = 90
_LEAST_CHARS = 20


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
    if sum(len(line) for page in pages for line, _ in page) < _LEAST_CHARS:
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


def _lines(page: Any) -> list[tuple[str, float]]:
    """Each line with the height of its baseline, in points."""
    textpage = page.get_textpage()
    try:
        text = textpage.get_text_range()
        count = textpage.count_chars()
        lines, place = [], 0
        for line in text.split("\n"):
            indent = len(line) - len(line.lstrip())
            at = min(place + indent, count - 1)
            height = textpage.get_charbox(at, loose=True)[1] if count else 0.0
            lines.append((line.rstrip("\r"), height))
            place += len(line) + 1
        return lines
    finally:
        textpage.close()
        page.close()


def _page(composer: Composer, lines: list[tuple[str, float]], outline: set[str]) -> int:
    """Puts a page's paragraphs; how many hyphenated words were joined."""
    steps = [one[1] - other[1] for one, other in pairwise(lines) if one[1] > other[1]]
    usual = median(steps) if steps else 0.0
    joined, paragraph, above = 0, list[str](), 0.0
    for line, height in [*lines, ("", 0.0)]:
        heading = _heading(line, outline)
        apart = not line.strip() or above - height > _GAP * usual or heading or _BULLET.match(line.strip())
        if paragraph and apart:
            joined += _put(composer, paragraph)
            paragraph = []
        above = height
        if heading:
            composer.heading(heading, line)
        elif line.strip():
            paragraph.append(line.strip())
    return joined


def _put(composer: Composer, lines: list[str]) -> int:
    text, joined = _HYPHENATED.subn("", "\n".join(lines))
    text = _BROKEN_HYPHEN.sub("-", text)
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
