from textwrap import dedent

import pytest

from karkas.agents.sources.python import read_python
from karkas.policies.errors import SourceError
from karkas.server.documents import BlockKind

SOURCE = '''
"""Retries.

Second paragraph — with a dash.
"""
import os
raise SystemExit("importing runs this")

MAX_WAIT = 60
T = TypeVar("T")

class Wait(Base):
    """Waits.

    Args:
        start (float): The first wait. Defaults to 1.
        step: Added each time
            it is called.

    >>> Wait()
    """

    start: float = 1.0
    """Seconds."""
    hidden = 3

    def __init__(self, start: float = 1, *, sep: str = "):", fn=lambda x: {1: 2}) -> None:  # a: b
        self.start = start

    @property
    def é(self, ключ: dict[str, int] = {"a": 1}) -> int: return 1

    def _private(self): ...

    @overload
    def typed(self, x: int = ...) -> int: ...


async def wait(seconds=0.5):
    r"""Sleeps \\d.

    .. note:: Not exact.
    """
    def inner(a=1): ...
'''


def blocks(kind: BlockKind, source: str = SOURCE) -> list[tuple[str, tuple[str, ...]]]:
    extract = read_python(source, module="waits")
    assert extract.text == source
    return [
        (source[block.start : block.end], block.headings) for block in extract.blocks if block.kind is kind
    ]


def test_signatures_are_verbatim_with_their_defaults() -> None:
    assert blocks(BlockKind.SIGNATURE) == [
        ("MAX_WAIT = 60", ("waits",)),
        ("start: float = 1.0", ("waits", "Wait")),
        (
            'def __init__(self, start: float = 1, *, sep: str = "):", fn=lambda x: {1: 2}) -> None:',
            ("waits", "Wait"),
        ),
        ('def é(self, ключ: dict[str, int] = {"a": 1}) -> int:', ("waits", "Wait")),
        ("async def wait(seconds=0.5):", ("waits",)),
    ]


def test_docstrings_are_cut_into_paragraphs_and_entries() -> None:
    assert blocks(BlockKind.DOCSTRING) == [
        ("Retries.", ("waits",)),
        ("Second paragraph — with a dash.", ("waits",)),
        ("Waits.", ("waits", "Wait")),
        ("Args:", ("waits", "Wait")),
        ("start (float): The first wait. Defaults to 1.", ("waits", "Wait")),
        ("step: Added each time\n            it is called.", ("waits", "Wait")),
        ("Seconds.", ("waits", "Wait", "start")),
        ("Sleeps \\d.", ("waits", "wait")),
        ("Not exact.", ("waits", "wait")),
    ]
    assert [text.strip() for text, _ in blocks(BlockKind.CODE)] == [">>> Wait()"]


def test_classes_are_headings() -> None:
    assert blocks(BlockKind.HEADING) == [("class Wait(Base):", ("waits",))]


def test_definitions_behind_a_condition_count() -> None:
    source = dedent(
        """
        if FAST:
            def go(x=1): ...
        else:
            def go(x=2): ...
        """
    )
    assert [text for text, _ in blocks(BlockKind.SIGNATURE, source)] == ["def go(x=1):", "def go(x=2):"]


def test_carriage_returns_and_form_feeds_do_not_shift_anything() -> None:
    source = "# é\r\n\x0c\r\ndef first(a=1):\r\n    '''Doc.'''\r\n"
    assert [text for text, _ in blocks(BlockKind.SIGNATURE, source)] == ["def first(a=1):"]
    assert [text for text, _ in blocks(BlockKind.DOCSTRING, source)] == ["Doc."]


def test_a_bad_escape_warns_nobody() -> None:
    assert blocks(BlockKind.DOCSTRING, '"""A \\d escape."""') == [("A \\d escape.", ("waits",))]


def test_broken_code_is_told() -> None:
    with pytest.raises(SourceError, match="not Python"):
        read_python("def (:\n")
