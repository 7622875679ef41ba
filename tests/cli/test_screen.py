import json
import sys
from collections import Counter
from io import StringIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from karkas.cli import progress, screen

honest = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@honest
@given(value=st.text(alphabet=st.characters(codec=None)))
def test_json_holds_exactly_the_data_and_shows_whatever_is_invisible(
    capsys: pytest.CaptureFixture[str], value: str
) -> None:
    screen.as_json({"value": value})
    out = capsys.readouterr().out
    assert json.loads(out) == {"value": value}
    assert all(char == "\n" or char.isprintable() for char in out)


@honest
@given(value=st.text(max_size=40))
def test_a_cell_is_one_printable_line(capsys: pytest.CaptureFixture[str], value: str) -> None:
    screen.table(("name", "value"), [("x", value)])
    out = capsys.readouterr().out
    assert out.count("\n") == 2
    assert all(char == "\n" or char.isprintable() for char in out)


def test_a_pipe_gets_long_lines_unbroken(capsys: pytest.CaptureFixture[str]) -> None:
    screen.table(("name",), [("word " * 200 + "end",)])
    screen.say("word " * 200 + "end")
    assert capsys.readouterr().out.count("\n") == 3


def test_an_error_is_indented_however_often_it_wraps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "console", lambda: Console(file=sys.stdout, width=40))
    screen.told(f"{'word ' * 30}end\n\nshort", indent="  ")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert all(line == line.rstrip() and line[:2] in {"  ", ""} for line in lines)


@pytest.mark.parametrize(("columns", "ends"), [(200, "be reached 5 of 20"), (60, "… 5 of 20")])
def test_how_far_work_is_stands_on_a_narrow_terminal_too(
    columns: int, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.shown() as shown:
        shown("waits: the model server at http://127.0.0.1:8000 cannot be reached", done=5, total=20)
    assert ends in terminal.getvalue()


@pytest.mark.parametrize("width", [50, 60, 80])
def test_an_id_that_begins_a_row_can_be_copied_and_nothing_is_cut(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "console", lambda: Console(file=sys.stdout, width=width))
    row = ("g-3bca418ea57a", "vault", "propose-only", "write_file docs/lora.md", "5 min", "r-2e1d00ed4255")
    headings = ("gate", "zone", "level", "what", "waits", "run")
    screen.table(headings, [row])
    shown = capsys.readouterr().out
    assert row[0] in shown
    assert Counter("".join(shown.split())) == Counter("".join(("".join(headings), *row)).replace(" ", ""))
