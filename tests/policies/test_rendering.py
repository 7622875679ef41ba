import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karkas.policies.rendering import visible, visible_line

NASTY = st.sampled_from("⟦⟧⇥\t\n\r\\ U+202E\u202e\u200b\ufe0f\u0301\u2800\ue000\u00ad\x1b\x00a")
TEXTS = st.text(st.one_of(NASTY, st.characters(exclude_categories=[])))


def unescaped(shown: str) -> str:
    text = shown.replace("⇥   ", "\t")
    return re.sub(r"⟦U\+([0-9A-F]{4,6})⟧", lambda match: chr(int(match[1], 16)), text)


@given(TEXTS)
def test_nothing_invisible_is_left(text: str) -> None:
    for char in visible(text).replace("\n", ""):
        assert unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        assert char == " " or unicodedata.category(char) != "Zs"


@given(TEXTS)
def test_what_is_shown_gives_the_text_back_so_no_two_texts_look_alike(text: str) -> None:
    assert unescaped(visible(text)) == text
    assert unescaped(visible_line(text)) == text


@given(TEXTS)
def test_a_line_stays_one_line(text: str) -> None:
    assert len(visible_line(text).splitlines()) <= 1


def test_every_code_point_that_shows_nothing_is_escaped() -> None:
    ignorable = [0x00AD, 0x034F, 0x061C, 0x115F, 0x3164, 0xFEFF, 0xFFA0, 0x2800, 0xE0041, 0x1D173]
    ignorable += [
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2060, 0x2070),
        *range(0xFE00, 0xFE10),
    ]
    for code in ignorable:
        assert visible(f"a{chr(code)}b") == f"a⟦U+{code:04X}⟧b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rm -rf /", "rm -rf /"),
        ("access\u202e = 'user'", "access⟦U+202E⟧ = 'user'"),
        (r"a literal \u202e", r"a literal \u202e"),
        ("a forged ⟦U+202E⟧", "a forged ⟦U+27E6⟧U+202E⟧"),
        ("\tif x:\r\n", "⇥   if x:⟦U+000D⟧\n"),
        ("ёлка, naïve, e\u0301, 中文, й и\u0306", "ёлка, naïve, e\u0301, 中文, й и\u0306"),
        ("\x1b[2Jgone", "⟦U+001B⟧[2Jgone"),
        ("no\u00a0break", "no⟦U+00A0⟧break"),
        ("=\u0338", "=⟦U+0338⟧"),
        ("\ud800", "⟦U+D800⟧"),
    ],
)
def test_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_pile_of_combining_marks_cannot_paint_over_the_lines_around_it() -> None:
    assert visible("e" + "\u0301" * 50).count("\u0301") == 2


def test_nothing_is_shortened() -> None:
    text = "long " * 100_000
    assert visible(text) == text
