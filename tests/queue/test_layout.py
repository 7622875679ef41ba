"""Rows for the screen: nothing is lost, nothing of others looks like ours."""

from hypothesis import given
from hypothesis import strategies as st

from karkas import cells
from karkas.policies.rendering import visible, visible_once
from karkas.queue.blocks import Beside, Context, Facts, Heading, Line, Quote, Shown
from karkas.queue.layout import BETWEEN, rows

ANY = st.text(alphabet=st.characters(codec="utf-8"), max_size=200)
WIDTHS = st.integers(min_value=20, max_value=90)


def text(row: tuple[tuple[str, str], ...]) -> str:
    return "".join(piece for piece, _ in row)


@given(value=ANY, width=WIDTHS)
def test_no_row_is_wider_than_the_screen(value: str, width: int) -> None:
    blocks = (
        Heading(value), Line(value), Quote(value), Shown(value), Context(value, value, value),
        Facts((("name", (value,)),)),
    )  # fmt: skip
    assert all(cells.length(text(row)) <= width for row in rows(blocks, width))


@given(value=ANY, width=WIDTHS)
def test_what_is_decided_on_is_shown_whole(value: str, width: int) -> None:
    found = rows((Shown(value),), width)
    lines: list[str] = []
    for (gutter, _), _, (piece, _) in found:
        if "↳" in gutter:
            lines[-1] += piece
        else:
            lines.append(piece)
    assert "\n".join(lines) == visible_once(value)


@given(value=ANY, width=WIDTHS)
def test_every_row_of_somebodys_words_has_its_mark(value: str, width: int) -> None:
    found = rows((Quote(value, mark="  | "),), width)
    assert all(row[0][0] == "  | " for row in found)
    assert "".join(row[1][0] for row in found).replace(" ", "") == visible(value).replace("\n", "").replace(
        " ", ""
    )


@given(value=ANY, width=st.integers(min_value=1, max_value=60))
def test_wrapping_leaves_out_a_blank_a_row_and_nothing_else(value: str, width: int) -> None:
    shown = visible(value).replace("\n", "x")
    found = cells.wrap(shown, max(width, 2))
    assert "".join(found).replace(" ", "") == shown.replace(" ", "")
    assert len(shown) - sum(map(len, found)) <= len(found) - 1


def test_indentation_stays() -> None:
    assert cells.wrap("    def f():", 40) == ["    def f():"]
    assert cells.wrap("    one two three", 10) == ["    one", "two three"]


@given(value=st.text(max_size=60), width=st.integers(min_value=1, max_value=40))
def test_what_does_not_fit_says_so(value: str, width: int) -> None:
    shown = visible(value).replace("\n", "x")
    fitted = cells.fit(shown, width)
    assert cells.length(fitted) == width
    assert fitted.rstrip(" ") == shown.rstrip(" ") or "…" in fitted


def test_columns_give_way_widest_first() -> None:
    assert cells.shared([14, 50, 10], 60, fixed=1) == [14, 36, 10]
    assert cells.shared([14, 50, 50], 60, fixed=1) == [14, 23, 23]
    assert cells.shared([14, 20], 60) == [14, 20]


def test_variants_stand_side_by_side_only_where_each_has_room() -> None:
    both = Beside(((Shown("one"),), (Shown("two"),)))
    assert len(rows((both,), 130)) == 1
    assert BETWEEN in text(rows((both,), 130)[0])
    assert [text(row).strip() for row in rows((both,), 80)] == ["1 │one", "1 │two"]
