"""What a key decides, and what decides nothing."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from karkas.policies.gates import GateStatus
from karkas.policies.verdicts import Answer, Approve, Choose, Defer, Reject, Retry, possible
from karkas.project import Project
from karkas.queue import keys
from karkas.queue.app import QueueApp

from .conftest import Begin, Open, at, queue, said, text, until


async def begun(begin: Begin, name: str, title: str = "disk") -> str:
    return (await asyncio.to_thread(begin, name, title)).id


async def test_approving_performs_what_is_shown_and_the_screen_tells_what_came_of_it(
    begin: Begin, opened: Open, project: Project
) -> None:
    gate = await begun(begin, "single")
    async with opened() as pilot:
        await pilot.press("a")
        await until(pilot, lambda: "made disk" in text(pilot))
        assert project.store.gates.get(gate).verdict == Approve()
        await until(pilot, lambda: "u take it back" in text(pilot))
        await pilot.press("u", "y")
        await until(pilot, lambda: "taken back by" in text(pilot))


async def test_what_cannot_be_taken_back_asks_for_a_letter_and_enter_is_none(
    begin: Begin, opened: Open, project: Project
) -> None:
    gate = await begun(begin, "mail")
    async with opened() as pilot:
        await pilot.press("pagedown", "a")
        await until(pilot, lambda: "cannot be taken back" in text(pilot))
        await pilot.press("enter", "space", "a")
        await pilot.pause(0.2)
        assert "cannot be taken back" in text(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: "nothing was decided" in said(pilot))
        assert project.store.gates.get(gate).status is GateStatus.OPEN
        await pilot.press("a", "y")
        await until(pilot, lambda: "sent to ada@example.org" in text(pilot))


async def test_enter_decides_nothing_at_any_gate_nor_in_any_question(
    begin: Begin, opened: Open, project: Project
) -> None:
    for name in ("choice", "single", "mail", "ask"):
        await begun(begin, name)
    async with opened() as pilot:
        for gate in [line.id for line in project.store.waiting.lines()]:
            await at(pilot, gate)
            await pilot.press("enter", "enter")
            for key in (key for key in keys.KEYS if key.verdict):
                if key.verdict in possible(project.store.gates.get(gate).facts) and key.verdict not in {
                    "approve", "edit",
                }:  # fmt: skip
                    await pilot.press(key.key, "enter", "enter", "escape")
                    await until(pilot, lambda: pilot.app.screen is queue(pilot))
    assert {line.status for line in project.store.waiting.lines()} == {GateStatus.OPEN}
    assert len(project.store.waiting.lines()) == 4


async def test_a_variant_is_chosen_by_its_number(begin: Begin, opened: Open, project: Project) -> None:
    gate = await begun(begin, "choice")
    async with opened() as pilot:
        await pilot.press("a")
        await until(pilot, lambda: "approve is not possible" in said(pilot))
        await pilot.press("pagedown", "pagedown", "pagedown", "c", "9", "2")
        await until(pilot, lambda: "committed" in said(pilot))
    assert project.store.gates.get(gate).verdict == Choose(variant=1)
    assert (project.root / "lab/disk.md").read_text().startswith("step 1 of disk")


@pytest.mark.parametrize(("letter", "retry"), [("n", Retry.NEVER), ("v", Retry.REVISED)])
async def test_a_rejection_needs_its_reason_and_says_whether_to_try_again(
    begin: Begin, opened: Open, project: Project, letter: str, retry: Retry
) -> None:
    gate = await begun(begin, "single")
    async with opened() as pilot:
        await pilot.press("r", "enter", "n", "o", "t", "enter", "enter")
        await pilot.pause(0.2)
        assert project.store.gates.get(gate).status is GateStatus.OPEN
        await pilot.press(letter)
        await until(pilot, lambda: not queue(pilot).works.doing and "run" in said(pilot))
    assert project.store.gates.get(gate).verdict == Reject(reason="not", retry=retry)
    assert len(project.store.waiting.lines()) == (1 if retry is Retry.REVISED else 0)


async def test_a_question_is_answered_by_one_of_its_choices(
    begin: Begin, opened: Open, project: Project
) -> None:
    gate = await begun(begin, "ask")
    async with opened() as pilot:
        await pilot.press("w", "2")
        await until(pilot, lambda: "done" in said(pilot))
    assert project.store.gates.get(gate).verdict == Answer(text="right")


async def test_a_gate_is_put_off_and_stands_last(begin: Begin, opened: Open, project: Project) -> None:
    gate, other = await begun(begin, "single"), await begun(begin, "single", "network")
    async with opened() as pilot:
        await at(pilot, gate)
        await pilot.press("d", *"soon", "enter")
        await until(pilot, lambda: "is no moment" in said(pilot))
        await pilot.press("d", *"2h", "enter")
        await until(pilot, lambda: "put off (1)" in text(pilot))
        assert queue(pilot).gates.ids[0] == other
        assert queue(pilot).gates.gate == gate, "one still looks at what one put off"
    verdict = project.store.gates.get(gate).verdict
    assert isinstance(verdict, Defer)
    assert timedelta(minutes=119) < verdict.until - datetime.now(UTC) < timedelta(minutes=121)


async def test_stopping_a_run_asks_and_cancels_its_gates(
    begin: Begin, opened: Open, project: Project
) -> None:
    gate = await begun(begin, "single")
    async with opened() as pilot:
        await pilot.press("x", "enter", "x")
        await pilot.pause(0.2)
        assert project.store.gates.get(gate).status is GateStatus.OPEN
        await pilot.press("y")
        await until(pilot, lambda: project.store.gates.get(gate).status is GateStatus.CANCELLED)
    assert project.store.runs.get(project.store.gates.get(gate).run).status.value == "stopped"


async def test_an_edit_shows_its_own_gate_before_anything_counts(
    begin: Begin, opened: Open, project: Project, edit: Callable[[str, str], None]
) -> None:
    gate = await begun(begin, "text")
    edit("second", "other")
    async with opened() as pilot:
        await pilot.press("e")
        await until(pilot, lambda: "your edit stands at a gate of its own" in said(pilot))
        screen = queue(pilot)
        await until(pilot, lambda: screen.sheet is not None)
        assert screen.sheet is not None
        new = screen.sheet.gate
        assert new.id == project.store.gates.get(gate).superseded_by
        assert "other line" in project.store.artifacts.text(new.variants[0].shown)
        assert not (project.root / "lab/note.md").exists()
        await pilot.press("a")
        await until(pilot, lambda: "has just appeared by itself" in said(pilot))
        await pilot.pause(1.1)
        await pilot.press("a")
        await until(pilot, lambda: "more rows of what would be done" in text(pilot))
        await pilot.press("enter", "escape")
        await pilot.press("pagedown", "a")
        await until(pilot, lambda: "committed" in said(pilot))
    assert "other line" in (project.root / "lab/note.md").read_text()


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """A real editor of the person's, that replaces one word; the terminal alone is none in these tests."""

    def edit(old: str, new: str) -> None:
        editor = tmp_path / "editor"
        editor.write_text(f"#!/bin/sh\nsed -i 's/{old}/{new}/' \"$1\"\n")
        editor.chmod(0o755)
        monkeypatch.setenv("VISUAL", str(editor))
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr(QueueApp, "suspend", lambda app: nullcontext())

    return edit
