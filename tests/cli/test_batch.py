"""Several gates, shown and approved at once, at a real terminal."""

import os
import pty
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import KARKAS, Cli
from .test_queue import FLOW

At = Callable[..., tuple[int, str]]

FLOWS = (
    FLOW
    + """
def note(state: State):
    return call("write_file", path=f"{state['title']}.md", content=state["title"])

note = flow_of(note)
"""
)


@pytest.fixture
def terminal(root: Path) -> At:
    """`karkas` at a terminal of its own, where `typed` is typed; an empty one is the end of input."""

    def run(*args: str, typed: str) -> tuple[int, str]:
        master, slave = pty.openpty()
        process = subprocess.Popen([KARKAS, *args], cwd=root, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        os.write(master, typed.encode() or b"\x04")
        said = b""
        while True:
            try:
                more = os.read(master, 65536)
            except OSError:
                break
            if not more:
                break
            said += more
        os.close(master)
        return process.wait(timeout=60), re.sub(r"\x1b\[[0-9;]*m", "", said.decode()).replace("\r\n", "\n")

    return run


@pytest.fixture
def gates(root: Path, cli: Cli) -> list[str]:
    """Three gates alike, in three runs."""
    (root / "flows.py").write_text(FLOWS)
    found = []
    for title in ("one", "two", "three"):
        run = cli("run", "flows.py:note", "--input", f'{{"title": "{title}"}}', "--json")
        found += run.json["gates"]
    return found


def written(root: Path) -> set[str]:
    return {path.stem for path in root.glob("*.md")}


def test_a_batch_shows_each_action_asks_once_and_performs_all(
    root: Path, gates: list[str], terminal: At
) -> None:
    code, said = terminal("queue", "approve", *gates, typed="approve\n")
    assert code == 0, said
    assert written(root) == {"one", "two", "three"}
    before, _, after = said.partition("type approve to approve 3 gates")
    for gate, title in zip(gates, ("one", "two", "three"), strict=True):
        assert f"{gate}: write_file {title}.md" in before
        assert f"+{title}" in before
        assert f"gate {gate}: passed" in after
    assert len(set(re.findall(r"digest\s+([0-9a-f]{64})", before.replace("\n", "")))) == 3


@pytest.mark.parametrize("typed", ["\n", "", "y\n", "yes\n", "Approve\n"])
def test_whatever_else_is_typed_decides_nothing(
    root: Path, gates: list[str], terminal: At, typed: str
) -> None:
    code, said = terminal("queue", "approve", *gates, typed=typed)
    assert code == 2, said
    assert "nothing was decided" in said
    assert written(root) == set()


def test_without_a_terminal_a_batch_needs_yes_and_named_gates(
    root: Path, gates: list[str], karkas: Cli
) -> None:
    refused = karkas("queue", "approve", *gates)
    assert refused.code == 2
    assert "nobody is at a terminal" in refused.err
    assert karkas("queue", "approve", "--alike", gates[0], "--yes").code == 2
    assert karkas("queue", "approve", gates[0], "--alike", gates[0]).code == 2
    assert karkas("queue", "approve").code == 2
    assert written(root) == set()
    done = karkas("queue", "approve", *gates[:2], "--yes", "--json")
    assert [gate["status"] for gate in done.json["gates"]] == ["passed", "passed"]
    assert [run["status"] for run in done.json["runs"]] == ["done", "done"]
    assert written(root) == {"one", "two"}


def test_alike_finds_what_is_alike_and_nothing_else(
    root: Path, gates: list[str], cli: Cli, terminal: At
) -> None:
    for other in ("single", "choice"):  # another tool; several variants
        cli("run", f"flows.py:{other}", "--input", '{"title": "disk"}', "--json")
    code, said = terminal("queue", "approve", "--alike", gates[1], typed="approve\n")
    assert code == 0, said
    assert "approve 3 gates" in said
    assert written(root) == {"one", "two", "three"}
    waiting = {one["what"].split()[0] for one in cli("queue", "list", "--json").json}
    assert waiting == {"ticket", "write_file"}


def test_one_gate_that_was_decided_meanwhile_leaves_all_undecided(
    root: Path, gates: list[str], cli: Cli
) -> None:
    assert cli("queue", "reject", gates[1], "--reason", "no").code == 0
    ended = cli("queue", "approve", *gates, "--yes")
    assert ended.code == 1
    assert f"{gates[1]} is rejected" in ended.err
    assert gates[0] not in ended.err
    assert written(root) == set()
