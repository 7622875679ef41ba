import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from karkas.agents.prompts import instructions
from karkas.policies.errors import (
    BudgetReachedError,
    ContextTooLongError,
    InvalidAnswerError,
    ModelUnavailableError,
    RefusedAnswerError,
    RequestRejectedError,
)
from karkas.server.documents import Document
from karkas.server.language.distil import PageClaims
from karkas.server.language.packing import packed
from karkas.server.language.prompt import ALIVE, Asking
from karkas.server.protocol import Caller, Request, Role
from karkas.server.questions import Distil, Distilled

Models = Callable[..., Any]
NONE = PageClaims(claims=())


def asking(models: Any, caller: Any, role: Role = Role.SUMMARIZER) -> Asking:
    question = Distil(zone="lora", at_most=10)
    request = Request(role=role, instructions=instructions(role), question=question, answer=Distilled)
    return Asking(models, request, caller)


async def test_stable_and_shared_text_stands_before_what_varies(models: Models, caller: Any) -> None:
    scripted = models(lambda prompt, answer: NONE)
    summarizer = asking(scripted, caller)
    for question in ("one", "two"):
        await summarizer.ask("distil", PageClaims, documents="passages", question=question, max_tokens=10)
    reviewer = asking(scripted, caller, Role.REVIEWER)
    await reviewer.ask("support", PageClaims, documents="passages", question="three", max_tokens=10)
    first, second, third = (prompt for prompt, _ in scripted.asked)
    assert first.system == second.system == third.system == instructions(Role.SCOUT).shared
    assert first.user.removesuffix("one") == second.user.removesuffix("two")
    assert third.user.startswith("passages\n\n" + instructions(Role.REVIEWER).role)
    assert summarizer.usage.calls == 2
    assert summarizer.usage.tokens == 30


async def test_what_fails_for_itself_costs_only_itself_and_is_noted(models: Models, caller: Any) -> None:
    faults = {1: InvalidAnswerError("no JSON"), 2: RefusedAnswerError(), 3: ContextTooLongError("too long")}

    async def work(item: int) -> int:
        if item in faults:
            raise faults[item]
        return item

    found = await asking(models(None), caller).each(range(5), work, what="pages")
    assert found == [0, None, None, None, 4]
    assert [note for note in caller.notes if "no JSON" in note] == [
        "summarizer: one of 5 pages was lost: no JSON"
    ]
    assert len(caller.notes) == 3


async def test_how_many_items_are_done_is_told_from_the_beginning(models: Models) -> None:
    class Watched(Caller):
        def __init__(self) -> None:
            self.told: list[tuple[str, int, int | None]] = []

        def progress(self, doing: str, /, *, done: int = 0, total: int | None = None) -> None:
            self.told.append((doing, done, total))

    async def work(item: int) -> int:
        return item

    caller = Watched()
    await asking(models(None), caller).each(range(2), work, what="pages")
    assert caller.told == [("summarizer: pages", done, 2) for done in range(3)]


async def test_a_reached_budget_keeps_what_there_is_and_begins_nothing_more(
    models: Models, caller: Any
) -> None:
    begun: list[int] = []

    async def work(item: int) -> int:
        begun.append(item)
        await asyncio.sleep(0)
        if item == 70:
            raise BudgetReachedError
        return item

    found = await asking(models(None), caller).each(range(1000), work, what="pages")
    assert found[0] == 0
    assert found[70] is None
    assert len(begun) < 70 + 2 * ALIVE
    assert caller.notes == [f"summarizer: the budget ended after {len(begun) - 1} of 1000 pages"]


@pytest.mark.parametrize("fault", [ModelUnavailableError(), RequestRejectedError("no such model")])
async def test_a_fault_of_the_server_goes_up(models: Models, caller: Any, fault: Exception) -> None:
    async def work(item: int) -> int:
        raise fault

    with pytest.raises(type(fault)):
        await asking(models(None), caller).each(range(5), work, what="pages")


async def test_no_more_than_a_bounded_number_is_under_way(models: Models, caller: Any) -> None:
    alive = most = 0

    async def work(item: int) -> int:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        await asyncio.sleep(0)
        alive -= 1
        return item

    assert await asking(models(None), caller).each(range(500), work, what="pages") == list(range(500))
    assert most == ALIVE


async def test_portions_fit_hold_all_and_are_counted_seldom() -> None:
    items = ["ab" * (number % 7 + 1) if number % 3 else "\n" * 40 for number in range(400)]
    counts = 0

    async def count(text: str) -> int:
        nonlocal counts
        counts += 1
        return len(text)

    found = await packed([len(item) for item in items], lambda a, b: " ".join(items[a:b]), 300, count)
    assert [at for begin, end in found for at in range(begin, end)] == list(range(len(items)))
    assert all(len(" ".join(items[begin:end])) <= 300 for begin, end in found)
    assert counts <= 4 * len(found)


async def test_an_item_that_is_too_long_has_a_portion_of_its_own() -> None:
    async def count(text: str) -> int:
        return len(text)

    items = ["a", "b" * 100, "c"]
    found = await packed([1, 100, 1], lambda a, b: "".join(items[a:b]), 10, count)
    assert found == [(0, 1), (1, 2), (2, 3)]


async def test_the_room_of_a_small_model_is_never_nothing(models: Models, caller: Any) -> None:
    small = asking(models(None, holds=512), caller)
    assert await small.room("distil", max_tokens=400) == 64


async def test_what_fits_by_its_bytes_is_not_counted_and_parted_as_if_it_had_been(
    models: Models, caller: Any
) -> None:
    scripted = models(None)
    count, counted = scripted.count, list[str]()

    async def counting(role: Role, text: str) -> int:
        counted.append(text)
        return int(await count(role, text))

    scripted.count = counting
    summarizer = asking(scripted, caller)
    exact = await summarizer.room("distil", max_tokens=400, beside="beside")
    assert len(counted) == 2
    counted.clear()
    bound = await summarizer.room("distil", max_tokens=400, beside="beside", enough=5_000)
    assert counted == []
    assert 5_000 <= bound < exact
    items = ["x" * 99] * 50
    portions = [await summarizer.portions(items, room=room, most=20) for room in (exact, bound)]
    assert portions[0] == portions[1]
    counted.clear()
    assert await summarizer.room("distil", max_tokens=400, beside="beside", enough=bound + 1) == exact
    assert len(counted) == 2


async def test_pages_of_a_small_model_are_small(
    models: Models, caller: Any, markdown: Callable[..., Document]
) -> None:
    document = markdown("# T\n\n" + "Words that fill a line.\n\n" * 400)
    large = await asking(models(None), caller).pages([document])
    small = await asking(models(None, holds=2048), caller).pages([document])
    assert len(small) > len(large) == 1
