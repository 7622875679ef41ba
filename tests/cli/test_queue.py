"""What a person reads at the queue: who half awake copies a command from it must not be misled."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from karkas.storage import Gates

from .conftest import Cli

FLOW = """
from karkas import END, START, Effect, Workflow, WorkflowState, Zone, call, tool

lab = Zone(name="lab", understanding=4, critical=True)

def undo(record, workspace):
    raise RuntimeError("the undo broke")

from karkas import Done

@tool(Effect.REVERSIBLE, undo=undo)
def ticket(title: str) -> Done:
    return Done({"title": title}, shown=f"made {title}", undo={"title": title})

class State(WorkflowState):
    title: str

def two(state: State):
    return [call("write_file", why=why, path="a.md", content=why) for why in ("the long one", "the short one")]

def one(state: State):
    return call("ticket", title=state["title"])

def lines(state: State):
    return call("write_file", path="notes.md", content="first line\\nsecond line\\n")

def flow_of(propose):
    flow = Workflow(State, zones=("lab",))
    flow.add_action("make", propose)
    flow.add_edge(START, "make")
    flow.add_edge("make", END)
    return flow

choice = flow_of(two)
single = flow_of(one)
long = flow_of(lines)

def factory():
    raise LookupError("no such flow")
"""

Begin = Callable[[str], str]


def at(text: str) -> str:
    """Where in the file a line with `text` stands, as errors say it."""
    (number,) = (number for number, line in enumerate(FLOW.split("\n"), start=1) if text in line)
    return f"flows.py, line {number}"


@pytest.fixture
def begin(root: Path, cli: Cli) -> Begin:
    """Begins a workflow of the file and gives the gate at which it waits."""
    (root / "flows.py").write_text(FLOW)

    def run(name: str) -> str:
        ended = cli("run", f"flows.py:{name}", "--input", '{"title": "disk"}', "--json")
        assert ended.code == 3, ended.err
        (gate,) = ended.json["gates"]
        return str(gate)

    return run


def test_each_variant_stands_with_its_command_where_the_gate_ends(begin: Begin, cli: Cli) -> None:
    gate = begin("choice")
    last = cli("queue", "show", gate).out.partition("To decide\n")[2]
    assert f"  karkas queue choose {gate} 1\n    the long one\n" in last
    assert f"  karkas queue choose {gate} 2\n    the short one\n" in last


def test_a_decided_gate_says_what_came_of_it_and_offers_nothing(
    begin: Begin, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = begin("choice")
    assert "became" not in cli("queue", "show", gate).out
    assert cli("queue", "choose", gate, "2").code == 0
    shown = cli("queue", "show", gate).out
    assert "variant 2, committed" in shown
    assert "wrote a.md" in shown
    assert "To decide" not in shown
    run = cli("runs", "list", "--json").json[0]["id"]
    assert f"take it back: karkas queue undo {gate}" in cli("runs", "show", run).out

    monkeypatch.setattr("karkas.project.person", lambda: "ada")
    assert cli("queue", "undo", gate).code == 0
    for told in (cli("queue", "show", gate), cli("queue", "list", "--all"), cli("runs", "show", run)):
        assert "taken back by ada" in told.out
    assert "take it back" not in cli("runs", "show", run).out
    again = cli("queue", "undo", gate)
    assert again.code == 1
    assert "taken back by ada already" in again.err


def test_a_frame_gate_that_is_closed_asks_for_no_frame(root: Path, cli: Cli) -> None:
    (root / "a.md").write_text("# Couriers\n\nA courier is a person who carries parcels.\n")
    cli("explore", "courier", "--source", "a.md")
    (gate,) = (one["id"] for one in cli("queue", "list", "--json").json)
    assert "karkas frame courier" in cli("queue", "show", gate).out.partition("To decide")[2]
    assert "run" in cli("queue", "stop", gate).out
    assert "To decide" not in cli("queue", "show", gate).out


def test_a_deferred_gate_says_until_when(begin: Begin, cli: Cli) -> None:
    gate = begin("single")
    assert "until" not in cli("queue", "list").out
    said = cli("queue", "defer", gate, "2030-01-02T07:00").out
    for text in (said, cli("queue", "list").out, cli("queue", "show", gate).out):
        assert "until 2030-01-02 07:00" in text


def test_a_zone_that_nobody_has_is_not_an_empty_queue(begin: Begin, cli: Cli) -> None:
    begin("single")
    for command in ("queue", "runs"):
        ended = cli(command, "list", "--zone", "labb")
        assert ended.code == 1
        assert "did you mean lab?" in ended.err
    assert cli("queue", "list", "--zone", "deploy").out == "nothing waits for you in zone deploy\n"


def test_an_action_of_a_workflows_own_tool_can_be_edited(begin: Begin, cli: Cli, root: Path) -> None:
    gate = begin("single")
    edited = root / "edited.json"
    edited.write_text(json.dumps({"tool": "ticket"}))
    assert "'args' is missing" in cli("queue", "edit", gate, "--from", str(edited)).err
    edited.write_text(json.dumps({"tool": "ticket", "args": {"title": "network"}}))
    assert cli("queue", "edit", gate, "--from", str(edited)).code == 3
    (after,) = (one["id"] for one in cli("queue", "list", "--json").json)
    assert 'title: "network"' in cli("queue", "show", after).out


def test_an_undo_that_breaks_names_its_line_and_is_no_bug_of_karkas(begin: Begin, cli: Cli) -> None:
    gate = begin("single")
    assert cli("queue", "approve", gate).code == 0
    ended = cli("queue", "undo", gate)
    assert ended.code == 1
    assert f"{at('RuntimeError')}: RuntimeError: the undo broke" in ended.err
    assert "bug in karkas" not in ended.err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("two", "has no workflow called 'two'; it has choice, single"),
        ("factory", f"factory() gave no workflow: {at('LookupError')}: LookupError: no such flow"),
    ],
)
def test_what_is_no_workflow_is_refused_in_the_users_words(
    begin: Begin, cli: Cli, name: str, said: str
) -> None:
    ended = cli("run", f"flows.py:{name}")
    assert ended.code == 1
    assert said in ended.err


def test_a_node_that_raises_is_named_with_its_line(begin: Begin, cli: Cli) -> None:
    ended = cli("run", "flows.py:single")
    where = at('return call("ticket"')
    assert ended.code == 1
    assert f"node make: {where}: KeyError: 'title'" in ended.out


def test_a_file_that_cannot_be_imported_names_the_line(root: Path, cli: Cli) -> None:
    (root / "broken.py").write_text("from karkas import Zone\n\nlab = Zone('lab')\n")
    assert "broken.py, line 3: TypeError" in cli("run", "broken.py:x").err


def test_an_exploration_that_could_read_nothing_says_why(root: Path, cli: Cli) -> None:
    (root / "program").write_bytes(b"\x7fELF\x00\x01")
    ended = cli("explore", "courier", "--source", "program")
    assert "nothing could be read" in ended.out
    assert "program: no reader" in ended.out


def test_framing_tells_how_the_workflow_that_waited_for_it_stands(
    root: Path, cli: Cli, tmp_path: Path
) -> None:
    (root / "a.md").write_text("# Couriers\n\nA courier is a person who carries parcels.\n")
    (root / "study.py").write_text(
        "from karkas import END, START, ExploreState, Workflow, explore_workflow\n\n"
        "study = Workflow(ExploreState)\n"
        "study.add_node('explore', explore_workflow().compile())\n"
        "study.add_question('go', lambda state: 'Go on?', choices=('yes', 'no'))\n"
        "study.add_edge(START, 'explore').add_edge('explore', 'go').add_edge('go', END)\n"
    )
    given = json.dumps({"zone": "courier", "sources": [str(root / "a.md")]})
    assert cli("run", "study.py:study", "--input", given).code == 3
    frame = tmp_path / "mine.yaml"
    frame.write_text(cli("frame", "courier", "--draft").out)
    ended = cli("frame", "courier", "--from", str(frame))
    assert ended.code == 0, ended.err
    (gate,) = (one["id"] for one in cli("queue", "list", "--json").json)
    assert f"waits at gate {gate} (question" in ended.out


@pytest.mark.parametrize(
    ("options", "opened"), [((), "first line\nsecond line\n"), (("--whole",), '"tool": "write_file"')]
)
def test_a_files_content_opens_as_itself_and_everything_else_stays_as_proposed(
    cli: Cli, root: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], opened: str
) -> None:
    seen: list[str] = []

    def edit(text: str, *, suffix: str) -> str:
        seen.append(suffix)
        assert opened in text
        return text.replace("second", "other")

    monkeypatch.setattr("karkas.cli.editing.in_editor", edit)
    (root / "flows.py").write_text(FLOW)
    assert cli("run", "flows.py:long").code == 3
    (gate,) = cli("queue", "list", "--json").json
    assert cli("queue", "edit", gate["id"], *options).code == 3
    (after,) = cli("queue", "list", "--json").json
    assert seen == [".json" if options else ".md"]
    shown = cli("queue", "show", after["id"], "--json").json["proposed"]["variants"][0]["action"]["args"]
    assert shown == {"path": "notes.md", "content": "first line\nother line\n"}


def test_a_gate_says_until_when_and_once_expired_how_its_run_goes_on(
    root: Path, begin: Begin, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (root / "karkas.toml").read_text()
    (root / "karkas.toml").write_text(text.replace('#expires = "7d" ', 'expires = "7d" '))
    gate = begin("single")
    assert "and then nothing happens" in cli("queue", "show", gate).out

    def later(self: Gates, now: datetime | None = None) -> object:
        return wake_due(self, datetime.now(UTC) + timedelta(days=7))

    wake_due = Gates.wake_due
    monkeypatch.setattr(Gates, "wake_due", later)
    run = cli("runs", "list", "--json").json[0]["id"]
    listed = cli("queue", "list").out
    assert "nothing waits for you" in listed
    assert f"gate {gate} expired; its run goes on by: karkas runs resume {run}" in listed
    ended = cli("runs", "resume", run)
    assert ended.code == 1
    assert "make: expired: nobody decided by" in ended.out
    assert "expired" not in cli("queue", "list").out
