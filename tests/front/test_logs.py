import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from karkas import logs
from karkas.logs import DOING, FILE, log_to, log_to_terminal, of_run


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


def of_run_lines(folder: Path, run: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in of_run(folder, run).read_text(encoding="utf-8").splitlines()]


def test_what_is_of_one_run_is_in_its_own_log_too(tmp_path: Path) -> None:
    log_to(tmp_path)
    log = structlog.get_logger("karkas.test")
    log.info("run_parked", run_id="r-1a")
    with structlog.contextvars.bound_contextvars(run_id="r-2b"):
        log.info("zone_read")
        logging.getLogger("httpx").warning("retrying")
    log.info("command_done")
    assert [line["event"] for line in of_run_lines(tmp_path, "r-1a")] == ["run_parked"]
    assert [line["event"] for line in of_run_lines(tmp_path, "r-2b")] == ["zone_read", "retrying"]
    assert [line["event"] for line in lines(tmp_path)] == [
        "run_parked",
        "zone_read",
        "retrying",
        "command_done",
    ]


def test_what_a_run_is_doing_is_in_its_own_log_alone(tmp_path: Path) -> None:
    log_to(tmp_path)
    structlog.get_logger("karkas.runs").info(DOING, run_id="r-1a", doing="reads")
    assert [line["doing"] for line in of_run_lines(tmp_path, "r-1a")] == ["reads"]
    assert not (tmp_path / FILE).exists()


def test_no_id_leads_out_of_the_folder(tmp_path: Path) -> None:
    log_to(tmp_path)
    for run in ("../../r-1", "r-1/../../x", "", "r-", "r-1.log\n"):
        structlog.get_logger("karkas.test").info("done", run_id=run)
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["karkas.log"]


def test_a_run_s_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "OF_RUN_BYTES", 2_000)
    log_to(tmp_path)
    for number in range(100):
        structlog.get_logger("karkas.test").info("step", run_id="r-1a", number=number)
    files = sorted((tmp_path / "logs").glob("r-1a*"))
    assert [path.name for path in files] == ["r-1a.log", "r-1a.log.1"]
    assert all(path.stat().st_size <= 2_000 for path in files)
    assert of_run_lines(tmp_path, "r-1a")[-1]["number"] == 99
