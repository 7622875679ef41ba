"""The gateway: the one way to a tool's effect, and it takes a permit that was claimed."""

import asyncio
import inspect
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import JsonValue

from karkas.agents.tools.tool import Done, Tool, json_result
from karkas.agents.tools.workspace import Workspace
from karkas.policies.actions import ActionError, Effect, digest_of_bytes
from karkas.policies.errors import InDoubtError, KarkasError, PermitError, StaleError, ToolError
from karkas.policies.permits import Binding, differences
from karkas.policies.rendering import visible
from karkas.server import tracing

if TYPE_CHECKING:
    from karkas.storage.ledger import Claimed

GRACE_S = 30.0

_performed: set[str] = set()
"""Permits that this process has used. The ledger allows one execution; this holds where it was not asked."""


@dataclass(frozen=True)
class Performed:
    """What came of it: JSON for the record, what would take it back, and a text for the person."""

    result: dict[str, JsonValue]
    undo: dict[str, JsonValue] | None
    shown: str


async def perform(
    tool: Tool, claimed: "Claimed", workspace: Workspace, *, timeout_s: float | None = 3600
) -> Performed:
    """Runs a tool once under a claimed permit.

    Raises `PermitError` and `StaleError` before anything ran, `ToolError` when the tool ran and changed
    nothing, and `InDoubtError` when it may have: the time-out cut it off, or it failed unforeseen.
    """
    _check_claim(tool, claimed)
    await asyncio.to_thread(_check_binding, tool, claimed, workspace)
    if (claimed.again or claimed.permit_id in _performed) and not tool.idempotent:
        raise PermitError(f"permit {claimed.permit_id} was used already; one permit is one execution")
    _performed.add(claimed.permit_id)
    limit_s = _limit(claimed, timeout_s)
    try:
        with _traced(tool, claimed):
            value = await asyncio.wait_for(_run(tool, claimed, workspace), limit_s)
        done = value if isinstance(value, Done) else Done(json_result(value))
    except (ToolError, InDoubtError):
        raise
    except TimeoutError as error:
        raise _in_doubt(tool, f"did not end within {limit_s:g} s") from error
    except Exception as error:
        raise _in_doubt(tool, f"failed with {type(error).__name__}: {visible(str(error))}") from error
    return Performed(json_result(done.result), done.undo, visible(done.shown))


def _traced(tool: Tool, claimed: "Claimed") -> AbstractContextManager[object]:
    action = claimed.action
    return tracing.tool(
        tool.name, permit=claimed.permit_id, effect=action.effect.value, arguments=action.args
    )


async def undo(tool: Tool, record: dict[str, JsonValue], workspace: Workspace) -> str:
    """Takes back what a tool did, as its record says, and says what it did. `ToolError` where it cannot.

    It is a person's act, so it takes no permit; no agent may reach it.
    """
    if tool.undo_by is None:
        raise ToolError(f"{tool.name} has no undo; what it did stays")
    call = tool.undo_by
    if inspect.iscoroutinefunction(call):
        return visible(str(await call(record, workspace)))
    return visible(str(await asyncio.to_thread(call, record, workspace)))


async def _run(tool: Tool, claimed: "Claimed", workspace: Workspace) -> object:
    injected = {
        "workspace": workspace,
        "idempotency_key": claimed.idempotency_key,
        "preconditions": dict(claimed.binding.preconditions),
    }
    if inspect.iscoroutinefunction(tool.function):
        return await tool.call(tool.function, claimed.action, **injected)
    return await asyncio.to_thread(tool.call, tool.function, claimed.action, **injected)


def _check_claim(tool: Tool, claimed: "Claimed") -> None:
    from karkas.storage.ledger import Claimed as LedgerClaimed

    if type(claimed) is not LedgerClaimed:
        raise PermitError(f"{tool.name} runs only under a permit that the ledger claimed")
    if claimed.action.tool != tool.name or claimed.action.digest != claimed.binding.action:
        raise PermitError(f"permit {claimed.permit_id} is for another action than {tool.name}")


def _check_binding(tool: Tool, claimed: "Claimed", workspace: Workspace) -> None:
    """Everything that the permit binds and the gateway can see is computed again."""
    action, bound = claimed.action, claimed.binding
    try:
        shown, preconditions = tool.look(action, workspace)
    except (ActionError, ToolError) as error:
        raise StaleError(f"{tool.name} did not run: {error}") from error
    now = Binding(
        action=action.digest,
        shown=digest_of_bytes(shown.encode()),
        tool_version=tool.version,
        preconditions=preconditions,
        policy_version=bound.policy_version,
    )
    found = differences(bound, now)
    if found:
        raise StaleError(f"{tool.name} did not run: {'; '.join(found)}")


def _limit(claimed: "Claimed", timeout_s: float | None) -> float | None:
    """A tool with an argument `timeout_s` ends itself in an orderly way, at the time that was approved."""
    own = claimed.action.args.get("timeout_s")
    if timeout_s is None or not isinstance(own, int | float):
        return timeout_s
    return max(timeout_s, own + GRACE_S)


def _in_doubt(tool: Tool, what: str) -> KarkasError:
    if tool.effect is Effect.READ:
        return ToolError(f"{tool.name} {what}")
    return InDoubtError(
        f"{tool.name} {what}; nobody knows whether it took effect. Look, then say so at the gate"
    )
