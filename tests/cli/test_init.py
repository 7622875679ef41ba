import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from karkas.cli import exits
from karkas.project import Project

Cli = Callable[..., Any]


def test_init_makes_a_private_project_and_says_what_is_next(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = cli("init")
    assert ended.code == exits.DONE
    assert "Next:" in ended.out
    folder = tmp_path / ".karkas"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "signing.key").stat().st_mode) == 0o600
    assert (folder / ".gitignore").read_text() == "*\n"
    assert (folder / "karkas.db").exists()
    assert cli("zone", "list").code == exits.DONE


def test_init_again_changes_nothing(cli: Cli, root: Path) -> None:
    kept = {path: path.read_bytes() for path in (root / "karkas.toml", root / ".karkas/signing.key")}
    again = cli("init", "--json")
    assert again.json == {"project": str(root), "made": []}
    assert {path: path.read_bytes() for path in kept} == kept


def test_init_completes_a_fresh_clone(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "karkas.toml").write_text("# ours\n[zones.lora]\n")
    told = cli("zone", "list")
    assert told.code == exits.FAILED
    assert "karkas init" in told.err
    assert cli("init", "--json").json["made"] == [".karkas"]
    assert (tmp_path / "karkas.toml").read_text() == "# ours\n[zones.lora]\n"
    assert [zone["name"] for zone in cli("zone", "list", "--json").json] == ["lora"]


def test_init_does_not_start_on_a_broken_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "karkas.toml").write_text("[zones.lora\n")
    ended = cli("init", str(tmp_path))
    assert ended.code == exits.FAILED
    assert "line 1" in ended.err
    assert not (tmp_path / ".karkas").exists()


def test_init_inside_a_project_needs_force(cli: Cli, root: Path) -> None:
    inner = root / "inner"
    refused = cli("init", str(inner))
    assert refused.code == exits.FAILED
    assert "--force" in refused.err
    assert not inner.exists()
    assert cli("init", str(inner), "--force").code == exits.DONE
    with Project.find(inner) as project:
        assert project.root == inner


def test_init_says_where_it_may_not_write(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = cli("init", str(tmp_path / "file" / "project"))
    assert ended.code == exits.FAILED
    assert str(tmp_path / "file") in ended.err
