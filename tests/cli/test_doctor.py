import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import respx

from karkas.cli import checks, exits

Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def editor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "sh -c")


def found(cli: Cli, name: str) -> dict[str, str]:
    (check,) = [check for check in cli("doctor", "--json").json["checks"] if check["name"] == name]
    return dict(check)


def serve_from(root: Path, lines: str) -> None:
    text = (root / "karkas.toml").read_text().replace("[model]\n", f"[model]\n{lines}\n")
    (root / "karkas.toml").write_text(text)


def test_a_healthy_project_has_no_problem(cli: Cli, root: Path) -> None:
    ended = cli("doctor", "--json")
    assert ended.code == exits.DONE
    assert ended.json["ok"] is True
    by_name = {check["name"]: check["status"] for check in ended.json["checks"]}
    for name in (
        "project",
        "karkas.toml",
        "database",
        "audit log",
        "signing key",
        "artifacts",
        "model",
        "editor",
    ):
        assert by_name[name] == "ok", name
    assert "no problems" in cli("doctor").out


def test_without_a_project_the_machine_is_checked_all_the_same(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = cli("doctor")
    assert ended.code == exits.FAILED
    assert "karkas init" in ended.out
    assert "bubblewrap" in ended.out


def test_zones_are_counted_in_words_that_fit(cli: Cli, root: Path) -> None:
    assert found(cli, "karkas.toml")["found"] == "valid, 2 zones declared"
    (root / "karkas.toml").write_text("[zones.lora]\n")
    assert found(cli, "karkas.toml")["found"] == "valid, 1 zone declared"


def test_a_broken_file_is_a_problem_and_hides_no_other(cli: Cli, root: Path) -> None:
    (root / "karkas.toml").write_text("[zones.lora]\nunderstnding = 2\n")
    (root / ".karkas/signing.key").chmod(0o644)
    assert "did you mean 'understanding'" in found(cli, "karkas.toml")["found"]
    assert found(cli, "signing key")["status"] == "problem"


def test_a_signing_key_that_others_can_read_is_a_problem_with_its_mend(cli: Cli, root: Path) -> None:
    key = root / ".karkas/signing.key"
    key.chmod(0o640)
    check = found(cli, "signing key")
    assert (check["status"], check["mend"]) == ("problem", f"chmod 600 {key}")
    key.unlink()
    assert found(cli, "signing key")["status"] == "problem"


def test_a_folder_that_others_may_enter_is_a_warning(cli: Cli, root: Path) -> None:
    (root / ".karkas").chmod(0o755)
    assert found(cli, "folder")["status"] == "warning"
    assert cli("doctor").code == exits.DONE


def test_a_damaged_database_is_a_problem(cli: Cli, root: Path) -> None:
    (root / ".karkas/karkas.db").write_bytes(b"this is no database, and never was one" * 100)
    check = found(cli, "database")
    assert check["status"] == "problem"
    assert "karkas.db" in check["found"]


def test_a_missing_record_is_a_problem(cli: Cli, root: Path) -> None:
    shutil.rmtree(root / ".karkas")
    assert found(cli, "folder")["mend"] == f"karkas init {root}"


def test_an_audit_log_that_lost_its_head_is_a_problem(cli: Cli, root: Path) -> None:
    cli("zone", "list")
    (root / ".karkas/audit.head").unlink()
    assert found(cli, "audit log")["status"] == "problem"


@pytest.mark.parametrize(
    ("free", "status"), [(50_000_000, "problem"), (500_000_000, "warning"), (10**10, "ok")]
)
def test_little_room_on_the_disk_is_told(
    cli: Cli, root: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert found(cli, "disk")["status"] == status


def test_a_sandbox_that_does_not_work_is_a_warning_that_says_what_follows(
    cli: Cli, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        checks, "bubblewrap", lambda: "bubblewrap is installed but does not work here: no namespaces"
    )
    check = found(cli, "bubblewrap")
    assert check["status"] == "warning"
    assert "run_command is refused until then" in check["mend"]
    (root / "karkas.toml").write_text('[act]\nsandbox = "refuse"\n')
    assert found(cli, "bubblewrap")["status"] == "ok"


def test_a_tool_file_that_is_not_there_is_a_problem(cli: Cli, root: Path) -> None:
    (root / "karkas.toml").write_text('[act]\ntools = ["tools.py:deploy"]\n')
    assert "tools.py" in found(cli, "tools")["found"]


def test_an_editor_that_is_not_found_is_a_problem(
    cli: Cli, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "no-such-editor --wait")
    assert found(cli, "editor")["status"] == "problem"
    monkeypatch.delenv("EDITOR")
    monkeypatch.setenv("PATH", "")
    assert found(cli, "editor")["status"] == "warning"


@respx.mock
def test_a_model_server_is_asked_for_its_models(
    cli: Cli, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_from(root, 'base_url = "http://127.0.0.1:8000/v1"\nmodel = "qwen"\napi_key_env = "KARKAS_TEST_KEY"')
    monkeypatch.delenv("KARKAS_TEST_KEY", raising=False)
    assert "KARKAS_TEST_KEY" in found(cli, "model")["found"]
    monkeypatch.setenv("KARKAS_TEST_KEY", "secret")
    route = respx.get("http://127.0.0.1:8000/v1/models", headers={"Authorization": "Bearer secret"})
    route.respond(json={"data": [{"id": "qwen"}]})
    assert found(cli, "model")["status"] == "ok"
    route.respond(json={"data": [{"id": "llama"}]})
    assert "llama" in found(cli, "model")["mend"]
    route.respond(401)
    assert "api_key_env" in found(cli, "model")["mend"]
    route.respond(text="<html>")
    assert "lists no models" in found(cli, "model")["found"]
    route.mock(side_effect=httpx.ConnectError("refused"))
    check = found(cli, "model")
    assert check["status"] == "problem"
    assert "offline engine" in check["mend"]
    assert "secret" not in cli("doctor").out
