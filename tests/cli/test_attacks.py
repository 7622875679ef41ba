"""Ways around the gate on the command line that were tried by hand once, each with what holds it."""

from pathlib import Path

import pytest

from .conftest import Cli
from .test_work import framed, gate_of  # noqa: F401

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
