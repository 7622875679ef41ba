import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from karkas.cli import exits

Cli = Callable[..., Any]


def test_log_is_oldest_first_and_says_when_there_is_more(cli: Cli, root: Path) -> None:
    cli("zone", "list")
    cli("zone", "set", "lora", "--level", "draft-only", "--reason", "once")
    whole = cli("audit", "log", "--json").json
    assert [entry["seq"] for entry in whole] == [1, 2, 3]
    assert cli("audit", "log").err == ""
    newest = cli("audit", "log", "--limit", "2")
    assert [line.split()[0] for line in newest.out.splitlines()] == ["2", "3"]
    assert "older rows" in newest.err
    assert len(cli("audit", "log", "--limit", "0").out.splitlines()) == 3


def test_log_can_be_narrowed(cli: Cli, root: Path) -> None:
    cli("zone", "list")
    assert [entry["subject"] for entry in cli("audit", "log", "--subject", "zone:lora", "--json").json] == [
        "zone:lora"
    ]
    assert len(cli("audit", "log", "--since", "1h", "--json").json) == 2
    assert cli("audit", "log", "--since", "2999-01-01", "--json").json == []
    assert cli("audit", "log", "--since", "yesterday").code == exits.USAGE


def test_log_leaves_out_only_what_is_empty(cli: Cli, root: Path) -> None:
    cli("zone", "list")
    entry = cli("audit", "log", "--limit", "1", "--json").json[0]
    row = cli("audit", "log", "--limit", "1").out
    for key, value in entry["data"].items():
        shown = f"{key}={json.dumps(value, ensure_ascii=False)}" in row
        assert shown is (value not in (None, "", [], {})), key


def test_verify_names_a_row_that_was_changed(cli: Cli, root: Path) -> None:
    cli("zone", "list")
    assert cli("audit", "verify", "--json").json == {"ok": True, "rows": 2, "breaks": []}
    assert cli("audit", "verify").code == exits.DONE
    with sqlite3.connect(root / ".karkas/karkas.db") as raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f'DROP TRIGGER "{name}"')
        table = raw.execute(
            "SELECT name FROM sqlite_master WHERE name LIKE '%audit%' AND type = 'table'"
        ).fetchone()[0]
        raw.execute(f"UPDATE \"{table}\" SET actor = 'somebody' WHERE seq = 1")
    raw.close()
    broken = cli("audit", "verify")
    assert broken.code == exits.FAILED
    assert "row 1" in broken.out
    assert cli("audit", "verify", "--json").json["ok"] is False
