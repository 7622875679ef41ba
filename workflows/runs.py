"""Runs: beginning or resuming one, until it is done or parked. One function, for the terminal and for a queue."""

import asyncio
import copy
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, TypeAlias

import structlog
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StateSnapshot

from karkas.policies.budgets import Spent
from karkas.policies.errors import KarkasError
from karkas.storage import Run, RunStatus
from karkas.workflows.check import check
from karkas.workflows.context import Context

log = structlog.get_logger("karkas.runs")

RECURSION_LIMIT = 1_000
"""Supersteps of one advance; a workflow that takes more is in a loop."""

SHORT = 200
"""Characters of a value that a run's result repeats."""

Graph: TypeAlias = StateGraph[Any, Any, Any, Any] | CompiledStateGraph[Any, Any, Any, Any]
Checkpointer: TypeAlias = Callable[[], AbstractAsyncContextManager[BaseCheckpointSaver[Any]]]


async def advance(context: Context, graph: Graph, checkpointer: Checkpointer) -> Run:
    """Begins or resumes `context.run` and returns it when it is done, parked at gates, failed or stopped.

    Where its checkpoint says that it waits at gates, every waiting branch is woken: it reads its own gate, goes on
    if that was decided, and parks again if not. Only one process advances a run at a time (`LeaseError` else). If it
    is cancelled, the run keeps its checkpoint and is queued again.
    """
    runs = context.store.runs
    with runs.lease(context.run) as lease:
        run = await context.stored(runs.get, context.run)
        if run.status.ended:
            return run
        context = replace(context, lease=lease, began=time.monotonic())
        await context.stored(runs.set_engine, run.id, str(context.engine.info))
        await context.stored(runs.next_segment, run.id)
        run = await context.stored(runs.set_status, run.id, RunStatus.RUNNING)
        try:
            async with checkpointer() as saver:
                snapshot = await _proceed(context, run, with_checkpointer(graph, saver))
        except asyncio.CancelledError:
            await _leave(context, RunStatus.QUEUED, reason="interrupted")
            raise
        except KarkasError as error:
            log.warning("run_failed", run_id=run.id, error=str(error))
            return await _leave(context, RunStatus.FAILED, error=str(error))
        except Exception as error:
            log.exception("run_failed", run_id=run.id)
            return await _leave(context, RunStatus.FAILED, error=f"{type(error).__name__}: {error}")
        parked = bool(snapshot.interrupts)
        status = RunStatus.PARKED if parked else RunStatus.DONE
        return await _leave(context, status, result=result_of(snapshot))


async def _proceed(
    context: Context, run: Run, graph: CompiledStateGraph[Any, Any, Any, Any]
) -> StateSnapshot:
    config: Any = {"configurable": {"thread_id": run.id}, "recursion_limit": RECURSION_LIMIT}
    snapshot = await graph.aget_state(config)
    if snapshot.interrupts:
        step: Any = Command(resume={one.id: "wake" for one in snapshot.interrupts})
    elif snapshot.next or snapshot.tasks:
        step = None
    elif snapshot.metadata is not None:
        return snapshot
    else:
        step = run.input
    await graph.ainvoke(step, config, context=context, durability="sync")
    return await graph.aget_state(config)


async def _leave(
    context: Context,
    status: RunStatus,
    *,
    reason: str | None = None,
    error: str | None = None,
    result: dict[str, Any] | None = None,
) -> Run:
    """Counts the time and records how the run stands; one that was stopped meanwhile stays stopped."""
    runs = context.store.runs
    await context.stored(runs.add_spent, context.run, Spent(wall_s=time.monotonic() - context.began))
    run = await context.stored(runs.get, context.run)
    if run.status.ended:
        return run
    return await context.stored(
        runs.set_status, context.run, status, reason=reason, error=error, result=result
    )


def with_checkpointer(
    graph: Graph, saver: BaseCheckpointSaver[Any]
) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The graph, checked, compiled, and with the run's checkpointer."""
    if isinstance(graph, StateGraph):
        check(graph)
        return graph.compile(checkpointer=saver)
    check(graph.builder)
    compiled = copy.copy(graph)
    compiled.checkpointer = saver
    return compiled


def result_of(snapshot: StateSnapshot) -> dict[str, Any]:
    """What became of each action and question, and the state's plain short values; the rest stays in the checkpoint."""
    state = snapshot.values if isinstance(snapshot.values, dict) else dict(snapshot.values)
    lanes = state.get("karkas") or {}
    outcomes = {name: lane["outcome"] for name, lane in lanes.items() if "outcome" in lane}
    values = {name: value for name, value in state.items() if _plain(value)}
    return {"outcomes": outcomes, "values": values}


def _plain(value: object) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= SHORT)
