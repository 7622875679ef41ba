"""Documents: sources as stored extracted text, cut into blocks that can be cited."""

from dataclasses import dataclass, field
from enum import StrEnum

from karkas.policies.distillates import SourceRank


class BlockKind(StrEnum):
    """What a block of a document is; only prose, items and signatures are quoted as claims."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    ITEM = "item"
    ROW = "row"
    """One row of a table, header row included."""
    CODE = "code"
    SIGNATURE = "signature"
    """One callable or field of Python code with its defaults."""
    DOCSTRING = "docstring"
    OTHER = "other"
    """Front matter, raw HTML, navigation, badges."""


@dataclass(frozen=True, slots=True)
class Block:
    """A half-open range of code points in the document's text."""

    kind: BlockKind
    start: int
    end: int
    headings: tuple[str, ...] = ()
    """The headings above it, outermost first."""


@dataclass(frozen=True, slots=True)
class Document:
    """A source as stored extracted text, cut into blocks in reading order."""

    source: str
    """The source's id; spans name it."""
    title: str
    text: str
    blocks: tuple[Block, ...]
    rank: SourceRank
    kind: str
    """file, package, code, git, url"""
    path: str
    """Where it is from, in words that a person recognises: a path, `pkg:NAME`, a URL."""
    lang: str
    """ISO 639-1 of most of its prose: en, ru, or `und`."""
    sha256: str
    """Of the UTF-8 text."""
    modified: str | None = None
    """ISO 8601 date of the source itself, where it tells one."""
    meta: dict[str, str] = field(default_factory=dict)
    """Scope that holds for the whole document, such as `package`, `version`, `framework`, `module`."""
