import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karkas.cli import screen

honest = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


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
