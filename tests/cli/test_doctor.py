import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

from karkas.cli import checks, exits
from karkas.project import Project

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


def test_of_a_file_that_cannot_be_read_nothing_is_said_about_its_models(cli: Cli, root: Path) -> None:
    (root / "karkas.toml").write_text('[model]\nbase_urll = "http://127.0.0.1:9"\n')
    check = found(cli, "model")
    assert check["status"] == "warning"
    assert "offline engine" not in check["found"]


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


def test_a_worker_that_is_not_heard_of_is_a_warning_that_names_its_process(cli: Cli, root: Path) -> None:
    with Project.open(root) as project:
        project.store.workers.join(1)
        assert found(cli, "workers")["status"] == "ok"
        with project.store.database.connection(write=True) as connection:
            connection.execute(text("UPDATE worker SET beat_at = '2001-01-01'"))
        silent = found(cli, "workers")
    assert silent["status"] == "warning"
    assert f"process {os.getpid()}" in silent["found"]


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


@dataclass
class Server:
    """A real server on this machine that answers as a test says, and remembers who asked."""

    url: str
    answers: dict[str, tuple[int, str]]
    keys: list[str | None]
    asked: list[dict[str, Any]]


METRICS = 'vllm:cache_config_info{block_size="16",enable_prefix_caching="True",engine="0"} 1.0\n'


def lists(*models: str, **adapters: str) -> tuple[int, str]:
    own = [{"id": one, "parent": None, "max_model_len": 16384} for one in models]
    return 200, json.dumps({"data": [*own, *({"id": one, "parent": of} for one, of in adapters.items())]})


def says(text: str) -> tuple[int, str]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    return 200, json.dumps({"id": "1", "model": "qwen", "choices": [choice], "usage": usage})


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            running.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer()

        def answer(self) -> None:
            status, text = running.answers.get(self.path, (404, "{}"))
            running.keys.append(self.headers["Authorization"])
            self.send_response(status)
            kind = "text/plain" if self.path == "/metrics" else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        answers = {
            "/v1/models": lists("qwen"),
            "/metrics": (200, METRICS),
            "/tokenize": (200, '{"count": 2}'),
            "/v1/chat/completions": says('{"works": "yes"}'),
        }
        running = Server(f"http://127.0.0.1:{listening.server_port}", answers, [], [])
        thread = Thread(target=listening.serve_forever)
        thread.start()
        yield running
        listening.shutdown()
        thread.join()


def test_a_model_server_that_is_well_is_ok_and_was_asked_as_agents_ask(
    cli: Cli, root: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_from(root, f'base_url = "{server.url}/v1"\napi_key_env = "KARKAS_TEST_KEY"')
    monkeypatch.delenv("KARKAS_TEST_KEY", raising=False)
    assert "KARKAS_TEST_KEY is not set" in found(cli, "model")["found"]
    assert server.keys == []
    monkeypatch.setenv("KARKAS_TEST_KEY", "secret")
    check = found(cli, "model")
    assert (check["status"], check["mend"]) == ("ok", "")
    assert f"{server.url} serves qwen, 16,384 tokens" in check["found"]
    assert set(server.keys) == {"Bearer secret"}
    (probe,) = [one for one in server.asked if "messages" in one]
    assert probe["priority"] > 0
    assert probe["response_format"]["type"] == "json_schema"
    assert "secret" not in cli("doctor").out


@pytest.mark.parametrize(
    ("path", "answer", "expected"),
    [
        ("/v1/models", (401, '{"error": {"message": "no"}}'), ("problem", "401", "api_key_env")),
        ("/v1/models", (200, "<html>"), ("problem", "no list of models", "start")),
        ("/v1/models", (500, ""), ("problem", "500", "start")),
        ("/v1/models", lists("a", "b"), ("problem", "lists 2 models", "`model` in karkas.toml: a, b")),
        ("/v1/models", lists(), ("problem", "lists 0 models", "model")),
        ("/v1/chat/completions", says("Certainly!"), ("problem", "do not keep to the schema", "guidance")),
        ("/v1/chat/completions", says('{"works": "maybe"}'), ("problem", "do not keep to the schema", "guidance")),
        ("/v1/chat/completions", (400, '{"message": "no grammar"}'), ("problem", "no grammar", "guidance")),
        ("/metrics", (200, METRICS.replace("True", "False")), ("warning", "prefix caching is off", "--enable-prefix")),
        ("/metrics", (404, ""), ("ok", "keep to their schema", "")),
        ("/tokenize", (404, ""), ("ok", "measured roughly", "")),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_model_server_is_told_with_its_mend(  # noqa: PLR0917
    cli: Cli, root: Path, server: Server, path: str, answer: tuple[int, str], expected: tuple[str, str, str]
) -> None:
    serve_from(root, f'base_url = "{server.url}"')
    server.answers[path] = answer
    status, told, mend = expected
    check = found(cli, "model")
    assert check["status"] == status
    assert told in check["found"]
    assert mend in check["mend"]


def test_a_model_or_an_adapter_that_is_not_served_is_a_problem_that_lists_what_is(
    cli: Cli, root: Path, server: Server
) -> None:
    server.answers["/v1/models"] = lists("qwen", strict="qwen")
    serve_from(root, f'base_url = "{server.url}"\nmodel = "llama"')
    assert "qwen, strict" in found(cli, "model")["mend"]
    (root / "karkas.toml").write_text(
        f'[model]\nbase_url = "{server.url}"\n[roles.critic]\nadapter = "stict"\n'
    )
    check = found(cli, "model")
    assert "does not list 'stict'" in check["found"]
    assert "qwen, strict" in check["mend"]


def test_a_context_that_nobody_says_is_a_problem_as_it_is_for_a_run(
    cli: Cli, root: Path, server: Server
) -> None:
    server.answers["/v1/models"] = (200, json.dumps({"data": [{"id": "qwen"}]}))
    serve_from(root, f'base_url = "{server.url}"')
    check = found(cli, "model")
    assert (check["status"], "`context`" in check["mend"]) == ("problem", True)
    serve_from(root, "context = 16384")
    assert found(cli, "model")["status"] == "ok"


def test_a_server_that_is_down_is_a_problem_and_beside_one_that_answers_a_warning(
    cli: Cli, root: Path, server: Server
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        down = f"http://127.0.0.1:{taken.getsockname()[1]}"
    (root / "karkas.toml").write_text(f'[model]\nbase_url = "{down}"\n')
    check = found(cli, "model")
    assert check["status"] == "problem"
    assert "offline engine" in check["mend"]
    assert cli("doctor").code == exits.FAILED
    (root / "karkas.toml").write_text(f'[model]\nbase_url = ["{down}", "{server.url}"]\n')
    states = {check["status"] for check in cli("doctor", "--json").json["checks"] if check["name"] == "model"}
    assert states == {"ok", "warning"}
    assert cli("doctor").code == exits.DONE


def test_one_model_for_executor_and_critic_is_a_warning_also_under_two_names(
    cli: Cli, root: Path, server: Server
) -> None:
    file = root / "karkas.toml"
    server.answers["/v1/models"] = lists("qwen", strict="qwen")
    file.write_text(f'[model]\nbase_url = "{server.url}"\n')
    assert found(cli, "roles")["status"] == "warning"
    file.write_text(f'[model]\nbase_url = "{server.url}"\n[models.judge]\nbase_url = "{server.url}"\n')
    assert found(cli, "roles")["status"] == "warning"
    file.write_text(f'[model]\nbase_url = "{server.url}"\n[roles.critic]\nadapter = "strict"\n')
    check = found(cli, "roles")
    assert (check["status"], "default with adapter strict: critic" in check["found"]) == ("ok", True)
