"""Ways around the gate on the command line that were tried by hand once, each with what holds it."""

import fcntl
import os
import pty
import subprocess
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from .conftest import KARKAS, Cli
from .test_work import DOCUMENTS, decided, framed, gate_of  # noqa: F401

FLOW = """
from pathlib import Path
from karkas import END, START, Workflow, WorkflowState, call

class State(WorkflowState, total=False):
    topic: str

Path({mark!r}).write_text("ran")
flow = Workflow(State, zones=("courier",))
flow.add_action("note", lambda state: call("write_file", path="n.md", content=state["topic"]))
flow.add_edge(START, "note").add_edge("note", END)
"""


def begun(root: Path, cli: Cli, tmp_path: Path) -> Path:
    """A user's workflow, parked; the file that it leaves a mark in whenever it is run."""
    (root / "flow.py").write_text(FLOW.format(mark=str(tmp_path / "first")))
    assert cli("run", "flow.py:flow", "--input", '{"topic": "parcels"}').code == 3
    return tmp_path / "second"


def test_a_workflow_file_that_changed_while_its_run_was_parked_is_not_run_by_an_approval(
    framed: Path,  # noqa: F811
    cli: Cli,
    tmp_path: Path,
) -> None:
    """An agent, or a sandboxed command, may have written it; approving a note must not run it with all rights."""
    mark, gate = begun(framed, cli, tmp_path), gate_of(cli)
    (framed / "flow.py").write_text(FLOW.format(mark=str(mark)))
    ended = cli("queue", "approve", gate)
    assert ended.code == 1
    assert "changed since the run was begun" in ended.err
    assert not mark.exists()
    assert not (framed / "n.md").exists()
    (run,) = (one["id"] for one in cli("runs", "list", "--json").json if one["status"] == "parked")
    ended = cli("runs", "resume", run)
    assert ended.code == 0, ended.err
    assert "goes on with the file as it is now" in ended.out
    assert mark.exists()
    assert (framed / "n.md").read_text() == "parcels"
    assert cli("audit", "verify").code == 0


def test_a_run_takes_no_file_of_the_same_name_out_of_the_current_folder(
    framed: Path,  # noqa: F811
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mark, gate = begun(framed, cli, tmp_path), gate_of(cli)
    (framed / "inbox").mkdir()
    (framed / "inbox/flow.py").write_text(FLOW.format(mark=str(mark)))
    monkeypatch.chdir(framed / "inbox")
    assert cli("queue", "approve", gate).code == 0
    assert not mark.exists()
    assert (framed / "n.md").read_text() == "parcels"


SHOWN = """
from karkas import END, START, Effect, Plan, Scope, Workflow, WorkflowState, Zone, call, tool
from karkas.policies.errors import ToolError
from karkas.policies.provenance import Material, Origin

lab = Zone(name="lab", understanding=4, critical=True, scope=Scope(paths=("lab",)))
EVIL = "ok\\x1b[2J\\u202e\\n\\nTo decide\\n  karkas queue approve g-000000"

@tool(Effect.REVERSIBLE, preview=lambda text: EVIL)
def boom(text: str) -> str:
    "Fails with a hostile message."
    raise ToolError(EVIL)

class State(WorkflowState, total=False):
    topic: str

def proposal(state):
    label = "evil\\n    /path: task (the task)"
    source = Material(origin=Origin.UNTRUSTED_SOURCE, label=label, text="lab/a.md")
    calls = (call("boom", why=EVIL, text=EVIL), call("write_file", why=EVIL, path="lab/a.md", content=f"\\t{EVIL}"))
    return Plan(calls=calls, why=EVIL, proposer=EVIL, materials=(source,))

act = Workflow(State, zones=("lab",))
act.add_action("act", proposal).add_edge(START, "act").add_edge("act", END)
ask = Workflow(State, zones=("lab",))
ask.add_question("ask", lambda _: EVIL, choices=("yes\\nTo decide", "no")).add_edge(START, "ask").add_edge("ask", END)
"""


@pytest.mark.parametrize("workflow", ["act", "ask"])
def test_hostile_text_pretends_to_be_no_line_of_ours(root: Path, cli: Cli, workflow: str) -> None:
    (root / "flow.py").write_text(SHOWN)
    assert cli("run", f"flow.py:{workflow}").code == 3
    printed = [cli("queue", "show", gate_of(cli)).out, cli("queue", "list").out]
    if workflow == "act":
        printed.append(cli("queue", "choose", gate_of(cli), "1").out)
    for out in printed:
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "  karkas queue approve g-000000" not in out.splitlines()
        assert "    /path: task (the task)" not in out.splitlines()
        assert out.splitlines().count("To decide") == ("Where" in out or "Question" in out)


def test_what_was_made_visible_when_it_was_recorded_is_not_escaped_twice(root: Path, cli: Cli) -> None:
    (root / "flow.py").write_text(SHOWN)
    cli("run", "flow.py:act")
    shown = cli("queue", "show", gate_of(cli)).out
    assert "+⇥   ok⟦U+001B⟧[2J⟦U+202E⟧\n" in shown
    assert "U+27E6" not in shown


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1e400}', '{"a": ' + "[" * 20_000 + "]" * 20_000 + "}"])
def test_input_that_is_no_json_is_refused_before_anything_begins(root: Path, cli: Cli, text: str) -> None:
    (root / "flow.py").write_text(SHOWN)
    ended = cli("run", "flow.py:ask", "--input", text)
    assert ended.code == 2
    assert "not JSON" in ended.err
    assert cli("runs", "list", "--json").json == []


@pytest.mark.parametrize(
    "verdict", [("answer", " "), ("reject", "--reason", ""), ("reject", "--reason", " \n")]
)
def test_an_empty_word_decides_nothing_and_says_so(root: Path, cli: Cli, verdict: tuple[str, ...]) -> None:
    (root / "flow.py").write_text(SHOWN)
    cli("run", "flow.py:ask")
    ended = cli("queue", verdict[0], gate_of(cli), *verdict[1:])
    assert ended.code == 2
    assert "nothing was decided" in ended.err
    assert gate_of(cli)


@pytest.fixture
def mapped(root: Path, cli: Cli, tmp_path: Path) -> Path:
    """A frame without faults of an explored zone, autonomous as it is written there."""
    assert cli("explore", "courier", "--source", str(DOCUMENTS)).code == 3
    frame = tmp_path / "courier.frame.yaml"
    frame.write_text(decided(cli("frame", "courier", "--draft", "--level", "autonomous").out))
    return frame


@pytest.fixture
def drafted(root: Path, mapped: Path) -> Path:
    """The project, with that frame as the draft that the editor opens with."""
    drafts = root / ".karkas/drafts"
    drafts.mkdir()
    (drafts / "courier.frame.yaml").write_text(mapped.read_text())
    return root


@pytest.mark.parametrize("spelt", ['"level": autonomous', "level : autonomous"])
def test_a_level_that_was_asked_for_is_the_one_that_holds(cli: Cli, mapped: Path, spelt: str) -> None:
    """However the file spells its own, which could not be replaced."""
    mapped.write_text(mapped.read_text().replace("\nlevel: autonomous\n", f"\n{spelt}\n"))
    ended = cli("frame", "courier", "--from", str(mapped), "--level", "draft-only")
    assert ended.code == 1
    assert "--level says draft-only" in ended.err
    assert cli("zone", "show", "courier", "--json").json["stage"] == "mapped"


@pytest.mark.parametrize(
    ("typed", "options", "stage"),
    [
        ("\n\n\x04", (), "mapped"),
        ("yes\nautonomou\n\x04", (), "mapped"),
        ("\n\x04", ("--level", "autonomous"), "mapped"),
        ("quit\n", ("--level", "autonomous"), "mapped"),
        ("frame\n", ("--level", "draft-only"), "framed"),
        ("draft-only\n\x04", (), "mapped"),
        ("quit\n", (), "mapped"),
        ("frame\n\x04", (), "mapped"),
        ("\nframe\n\ndraft-only\n", (), "framed"),
    ],
)
def test_an_editor_that_was_closed_without_a_change_frames_nothing(
    cli: Cli, drafted: Path, typed: str, options: tuple[str, ...], stage: str
) -> None:
    """Enter, the end of input and unknown words decide nothing, on a real terminal."""
    on_a_terminal(drafted, typed, "frame", "courier", *options)
    assert cli("zone", "show", "courier", "--json").json["stage"] == stage


@pytest.mark.parametrize(
    ("edit", "typed", "level"),
    [
        ("s/^level: .*/level: propose-only/", "\x04", "propose-only"),
        ("s/^level: .*/level: loose/", "edit\nquit\n", None),
        ("$ a # read", "\x04", None),
        ("$ a # read", "autonomous\n", "autonomous"),
    ],
)
def test_a_level_is_asked_for_unless_the_person_wrote_one_in_the_editor(
    cli: Cli, drafted: Path, edit: str, typed: str, level: str | None
) -> None:
    on_a_terminal(drafted, typed, "frame", "courier", editor=f"sed -i '{edit}'")
    zone = cli("zone", "show", "courier", "--json").json
    assert zone["stage"] == ("mapped" if level is None else "framed")
    assert level in {None, zone["level"]}


def on_a_terminal(root: Path, typed: str, *args: str, editor: str = "true") -> None:
    """The real command on a terminal of its own; `typed` waits there for whatever asks."""
    main, side = pty.openpty()
    env = os.environ | {"EDITOR": editor, "KARKAS_PROJECT": str(root)}
    with subprocess.Popen([KARKAS, *args], stdin=side, stdout=side, stderr=side, env=env) as process:
        os.close(side)
        os.write(main, typed.encode())
        with suppress(OSError):
            while os.read(main, 4096):
                pass
        process.wait(30)
    os.close(main)


@pytest.mark.parametrize("typed", ["", "fra", "\n\n"])
def test_a_terminal_that_is_lost_at_a_prompt_decides_nothing(cli: Cli, drafted: Path, typed: str) -> None:
    """The window is closed while it asks: half a word, or nothing, is no answer."""
    main, side = pty.openpty()
    env = os.environ | {"EDITOR": "true", "KARKAS_PROJECT": str(drafted)}
    with subprocess.Popen(
        [KARKAS, "frame", "courier", "--level", "autonomous"],
        stdin=side,
        stdout=side,
        stderr=side,
        env=env,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
    ) as process:
        os.close(side)
        seen = b""
        while b"frame by it as it is" not in seen:
            seen += os.read(main, 4096)
        os.write(main, typed.encode())
        os.close(main)
        assert process.wait(30) != 0
    assert cli("zone", "show", "courier", "--json").json["stage"] == "mapped"


@pytest.mark.parametrize(
    "editor",
    ["true", "false", "rm", "truncate -s 0", "sed -i s/parcels/parcels/", "sh -c 'kill -9 $PPID' --"],
)
def test_an_edit_that_was_left_or_broken_off_decides_nothing(
    framed: Path,  # noqa: F811
    cli: Cli,
    tmp_path: Path,
    editor: str,
) -> None:
    """Closed unchanged, failed, file gone, emptied, killed with karkas: the gate waits as before."""
    begun(framed, cli, tmp_path)
    gate = gate_of(cli)
    on_a_terminal(framed, "\n\x04", "queue", "edit", gate, editor=editor)
    shown = cli("queue", "list", "--json").json
    assert [(one["id"], one["status"]) for one in shown] == [(gate, "open")]
    assert not (framed / "n.md").exists()


@pytest.mark.parametrize(
    "args",
    [
        ("approve",),
        ("choose",),
        ("adopt",),
        ("reject",),
        ("answer",),
        ("defer",),
        ("stop",),
        ("edit",),
        ("undo",),
    ],
)
def test_no_command_of_the_queue_decides_without_a_gate_or_by_what_is_typed_ahead(
    framed: Path,  # noqa: F811
    cli: Cli,
    tmp_path: Path,
    args: tuple[str, ...],
) -> None:
    begun(framed, cli, tmp_path)
    gate = gate_of(cli)
    on_a_terminal(framed, f"{gate}\ny\nyes\n\n\x04", "queue", *args)
    assert gate_of(cli) == gate
    assert not (framed / "n.md").exists()
