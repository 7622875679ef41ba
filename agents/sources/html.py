"""HTML: the main content as text, by the Lexbor parser of selectolax; scripts are never run."""

import re
from typing import TYPE_CHECKING

from karkas.agents.sources.extract import Composer, Extract, one_line
from karkas.server.documents import BlockKind

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

_DROPPED = (
    "script, style, noscript, template, svg, nav, header, footer, aside, form, button, iframe, head, dialog,"
    " [role=navigation], [role=banner], [role=contentinfo], [role=search], [aria-hidden=true], [hidden],"
    " a.headerlink, a.anchor, .toc, #toc, .sphinxsidebar, .related, .breadcrumb, .breadcrumbs, .sidebar"
)
_MAIN = ("main", "[role=main]", "article", "#content", "#main", ".document")
_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_KINDS = {"li": BlockKind.ITEM, "dt": BlockKind.ITEM, "dd": BlockKind.PARAGRAPH}
_INLINE = frozenset(
    [
        *(
            "a",
            "abbr",
            "b",
            "bdi",
            "bdo",
            "cite",
            "code",
            "data",
            "del",
            "dfn",
            "em",
            "font",
            "i",
            "img",
            "ins",
        ),
        *(
            "kbd",
            "label",
            "mark",
            "q",
            "s",
            "samp",
            "small",
            "span",
            "strong",
            "sub",
            "sup",
            "time",
            "tt",
            "u",
        ),
        *("var", "wbr", "math"),
    ]
)
_DATED = (
    'meta[property="article:modified_time"]',
    'meta[name="last-modified"]',
    'meta[name="date"]',
    'meta[property="article:published_time"]',
)
_ANCHOR = re.compile(r"^\s*[§¶#]\s*|\s*[¶#]\s*$")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_LINK_SHARE = 0.9
_LEAST_SHARE = 0.2


def read_html(text: str) -> Extract:
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(text)
    titles = tree.css_first("title")
    title = one_line(titles.text()) if titles else ""
    modified = _modified(tree)
    for node in tree.css(_DROPPED):
        node.decompose()
    composer = Composer()
    main = _main(tree)
    if main is not None:
        _Walk(composer).read(main)
    return composer.extract("html@1", title=composer.title or title, modified=modified)


def _main(tree: "LexborHTMLParser") -> "LexborNode | None":
    """The first usual container that holds a fair share of the page, else all of it."""
    body = tree.body or tree.root
    if body is None:
        return None
    whole = len(body.text())
    for selector in _MAIN:
        node = tree.css_first(selector)
        if node is not None and len(node.text()) > _LEAST_SHARE * whole:
            return node
    return body


def _modified(tree: "LexborHTMLParser") -> str | None:
    for selector in _DATED:
        node = tree.css_first(selector)
        date = _DATE.match(node.attributes.get("content") or "") if node else None
        if date:
            return date.group()
    return None


class _Walk:
    """Gathers inline text until a block begins or ends."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer
        self._kind = BlockKind.PARAGRAPH
        self._text: list[str] = []
        self._linked = 0

    def read(self, node: "LexborNode") -> None:
        self._children(node)
        self._flush()

    def _children(self, node: "LexborNode", *, linked: bool = False) -> None:
        child = node.child
        while child is not None:
            tag = (child.tag or "").lower()
            if tag == "-text":
                said = child.text_content or ""
                self._text.append(said)
                self._linked += len(one_line(said)) if linked else 0
            elif tag == "br":
                self._text.append(" ")
            elif tag in _INLINE:
                self._children(child, linked=linked or tag == "a")
            elif not tag.startswith(("-", "!", "_")):
                self._block(child, tag)
            child = child.next

    def _block(self, node: "LexborNode", tag: str) -> None:
        self._flush()
        if level := _HEADINGS.get(tag):
            self._composer.heading(level, _ANCHOR.sub("", node.text()))
        elif tag == "pre":
            self._composer.put(BlockKind.CODE, node.text())
        elif tag == "tr":
            cells = [one_line(cell.text(separator=" ")) for cell in node.css("th, td")]
            self._composer.put(BlockKind.ROW, " | ".join(cells))
        elif tag == "dt" and "sig" in (node.attributes.get("class") or "").split():
            self._composer.put(BlockKind.SIGNATURE, one_line(node.text()))
        else:
            outer, self._kind = self._kind, _KINDS.get(tag, BlockKind.PARAGRAPH)
            if tag in {"p", "div", "span"} and outer is BlockKind.ITEM:
                self._kind = outer
            self._children(node)
            self._flush()
            self._kind = outer

    def _flush(self) -> None:
        said = one_line("".join(self._text))
        if said:
            navigation = self._linked >= _LINK_SHARE * len(said)
            self._composer.put(BlockKind.OTHER if navigation else self._kind, said)
            if self._kind is BlockKind.ITEM:
                self._kind = BlockKind.PARAGRAPH
        self._text.clear()
        self._linked = 0
