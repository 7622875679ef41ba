import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from karkas.cli import exits
from karkas.cli.app import ROOMS, Room
from karkas.policies.errors import StoppedError

Cli = Callable[..., Any]
KARKAS = Path(sys.executable).with_name("karkas")


def room_that(monkeypatch: pytest.MonkeyPatch, does: Callable[[], object]) -> None:
    """A command `try-it` that does just that."""
    app = typer.Typer(add_completion=False)

    @app.command()
    def try_it(*, json: bool = False) -> None:
        does()

    monkeypatch.setitem(sys.modules, "a_room_for_the_test", SimpleNamespace(app=app))
    monkeypatch.setitem(ROOMS, "try-it", Room("a_room_for_the_test", "Try it."))


def on_terminal(root: Path, columns: int, *args: str) -> str:
    """What the real command shows on a terminal of that width, without its colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES", "NO_COLOR"}}
    process = subprocess.Popen(
        [KARKAS, *args], cwd=root, stdin=theirs, stdout=theirs, env=env | {"TERM": "xterm"}
    )
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    assert process.wait(timeout=30) == exits.DONE
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says so when the last writer has closed a terminal
        return b""


def test_help_lists_every_room_and_imports_none_of_their_libraries(root: Path) -> None:
    code = (
        "import sys\n"
        "from karkas.cli import main\n"
        "sys.argv = ['karkas', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        "    heavy = {'pydantic', 'rich', 'sqlmodel', 'structlog', 'httpx', 'langgraph'} & set(sys.modules)\n"
        "    sys.exit(f'{end.code} {sorted(heavy)}')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.stderr.strip() == "0 []"
    for name in ROOMS:
        assert re.search(rf"^  {name}\s+\S", ended.stdout, re.MULTILINE), name


@pytest.mark.parametrize("name", ROOMS)
def test_the_help_of_each_command_teaches_with_an_example(cli: Cli, name: str) -> None:
    ended = cli(name, "--help")
    assert ended.code == exits.DONE
    commands = re.findall(r"^  (\w+) ", ended.out.partition("Commands:")[2], re.MULTILINE)
    for path in [f"{name} {command}" for command in commands] or [name]:
        taught = cli(*path.split(), "--help").out
        assert f"karkas {path}" in taught.partition("Examples:")[2], path


def test_a_command_that_does_not_exist_is_a_usage_error_with_a_suggestion(cli: Cli) -> None:
    ended = cli("zne")
    assert ended.code == exits.USAGE
    assert "Did you mean 'zone'?" in ended.err
    assert ended.out == ""


def test_a_missing_option_is_a_usage_error_that_points_to_the_help(cli: Cli) -> None:
    ended = cli("zone", "set", "lora")
    assert ended.code == exits.USAGE
    assert ended.err.startswith("error: Missing option '--reason'\n")
    assert "karkas zone set --help" in ended.err


def test_errors_are_one_plain_line_and_no_traceback(karkas: Cli) -> None:
    ended = karkas("zone", "show", "lara")
    assert ended.code == exits.FAILED
    assert ended.err == "error: there is no zone lara; did you mean lora?\n"
    assert ended.out == ""


def test_with_json_errors_are_json_too(cli: Cli, root: Path) -> None:
    told = json.loads(cli("zone", "show", "lara", "--json").err)
    assert told == {"error": {"kind": "not_found", "message": "there is no zone lara; did you mean lora?"}}
    usage = json.loads(cli("zone", "show", "--json").err)
    assert usage["error"]["kind"] == "usage"


def test_an_error_keeps_its_exit_code(cli: Cli, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise StoppedError

    room_that(monkeypatch, stop)
    assert cli("try-it").code == exits.STOPPED


def test_data_in_an_error_cannot_act_on_the_terminal(cli: Cli, root: Path) -> None:
    ended = cli("zone", "show", "x\x1b[2J\u202ey")
    assert "\x1b" not in ended.err
    assert "⟦U+202E⟧" in ended.err


def test_a_bug_is_told_in_one_line_and_logged_with_its_traceback(
    cli: Cli, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("zone", "list")  # opens the project, and with it the log
    room_that(monkeypatch, lambda: dict[str, int]()["nothing"])
    ended = cli("try-it")
    assert ended.code == exits.FAILED
    assert ended.err.startswith("error: KeyError: 'nothing'; this is a bug in karkas")
    assert "Traceback" not in ended.err
    logged = json.loads((root / ".karkas/logs/karkas.log").read_text().splitlines()[-1])
    assert logged["event"] == "command_crashed"
    assert "KeyError" in json.dumps(logged["exception"])


def test_a_traceback_is_shown_on_request(cli: Cli, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARKAS_DEBUG", "1")
    assert "Traceback (most recent call last)" in cli("zone", "show", "lara").err


def test_ctrl_c_ends_with_130_and_a_clean_line(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        text = (
            (root / "karkas.toml")
            .read_text()
            .replace("[model]\n", f'[model]\nbase_url = "http://127.0.0.1:{port}"\n')
        )
        (root / "karkas.toml").write_text(text)
        process = subprocess.Popen(
            [KARKAS, "doctor"], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        silent.settimeout(20)
        waiting, _ = silent.accept()  # the doctor now waits for an answer
        with waiting:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
    assert process.returncode == exits.INTERRUPTED
    assert err.strip() == "interrupted"


def test_a_reader_that_goes_away_is_no_error(root: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [KARKAS, "zone", "list"],
        cwd=root,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    os.close(writer)
    assert ended.stderr == ""


def test_output_that_finds_no_room_is_told(root: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [KARKAS, "zone", "list"],
            cwd=root,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode == exits.FAILED
    assert ended.stderr.startswith("error: No space left on device")
    assert len(ended.stderr.splitlines()) == 1


def test_the_log_stays_off_the_terminal_unless_asked_for(karkas: Cli, root: Path) -> None:
    head = root / ".karkas/audit.head"
    head.mkdir()  # so that the mirror of the audit log cannot be written, which is logged as a warning
    quiet = karkas("zone", "list")
    assert (quiet.code, quiet.err) == (exits.DONE, "")
    assert "audit_head_not_written" in (root / ".karkas/logs/karkas.log").read_text()
    (root / "karkas.toml").write_text("[zones.another]\n")
    assert "audit_head_not_written" in karkas("--verbose", "zone", "list").err


def test_a_terminal_of_80_columns_shows_everything_within_them(root: Path) -> None:
    listed, shown, log = (
        on_terminal(root, 80, *args)
        for args in (("zone", "list"), ("zone", "show", "lora"), ("audit", "log"))
    )
    for screen in (listed, shown, log):
        assert max(map(len, screen.splitlines())) <= 80
        assert "…" not in screen
    assert "train/**" in shown
    assert '"адаптер"' in log
    assert "propose-only follows from" in listed
    assert "understanding 5, critical" in listed


def test_a_pipe_gets_one_line_for_each_zone(karkas: Cli) -> None:
    lines = karkas("zone", "list").out.splitlines()
    assert len(lines) == 3
    assert lines[2].endswith("propose-only follows from understanding 5, critical")


def test_the_project_is_found_upwards_or_named(cli: Cli, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "train" / "deep").mkdir(parents=True)
    monkeypatch.chdir(root / "train" / "deep")
    assert len(cli("zone", "list", "--json").json) == 2
    monkeypatch.chdir(root.parent)
    assert cli("zone", "list").code == exits.FAILED
    assert len(cli("zone", "list", "--json", "--project", str(root)).json) == 2
    monkeypatch.setenv("KARKAS_PROJECT", str(root / "train"))
    assert len(cli("zone", "list", "--json").json) == 2
