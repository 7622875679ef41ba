"""The queue on a real terminal: keys typed into tmux, an editor of the person's own, the effects on disk."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from karkas.policies.gates import GateStatus
from karkas.policies.verdicts import Approve, Defer, Reject
from karkas.project import Project

from .conftest import Begin

KARKAS = Path(sys.executable).with_name("karkas")
TMUX = shutil.which("tmux")

pytestmark = pytest.mark.skipif(TMUX is None, reason="tmux is not installed")


@dataclass
class Terminal:
    """A tmux server of its own with one window."""

    socket: str

    def tmux(self, *words: str) -> str:
        command = [str(TMUX), "-f", "/dev/null", "-L", self.socket, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

    def start(self, folder: Path, *, width: int = 80, height: int = 24, **env: str) -> None:
        size = ["-x", str(width), "-y", str(height)]
        given = [word for name, value in env.items() for word in ("-e", f"{name}={value}")]
        command = f"{KARKAS} queue; echo it ended with $?; sleep 600"
        self.tmux("new-session", "-d", "-s", "queue", *size, *given, "-c", str(folder), command)

    def type(self, *keys: str) -> None:
        for key in keys:
            self.tmux("send-keys", "-t", "queue", key)
            if key == "Escape":
                time.sleep(0.5)  # what follows at once would be read as one key with it

    def text(self) -> str:
        return self.tmux("capture-pane", "-p", "-t", "queue")

    def until(self, *wanted: str, seconds: float = 60.0) -> str:
        give_up = time.monotonic() + seconds
        while not all(one in (shown := self.text()) for one in wanted):
            if time.monotonic() > give_up:
                raise AssertionError(f"{wanted} did not come:\n{shown}")
            time.sleep(0.1)
        return shown


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(f"karkas-{tmp_path.name}-{time.monotonic_ns()}")
    yield terminal
    subprocess.run(
        [str(TMUX), "-L", terminal.socket, "kill-server"], capture_output=True, check=False, timeout=20
    )


@pytest.fixture
def editor(tmp_path: Path) -> Callable[[str, str], str]:
    def editor(old: str, new: str) -> str:
        script = tmp_path / "editor"
        script.write_text(f"#!/bin/sh\ntest -t 0 && test -t 1 && sed -i 's/{old}/{new}/' \"$1\"\n")
        script.chmod(0o755)
        return str(script)

    return editor


def test_a_person_approves_edits_rejects_and_defers(
    project: Project, begin: Begin, terminal: Terminal, editor: Callable[[str, str], str]
) -> None:
    gates = project.store.gates
    note, ticket, mail, other = begin("text"), begin("single"), begin("mail"), begin("single", "network")
    terminal.start(project.root, EDITOR=editor("second", "other"), VISUAL="")

    terminal.until("4 wait", f"{note.id} action, open")
    terminal.type("e")
    shown = terminal.until("your edit stands at a gate of its own")
    new = gates.get(note.id).superseded_by
    assert new is not None
    assert new in shown
    terminal.until(f"{new} action, open")
    time.sleep(1.5)
    terminal.type("NPage")
    terminal.until("15-28 of")
    assert not (project.root / "lab/note.md").exists()
    terminal.type("a")
    terminal.until("wrote lab/note.md")
    assert "other line" in (project.root / "lab/note.md").read_text()

    terminal.type("/")
    terminal.until("List only gates")
    terminal.type("network", "Enter")
    terminal.until(f"{other.id} action, open", "only: /network")
    terminal.type("d")
    terminal.until("until when?")
    terminal.type("2h", "Enter")
    terminal.until("put off (1)")
    assert isinstance(gates.get(other.id).verdict, Defer)

    terminal.type("/")
    terminal.until("List only gates")
    terminal.type("Escape")
    terminal.until("3 wait")
    terminal.type("f")
    terminal.until("only: irreversible", f"{mail.id} action, open")
    terminal.type("NPage", "a")
    terminal.until("cannot be taken")
    terminal.type("Enter", "Escape")
    terminal.until("nothing was decided")
    terminal.type("r")
    terminal.until("Why?")
    terminal.type("not today", "Enter")
    terminal.until("n  never")
    terminal.type("n")
    terminal.until("rejected")
    assert gates.get(mail.id).verdict == Reject(reason="not today")

    terminal.type("f")
    terminal.until("only: reversible", f"{ticket.id} action, open")
    terminal.type("a")
    terminal.until("made disk")
    assert gates.get(ticket.id).verdict == Approve()
    terminal.type("q")
    terminal.until("it ended with 0")
    assert project.store.verify() == []


def test_a_lost_terminal_decides_nothing_and_can_be_opened_again(
    project: Project, begin: Begin, terminal: Terminal
) -> None:
    gate = begin("mail")
    terminal.start(project.root, NO_COLOR="1")
    terminal.until(f"{gate.id} action, open")
    terminal.type("NPage", "a")
    terminal.until("cannot be taken")
    terminal.tmux("kill-server")
    time.sleep(1.0)
    assert project.store.gates.get(gate.id).status is GateStatus.OPEN
    terminal.start(project.root, width=120, height=36)
    terminal.until(gate.id, "irreversible")


def test_a_paste_is_no_key(project: Project, begin: Begin, terminal: Terminal) -> None:
    gate = begin("single")
    terminal.start(project.root)
    terminal.until(gate.id, "more below")
    terminal.tmux("set-buffer", "aaaa\nyyyy\n")
    terminal.tmux("paste-buffer", "-p", "-t", "queue")
    time.sleep(1.0)
    assert project.store.gates.get(gate.id).status is GateStatus.OPEN
