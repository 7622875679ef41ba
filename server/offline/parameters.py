"""Facts about values in a sentence or signature: name, role (default, minimum, ...), value and unit."""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from karkas.server.offline.cues import pattern, role_cues


class FactRole(StrEnum):
    DEFAULT = "default"
    RECOMMENDED = "recommended value"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    VERSION = "required version"
    RESULT = "result"
    """The right side of a calculation that the sentence carries out."""


@dataclass(frozen=True, slots=True)
class Fact:
    name: str
    """The parameter or thing; empty where the sentence does not name one."""
    role: FactRole
    value: str
    """Normalised: numbers without trailing zeros, `true`, `none`, strings without quotation marks."""
    unit: str
    shown: str
    """The words of the sentence that say so."""


_SAME_VALUE = {"true": "true", "false": "false", "none": "none", "null": "none", "unset": "none", "-": "none"}

_ADVERB = re.compile(r"by default,?\s+`[^`]*`", re.IGNORECASE)
"""In `by default `x` applies` a name follows and no value."""
_NEAR = 90
"""Code points between a name and its value."""
_OWNER = re.compile(r"\s*(?:of|in|from|on|у|в|из)\s+(?:the\s+)?\[?", re.IGNORECASE)
"""Between two names: the second owns the first."""
_ASSIGNED = re.compile(r"^[A-Za-z_][\w.]*\s*(?:=|:(?!//))\s*(?=\S)")

IDENTIFIER = re.compile(
    r"`(?:~|--?|@)?([A-Za-z_][\w.-]*?)(?:\(\))?(?:\s*(?:=|:(?!//))\s*[^`]*)?`|\[`~?([\w.]+)`\]"
    r"|(?<![\w/.`-])([a-z]+[a-z0-9]*(?:_[a-z0-9]+)+)(?![\w/(])"
)
_NUMBER = r"[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?"
_VALUE = (
    rf"(?P<value>`[^`\n]{{1,40}}`|\"[^\"\n]{{1,40}}\"|'[^'\n]{{1,40}}'|{_NUMBER}"
    r"|(?:True|False|None|true|false|null|none)\b)"
)
_UNIT = (
    r"\s?(?P<unit>%|[KMGT]i?B\b|x\b|×|ms\b|bits?\b|-bit\b|seconds?\b|minutes?\b|hours?\b|days?\b|s\b|tokens?\b"
    r"|epochs?\b|steps?\b|layers?\b|GPUs?\b|процент\w*|секунд\w*|минут\w*|час\w*|шаг\w*|токен\w*)?"
)

_EQUATION = re.compile(
    rf"(?P<left>\d[\d.,\s/*×x+()-]*?[/*×x+-]\s*\d[\d.,]*)\s*=\s*(?P<value>{_NUMBER}){_UNIT}"
)


def facts(text: str, name: str = "") -> list[Fact]:
    """Every stated value, in the order of roles; `name` is what is talked about where the sentence does not say.

    >>> [(f.name, f.role.value, f.value) for f in facts("`timeout` (default: 5.0) limits a request.")]
    [('timeout', 'default', '5')]
    """
    found: list[Fact] = []
    for name_of_role, words in role_cues(_VALUE, _UNIT):
        role = FactRole[name_of_role.upper()]
        for match in words.finditer(text):
            if text.count("`", 0, match.start("value")) % 2:
                continue  # the mark before it closes another name
            if _ADVERB.fullmatch(match.group()):
                continue
            if role in {FactRole.MINIMUM, FactRole.MAXIMUM} and not re.match(_NUMBER, match["value"]):
                continue
            found.append(_fact(text, match, role, name))
    for match in pattern("trailing_default").finditer(text):
        value = match["value"] or match["other"]
        found.append(
            Fact(
                _name_before(text, match.start(), name, value),
                FactRole.DEFAULT,
                plain_value(value),
                "",
                match.group(),
            )
        )
    for match in _EQUATION.finditer(text):
        left = re.sub(r"\s", "", match["left"])
        if left.count("(") == left.count(")"):
            found.append(_fact(text, match, FactRole.RESULT, name))
    if pattern("needs").search(text):
        found += [
            Fact(match["name"].lower(), FactRole.VERSION, match["value"], "", match.group())
            for match in pattern("required_version").finditer(text)
            if match["how"] or match["plus"]
        ]
    return list(dict.fromkeys(found))


def row_facts(cells: Sequence[str], columns: Sequence[str]) -> list[Fact]:
    """The default that a table's row states, by the table's header."""
    name = (identifiers(cells[0]) or [cells[0].strip("`* ")])[0] if cells else ""
    return [
        Fact(name, FactRole.DEFAULT, plain_value(cell), "", cell)
        for cell, column in zip(cells, columns, strict=False)
        if re.search(r"default|умолчан", column, re.IGNORECASE) and re.search(r"\w", cell)
    ]


def _fact(text: str, match: re.Match[str], role: FactRole, name: str) -> Fact:
    unit = (match["unit"] or "").lower().rstrip("s") if match["unit"] != "s" else "second"
    value = match["value"]
    return Fact(
        _name_before(text, match.start(), name, value),
        role,
        plain_value(value),
        unit.replace("-", ""),
        match.group().strip(" *("),
    )


def _name_before(text: str, at: int, name: str, value: str) -> str:
    """The nearest identifier before the value in the same sentence, else what the sentence is about."""
    if name and re.search(r"\.\s+$", text[:at]):
        return name  # a sentence of its own, `Defaults to 5.`, speaks of what the text is about
    near = [match for match in IDENTIFIER.finditer(text, 0, at) if _named(match) != plain_value(value)]
    if len(near) > 1 and _OWNER.fullmatch(text, near[-2].end(), near[-1].start()):
        near.pop()
    return _named(near[-1]) if near and at - near[-1].end() < _NEAR else name


def _named(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group)


def identifiers(text: str) -> list[str]:
    """Names in code marks, and bare names with underscores, in order and without repetition."""
    return list(dict.fromkeys(_named(match) for match in IDENTIFIER.finditer(text)))


def plain_value(value: str) -> str:
    r"""A value so that equal ones are equal strings.

    >>> plain_value("`8.0`"), plain_value('"None"'), plain_value("1e-4")
    ('8', 'none', '0.0001')
    """
    bare = _ASSIGNED.sub("", value.strip("`\"'* ")).strip("`\"'* ")
    try:
        number = float(bare.replace(",", "") if re.fullmatch(r"\d{1,3}(?:,\d{3})+", bare) else bare)
    except ValueError:
        return _SAME_VALUE.get(bare.lower(), bare)
    return f"{number:.12g}"


def is_number(value: str) -> bool:
    return re.fullmatch(_NUMBER, value, re.IGNORECASE) is not None


def signature_defaults(signature: str) -> dict[str, str]:
    """Parameter → literal default out of `def ...:`, its parameters or `name: type = value`; else empty.

    >>> signature_defaults("def wait(first, low: float = 0, *, high=1e3) -> int:")
    {'low': '0', 'high': '1000'}
    """
    tree = _parsed(signature)
    return dict(_defaults(tree.body[0])) if tree is not None and tree.body else {}


def _parsed(signature: str) -> ast.Module | None:
    lines = re.sub(r"^[ \t]*", "", signature)
    for attempt in (lines, lines.rstrip().rstrip(":") + ": ...", lines + "\n    ...", f"def _({lines}): ..."):
        try:
            return ast.parse(attempt)
        except (SyntaxError, ValueError):
            continue
    return None


def _defaults(node: ast.stmt) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        positional = [*node.args.posonlyargs, *node.args.args]
        given = positional[len(positional) - len(node.args.defaults) :]
        named = [
            *zip(given, node.args.defaults, strict=True),
            *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
        ]
        for argument, default in named:
            if default is not None and _is_literal(default):
                yield argument.arg, plain_value(ast.unparse(default))
        return
    match node:
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if _is_literal(value):
            yield name, plain_value(ast.unparse(value))
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if _is_literal(value) or _is_built(value):
            yield name, plain_value(ast.unparse(value))
        case _:
            return


def _is_built(node: ast.expr) -> bool:
    """An object made of literals, as `Timeout(timeout=5.0)`."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and bool(node.keywords)
        and not node.args
        and all(_is_literal(keyword.value) for keyword in node.keywords)
    )


def _is_literal(node: ast.expr) -> bool:
    """A name as a default (`sentinel`, `...`) tells a reader nothing."""
    try:
        return ast.literal_eval(node) is not ...
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
