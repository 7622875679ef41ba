import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from karkas.agents.tools import Done, Tool, Workspace, perform, tool, undo
from karkas.agents.tools.files import edit_file, write_file
from karkas.policies.actions import Action, Effect
from karkas.policies.errors import InDoubtError, PermitError, StaleError, StorageError, ToolError
from karkas.storage import Claimed, Store

Permitted = Callable[[Tool, Action], Claimed]


@dataclass
class Post:
    sent: list[str]
    keys: list[str]


POST = Post([], [])


@pytest.fixture(autouse=True)
def _empty() -> None:
    POST.sent.clear()
    POST.keys.clear()


@tool(Effect.IRREVERSIBLE)
async def send(to: str, idempotency_key: str) -> dict[str, str]:
    await asyncio.sleep(0)
    POST.sent.append(to)
    POST.keys.append(idempotency_key)
    return {"to": to}


async def test_a_permitted_action_runs_once_and_only_once(workspace: Workspace, permitted: Permitted) -> None:
    claimed = permitted(send, send.action(to="a"))
    done = await perform(send, claimed, workspace)
    assert done.result == {"to": "a"}
    assert POST.keys == [claimed.idempotency_key]
    with pytest.raises(PermitError, match="one permit is one execution"):
        await perform(send, claimed, workspace)
    assert POST.sent == ["a"]


async def test_concurrent_holders_of_one_permit_run_it_once(
    workspace: Workspace, permitted: Permitted
) -> None:
    claimed = permitted(send, send.action(to="a"))
    ends = await asyncio.gather(
        *(perform(send, claimed, workspace) for _ in range(8)), return_exceptions=True
    )
    assert POST.sent == ["a"]
    assert sum(isinstance(end, PermitError) for end in ends) == 7


async def test_only_an_idempotent_tool_is_run_again_after_a_crash(
    workspace: Workspace, permitted: Permitted, store: Store
) -> None:
    @tool(Effect.IRREVERSIBLE, idempotent=True)
    def send_once(to: str, idempotency_key: str) -> None:
        POST.keys.append(idempotency_key)

    for one in (send_once, send):
        first = permitted(one, one.action(to="a"))
        store.ledger.start(first)
        with store.runs.lease(first.run) as lease:
            again = store.ledger.reclaim(first.permit_id, worker="w2", lease=lease, idempotent=True)
        if one.idempotent:
            await perform(one, first, workspace)
            await perform(one, again, workspace)
            assert POST.keys == [first.idempotency_key] * 2
        else:
            with pytest.raises(PermitError, match="one permit is one execution"):
                await perform(one, again, workspace)
    assert POST.sent == []


async def test_nothing_runs_without_a_claim_from_the_ledger(
    workspace: Workspace, permitted: Permitted
) -> None:
    real = permitted(send, send.action(to="a"))
    fields = {name: getattr(real, name) for name in real.__slots__}
    likeness = SimpleNamespace(**fields)

    class Heir(Claimed):  # type: ignore[misc]
        pass

    heir = object.__new__(Heir)
    for name, value in fields.items():
        object.__setattr__(heir, name, value)
    for forged in (None, likeness, heir):
        with pytest.raises(PermitError, match="the ledger claimed"):
            await perform(send, forged, workspace)  # type: ignore[arg-type]
    assert POST.sent == []


async def test_a_permit_for_one_tool_runs_no_other(workspace: Workspace, permitted: Permitted) -> None:
    claimed = permitted(edit_file, edit_file.action(path="docs/a.md", old="one", new="1"))
    with pytest.raises(PermitError, match="another action"):
        await perform(write_file, claimed, workspace)


async def test_a_tool_whose_code_changed_asks_again(workspace: Workspace, permitted: Permitted) -> None:
    def made(suffix: str) -> Tool:
        @tool(Effect.IRREVERSIBLE, name="send")
        def other(to: str) -> None:
            POST.sent.append(to + suffix)

        return other

    claimed = permitted(made(""), made("").action(to="a"))
    with pytest.raises(StaleError, match="code changed"):
        await perform(made("!"), claimed, workspace)
    await perform(made(""), claimed, workspace)
    assert POST.sent == ["a"]


async def test_what_would_be_shown_differently_now_asks_again(
    workspace: Workspace, permitted: Permitted
) -> None:
    price = [10]

    @tool(Effect.IRREVERSIBLE, preview=lambda item: f"buys {item} for {price[0]}")
    def buy(item: str) -> None:
        POST.sent.append(item)

    claimed = permitted(buy, buy.action(item="x"))
    price[0] = 99
    with pytest.raises(StaleError, match="shown differently"):
        await perform(buy, claimed, workspace)
    assert POST.sent == []


def ending(how: Callable[[], Any], effect: Effect) -> Tool:
    @tool(effect)
    async def act(x: int = 0) -> Any:
        await asyncio.sleep(0)
        return how()

    return act


def crash() -> None:
    raise ValueError("half\u202eway")


def refuse() -> None:
    raise ToolError("the shop is closed")


@pytest.mark.parametrize(
    ("how", "effect", "error", "said"),
    [
        (crash, Effect.IRREVERSIBLE, InDoubtError, "ValueError: half⟦U.202E⟧way"),
        (crash, Effect.READ, ToolError, "ValueError"),
        (refuse, Effect.IRREVERSIBLE, ToolError, "the shop is closed"),
    ],
)
async def test_only_a_foreseen_failure_is_a_failure(
    *,
    workspace: Workspace,
    permitted: Permitted,
    how: Callable[[], Any],
    effect: Effect,
    error: type[Exception],
    said: str,
) -> None:
    act = ending(how, effect)
    with pytest.raises(error, match=said) as raised:
        await perform(act, permitted(act, act.action()), workspace)
    assert type(raised.value) is error


async def test_a_tool_cut_off_by_the_time_out_is_in_doubt(workspace: Workspace, permitted: Permitted) -> None:
    release = threading.Event()

    @tool(Effect.REVERSIBLE)
    def slow(x: int = 0) -> None:
        release.wait(5)

    @tool(Effect.REVERSIBLE)
    async def slow_too(x: int = 0) -> None:
        await asyncio.sleep(5)

    for one in (slow, slow_too):
        with pytest.raises(InDoubtError, match=r"did not end within 0\.05 s"):
            await perform(one, permitted(one, one.action()), workspace, timeout_s=0.05)
    release.set()


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (None, {}),
        (3, {"value": 3}),
        ({"a": (1, 2)}, {"a": [1, 2]}),
        (float("nan"), {"value": None}),
        (2**60, {"value": str(2**60)}),
        (object, {"value": "<class 'object'>"}),
    ],
)
async def test_any_result_can_be_recorded(
    workspace: Workspace, permitted: Permitted, value: object, result: dict[str, Any]
) -> None:
    act = ending(lambda: value, Effect.READ)
    assert (await perform(act, permitted(act, act.action()), workspace)).result == result


async def test_a_kernel_error_from_inside_a_tool_is_no_clean_failure(
    workspace: Workspace, permitted: Permitted
) -> None:
    def lose_disk() -> None:
        raise StorageError("the disk is full")

    act = ending(lose_disk, Effect.REVERSIBLE)
    with pytest.raises(InDoubtError, match="the disk is full"):
        await perform(act, permitted(act, act.action()), workspace)


async def test_a_tool_with_its_own_time_out_gets_the_time_that_was_approved(
    workspace: Workspace, permitted: Permitted
) -> None:
    @tool(Effect.REVERSIBLE)
    async def wait(timeout_s: float) -> str:
        await asyncio.sleep(0.1)
        return "ended itself"

    done = await perform(wait, permitted(wait, wait.action(timeout_s=1)), workspace, timeout_s=0.01)
    assert done.result == {"value": "ended itself"}


async def test_an_own_undo_gets_its_own_record(workspace: Workspace, permitted: Permitted) -> None:
    async def unsend(record: dict[str, Any], workspace: Workspace) -> str:
        await asyncio.sleep(0)
        POST.sent.remove(record["to"])
        return f"unsent {record['to']}\u200b"

    @tool(Effect.REVERSIBLE, undo=unsend)
    def post(to: str) -> Done:
        POST.sent.append(to)
        return Done({}, f"sent to {to}\x07", {"to": to})

    done = await perform(post, permitted(post, post.action(to="a")), workspace)
    assert done.shown == "sent to a⟦U+0007⟧"
    assert done.undo is not None
    assert await undo(post, done.undo, workspace) == "unsent a⟦U+200B⟧"
    assert POST.sent == []
    with pytest.raises(ToolError, match="no undo"):
        await undo(send, {}, workspace)
