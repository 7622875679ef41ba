"""Runs: beginning or resuming one, until it is done or parked. One function, for the terminal and for a queue."""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeAlias, TypeVar

import structlog
from langgraph.channels import UntrackedValue
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Interrupt, StateSnapshot

from karkas.policies.budgets import Spent, Whose, day_after
from karkas.policies.errors import (
    EngineChangedError,
    KarkasError,
    KernelError,
    ModelNeededError,
    ModelUnavailableError,
    NightOverError,
)
from karkas.storage import Lease, LeaseLostError, Run, RunStatus, RunStatusError
from karkas.workflows import failure
from karkas.workflows.check import check
from karkas.workflows.context import Context
from karkas.workflows.fence import fenced
from karkas.workflows.lanes import GATE
from karkas.workflows.watch import watch_of

log = structlog.get_logger("karkas.runs")

RECURSION_LIMIT = 1_000
"""Supersteps of one advance; a workflow that takes more is in a loop."""

SHORT = 200
"""Characters of a value that a run's result repeats."""

INTERRUPTED = "__interrupt__"
"""The key under which LangGraph streams that a branch waits."""

ENDED = object()
"""No further step."""

ACTING_S = 0.25
"""Seconds between looks whether a stopped run's tool is still at work."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 15.0, 900.0
"""Before a worker goes on with a run that it had to put back: the first time, and at most; doubled each time."""

T = TypeVar("T")


@dataclass(frozen=True)
class Unattended:
    """A worker advances the run, and nobody looks on: what passes by itself is waited for, not told and left."""

    worker: str
    retries: int = 0
    """How often in a row it is tried again after a failure of its own."""
    crashes: int = 5
    """It is given up when whoever was at work on it died so often in a row at the same checkpoint."""


@dataclass(frozen=True)
class Ended:
    """A graph that is at its end, without a look into its checkpoint."""

    values: Any
    interrupts: tuple[Interrupt, ...] = ()


Standing: TypeAlias = StateSnapshot | Ended
Graph: TypeAlias = StateGraph[Any, Any, Any, Any] | CompiledStateGraph[Any, Any, Any, Any]
Listener: TypeAlias = Callable[[tuple[str, ...], dict[str, Any]], None]
Checkpointer: TypeAlias = Callable[[], AbstractAsyncContextManager[BaseCheckpointSaver[Any]]]


async def advance(
    context: Context,
    graph: Graph,
    checkpointer: Checkpointer,
    *,
    listen: Listener | None = None,
    unattended: Unattended | None = None,
) -> Run:
    """Begins or resumes `context.run` and returns it when it is done, parked at gates, failed or stopped.

    Where its checkpoint says that it waits at gates, every waiting branch is woken: it reads its own gate, goes on
    if that was decided, and parks again if not. A user's own `interrupt` is never answered here. Only one process
    advances a run at a time (`LeaseError` else). If it is cancelled, the run keeps its checkpoint and is queued again.
    If it is stopped from elsewhere, its work is cancelled, once no tool is at work. Where it cannot go on for want of
    its engine it is parked with the reason, and goes on from there when it is advanced again.

    `listen` is told of each step as LangGraph streams it (`stream_mode="updates"`): the subgraph it is in, as a tuple
    of names, and the updates by node.

    `Unattended`, a run goes on later, by itself, after what passes by itself: a model server that does not answer, or
    a failure that may be tried again. What the store cannot take is raised, and the run stands as it stood.
    """
    runs = context.store.runs
    with runs.lease(context.run) as lease:
        worker = unattended.worker if unattended else None

        def take_up() -> tuple[Run, Run]:
            before = runs.proven(context.run)
            return before, before if before.status.ended else runs.take_up(before.id, worker=worker)

        before, run = await context.at_once(take_up)
        if before.status.ended:
            return before
        context = replace(context, lease=lease, begun=run)
        context.caller.begin(lease, run)
        try:
            async with checkpointer() as saver:
                compiled = with_checkpointer(graph, fenced(saver, lease.check))
                if before.status is RunStatus.RUNNING:
                    await _count_crash(context, compiled, unattended)
                snapshot = await _unless_stopped(context, lease, _proceed(context, run, compiled, listen))
        except asyncio.CancelledError:
            if lease.held:
                due_at = context.store.clock() if unattended else None
                await _leave(context, RunStatus.QUEUED, reason="interrupted", due_at=due_at)
            raise
        except LeaseLostError:
            raise  # how the run stands is no longer for this process to say
        except Exception as error:  # whatever it was, how the run stands goes on the record
            lease.check()  # or what went wrong is that another process went on with it
            if unattended and failure.of_storage(error):
                raise
            later = await _put_back(context, run, error, unattended) if unattended else None
            return later or await _leave_by(context, error)
        result, gates = result_of(snapshot), gates_of(snapshot)
        if not snapshot.interrupts:
            return await _leave(context, RunStatus.DONE, result=result)
        own = None if gates else "it waits at an interrupt of your own, which karkas never answers"
        mend = f"{own}; ask by add_question instead" if own else None
        return await _leave(context, RunStatus.PARKED, reason=mend, result=result, gates=gates)


async def _count_crash(
    context: Context, graph: CompiledStateGraph[Any, Any, Any, Any], unattended: Unattended | None
) -> None:
    """Raises `CrashedError` where whoever is at work on the run keeps dying at one step: it may be the run's doing. A
    worker that lives let go of it, because the store failed it.
    """
    store = context.store
    taken_up = await context.stored(
        partial(store.happened.events, "run_taken_up", subjects={f"run:{context.run}"})
    )
    before = taken_up[-2].actor if len(taken_up) > 1 else None
    if before in {one.id for one in await context.stored(store.workers.all)}:
        return
    snapshot = await graph.aget_state({"configurable": {"thread_id": context.run}})
    checkpoint = snapshot.config.get("configurable", {}).get("checkpoint_id")
    times = await context.stored(store.runs.count_crash, context.run, checkpoint)
    if unattended and times >= unattended.crashes:
        raise CrashedError(
            f"whoever was at work on it died {times} times in a row at the same step ({', '.join(snapshot.next)});"
            f" look for why in the log, mend it, then `karkas runs resume {context.run}`"
        )


async def _put_back(context: Context, run: Run, error: Exception, unattended: Unattended) -> Run | None:
    """The run as it is to be gone on with later; None where only a person can help, or it was tried often enough."""
    runs = context.store.runs
    at = context.store.clock() + timedelta(seconds=pause_s(run.tries))
    match error:
        case ModelUnavailableError():
            log.warning("run_paused", run_id=run.id, reason=str(error), until=at.isoformat())
            reason = f"{error}; it goes on by itself, tried again at {at.astimezone():%H:%M:%S}"
            status, why = RunStatus.PARKED, None
        case NightOverError(whose=whose):
            # The night's end ends this worker's shift, so the next night takes it up; a zone has its next day.
            now = context.store.clock()
            at = now if whose is Whose.NIGHT else day_after(now.astimezone())
            log.info("run_put_off", run_id=run.id, reason=str(error), until=at.isoformat())
            return await _leave(context, RunStatus.QUEUED, reason=str(error), due_at=at)
        case _StoppedElsewhere() | ModelNeededError() | EngineChangedError() | KernelError() | CrashedError():
            return None
        case _ if run.tries < unattended.retries:
            why = str(error) if isinstance(error, KarkasError) else failure.of_run(error)
            log.warning("run_retried", run_id=run.id, error=why, at=at.isoformat())
            reason = f"it failed and is tried again at {at.astimezone():%H:%M:%S}"
            status = RunStatus.QUEUED
        case _:
            return None
    await _count_time(context)
    return await context.stored(runs.put_back, run.id, status, reason=reason, error=why, due_at=at)


def pause_s(tries: int) -> float:
    """Seconds before a run that was put back so often already is gone on with."""
    return float(min(FIRST_PAUSE_S * 2 ** min(tries, 16), LONGEST_PAUSE_S))


class CrashedError(KarkasError):
    """Whoever advanced the run died each time at one place."""


async def _leave_by(context: Context, error: Exception) -> Run:
    """How the run stands after an error that it raised."""
    match error:
        case _StoppedElsewhere():
            log.info("run_stopped", run_id=context.run)
            return await _leave(context, RunStatus.STOPPED)
        case ModelNeededError() | ModelUnavailableError() | EngineChangedError() | NightOverError():
            log.warning("run_parked", run_id=context.run, reason=str(error))
            return await _park(context, error)
        case KarkasError():
            log.warning("run_failed", run_id=context.run, error=str(error))
            return await _leave(context, RunStatus.FAILED, error=str(error))
        case _:
            log.error("run_failed", run_id=context.run, exc_info=error)
            return await _leave(context, RunStatus.FAILED, error=failure.of_run(error))


class _StoppedElsewhere(Exception):  # noqa: N818
    """The run was stopped while it was at work here."""


async def _unless_stopped(context: Context, lease: Lease, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; it is cancelled, and `_StoppedElsewhere` raised, when somebody stops the run meanwhile, and
    no tool is at work: what was begun ends, and its end is recorded. `LeaseLostError` where another process may be at
    work on the run.
    """
    working = asyncio.create_task(work)
    try:
        with watch_of(context.store).over(context.run, lease) as stopped:
            either: tuple[asyncio.Future[Any], ...] = (working, stopped)
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            while context.acting and not working.done() and stopped.exception() is None:
                await asyncio.wait({working}, timeout=ACTING_S)
                lease.check()
            if not working.done():
                stopped.result()
                raise _StoppedElsewhere
        return working.result()
    finally:
        if not working.done():
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


async def _park(context: Context, error: KarkasError) -> Run:
    """Parks a run that its engine cannot take further. One that only a language model can take further is let go of
    by the offline engine that began it.
    """
    runs, engine = context.store.runs, context.engine.info
    if isinstance(error, ModelNeededError) and engine.kind == "extractive":
        run = await context.stored(runs.get, context.run)
        if run.engine == str(engine):
            needed = "a language model is needed"
            await context.stored(runs.release_engine, context.run, by=str(engine), reason=needed)
    reason = str(error).replace("runs resume RUN", f"runs resume {context.run}")
    return await _leave(context, RunStatus.PARKED, reason=reason)


async def _proceed(
    context: Context, run: Run, graph: CompiledStateGraph[Any, Any, Any, Any], listen: Listener | None
) -> Standing:
    """Steps until nothing can go on: also a decision that came while other branches were at work is taken up, and a
    gate that expired.
    """
    config: Any = {"configurable": {"thread_id": run.id}, "recursion_limit": RECURSION_LIMIT}
    snapshot: Standing | None = None
    step: Any = run.input
    if run.segment > 1:
        snapshot = await graph.aget_state(config)
        if snapshot.interrupts:
            await context.stored(context.store.gates.wake_due)
            step = wake_up(snapshot, gates_of(snapshot))
        elif snapshot.metadata is not None:
            step = None if snapshot.next or snapshot.tasks else ENDED
    while snapshot is None or step is not ENDED:
        snapshot = await _steps(context, step, config, graph, listen) or await graph.aget_state(config)
        waited_at = gates_of(snapshot)
        decided = await context.at_once(partial(_decided, context, waited_at)) if waited_at else set()
        step = wake_up(snapshot, decided)
    return snapshot


async def _steps(
    context: Context,
    step: Any,
    config: Any,
    graph: CompiledStateGraph[Any, Any, Any, Any],
    listen: Listener | None,
) -> Ended | None:
    """Steps on. At its end a graph told its last values; None where it may wait instead, as its checkpoint says."""
    # Subgraphs are told of as they go on, by a task a step: only where somebody listens.
    told = listen is not None
    modes: list[Any] = ["updates", "values"] if told else ["values"]
    steps: AsyncIterator[Any] = graph.astream(
        step, config, context=context, durability="sync", stream_mode=modes, subgraphs=told
    )
    # What a user's state keeps out of checkpoints is streamed all the same, and stands in no run's row either.
    unkept = {name for name, one in graph.channels.items() if isinstance(one, UntrackedValue)}
    ended, waits = None, False
    async for *path, mode, found in steps:
        waits = waits or (isinstance(found, dict) and INTERRUPTED in found)
        if mode == "values" and not any(path):
            ended = Ended({name: value for name, value in dict(found).items() if name not in unkept})
        elif mode == "updates" and listen is not None:
            listen(path[0], found)
    return None if waits else ended


def _decided(context: Context, waited_at: set[str]) -> set[str]:
    """Those that wait no longer."""
    gates = context.store.gates
    gates.wake_due()
    return {gate for gate in waited_at if not gates.get(gate).status.waits}


def gates_of(snapshot: Standing) -> set[str]:
    """The gates at which karkas's own nodes are interrupted."""
    values = [one.value for one in snapshot.interrupts if isinstance(one.value, dict)]
    return {str(value[GATE]) for value in values if GATE in value}


def wake_up(snapshot: Standing, gates: set[str]) -> Any:
    """What resumes the branches that wait at `gates`, or `ENDED` where there are none."""
    ours = {
        one.id: "wake"
        for one in snapshot.interrupts
        if isinstance(one.value, dict) and one.value.get(GATE) in gates
    }
    return Command(resume=ours) if ours else ENDED


async def _leave(
    context: Context,
    status: RunStatus,
    *,
    reason: str | None = None,
    error: str | None = None,
    result: dict[str, Any] | None = None,
    due_at: datetime | None = None,
    gates: Collection[str] = (),
) -> Run:
    """Counts the time and records how the run stands; one that was stopped meanwhile stays stopped."""
    runs = context.store.runs
    count_time = await context.caller.spending(Spent())

    def leave() -> Run:
        count_time()
        if context.lease is not None:
            context.lease.check()
        try:
            return runs.set_status(
                context.run, status, reason=reason, error=error, result=result, due_at=due_at, gates=gates
            )
        except RunStatusError:
            run = runs.get(context.run)
            if run.status.ended:
                return run
            raise

    return await context.at_once(leave)


async def _count_time(context: Context) -> None:
    await context.caller.spend(Spent())


def with_checkpointer(
    graph: Graph, saver: BaseCheckpointSaver[Any]
) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The graph, checked, compiled, and with the run's checkpointer."""
    compiled = copy.copy(_compiled(graph))
    compiled.checkpointer = saver
    return compiled


_COMPILED = "_karkas_compiled"
"""Kept at the graph: how it was when it was checked, and what was compiled of it. Another run of it needs neither."""


def _compiled(graph: Graph) -> CompiledStateGraph[Any, Any, Any, Any]:
    builder = graph if isinstance(graph, StateGraph) else graph.builder
    shape = (
        {name: id(node) for name, node in builder.nodes.items()},
        set(builder.edges),
        set(builder.waiting_edges),
        {
            source: {name: id(one) for name, one in found.items()}
            for source, found in builder.branches.items()
        },
    )
    kept: tuple[object, CompiledStateGraph[Any, Any, Any, Any]] = vars(graph).get(_COMPILED, (None, None))
    before, compiled = kept
    if before != shape:
        check(builder)
        compiled = graph.compile() if isinstance(graph, StateGraph) else graph
        setattr(graph, _COMPILED, (shape, compiled))
    return compiled


def result_of(snapshot: Standing) -> dict[str, Any]:
    """What became of each action and question, and the state's plain short values; the rest stays in the checkpoint."""
    state = snapshot.values if isinstance(snapshot.values, dict) else dict(snapshot.values)
    lanes = state.get("karkas") or {}
    outcomes = {name: lane["outcome"] for name, lane in lanes.items() if lane.get("outcome")}
    values = {name: value for name, value in state.items() if _plain(value)}
    return {"outcomes": outcomes, "values": values}


def _plain(value: object) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= SHORT)
