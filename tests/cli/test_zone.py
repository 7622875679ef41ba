import getpass
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from karkas.cli import exits
from karkas.policies.zones import ControlLevel
from karkas.project import Project, person

Cli = Callable[..., Any]


def test_list_gives_the_reason_that_decided(cli: Cli, root: Path) -> None:
    lora, deploy = cli("zone", "list", "--json").json
    assert (lora["level"], lora["stage"], lora["may_act"]) == ("propose-only", "uncharted", False)
    assert (deploy["level"], deploy["critical"], deploy["may_act"]) == ("propose-only", True, True)
    row = next(line for line in cli("zone", "list").out.splitlines() if line.startswith("deploy"))
    assert row.split(None, 5) == [
        "deploy", "propose-only", "uncharted", "5/5", "yes", "propose-only follows from understanding 5, critical",
    ]  # fmt: skip


def test_list_of_an_empty_project_says_how_to_begin(cli: Cli, root: Path) -> None:
    (root / "karkas.toml").write_text("")
    assert "karkas explore" in cli("zone", "list").out
    assert cli("zone", "list", "--json").json == []


def test_show_gives_every_reason_scope_and_what_would_change_it(cli: Cli, root: Path) -> None:
    shown = cli("zone", "show", "deploy").out
    assert "1. propose-only follows from understanding 5, critical" in shown
    assert "2. its declared level autonomous is looser than that and does not count" in shown
    assert 'karkas zone set deploy --level autonomous --reason "..."' in shown
    assert "адаптер" in cli("zone", "show", "lora").out
    assert "karkas explore lora" in cli("zone", "show", "lora").out


def test_a_looser_declaration_counts_only_after_a_person_set_it(cli: Cli, root: Path) -> None:
    cli("zone", "list")
    text = (root / "karkas.toml").read_text().replace("understanding = 2", "understanding = 5")
    (root / "karkas.toml").write_text(text)
    before = cli("zone", "show", "lora", "--json").json
    assert before["level"] == "propose-only"
    assert "karkas zone set lora --level autonomous" in before["reasons"][-1]
    ended = cli("zone", "set", "lora", "--level", "autonomous", "--reason", "worked with it for a year")
    assert ended.code == exits.DONE
    assert "propose-only → autonomous" in ended.out
    after = cli("zone", "show", "lora", "--json").json
    assert after["level"] == "autonomous"
    assert after["reasons"][-1].endswith("worked with it for a year")


def test_set_records_the_user_of_the_system_and_not_what_the_environment_says(
    cli: Cli, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = getpass.getuser()
    monkeypatch.setenv("USER", "somebody-else")
    monkeypatch.setenv("LOGNAME", "somebody-else")
    assert person() == me
    cli("zone", "set", "lora", "--level", "draft-only", "--reason", "not sure any more")
    newest = cli("audit", "log", "--limit", "1", "--json").json[0]
    assert (newest["actor"], newest["event"], newest["subject"]) == (me, "zone_level_set", "zone:lora")
    assert newest["data"]["reason"] == "not sure any more"


def test_set_needs_a_reason_and_something_to_set(cli: Cli, root: Path) -> None:
    assert cli("zone", "set", "lora", "--level", "draft-only").code == exits.USAGE
    assert cli("zone", "set", "lora", "--reason", "why not").code == exits.USAGE
    blank = cli("zone", "set", "lora", "--level", "autonomous", "--reason", "  ")
    assert blank.code == exits.FAILED
    assert "reason" in blank.err
    assert cli("zone", "set", "lora", "--level", "loose", "--reason", "x").code == exits.USAGE
    assert cli("zone", "show", "lora", "--json").json["level"] == "propose-only"


def test_a_shrunken_scope_counts_only_after_it_was_accepted(cli: Cli, root: Path) -> None:
    cli("zone", "list")
    text = (root / "karkas.toml").read_text().replace('paths = ["train/**"], ', "")
    (root / "karkas.toml").write_text(text)
    before = cli("zone", "show", "lora", "--json").json
    assert before["scope"]["paths"] == ["train/**"]
    assert any("--accept-scope" in reason for reason in before["reasons"])
    cli("zone", "set", "lora", "--accept-scope", "--reason", "train/ moved")
    after = cli("zone", "show", "lora", "--json").json
    assert after["scope"] == {"paths": [], "tools": [], "topics": ["lora", "адаптер"]}
    assert after["level"] == "propose-only"


def test_a_zone_that_vanished_from_the_file_stays_in_force_until_it_is_dropped(cli: Cli, root: Path) -> None:
    cli("zone", "list")
    declared = cli("zone", "drop", "lora", "--reason", "gone")
    assert declared.code == exits.USAGE
    assert "remove [zones.lora]" in declared.err
    (root / "karkas.toml").write_text("")
    kept = cli("zone", "show", "lora", "--json").json
    assert (kept["level"], kept["scope"]["paths"]) == ("propose-only", ["train/**"])
    assert "karkas zone drop lora" in kept["reasons"][0]
    assert cli("zone", "drop", "lora", "--reason", "the project ended").code == exits.DONE
    assert [zone["name"] for zone in cli("zone", "list", "--json").json] == ["deploy"]
    newest = cli("audit", "log", "--limit", "1", "--json").json[0]
    assert newest["event"] == "zone_dropped"
    assert newest["data"]["reason"] == "the project ended"


def test_an_undeclared_zone_keeps_its_declared_level_when_it_is_set(cli: Cli, root: Path) -> None:
    cli("zone", "list")
    (root / "karkas.toml").write_text("")
    assert cli("zone", "set", "lora", "--accept-scope", "--reason", "x").code == exits.USAGE
    cli("zone", "set", "lora", "--level", "draft-only", "--reason", "while nobody owns it")
    with Project.open(root) as project:
        record = project.store.zones.get("lora")
    assert record is not None
    assert (record.level, record.declared_level) == (ControlLevel.DRAFT_ONLY, ControlLevel.PROPOSE_ONLY)


def test_markup_and_invisible_characters_in_a_description_are_shown_as_they_are(cli: Cli, root: Path) -> None:
    with (root / "karkas.toml").open("a", encoding="utf-8") as file:
        file.write('[zones.odd]\ndescription = "[red]alarm[/red] \\u202e :bomb:"\n')
    assert "odd: [red]alarm[/red] ⟦U+202E⟧ :bomb:" in cli("zone", "show", "odd").out
    raw = cli("zone", "show", "odd", "--json")
    assert "\u202e" not in raw.out
    assert raw.json["description"] == "[red]alarm[/red] \u202e :bomb:"
