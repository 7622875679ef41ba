"""`karkas report`, and what `karkas doctor` says of messages and traces."""

from pathlib import Path

import pytest

from karkas.project import Project

from .conftest import Cli


@pytest.fixture
def explored(root: Path, karkas: Cli) -> Path:
    (root / "a.md").write_text(
        "# A\n\nA courier is a person who carries parcels. It waits 5 minutes by default.\n"
    )
    assert karkas("explore", "lora", "--source", "a.md").code == 3
    return root


def test_the_night_is_told_in_lines_as_json_and_as_a_page(explored: Path, cli: Cli) -> None:
    out = cli("report").out
    assert "1. lora: frame zone lora: nothing acts in the zone before" in out
    assert "runs: 1 parked (sources exhausted)" in out
    assert "1 cycle, 1 source" in out
    told = cli("report", "--json").json
    assert told["zones"][0]["zone"] == "lora"
    assert told["cycles"][0]["new_claims"] >= 1
    ended = cli("report", "--html", "night.html")
    assert ended.out == "written to night.html\n"
    page = (explored / "night.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert "frame zone lora" in page


def test_one_night_is_told_from_its_begin_to_its_end(explored: Path, cli: Cli) -> None:
    with Project.open(explored) as project:
        night = project.store.nights.open()
        project.store.nights.close(night.id, why="drained")
    told = cli("report", "--night", night.id, "--json").json
    assert told["runs"] == [], "the run was over before"
    assert told["waits"] == 1
    assert cli("report", "--night", "n-nope").code == 1


def test_an_empty_time_says_what_to_do(root: Path, cli: Cli) -> None:
    out = cli("report", "--since", "1h").out
    assert "no run was at work in this time" in out
    assert "karkas explore ZONE" in out
    assert "nothing waits for you" in out


def test_a_page_that_cannot_be_written_is_named(root: Path, cli: Cli) -> None:
    ended = cli("report", "--html", "no/where.html")
    assert ended.code == 2
    assert "no/where.html cannot be written" in ended.err


def declared(root: Path, text: str) -> None:
    path = root / "karkas.toml"
    path.write_text(path.read_text().replace("[notify]", "").replace("[telemetry]", "") + text)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_doctor_says_whether_messages_can_be_sent(
    root: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "notify" not in {check["name"] for check in cli("doctor", "--json").json["checks"]}
    declared(root, '\n[notify]\nurls = ["MY_URL"]\n\n[telemetry]\ntraces = true\n')
    monkeypatch.delenv("MY_URL", raising=False)
    checks = {check["name"]: check for check in cli("doctor", "--json").json["checks"]}
    assert checks["notify"]["status"] == "warning"
    assert checks["notify"]["mend"] == "export MY_URL=..."
    assert checks["traces"]["status"] == "ok"
    monkeypatch.setenv("MY_URL", "json://127.0.0.1:1/")
    tried = cli("doctor", "--notify", "--json")
    checks = {check["name"]: check for check in tried.json["checks"]}
    assert checks["notify"]["status"] == "ok"
    assert checks["message"]["status"] == "problem", "nobody listens there"
    assert tried.code == 1


def test_a_url_in_the_file_is_refused_since_it_is_a_secret(root: Path, cli: Cli) -> None:
    declared(root, '\n[notify]\nurls = ["ntfys://token@ntfy.example/topic"]\n')
    ended = cli("runs", "list")
    assert ended.code == 1
    assert "must be the name of a variable" in ended.err
