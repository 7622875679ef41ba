"""From a candidate to a record and a document. Nothing that is read is ever imported or executed."""

import asyncio
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from karkas.agents.sources.decoding import decode, mend
from karkas.agents.sources.extract import Extract, one_line
from karkas.agents.sources.found import Found, Limits, Payload, Reading
from karkas.agents.sources.git import read_blob
from karkas.agents.sources.html import read_html
from karkas.agents.sources.language import language
from karkas.agents.sources.markdown import front_matter, read_markdown
from karkas.agents.sources.notebook import read_notebook
from karkas.agents.sources.packages import readme_of
from karkas.agents.sources.pdf import read_pdf
from karkas.agents.sources.plaintext import read_text
from karkas.agents.sources.python import read_python
from karkas.agents.sources.restructured import read_restructured
from karkas.agents.sources.survey import suffix_of
from karkas.agents.sources.web import fetch
from karkas.policies.distillates import ExtractedText, SourceRecord, SourceStatus, part_id
from karkas.policies.errors import SourceError
from karkas.server.documents import Document

_READERS: dict[str, Callable[[str], Extract]] = {
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".mdx": read_markdown,
    ".qmd": read_markdown,
    ".txt": read_text,
    ".text": read_text,
    ".rst": read_restructured,
    ".rest": read_restructured,
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_html,
    ".ipynb": read_notebook,
}
_SURROGATE = re.compile("[\ud800-\udfff]")
_EXCERPT_CHARS = 400
_EXCERPT_BYTES = 8_000
_NOT_CHEAP = frozenset({".pdf", ".ipynb", ".html", ".htm", ".xhtml"})
_DOCSTRING = re.compile(r"(?:\s|#[^\n]*\n)*[rRuU]?(\"{3}|'{3})(.*?)(?:\1|\Z)", re.DOTALL)
_DEFINED = re.compile(r"^[ \t]*(?:class|(?:async )?def) ([A-Za-z]\w*)", re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_TAGS = re.compile(r"<[^<>]*>|!\[[^\]]*\]\([^)]*\)|^(?:>[ \t]?)+(?:\[!.*)?", re.MULTILINE)


async def read(found: Found, *, limits: Limits) -> Reading:
    """Reads one candidate. Never raises for a bad document: its record says what is wrong with it."""
    if found.skip:
        return Reading(_record(found, SourceStatus.SKIPPED, found.skip), None, None)
    raw = b""
    try:
        async with asyncio.timeout(limits.timeout_s):
            if found.kind == "url":
                payload = await fetch(found, limits)
            else:
                payload = await asyncio.to_thread(_payload, found, limits)
            raw = payload.raw
            return await asyncio.to_thread(_reading, found, payload)
    except SourceError as error:
        reason = str(error)
    except TimeoutError:
        reason = f"took longer than {limits.timeout_s:g} s"
    except RecursionError:
        reason = "nested too deeply"
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
    except Exception as error:  # noqa: BLE001 - one bad document must not end a night's job
        reason = f"the reader failed: {type(error).__name__}: {error}"[:300]
    return Reading(_record(found, SourceStatus.UNREADABLE, reason, raw), None, None)


def excerpt(found: Found) -> str:
    """The first 400 characters or so of a local candidate, for choosing; empty where that is not cheap.

    Of Python code it is the docstring of the module and the names of what it defines.
    """
    suffix = suffix_of(found.path.rpartition("/")[2])
    if found.skip or found.kind not in {"file", "code", "package"} or suffix in _NOT_CHEAP:
        return ""
    try:
        if found.kind == "package":
            raw = readme_of(found.locator["package"]).raw[:_EXCERPT_BYTES]
        else:
            with Path(found.at).open("rb") as file:
                raw = file.read(_EXCERPT_BYTES)
    except (OSError, SourceError):
        return ""
    head = mend(raw.decode("utf-8", "ignore"))[0]
    if suffix == ".py":
        docstring = _DOCSTRING.match(head)
        return one_line(" ".join((docstring[2] if docstring else "", *_DEFINED.findall(head))))[
            :_EXCERPT_CHARS
        ]
    front = front_matter(head)
    words = " ".join((front.title, front.description, _TAGS.sub(" ", _COMMENT.sub(" ", head[front.end :]))))
    return one_line(words)[:_EXCERPT_CHARS]


def _payload(found: Found, limits: Limits) -> Payload:
    if found.kind == "git":
        return read_blob(found, limits)
    if found.kind == "package":
        return readme_of(found.locator["package"])
    path = Path(found.at)
    with path.open("rb") as file:
        raw = file.read(limits.max_bytes + 1)
    if len(raw) > limits.max_bytes:
        raise SourceError(f"larger than {limits.max_bytes:,} bytes")
    return Payload(raw, suffix_of(path.name))


def _reading(found: Found, payload: Payload) -> Reading:
    extract, encoding, repairs = _extracted(found, payload)
    text = extract.text
    if lone := len(_SURROGATE.findall(text)):
        text = _SURROGATE.sub("\ufffd", text)
        repairs.append(f"lone surrogates: {lone} replaced")
    if not extract.blocks:
        return Reading(
            _record(found, SourceStatus.SKIPPED, "nothing to quote in it", payload.raw), None, None
        )
    digest = sha256(text.encode()).hexdigest()
    stored = ExtractedText(
        artifact=digest,
        extractor=extract.extractor,
        encoding=encoding,
        repairs=tuple(repairs),
        chars=len(text),
        sha256=digest,
    )
    title = extract.title or found.title
    lang = language(text, extract.blocks)
    modified = extract.modified or payload.modified
    record = _record(found, SourceStatus.USED, None, payload.raw).model_copy(
        update={"title": title, "lang": lang, "modified": modified, "text": stored}
    )
    document = Document(
        source=record.id,
        title=title,
        text=text,
        blocks=extract.blocks,
        rank=found.rank,
        kind=found.kind,
        path=found.path,
        lang=lang,
        sha256=digest,
        modified=modified,
        meta=dict(found.meta),
    )
    return Reading(record, document, text)


def _extracted(found: Found, payload: Payload) -> tuple[Extract, str, list[str]]:
    if payload.suffix == ".pdf":
        extract = read_pdf(payload.raw)
        return extract, "pdf", list(extract.repairs)
    code = payload.suffix == ".py"
    decoded = decode(payload.raw, charset=payload.charset, prose=not code)
    if code:
        extract = read_python(decoded.text, module=found.meta.get("module", ""))
    else:
        extract = _READERS[payload.suffix](decoded.text)
    return extract, decoded.encoding, [*decoded.repairs, *extract.repairs]


def _record(found: Found, status: SourceStatus, reason: str | None, raw: bytes = b"") -> SourceRecord:
    digest = sha256(raw).hexdigest() if raw else ""
    return SourceRecord(
        id=part_id("s", found.kind, found.identity, digest),
        kind=found.kind,
        locator=dict(found.locator),
        rank=found.rank,
        title=found.title,
        license=found.license,
        status=status,
        reason=reason,
        bytes=len(raw) or found.size or 0,
        sha256_raw=digest,
    )
