"""Two people at one queue."""

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Cli
from .test_queue import FLOW

As = Callable[[str], None]


@pytest.fixture
def is_now(monkeypatch: pytest.MonkeyPatch) -> As:
    """Who sits at the terminal from now on."""

    def sit(name: str) -> None:
        monkeypatch.setattr("karkas.project.person", lambda: name)

    sit("ada")
    return sit


def test_two_people_pass_an_action_and_one_alone_does_not(root: Path, cli: Cli, is_now: As) -> None:
    (root / "flows.py").write_text(FLOW.replace("critical=True", "critical=True, approvers=2"))
    run = cli("run", "flows.py:long", "--json")
    (gate,) = run.json["gates"]
    assert "2 different people must say the same" in cli("queue", "show", gate).out
    first = cli("queue", "approve", gate)
    assert first.code == 0
    assert f"gate {gate}: 1 of 2: approve by ada; another person decides" in first.out
    assert not (root / "notes.md").exists()
    assert "1 of 2: approve by ada" in cli("queue", "list").out
    again = cli("queue", "approve", gate)
    assert again.code == 1
    assert "somebody else decides now" in again.err
    is_now("boris")
    assert cli("queue", "approve", gate).code == 0
    assert (root / "notes.md").read_text() == "first line\nsecond line\n"
    assert "approve by ada" in cli("queue", "show", gate).out
    assert cli("audit", "verify").code == 0


def test_approvers_are_set_by_a_person_and_shown(root: Path, cli: Cli, is_now: As) -> None:
    assert cli("zone", "show", "deploy", "--json").json["approvers"] == 1
    set_ = cli("zone", "set", "deploy", "--approvers", "2", "--reason", "it reaches production")
    assert "approvers: 1 → 2" in set_.out
    assert "2 different people" in cli("zone", "show", "deploy").out
    assert cli("zone", "set", "deploy", "--approvers", "3", "--reason", "more").code == 2
    assert cli("zone", "set", "deploy", "--approvers", "1", "--reason", "he left").code == 0
    assert cli("zone", "show", "deploy", "--json").json["approvers"] == 1


def test_what_the_file_declares_is_lowered_in_the_file_first(root: Path, cli: Cli, is_now: As) -> None:
    text = (root / "karkas.toml").read_text()
    (root / "karkas.toml").write_text(text.replace("critical = true", "critical = true\napprovers = 2"))
    refused = cli("zone", "set", "deploy", "--approvers", "1", "--reason", "he left")
    assert refused.code == 2
    assert "lower it there first" in refused.err
    (root / "karkas.toml").write_text(text)
    shown = cli("zone", "show", "deploy", "--json").json
    assert shown["approvers"] == 2
    assert any("--approvers 1" in reason for reason in shown["reasons"])


def test_two_people_frame_a_zone_by_the_same_frame(root: Path, cli: Cli, is_now: As, tmp_path: Path) -> None:
    (root / "a.md").write_text("# Couriers\n\nA courier is a person who carries parcels.\n")
    with (root / "karkas.toml").open("a") as file:
        file.write("\n[zones.courier]\napprovers = 2\n")
    assert cli("explore", "courier", "--source", "a.md").code == 3
    mine = tmp_path / "mine.yaml"
    mine.write_text(cli("frame", "courier", "--draft", "--level", "propose-only").out)
    first = cli("frame", "courier", "--from", str(mine))
    assert first.code == 0, first.err
    assert "1 of 2: adopt (frame" in first.out
    assert cli("zone", "show", "courier", "--json").json["stage"] == "mapped"
    assert not (root / "zones/courier.frame.yaml").exists()
    is_now("boris")
    theirs = tmp_path / "theirs.yaml"
    theirs.write_text(mine.read_text().replace("level: propose-only", "level: draft-only"))
    differing = cli("frame", "courier", "--from", str(theirs))
    assert differing.code == 1
    assert "ada said adopt (frame" in differing.err
    theirs.write_text(cli("frame", "courier", "--draft").out)
    assert theirs.read_text() == mine.read_text()
    assert cli("frame", "courier", "--from", str(theirs)).code == 0
    after = cli("zone", "show", "courier", "--json").json
    assert (after["stage"], after["level"]) == ("framed", "propose-only")
    alone = cli("frame", "courier", "--from", str(theirs))
    assert alone.code == 1
    assert "2 people frame courier" in alone.err
