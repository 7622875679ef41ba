"""Markdown, Quarto and MDX: the text is the file as it is; the token map of markdown-it gives the blocks.

Source: CommonMark 0.31 with tables; front matter, callouts, shortcodes and tags of Quarto, MDX and doc-builder.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from karkas.agents.sources.extract import Extract, HeadingPath, one_line, tiled
from karkas.server.documents import Block, BlockKind

_NEWLINE = re.compile(r"\r\n?|\n")
_FRONT_MATTER = re.compile(
    r"---[ \t]*(?:\r\n?|\n)(.*?)(?:\r\n?|\n)(?:---|\.\.\.)[ \t]*(?:\r\n?|\n|$)", re.DOTALL
)
_FRONT_MATTER_CHARS = 20_000
_CONTAINER = re.compile(r"[ \t]*(?:>[ \t]?)*[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?")
_CHECKBOX = re.compile(r"\[[ xX]\][ \t]+")
_MARKUP_LINE = re.compile(
    r"""(?: :{3,}.*                        # Pandoc and Quarto fences
        | (?:</?[A-Za-z][^<>]*>|\s)+       # nothing but tags
        | <!--.*-->
        | \{\{[<%].*[>%]\}\}               # shortcodes
        | \[![\w-]+\][+-]?.*               # callouts
        | \[\[[a-z]+\]\].*                 # doc-builder
        | import\s.*\sfrom\s+["'].*["'];?  # MDX
        )$""",
    re.VERBOSE,
)
_NOT_WORDS = re.compile(
    r"""!\[[^\]]*\](?:\([^()]*\)|\[[^\]]*\])
      | \[(?:!\[[^\]]*\]\([^()]*\)|[^\[\]])*\](?:\([^()]*\)|\[[^\]]*\])
      | <[^<>]*> | https?://\S+ | &\w+;""",
    re.VERBOSE,
)
_FORMULA = re.compile(r"\$\$[^$]*\$\$|\$[^$]*\$")
_WORD = re.compile(r"[^\W\d_]{2,}")
_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()]*\)|\[[^\]]*\])")
_ATTRIBUTES = re.compile(r"\s*\{[#.][^{}]*\}\s*$|<[^<>]*>|\[\[[^\[\]]*\]\]")
_MARKS = re.compile(r"\*\*|__|`+|(?<!\w)[*_]|[*_](?!\w)")
_TAG = re.compile(r"\s*</?([A-Za-z][\w.-]*)")
_PROSE_TAGS = frozenset(
    [
        *("aside", "blockquote", "callout", "details", "summary", "frameworkcontent"),
        *("hfoption", "hfoptions", "note", "tab", "tabs", "tip", "warning"),
    ]
)
_SENTENCE_END = re.compile(r"""(?:[.!?:;…]["'»”*_)`]*|[ \t\\])$""")
_LONG = 4_000


class FrontMatter(NamedTuple):
    end: int = 0
    title: str = ""
    description: str = ""
    date: str | None = None


def read_markdown(text: str) -> Extract:
    front = front_matter(text)
    blocks = tiled(text, markdown_blocks(text, HeadingPath(front.title), front=front))
    title = front.title or next(
        (plain(text[block.start : block.end]) for block in blocks if block.kind is BlockKind.HEADING), ""
    )
    return Extract(text, blocks, "markdown@1", title, front.date)


def front_matter(text: str) -> FrontMatter:
    """What YAML front matter says; none, broken or oversized, and it is nothing."""
    match = _FRONT_MATTER.match(text[:_FRONT_MATTER_CHARS])
    if match is None:
        return FrontMatter()
    import yaml

    try:
        values: Any = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        return FrontMatter(match.end()) if values is None else FrontMatter()
    said = {key: one_line(str(values[key])) for key in ("title", "description", "date") if values.get(key)}
    date = re.match(r"\d{4}-\d\d-\d\d", said.get("date", ""))
    return FrontMatter(
        match.end(), said.get("title", ""), said.get("description", ""), date.group() if date else None
    )


def plain(heading: str) -> str:
    """A heading's words, without inline markup."""
    return one_line(_MARKS.sub("", _LINK.sub(r"\1", _ATTRIBUTES.sub("", heading[:_LONG]))))


def markdown_blocks(
    text: str, headings: HeadingPath, *, front: FrontMatter | None = None, offset: int = 0
) -> Iterator[Block]:
    """Blocks of `text`, shifted by `offset`; `headings` is carried on."""
    front = front or FrontMatter()
    if front.end:
        yield Block(BlockKind.OTHER, offset, offset + front.end, headings.above)
    hidden = text[: front.end]
    body = "\n" * len(_NEWLINE.findall(hidden)) + text[front.end :]
    walk = _Walk(text, headings, offset)
    for number, token in enumerate(tokens := _parser().parse(body)):
        yield from walk.step(token, tokens[number + 1] if number + 1 < len(tokens) else token)


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark").enable("table")
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


class _Walk:
    """Follows the tokens; knows in which containers it is."""

    def __init__(self, text: str, headings: HeadingPath, offset: int) -> None:
        self._text = text
        self._headings = headings
        self._offset = offset
        self._starts = [0, *(match.end() for match in _NEWLINE.finditer(text))]
        self._ends = [*(match.start() for match in _NEWLINE.finditer(text)), len(text)]
        self._quotes = 0
        self._fresh_item = False

    def step(self, token: Token, following: Token) -> Iterator[Block]:  # noqa: C901 - one case a token
        match token.type:
            case "blockquote_open":
                self._quotes += 1
            case "blockquote_close":
                self._quotes -= 1
            case "list_item_open":
                self._fresh_item = True
            case "list_item_close":
                self._fresh_item = False
            case "heading_open":
                yield from self._heading(int(token.tag[1]), following)
            case "paragraph_open":
                kind = BlockKind.ITEM if self._fresh_item else BlockKind.PARAGRAPH
                self._fresh_item = False
                yield from self._prose(kind, self._lines(following))
            case "tr_open":
                yield from self._block(BlockKind.ROW, self._lines(token))
            case "fence":
                yield from self._fence(token)
            case "code_block":
                yield from self._block(BlockKind.CODE, self._lines(token, code=True))
            case "html_block":
                yield from self._html(token)
            case _:
                pass

    def _lines(self, token: Token, *, code: bool = False) -> list[tuple[int, int]]:
        """The ranges of the token's lines, without the marks of the containers that they stand in."""
        first, last = token.map or (0, 0)
        contents = token.content.split("\n") if token.type == "inline" else []
        if len(contents) != last - first:
            contents = []
        ranges = []
        for place, number in enumerate(range(first, min(last, len(self._starts)))):
            start, end = self._starts[number], self._ends[number]
            line = self._text[start:end]
            content = contents[place].strip() if contents else ""
            if code and not self._quotes:
                pass
            elif content and line.rstrip().endswith(content):
                start += len(line.rstrip()) - len(content)
            elif mark := _CONTAINER.match(line):
                start += mark.end()
            ranges.append((start, end))
        return ranges

    def _heading(self, level: int, inline: Token) -> Iterator[Block]:
        lines = self._lines(inline)
        if not lines:
            return
        start, end = lines[0][0], lines[-1][1]
        content = inline.content.strip()
        at = self._text.find(content, self._starts[inline.map[0]] if inline.map else start, end)
        if content and at >= 0:
            start, end = at, at + len(content)
        self._headings.enter(level, "")
        yield self._made(BlockKind.HEADING, start, end)
        self._headings.enter(level, plain(content))

    def _fence(self, token: Token) -> Iterator[Block]:
        lines = self._lines(token, code=True)[1:]
        if lines and self._text[slice(*lines[-1])].strip(" \t>").startswith(token.markup):
            lines = lines[:-1]
        yield from self._block(BlockKind.CODE, lines)

    def _html(self, token: Token) -> Iterator[Block]:
        lines = self._lines(token)
        tag = _TAG.match(token.content)
        if tag and (tag[1].lower() in _PROSE_TAGS or tag[1][0].isupper()):
            yield from self._prose(BlockKind.PARAGRAPH, lines)
        else:
            yield from self._block(BlockKind.OTHER, lines)

    def _prose(self, kind: BlockKind, lines: list[tuple[int, int]]) -> Iterator[Block]:
        """Paragraph lines: markup goes its own way, and each run of the rest is one block.

        Inside a quotation a run ends with a sentence, so that the marks of the next line stay out of it.
        """
        if lines and self._text.startswith("[[autodoc]]", lines[0][0]):
            yield from self._block(BlockKind.OTHER, lines)
            return
        if lines and (checkbox := _CHECKBOX.match(self._text, *lines[0])):
            lines[0] = (checkbox.end(), lines[0][1])
        run: list[tuple[int, int]] = []
        for start, end in lines:
            line = self._text[start:end]
            if len(line) < _LONG and _MARKUP_LINE.match(line.strip()):
                yield from self._run(kind, run)
                yield from self._block(BlockKind.OTHER, [(start, end)])
                run = []
                continue
            run.append((start, end))
            if self._quotes and _SENTENCE_END.search(line[-20:]):
                yield from self._run(kind, run)
                run = []
        yield from self._run(kind, run)

    def _run(self, kind: BlockKind, lines: list[tuple[int, int]]) -> Iterator[Block]:
        if not lines:
            return
        piece = self._text[lines[0][0] : lines[-1][1]].strip()
        if len(piece) < _LONG:
            bare = _NOT_WORDS.sub("", piece)
            if not _WORD.search(bare):
                kind = BlockKind.OTHER
            elif not _WORD.search(_FORMULA.sub("", bare)):
                kind = BlockKind.CODE
        yield from self._block(kind, lines)

    def _block(self, kind: BlockKind, lines: list[tuple[int, int]]) -> Iterator[Block]:
        if lines:
            yield self._made(kind, lines[0][0], lines[-1][1])

    def _made(self, kind: BlockKind, start: int, end: int) -> Block:
        return Block(kind, self._offset + start, self._offset + end, self._headings.above)
