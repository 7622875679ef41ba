"""`karkas check`: tries a file's workflows and tools in throw-away projects, and tells what it found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from karkas.cli import exits
from karkas.project import Project

Cli = Callable[..., Any]

TOOLS = '''
from pathlib import Path
from typing import Annotated

from pydantic import Field

from karkas import Effect, Example, Workspace, WorkspacePath, tool

Short = Annotated[str, Field(max_length=80)]


@tool(Effect.READ, examples=[Example({"path": "a.md"}, files={"a.md": "x"})])
def look(path: WorkspacePath, workspace: Workspace) -> str | None:
    """Reads a file."""
    return workspace.text(path)


@tool(Effect.READ, examples=[Example({"path": "a.md"})])
def sly(path: WorkspacePath) -> str:
    """Says that it reads."""
    print("hello")
    Path("sly.txt").write_text("written")
    return path
'''

FLOW = """
from karkas import END, START, Scope, Workflow, WorkflowState, call


class State(WorkflowState):
    text: str


def propose(state):
    return call("write_file", path="notes/a.md", content=state["text"])


def unused():
    raise AssertionError


flow = Workflow(State, zones=("lora",))
flow.add_action("write", propose)
flow.add_question("sure", lambda state: "sure?", choices=("no", "yes"))
flow.add_conditional_edges("sure", lambda state: "write" if state["karkas"]["sure"]["outcome"]["answer"] == "yes" else END, ["write", END])
flow.add_edge(START, "sure").add_edge("write", END)


def made():
    return flow


other = Workflow(State, zones=("lora",))
other.add_action("write", propose)
other.add_node("around", lambda state: {})
other.add_edge(START, "around").add_edge("around", "write.act").add_edge("write", END)
"""


@pytest.fixture
def files(root: Path) -> Path:
    (root / "tools.py").write_text(TOOLS)
    (root / "flow.py").write_text(FLOW)
    return root


def found(ended: Any, subject: str) -> dict[str, str]:
    return {one["check"]: one["result"] for one in ended.json["checked"] if one["subject"] == subject}


def test_a_tool_is_tried_without_touching_the_project(files: Path, cli: Cli) -> None:
    before = sorted(path.name for path in files.iterdir())
    with Project.open(files) as project:
        rows = len(project.store.audit.log())
    ended = cli("check", "tools.py:look", "--perform", "--json")
    assert (ended.code, ended.json["holds"]) == (exits.DONE, True)
    assert found(ended, "tool look")["read-changes-nothing"] == "passed"
    assert ended.json["not_proved"]
    assert sorted(path.name for path in files.iterdir()) == before
    with Project.open(files) as project:
        assert len(project.store.audit.log()) == rows


def test_a_tool_that_lies_fails_and_its_effect_stays_in_the_trial(files: Path, cli: Cli) -> None:
    ended = cli("check", "tools.py:sly", "--perform")
    assert ended.code == exits.FAILED
    assert "sly.txt" in ended.out
    assert "Not proved, whatever passed:" in ended.out
    assert not (files / "sly.txt").exists()


def test_what_the_file_prints_is_not_in_the_report(files: Path, cli: Cli) -> None:
    ended = cli("check", "tools.py:sly", "--perform", "--json")
    assert ended.json["holds"] is False
    assert "hello" in ended.err


def test_without_perform_it_says_that_effects_were_not_tried(files: Path, cli: Cli) -> None:
    ended = cli("check", "tools.py")
    assert ended.code == exits.DONE
    assert "it takes effects, which were not asked for" in ended.out
    assert "tool look" in ended.out
    assert "tool sly" in ended.out


def test_a_workflow_is_run_with_its_input_and_its_answers(files: Path, cli: Cli) -> None:
    call = ("check", "flow.py:flow", "--input", '{"text": "a"}', "--perform", "--json")
    ended = cli(*call, "--answer", "sure=yes")
    assert ended.code == exits.DONE
    held = found(ended, "workflow flow")
    assert held.pop("nothing-after-one-of-two") == "not checked", "no zone of it asks for two"
    assert set(held.values()) == {"passed"}
    refused = found(cli(*call), "workflow flow")
    assert refused.pop("no-way-around") == "passed"
    assert set(refused.values()) == {"not checked"}, "its first choice is no, so that it comes to no action"


def test_a_function_that_gives_a_workflow_is_checked_by_its_name(files: Path, cli: Cli) -> None:
    assert found(cli("check", "flow.py:made", "--json"), "workflow made")["no-way-around"] == "passed"


def test_a_way_around_a_gate_is_named_and_exits_with_1(files: Path, cli: Cli) -> None:
    ended = cli("check", "flow.py")
    assert ended.code == exits.FAILED
    assert "around → write.act" in ended.out


def test_files_of_a_folder_are_put_into_the_trial(files: Path, cli: Cli) -> None:
    (files / "given").mkdir()
    (files / "given/seen.md").write_text("x")
    (files / "looks.py").write_text(
        TOOLS.replace('Path("sly.txt").write_text("written")', 'assert Path("seen.md").read_text() == "x"')
    )
    call = ("check", "looks.py:sly", "--perform", "--json")
    assert found(cli(*call), "tool sly")["read-changes-nothing"] == "not checked"
    assert found(cli(*call, "--files", "given"), "tool sly")["read-changes-nothing"] == "passed"


def test_the_projects_own_tools_are_there_in_the_trial(files: Path, cli: Cli) -> None:
    config = files / "karkas.toml"
    config.write_text(config.read_text().replace("[act]", '[act]\ntools = ["tools.py:look"]'))
    (files / "flow.py").write_text(
        FLOW.replace(
            'call("write_file", path="notes/a.md", content=state["text"])', 'call("look", path="a.md")'
        )
    )
    call = (
        "check",
        "flow.py:flow",
        "--input",
        '{"text": "a"}',
        "--answer",
        "sure=yes",
        "--perform",
        "--json",
    )
    assert found(cli(*call), "workflow flow")["once-after-approval"] == "passed"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nowhere.py",), "there is no file nowhere.py"),
        (("tools.txt",), "should read FILE.py:NAME"),
        (("tools.py", "--input", "{}"), "--input is for one workflow, and here are 0"),
        (("flow.py", "--input", "{}"), "and here are 2; name it"),
        (("flow.py:flow", "--input", "nonsense"), "not JSON"),
        (("flow.py:flow", "--answer", "yes"), "NAME=TEXT"),
        (("flow.py:flow", "--files", "nowhere"), "is no folder"),
    ],
)
def test_what_cannot_be_understood_exits_with_2(
    files: Path, cli: Cli, args: tuple[str, ...], said: str
) -> None:
    ended = cli("check", *args)
    assert (ended.code, said in ended.err) == (exits.USAGE, True), ended.err


def test_a_name_that_is_not_there_is_told(files: Path, cli: Cli) -> None:
    ended = cli("check", "flow.py:flwo")
    assert (ended.code, "no workflow called 'flwo'" in ended.err) == (exits.FAILED, True)
