import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from karkas.logs import FILE, log_to, log_to_terminal


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nobody has configured logging yet, and nobody finds it configured afterwards."""
    root = logging.getLogger()
    before = list(root.handlers)
    structlog.reset_defaults()
    yield
    for handler in [one for one in root.handlers if one not in before]:
        root.removeHandler(handler)
        handler.close()
    structlog.reset_defaults()


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / FILE).read_text(encoding="utf-8").splitlines()]


def test_an_event_is_one_json_line_with_its_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_to(tmp_path)
    structlog.get_logger("karkas.test").info("gate_opened", gate="g-1", path=tmp_path, text="адаптер\nтекст")
    (line,) = lines(tmp_path)
    assert line | {"timestamp": ""} == {
        "event": "gate_opened",
        "gate": "g-1",
        "path": str(tmp_path),
        "text": "адаптер\nтекст",
        "level": "info",
        "logger": "karkas.test",
        "timestamp": "",
    }
    assert str(line["timestamp"]).endswith("Z")
    assert capsys.readouterr() == ("", "")


def test_warnings_of_other_libraries_are_kept_and_their_chatter_is_not(tmp_path: Path) -> None:
    log_to(tmp_path)
    logging.getLogger("httpx").info("HTTP Request: GET ...")
    logging.getLogger("httpx").warning("retrying %s", "it")
    assert [line["event"] for line in lines(tmp_path)] == ["retrying it"]


def test_the_project_that_was_opened_last_gets_the_log(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, second):
        folder.mkdir()
        log_to(folder)
        structlog.get_logger("karkas").info(f"from_{folder.name}")
    assert [line["event"] for line in lines(first)] == ["from_1"]
    assert [line["event"] for line in lines(second)] == ["from_2"]


def test_an_exception_is_kept_with_its_frames_and_without_their_variables(tmp_path: Path) -> None:
    log_to(tmp_path)

    def ask(key: str) -> None:
        raise LookupError(f"no answer to a key of {len(key)} characters")

    try:
        ask("swordfish")
    except LookupError:
        structlog.get_logger("karkas.test").exception("broke")
    (line,) = lines(tmp_path)
    assert '"ask"' in json.dumps(line["exception"])
    assert "no answer to a key of 9 characters" in json.dumps(line["exception"])
    assert "swordfish" not in json.dumps(line)


def test_the_terminal_shows_the_log_when_asked(tmp_path: Path) -> None:
    shown = io.StringIO()
    log_to_terminal(shown)
    structlog.get_logger("karkas.test").info("run_parked", run_id="r-1")
    assert "run_parked" in shown.getvalue()
    assert "r-1" in shown.getvalue()
