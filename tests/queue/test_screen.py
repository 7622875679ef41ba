"""What the screen shows: order, filters, hostile text, small terminals, no colour."""

import asyncio
import subprocess
import sys
from datetime import timedelta

import pytest

from karkas.policies.gates import GateKind
from karkas.policies.rendering import visible_once
from karkas.policies.verdicts import Defer
from karkas.project import Project
from karkas.queue import keys
from karkas.queue.verdicts import Verdicts

from .conftest import Begin, Open, queue, said, text, until


async def begun(begin: Begin, name: str, title: str = "disk") -> str:
    return (await asyncio.to_thread(begin, name, title)).id


async def test_an_empty_queue_says_what_to_do(opened: Open) -> None:
    async with opened() as pilot:
        assert "nothing waits for you" in text(pilot)
        assert "karkas explore" in text(pilot)
        await pilot.press("a", "r", "enter", "x")
        assert pilot.app.screen is queue(pilot)


async def test_gates_stand_in_groups_of_zone_and_effect_and_can_be_narrowed(
    begin: Begin, opened: Open
) -> None:
    for name in ("mail", "single", "ask", "single"):
        await begun(begin, name)
    async with opened(120, 36) as pilot:
        shown = text(pilot)
        for group in ("post / irreversible (1)", "lab / reversible (2)", "lab / question (1)"):
            assert group in shown
        await pilot.press("f")
        await until(pilot, lambda: len(queue(pilot).gates.ids) == 1 and "only: irreversible" in text(pilot))
        for _ in range(5):
            await pilot.press("f")
        await until(pilot, lambda: "decided" in text(pilot).split("\n")[0])
        await pilot.press("f")
        await until(pilot, lambda: len(queue(pilot).gates.ids) == 4)
        await pilot.press("slash", *"which", "enter")
        await until(pilot, lambda: len(queue(pilot).gates.ids) == 1 and "only: /which" in text(pilot))
        await pilot.press("slash", "escape")
        await until(pilot, lambda: len(queue(pilot).gates.ids) == 4)


async def test_every_row_of_a_long_diff_can_be_read(begin: Begin, opened: Open, project: Project) -> None:
    gate = (await asyncio.to_thread(begin, "long")).id
    async with opened() as pilot:
        sheet = queue(pilot).sheet
        assert sheet is not None
        shown = visible_once(project.store.artifacts.text(sheet.gate.variants[0].shown))
        rows = queue(pilot).page._rows
        first = next(at for at, row in enumerate(rows) if row and row[0][0].strip() == "1 │")
        read, lines = [""], shown.split("\n")
        for row in rows[first:]:
            if len(row) < 3 or "│" not in row[0][0]:
                break
            if "↳" in row[0][0]:
                read[-1] += row[2][0]
            else:
                read.append(row[2][0])
        assert read[1:] == lines
        await pilot.press("v")
        await pilot.press("end")
        await until(pilot, lambda: f"karkas queue stop {gate}" in text(pilot))
        assert "more below" not in text(pilot)


HOSTILE = "\x1b[2J[bold]not bold[/bold]\u202egnitset\u202c\u200b⟦U+0041⟧\ttab"


async def test_hostile_text_is_shown_as_it_is(begin: Begin, opened: Open) -> None:
    await begun(begin, "mail", HOSTILE)
    await begun(begin, "single", HOSTILE)
    async with opened(140, 40) as pilot:
        for _ in range(2):
            shown = text(pilot)
            assert "⟦U+202E⟧" in shown
            assert "[bold]not bold[/bold]" in shown
            assert all(char == "\n" or char.isprintable() for char in shown)
            assert "\u202e" not in shown
            await pilot.press("n")
            await until(pilot, lambda: queue(pilot).sheet is not None)


async def test_a_title_of_controls_is_no_other_line_in_the_list(begin: Begin, opened: Open) -> None:
    await begun(begin, "single", "a\rlab / reversible (9)")
    async with opened(140, 40) as pilot:
        assert "ticket a⟦U+000D⟧lab" in text(pilot)


async def test_a_terminal_that_is_too_small_says_so_and_decides_nothing(
    begin: Begin, opened: Open, project: Project
) -> None:
    await begun(begin, "single")
    async with opened() as pilot:
        await pilot.resize_terminal(40, 10)
        await until(pilot, lambda: "needs 60 columns" in text(pilot))
        await pilot.press("a")
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "ticket disk" in text(pilot))
        assert len(project.store.waiting.lines()) == 1


async def test_variants_stand_side_by_side_where_there_is_room(begin: Begin, opened: Open) -> None:
    await begun(begin, "choice")
    async with opened(170, 40) as pilot:
        (row,) = (row for row in text(pilot).split("\n") if "Variant 1 of 2" in row)
        assert "Variant 2 of 2" in row
        await pilot.resize_terminal(80, 60)
        await until(pilot, lambda: "║" not in text(pilot))
        rows = text(pilot).split("\n")
        assert sum("Variant" in row for row in rows) == 2


async def test_nothing_is_told_by_colour_alone(
    begin: Begin, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor, marks, irreversible effects and doubtful origins have words or signs of their own."""
    monkeypatch.setenv("NO_COLOR", "1")
    await begun(begin, "mail")
    async with opened(120, 44) as pilot:
        await pilot.press("space")
        await until(pilot, lambda: ">*" in text(pilot))
        assert pilot.app.no_color
        shown = text(pilot)
        assert "irreversible" in shown
        assert "(!) /to: unknown" in shown


async def test_help_names_every_key(opened: Open) -> None:
    async with opened(100, 44) as pilot:
        await pilot.press("question_mark")
        await until(pilot, lambda: "What it never does" in text(pilot))
        assert [key.help for key in keys.KEYS if key.help[:20] not in text(pilot)] == []
        await pilot.press("q")
        await until(pilot, lambda: pilot.app.screen is queue(pilot))


def test_every_verdict_has_a_key_and_every_key_an_action() -> None:
    assert {key.verdict for key in keys.KEYS} - {None} == {
        "approve", "choose", "adopt", "answer", "edit", "reject", "defer", "stop",
    }  # fmt: skip
    from karkas.queue.app import QueueScreen

    assert [key.action for key in keys.KEYS if not hasattr(QueueScreen, f"action_{key.action}")] == []
    assert issubclass(QueueScreen, Verdicts)


async def test_a_gate_that_was_put_off_waits_at_the_end(begin: Begin, opened: Open, project: Project) -> None:
    first, second = await begun(begin, "single"), await begun(begin, "mail")
    project.store.gates.decide(first, Defer(until=project.store.clock() + timedelta(hours=2)), by="ada")
    async with opened() as pilot:
        assert list(queue(pilot).gates.ids) == [second, first]
        assert "put off (1)" in text(pilot)


async def test_a_frame_opens_the_map(project: Project, opened: Open) -> None:
    from karkas import runner

    (project.root / "a.md").write_text("# Couriers\n\nA courier is a person who carries parcels.\n")

    def explore() -> None:
        run = runner.begin(project, "explore", {"zone": "courier", "sources": ["a.md"]}, zone="courier")
        asyncio.run(runner.advance(project, run.id))

    await asyncio.to_thread(explore)
    async with opened(100, 70) as pilot:
        sheet = queue(pilot).sheet
        assert sheet is not None
        assert sheet.gate.kind is GateKind.FRAME
        assert "The map of zone courier" in text(pilot)
        rows = [row[-1][0].strip() for row in queue(pilot).page._rows if row]
        assert "A courier is a person who carries parcels." in " ".join(rows)
        await pilot.press("o")
        await until(pilot, lambda: "karkas frame courier" in said(pilot))


@pytest.mark.parametrize("words", [("--help",), ("queue", "list"), ("queue", "--help"), ("queue",)])
def test_plain_commands_never_import_textual(project: Project, words: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom karkas.cli.app import main\n"
        f"sys.argv = ['karkas', *{words!r}]\n"
        "try:\n    main()\nfinally:\n    print('textual' in sys.modules, file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=project.root, capture_output=True, text=True, check=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ended.stderr.strip() == "False"
