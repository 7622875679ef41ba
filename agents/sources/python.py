"""Python source: docstrings, signatures and defaults through `ast`. It is parsed, never imported."""

import ast
import re
import threading
import warnings
from collections.abc import Iterator

from karkas.agents.sources.extract import Extract, HeadingPath, one_line, tiled
from karkas.policies.errors import SourceError
from karkas.server.documents import Block, BlockKind

_NEWLINE = re.compile(r"\r\n?|\n")
_HEADER_TOKEN = re.compile(
    r"""[rbuRBU]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|\#[^\r\n]*|[()\[\]{}:]""",
    re.DOTALL,
)
_OPENING_QUOTES = re.compile(r"""[rRuUbB]*("{3}|'{3}|"|')""")
_ENTRY = re.compile(
    r"""[ \t]*(?: [*`]{0,2}[\w.]+[`]{0,2}(?:[ ]?\([^()\n]*\))?[ ]?:(?!:)   # name (type): ...
              | :(?:param|type|returns?|rtype|raises?|keyword|arg|ivar|cvar|var|meta)\b[^:\n]*:
              | [-*+•][ ] | \d+[.)][ ] )""",
    re.VERBOSE,
)
_CODE = re.compile(
    r"""[ \t]*(?: >>> | \.\.\.(?:[ ]|$) | \$[ ]
              | (?:from|import)[ ][\w.]+(?:[ ]import[ ].*)?$ | [\w.]+[ ]=[ ]\S
              | (?:await[ ])?[\w.]+\([^)]*\)?[ \t]*(?:\#.*)?$ )""",
    re.VERBOSE,
)
_MARKUP = re.compile(r"[ \t]*(?:[-=~^]{3,}[ \t]*$|```)")
_DIRECTIVE = re.compile(r"[ \t]*\.\.[ ](?:[\w-]+::[ \t]*)?")
_CALLED = frozenset({"__init__", "__new__", "__call__"})
_TYPE_VARIABLE = re.compile(r"^(?:\w+\.)?(?:TypeVar|ParamSpec|TypeVarTuple|NewType|object)\(")
_MANY_CHARS = 1_200
_parsing = threading.Lock()


def read_python(text: str, *, module: str = "") -> Extract:
    """The text is the file as it is. `module` is its dotted name, the outermost heading."""
    blocks = tiled(text, _Module(text, module).blocks(parsed(text)))
    return Extract(text, blocks, "python@1", module)


def parsed(text: str) -> ast.Module:
    """The syntax tree of foreign code, without the warnings that parsing it gives; `SourceError` if there is none."""
    try:
        with _parsing, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SourceError(f"not Python that this version can parse: {error}") from None


class _Module:
    def __init__(self, text: str, module: str) -> None:
        self._text = text
        self._headings = HeadingPath(module)
        self._starts = [0, *(match.end() for match in _NEWLINE.finditer(text))]

    def blocks(self, tree: ast.Module) -> Iterator[Block]:
        yield from self._docstring(tree)
        yield from self._body(tree.body, level=1)

    def _body(self, body: list[ast.stmt], *, level: int) -> Iterator[Block]:
        named = ""
        for statement in body:
            match statement:
                case ast.FunctionDef() | ast.AsyncFunctionDef() if _public(statement.name):
                    if _overload(statement):
                        continue
                    yield self._block(BlockKind.SIGNATURE, *self._header(statement))
                    yield from self._inside(statement.name, level, self._docstring(statement))
                case ast.ClassDef() if _public(statement.name):
                    yield self._block(BlockKind.HEADING, *self._header(statement))
                    yield from self._inside(statement.name, level, self._class(statement, level))
                case ast.AnnAssign() | ast.Assign():
                    named = _field(statement, in_class=level > 1)
                    if named:
                        yield self._block(BlockKind.SIGNATURE, *self._range(statement))
                    continue
                case ast.Expr(value=ast.Constant(value=str())) if named:
                    yield from self._inside(named, level, self._words(statement.value))
                case ast.If() | ast.Try():
                    yield from self._body([*statement.body, *statement.orelse], level=level)
                case _:
                    pass
            named = ""

    def _class(self, node: ast.ClassDef, level: int) -> Iterator[Block]:
        yield from self._docstring(node)
        yield from self._body(node.body, level=level + 1)

    def _inside(self, name: str, level: int, blocks: Iterator[Block]) -> Iterator[Block]:
        self._headings.enter(level, name)
        yield from blocks
        self._headings.enter(level, "")

    def _docstring(
        self, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    ) -> Iterator[Block]:
        match node.body[:1]:
            case [ast.Expr(value=ast.Constant(value=str()) as words)]:
                yield from self._words(words)
            case _:
                pass

    def _words(self, node: ast.expr) -> Iterator[Block]:
        """A docstring in its paragraphs, the entries of its lists of arguments, and its examples."""
        start, end = self._range(node)
        quotes = _OPENING_QUOTES.match(self._text, start)
        if quotes is None:
            return
        start, end = quotes.end(), end - len(quotes[1])
        kind, first, last, indent = BlockKind.DOCSTRING, -1, -1, 0
        for begin, stop in self._lines(start, end):
            line = self._text[begin:stop]
            depth = len(line) - len(line.lstrip())
            directive = _DIRECTIVE.match(line)
            if directive or not line.strip() or _MARKUP.match(line):
                if first >= 0:
                    yield self._block(kind, first, last)
                first = -1
                if directive is None or not line[directive.end() :].strip():
                    continue
                kind, first, last, indent = BlockKind.DOCSTRING, begin + directive.end(), stop, depth
                continue
            code = bool(_CODE.match(line)) or (kind is BlockKind.CODE and first >= 0)
            if first >= 0 and (code != (kind is BlockKind.CODE) or (_ENTRY.match(line) and depth <= indent)):
                yield self._block(kind, first, last)
                first = -1
            if first < 0:
                kind, first, indent = BlockKind.CODE if code else BlockKind.DOCSTRING, begin, depth
                if kind is BlockKind.DOCSTRING and line.rstrip().endswith(":") and _one_word(line):
                    yield self._block(kind, begin, stop)
                    first = -1
                    continue
            last = stop
        if first >= 0:
            yield self._block(kind, first, last)

    def _lines(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        while start <= end:
            newline = _NEWLINE.search(self._text, start, end)
            if newline is None:
                yield start, end
                return
            yield start, newline.start()
            start = newline.end()

    def _header(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> tuple[int, int]:
        """From `def` or `class` to the colon that opens the body."""
        start, end = self._range(node)
        depth = 0
        for token in _HEADER_TOKEN.finditer(self._text, start, end):
            match token.group():
                case "(" | "[" | "{":
                    depth += 1
                case ")" | "]" | "}":
                    depth -= 1
                case ":" if depth == 0:
                    return start, token.end()
                case _:
                    pass
        return start, end

    def _range(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
        return self._at(node.lineno, node.col_offset), self._at(end_line, end_column)

    def _at(self, line: int, column: int) -> int:
        """`ast` counts columns in UTF-8 bytes."""
        start = self._starts[line - 1]
        head = self._text[start : start + column]
        if head.isascii():
            return start + column
        return start + len(head.encode()[:column].decode("utf-8", "ignore"))

    def _block(self, kind: BlockKind, start: int, end: int) -> Block:
        return Block(kind, start, end, self._headings.above)


def _public(name: str) -> bool:
    return not name.startswith("_") or name in _CALLED


def _overload(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """An overload tells types; its defaults are often written `...`."""
    return any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list)


def _one_word(line: str) -> bool:
    return " " not in one_line(line)


def _field(node: ast.Assign | ast.AnnAssign, *, in_class: bool) -> str:
    """The name of a field or constant worth quoting: annotated, or a constant in capitals; "" for others."""
    match node:
        case ast.AnnAssign(target=ast.Name(id=name)) if in_class or node.value is not None:
            kept = _public(name)
        case ast.Assign(targets=[ast.Name(id=name)]):
            kept = (
                _public(name) and name.isupper() and not _TYPE_VARIABLE.search(ast.unparse(node.value)[:40])
            )
        case _:
            return ""
    lines = (node.end_lineno or node.lineno) - node.lineno
    return name if kept and lines * 80 < _MANY_CHARS else ""
