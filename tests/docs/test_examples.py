"""The examples of docs/workflows.md, from the first step to the last, in a real project."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from karkas import (
    END,
    START,
    Adopt,
    Answer,
    Approve,
    Choose,
    Reject,
    Retry,
    Run,
    RunStatus,
    Workflow,
    WorkflowState,
    accept_frame,
    call,
    starting_frame,
)
from karkas.policies.errors import UngatedPathError, VerdictError
from karkas.policies.zones import ControlLevel
from karkas.testing.tool_checks import TOOL_CHECKS
from karkas.testing.workflow_checks import WORKFLOW_CHECKS

from .conftest import ROOT, Desk

EXAMPLES = ROOT / "docs/examples"

NOTE = {"title": "Raise r before lr", "text": "Half the runs diverged."}
RELEASE: dict[str, Any] = {"version": "1.2.0", "changes": ["faster start", "a quieter log"]}


def nothing(state: WorkflowState) -> dict[str, str]:
    return {}


def became(run: Run) -> dict[str, str]:
    outcomes: Any = (run.result or {})["outcomes"]
    return {name: one["status"] for name, one in outcomes.items()}


def test_the_note_is_written_after_its_approval_and_as_it_was_shown(desk: Desk) -> None:
    run = desk.run("note.py:keep", **NOTE)
    assert run.status is RunStatus.PARKED
    assert not (desk.root / "notes").exists()
    assert "+Half the runs diverged." in desk.shown("write")
    run = desk.decide(run, "write", Approve())
    assert (run.status, became(run)) == (RunStatus.DONE, {"write": "committed"})
    assert (desk.root / "notes/raise-r-before-lr.md").read_text().endswith("\n\nHalf the runs diverged.\n")
    assert (run.result or {})["values"]["told"] == "committed: Raise r before lr"  # type: ignore[index,call-overload]


def test_the_note_is_revised_with_the_reason_of_its_rejection(desk: Desk) -> None:
    run = desk.run("note.py:keep", **NOTE)
    run = desk.decide(run, "write", Reject(reason="louder, please", retry=Retry.REVISED))
    assert "+HALF THE RUNS DIVERGED." in desk.shown("write")
    run = desk.decide(run, "write", Reject(reason="no"))
    assert became(run) == {"write": "rejected"}
    assert not (desk.root / "notes").exists()


def test_each_branch_of_the_release_waits_for_its_own_gate_and_holds_up_no_other(desk: Desk) -> None:
    run = desk.run("release.py:release", **RELEASE)
    assert set(desk.waiting()) == {"notes", "teaser"}
    run = desk.decide(run, "teaser", Choose(variant=1))
    assert (desk.root / "release/1.2.0.teaser.txt").read_text() == "Released 1.2.0.\n"
    assert set(desk.waiting()) == {"notes"}
    run = desk.decide(run, "notes", Approve())
    assert set(desk.waiting()) == {"ask"}
    assert desk.waiting()["ask"].prompt.startswith("1.2.0: notes and teaser written.")
    run = desk.decide(run, "ask", Answer(text="yes"))
    assert set(desk.waiting()) == {"current"}
    run = desk.decide(run, "current", Approve())
    assert (desk.root / "release/current.txt").read_text() == "1.2.0\n"
    assert run.status is RunStatus.DONE


def test_the_release_ends_where_the_person_says_no(desk: Desk) -> None:
    run = desk.run("release.py:release", **RELEASE)
    desk.decide(run, "notes", Reject(reason="not yet"))
    run = desk.decide(run, "teaser", Choose(variant=0))
    assert "1.2.0: teaser written." in desk.waiting()["ask"].prompt
    with pytest.raises(VerdictError, match="yes, no"):
        desk.project.store.gates.decide(desk.waiting()["ask"].id, Answer(text="sure"), by="ada")
    run = desk.decide(run, "ask", Answer(text="no"))
    assert run.status is RunStatus.DONE
    assert not (desk.root / "release/current.txt").exists()


def study(desk: Desk) -> Run:
    """Explores a small zone, frames it as drafted, and stops where the announcement waits."""
    sources = desk.root / "sources"
    sources.mkdir()
    (sources / "retries.md").write_text(
        "# Retries\n\nA retry is a repeated call after a failure.\n\n"
        "The default of `max_attempts` is 3.\n\nA retry must not repeat a payment.\n"
    )
    (desk.root / "channels").mkdir()
    (desk.root / "channels/team.txt").write_text("ada\n")
    run = desk.run("announce.py:study", zone="retries", sources=["sources"], channel="team")
    assert set(desk.waiting()) == {"frame"}
    store = desk.project.store
    text = starting_frame(store, "retries", author="ada", level=ControlLevel.PROPOSE_ONLY)
    assert accept_frame(store, "retries", text, by="ada") is not None
    return desk.go_on(run)


def test_the_study_explores_then_waits_for_the_frame_and_only_then_proposes(desk: Desk) -> None:
    run = study(desk)
    assert "to team, where ['ada'] listen:\nretries is framed: " in desk.shown("tell")
    assert desk.waiting()["tell"].level is ControlLevel.PROPOSE_ONLY
    run = desk.decide(run, "tell", Approve())
    assert became(run) == {"frame": "committed", "tell": "committed"}
    (line,) = (desk.root / "outbox/team.jsonl").read_text().splitlines()
    assert json.loads(line)["text"].startswith("retries is framed: ")


def test_a_listener_who_joins_after_the_approval_makes_the_gate_ask_again(desk: Desk) -> None:
    run = study(desk)
    first = desk.waiting()["tell"]
    (desk.root / "channels/team.txt").write_text("ada\ngrace\n")
    run = desk.decide(run, "tell", Approve())
    assert desk.waiting()["tell"].id != first.id
    assert "['ada', 'grace']" in desk.shown("tell")
    assert not (desk.root / "outbox").exists()


def test_without_a_frame_the_study_ends_and_nothing_is_announced(desk: Desk) -> None:
    (desk.root / "a.md").write_text("# A\n\nA retry is a repeated call after a failure.\n")
    run = desk.run("announce.py:study", zone="retries", sources=["a.md"], channel="team")
    run = desk.decide(run, "frame", Reject(reason="too thin"))
    assert run.status is RunStatus.DONE
    assert became(run) == {"frame": "rejected"}


def test_a_workflow_with_a_path_around_a_gate_names_the_path(desk: Desk) -> None:
    workflow = Workflow(WorkflowState, zones=("notes",))
    workflow.add_action("write", lambda _: call("write_file", path="notes/a.md", content="a\n"))
    workflow.add_node("shortcut", nothing)
    workflow.add_edge(START, "shortcut").add_edge("shortcut", "write.act").add_edge("write", END)
    with pytest.raises(
        UngatedPathError, match=r"shortcut → write\.act: this path reaches the executor of 'write'"
    ):
        workflow.compile()


def test_a_file_with_such_a_workflow_does_not_run(desk: Desk, tmp_path: Path) -> None:
    text = (desk.root / "note.py").read_text()
    (desk.root / "around.py").write_text(
        f'{text}\nkeep.add_edge("tell", "write.act")\nkeep.add_edge(START, "tell")\n'
    )
    run = desk.run("around.py:keep", **NOTE)
    assert run.status is RunStatus.FAILED
    assert "tell → write.act" in (run.error or "")
    assert not (desk.root / "notes").exists()


def test_nothing_acts_in_a_zone_that_is_neither_known_nor_framed(desk: Desk) -> None:
    text = (desk.root / "note.py").read_text()
    (desk.root / "note.py").write_text(text.replace("understanding=4", "understanding=1"))
    run = desk.run("note.py:keep", **NOTE)
    assert became(run) == {"write": "denied"}
    assert desk.waiting() == {}


def test_what_touches_no_zone_is_a_draft_to_adopt(desk: Desk) -> None:
    text = (desk.root / "note.py").read_text()
    text = text.replace('zones=("notes",)', "zones=()").replace('paths=("notes",)', 'paths=("elsewhere",)')
    (desk.root / "note.py").write_text(text)
    run = desk.run("note.py:keep", **NOTE)
    with pytest.raises(VerdictError, match="adopt"):
        desk.decide(run, "write", Approve())
    assert became(desk.decide(run, "write", Adopt())) == {"write": "committed"}


def test_the_tests_of_the_examples_pass_as_a_user_runs_them(tmp_path: Path) -> None:
    for file in EXAMPLES.glob("*.py"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=",
        "note_test.py",
    ]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert "failed" not in ended.stdout


def test_the_page_of_testing_shows_the_example_that_runs() -> None:
    page, example = ((EXAMPLES / name).read_text("utf-8") for name in ("../testing.md", "note_test.py"))
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        lines = [line.strip() for line in block.splitlines() if line.strip() and not line.startswith("from ")]
        assert [line for line in lines if line not in example] == []


def test_every_check_stands_on_the_page_of_testing() -> None:
    page = (EXAMPLES / "../testing.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.+?`)( \*)? \|(?: (.+) \|)?$", page, re.MULTILINE)
    stars = {name: bool(star) for names, star, _ in rows for name in re.findall(r"`([\w-]+)`", names)}
    known = {one.name: one.performs for one in (*TOOL_CHECKS, *WORKFLOW_CHECKS)}
    assert {name: stars.get(name) for name in known} == known
