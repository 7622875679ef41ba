"""How many gates are listed, and that those that are not listed yet are counted and can be reached."""

import asyncio
from datetime import timedelta

import pytest

from karkas.policies.verdicts import Defer
from karkas.project import Project
from karkas.queue import moves
from karkas.queue.listed import listed
from karkas.queue.moves import Moves
from karkas.queue.order import Filter

from .conftest import Begin, Open, queue, said, text, until


async def begun(begin: Begin, *names: str) -> list[str]:
    return [(await asyncio.to_thread(begin, name)).id for name in names]


async def test_the_first_are_listed_and_all_are_counted(begin: Begin, project: Project) -> None:
    mail, first, second, third = await begun(begin, "mail", "single", "single", "single")
    project.store.gates.decide(mail, Defer(until=project.store.clock() + timedelta(hours=2)), by="ada")
    found = listed(project.store.waiting, Filter(), 2)
    assert [(one.title, [line.id for line in one.lines]) for one in found.groups] == [
        ("lab / reversible (3)", [first, second])
    ]
    assert (found.more, found.waits, found.irreversible) == (2, 4, 1)
    narrow = listed(project.store.waiting, Filter("irreversible"), 2, also=third)
    assert [one.title for one in narrow.groups] == ["lab / reversible (1)", "put off (1)"]
    assert (narrow.more, narrow.waits) == (0, 4)
    beyond = listed(project.store.waiting, Filter(), 1, also=third)
    assert [line.id for group in beyond.groups for line in group.lines] == [first, third]
    assert beyond.more == 2


async def test_going_on_from_the_last_line_lists_more(
    begin: Begin, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Moves, "room", 2)
    monkeypatch.setattr(moves, "ROOM", 2)
    gates = await begun(begin, *["single"] * 3)
    async with opened() as pilot:
        assert list(queue(pilot).gates.ids) == gates[:2]
        assert "3 wait" in text(pilot)
        assert "1 more; go on to list them" in text(pilot)
        await pilot.press("n", "n")
        await until(pilot, lambda: queue(pilot).gates.gate == gates[2])
        assert "more; go on" not in text(pilot)
        await pilot.press("n")
        assert "this is the last gate" in said(pilot)
