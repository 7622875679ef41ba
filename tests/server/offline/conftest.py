"""Small documents, cut into blocks as a reader would, and claims out of them."""

from collections.abc import Callable
from hashlib import sha256

import pytest

from karkas.policies.actions import Evidence
from karkas.policies.distillates import Claim, Confidence, SourceRank, Support, SupportLabel, part_id
from karkas.server.documents import Block, BlockKind, Document
from karkas.server.offline.distil import distil
from karkas.server.questions import Distil

Page = Callable[..., Document]
Claims = Callable[..., list[Claim]]


def _blocks(text: str) -> tuple[Block, ...]:
    blocks: list[Block] = []
    headings: list[str] = []
    at = 0
    for part in text.split("\n\n"):
        lines = part.split("\n")
        kinds: dict[str, BlockKind] = {
            "#": BlockKind.HEADING,
            "|": BlockKind.ROW,
            "-": BlockKind.ITEM,
            "`": BlockKind.PARAGRAPH,
        }
        start = at
        for line in lines:
            kind = kinds.get(line[:1], BlockKind.PARAGRAPH)
            if kind is BlockKind.HEADING:
                level = len(line) - len(line.lstrip("#"))
                headings = [*headings[: level - 1], line.strip("# ")]
            if kind in {BlockKind.ROW, BlockKind.ITEM, BlockKind.HEADING} and "---" not in line:
                blocks.append(Block(kind, start, start + len(line), tuple(headings)))
            start += len(line) + 1
        if kinds.get(part[:1], BlockKind.PARAGRAPH) is BlockKind.PARAGRAPH and part.strip():
            code = part.startswith("```")
            blocks.append(
                Block(BlockKind.CODE if code else BlockKind.PARAGRAPH, at, at + len(part), tuple(headings))
            )
        at += len(part) + 2
    return tuple(blocks)


@pytest.fixture
def page() -> Page:
    """Markdown in: paragraphs parted by empty lines, `#` headings, `-` items, `|` rows, fences."""

    def build(
        text: str, path: str = "docs/page.md", *, rank: SourceRank = SourceRank.OFFICIAL_DOCS, **meta: str
    ) -> Document:
        title = next((line.strip("# ") for line in text.split("\n") if line.startswith("#")), path)
        return Document(
            source=part_id("s", path),
            title=title,
            text=text,
            blocks=_blocks(text),
            rank=rank,
            kind="file",
            path=path,
            lang="en",
            sha256=sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
            meta=meta,
        )

    return build


@pytest.fixture
def module() -> Page:
    """Python in: each line that begins with `def` is a signature, each quoted line a docstring, of the class before."""

    def build(text: str, path: str = "pkg/module.py", **meta: str) -> Document:
        blocks: list[Block] = []
        headings: tuple[str, ...] = ("module",)
        at = 0
        for line in text.split("\n"):
            bare = line.strip()
            start = at + line.index(bare) if bare else at
            if bare.startswith("class "):
                headings = ("module", bare[6:].split("(")[0].strip(":"))
                blocks.append(Block(BlockKind.HEADING, start, start + len(bare), headings[:1]))
            elif bare.startswith("def "):
                blocks.append(Block(BlockKind.SIGNATURE, start, start + len(bare), headings))
            elif bare.startswith('"""'):
                blocks.append(Block(BlockKind.DOCSTRING, start + 3, start + len(bare) - 3, headings))
            at += len(line) + 1
        return Document(
            source=part_id("s", path), title="module", text=text, blocks=tuple(blocks), rank=SourceRank.CODE,
            kind="code", path=path, lang="en", sha256=sha256(text.encode()).hexdigest(), meta=meta,
        )  # fmt: skip

    return build


@pytest.fixture
def claims() -> Claims:
    """The claims that the engine itself makes of these documents."""

    def build(*documents: Document, zone: str = "zone", at_most: int = 60) -> list[Claim]:
        found = distil(Distil(zone=zone, at_most=at_most), documents)
        return [
            Claim(
                id=part_id(
                    "c", documents[one.cites[0].document].sha256, one.cites[0].start, one.facet, one.text
                ),
                facet=one.facet,
                subject=one.subject,
                scope=one.scope,
                text=one.text,
                mode=one.mode,
                evidence=tuple(
                    Evidence(
                        source=documents[cite.document].source,
                        start=cite.start or 0,
                        end=(cite.start or 0) + len(cite.quote),
                        quote=cite.quote,
                    )
                    for cite in one.cites
                ),
                support=Support(label=SupportLabel.VERBATIM, checked_by="span-match@1"),
                confidence=Confidence(level="medium", why="one source"),
            )
            for one in found.claims
        ]

    return build
