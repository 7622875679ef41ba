"""reStructuredText through docutils, without reading or executing anything that the text names.

Only the parser runs, no transform and no writer. Sphinx's roles and directives, which docutils does not know, keep
their words: a role becomes its text, a directive's content is read as text again.
"""

import re
from collections.abc import Iterable
from textwrap import dedent
from typing import TYPE_CHECKING

from karkas.agents.sources.extract import Composer, Extract, one_line
from karkas.server.documents import BlockKind

if TYPE_CHECKING:
    from docutils import nodes

_ROLE = re.compile(r"(?<![\w:]):[\w.+:-]+:`(?:([^`<]*?)\s*<[^`>]*>|[~!]?([^`]+))`")
_TILDE = re.compile(r"^~?(?:[\w.]+\.)?(?=\w+$)")
_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]*>`_{1,2}")
_DIRECTIVE = re.compile(r"\s*\.\.\s+(?:\|[^|]*\|\s+)?([\w:.+-]+?)::[ \t]*([^\n]*)\n?", re.DOTALL)
_OPTIONS = re.compile(r"(?:[ \t]*:[\w-]+:[^\n]*\n?)+")
_SINCE = {
    "versionadded": "Added in version",
    "versionchanged": "Changed in version",
    "deprecated": "Deprecated since version",
    "versionremoved": "Removed in version",
}
_CODE = frozenset(
    [
        *("code-block", "code", "sourcecode", "parsed-literal", "ipython", "prompt", "console"),
        *("doctest", "testcode", "testsetup", "testoutput"),
    ]
)
_OBJECTS = frozenset(
    [
        *("module", "function", "method", "class", "classmethod", "staticmethod", "attribute", "property"),
        *("data", "exception", "decorator", "confval", "option", "envvar", "setting"),
    ]
)
_POINTERS = frozenset(
    [
        "toctree",
        "include",
        "literalinclude",
        "index",
        "currentmodule",
        "highlight",
        "contents",
        "image",
        "raw",
    ]
)
_DEEPEST = 12
_SETTINGS = {
    "halt_level": 5,
    "report_level": 5,
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "syntax_highlight": "none",
    "warning_stream": "",
    "line_length_limit": 1_000_000,
}


def read_restructured(text: str) -> Extract:
    composer = Composer()
    _Reader(composer).read(text)
    return composer.extract("rst@1")


class _Reader:
    def __init__(self, composer: Composer, *, depth: int = 0) -> None:
        self._composer = composer
        self._level = 0
        self._depth = depth

    def read(self, text: str) -> None:
        from docutils.frontend import get_default_settings
        from docutils.parsers.rst import Parser
        from docutils.utils import new_document

        settings = get_default_settings(Parser)
        vars(settings).update(_SETTINGS)
        document = new_document("source", settings)
        Parser().parse(text, document)
        self._children(document.children)

    def _children(self, children: Iterable["nodes.Node"]) -> None:
        for child in children:
            self._node(child)

    def _node(self, node: "nodes.Node") -> None:  # noqa: C901, PLR0912 - one case a kind
        from docutils import nodes

        put = self._composer.put
        match node:
            case nodes.section():
                self._level += 1
                self._children(node.children)
                self._level -= 1
            case nodes.title():
                self._title(node)
            case nodes.paragraph() | nodes.line_block() | nodes.attribution() | nodes.caption():
                put(_kind(node), words(node))
            case nodes.list_item() | nodes.definition():
                self._item(node.children)
            case nodes.definition_list_item():
                terms = ": ".join(
                    words(child).rstrip(": ") for child in node.children if isinstance(child, nodes.term)
                )
                bodies = [child for child in node.children if isinstance(child, nodes.definition)]
                self._item(bodies[0].children if bodies else [], lead=terms)
            case nodes.field_list() if isinstance(node.parent, nodes.document) and node.parent[0] is node:
                put(
                    BlockKind.OTHER,
                    "\n".join(": ".join(map(words, field.children)) for field in node.children),
                )
            case nodes.field():
                self._item(node.children[1].children, lead=words(node.children[0]))
            case nodes.option_list_item():
                self._item(node.children[1].children, lead=words(node.children[0]))
            case nodes.literal_block() | nodes.doctest_block() | nodes.math_block():
                put(BlockKind.CODE, node.astext())
            case nodes.row():
                cells = (one_line(" ".join(words(part) for part in cell.children)) for cell in node.children)
                put(BlockKind.ROW, " | ".join(cells))
            case nodes.system_message():
                self._unknown(node)
            case nodes.footnote() | nodes.citation():
                put(BlockKind.OTHER, words(node))
            case nodes.Invisible() | nodes.raw() | nodes.image() | nodes.label():
                pass
            case nodes.Element():
                self._children(node.children)
            case _:
                pass

    def _title(self, node: "nodes.title") -> None:
        from docutils import nodes

        if isinstance(node.parent, nodes.section | nodes.document):
            self._composer.heading(max(self._level, 1), words(node))
        else:
            self._composer.put(BlockKind.PARAGRAPH, words(node))

    def _item(self, children: Iterable["nodes.Node"], *, lead: str = "") -> None:
        from docutils import nodes

        children = list(children)
        if children and isinstance(children[0], nodes.paragraph):
            lead = f"{lead}: {words(children.pop(0))}" if lead else words(children.pop(0))
        self._composer.put(BlockKind.ITEM, lead)
        self._children(children)

    def _unknown(self, message: "nodes.system_message") -> None:
        """A directive that docutils does not know, or may not run: what it holds is read all the same."""
        from docutils import nodes

        literal = next((child for child in message.children if isinstance(child, nodes.literal_block)), None)
        directive = _DIRECTIVE.match(literal.astext()) if literal is not None else None
        if literal is None or directive is None:
            return
        name, argument = directive[1].rpartition(":")[2].lower(), _plain(directive[2])
        content = dedent(literal.astext()[directive.end() :])
        options = _OPTIONS.match(content)
        content = content[options.end() :] if options else content
        put = self._composer.put
        if name in _POINTERS or name.startswith("auto"):
            put(BlockKind.OTHER, f"{argument}\n{content}".strip())
            return
        if name in _CODE:
            put(BlockKind.CODE, content)
            return
        if name in _OBJECTS:
            put(BlockKind.SIGNATURE, argument)
        elif name in _SINCE:
            content = f"{_SINCE[name]} {argument}\n{content.lstrip()}"
        elif argument:
            put(BlockKind.OTHER, argument)
        if content.strip() and self._depth < _DEEPEST:
            inner = _Reader(self._composer, depth=self._depth + 1)
            inner._level = self._level
            inner.read(content)


def words(node: "nodes.Node") -> str:
    """The words of a node: roles that docutils does not know as their text, no error messages."""
    from docutils import nodes

    if isinstance(node, nodes.system_message | nodes.image | nodes.Invisible):
        return ""
    if isinstance(node, nodes.problematic):
        return _plain(node.astext())
    if isinstance(node, nodes.Text):
        return node.astext()
    gap = "\n" if isinstance(node, nodes.line_block) else ""
    joined = gap.join(words(child) for child in node.children)
    return f"`{joined}`" if isinstance(node, nodes.literal) else joined


def _plain(text: str) -> str:
    text = _ROLE.sub(
        lambda role: role[1] or _TILDE.sub("", role[2]) if role[0].count("~") else role[1] or role[2], text
    )
    return one_line(_LINK.sub(r"\1", text))


def _kind(node: "nodes.Node") -> BlockKind:
    """A paragraph of nothing but links and pictures is navigation."""
    from docutils import nodes

    loose = [
        child
        for child in node.children
        if not isinstance(child, nodes.reference | nodes.image | nodes.substitution_reference | nodes.target)
    ]
    said = "".join(words(child) for child in loose)
    return BlockKind.PARAGRAPH if re.search(r"[^\W\d_]{2,}", said) else BlockKind.OTHER
