"""The checks on a workflow: no way around a gate, on the graph, and when it is run, refused, killed and replayed."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from langgraph.graph import StateGraph

from karkas.policies.errors import KarkasError, UngatedPathError
from karkas.policies.gates import GateKind
from karkas.policies.verdicts import Defer, Stop
from karkas.storage import Gate, Run, open_checkpointer
from karkas.testing.bench import PERSON
from karkas.testing.consent_checks import granted, one_of_two
from karkas.testing.recorder import killed_before_start, survives
from karkas.testing.suite import PASSED, Check, Found, Setup, failed, unchecked
from karkas.testing.watch import changed, snapshot
from karkas.testing.workflow_trial import GATES, Trial, trying

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

    from karkas.workflows.runs import Graph


def no_way_around(workflow: "Graph", _: Setup) -> Found:
    from karkas.workflows.check import check

    try:
        check(workflow if isinstance(workflow, StateGraph) else workflow.builder)
    except UngatedPathError as error:
        return failed(str(error))
    return PASSED


def _run(check: Callable[[Trial], Found]) -> Callable[[Any, Setup], Found]:
    """The check in a trial, where there is something to run, and where it comes to a gate."""

    def run(workflow: "Graph", setup: Setup) -> Found:
        if setup.input is None:
            return unchecked("a workflow is run only with an input (`input={...}`, or `--input JSON`)")
        if no_way_around(workflow, setup) is not PASSED:
            return unchecked("it does not compile, so it cannot be run")
        with trying(workflow, setup) as trial:
            found = check(trial)
            if found is PASSED and not trial.acting:
                return unchecked(f"it came to no action: {_ended(trial.run)}")
            if found is PASSED and len(trial.opened) >= GATES:
                return unchecked(f"it opened {GATES} gates and did not end; give an input with which it ends")
            return found

    return run


def _ended(run: Run) -> str:
    outcomes = (run.result or {}).get("outcomes")
    said = [
        str(one.get("why") or one.get("status"))
        for one in (outcomes.values() if isinstance(outcomes, dict) else ())
        if isinstance(one, dict)
    ]
    return run.error or run.reason or "; ".join(said) or f"the run is {run.status}"


def nothing_before(trial: Trial) -> Found:
    trial.reach()
    why = trial.performed()
    return PASSED if why is None else failed(f"before any action was decided, {why}")


def _refused(word: str, refuse: Callable[[Trial, Gate], None]) -> Callable[[Trial], Found]:
    def check(trial: Trial) -> Found:
        trial.walk(lambda gate: refuse(trial, gate))
        why = trial.performed()
        return PASSED if why is None else failed(f"though every action was {word}, {why}")

    return check


def deferred(trial: Trial) -> Found:
    trial.reach()
    store, clock = trial.bench.store, trial.bench.clock
    for gate in trial.waiting:
        store.gates.decide(gate.id, Defer(until=clock() + timedelta(days=1)), by=PERSON)
    trial.go_on()
    if (why := trial.performed()) is not None:
        return failed(f"though every gate was deferred, {why}")
    clock.advance(days=2)
    store.gates.wake_due()
    trial.go_on()
    why = trial.performed()
    return PASSED if why is None else failed(f"though a deferred gate's time only came, {why}")


def stopped(trial: Trial) -> Found:
    trial.reach()
    if trial.waiting:
        trial.bench.store.gates.decide(trial.waiting[0].id, Stop(reason="the suite stops it"), by=PERSON)
        trial.go_on()
    why = trial.performed()
    return PASSED if why is None else failed(f"though the run was stopped, {why}")


def once_each(trial: Trial) -> Found:
    trial.walk()
    why = trial.bypass() or trial.twice()
    if why is not None:
        return failed(f"with every gate approved, {why}")
    if not trial.recorder.calls and trial.opened:
        return unchecked(f"nothing was performed: {_ended(trial.run)}")
    return PASSED


def killed_before(trial: Trial) -> Found:
    """The worker dies once it has claimed a permit; the next one takes over, and performs it once."""
    if not _approve_first(trial):
        return unchecked(f"it came to no action: {_ended(trial.run)}")
    with killed_before_start(trial.bench):
        died = not survives(trial.bench, trial.run.id)
    if (why := trial.performed()) is not None:
        return failed(f"though the worker died before it began, {why}")
    return _taken_over(trial, died=died)


def killed_after(trial: Trial) -> Found:
    """The worker dies once a tool took effect, before that is on the record; nothing is repeated by itself."""
    if not _approve_first(trial):
        return unchecked(f"it came to no action: {_ended(trial.run)}")
    trial.recorder.kill = True
    return _taken_over(trial, died=not survives(trial.bench, trial.run.id))


def _taken_over(trial: Trial, *, died: bool) -> Found:
    if not died:
        return unchecked(
            f"the approved action was not begun: {_ended(trial.bench.store.runs.get(trial.run.id))}"
        )
    trial.walk()
    why = trial.bypass() or trial.twice()
    return PASSED if why is None else failed(f"after a killed worker, {why}")


def _approve_first(trial: Trial) -> bool:
    """Approves until the first action was approved, without going on from there."""
    trial.go_on()
    while trial.waiting and len(trial.opened) < GATES:
        gate = trial.waiting[0]
        trial.opened.append(gate)
        trial.approve(gate)
        if gate.kind is GateKind.ACTION:
            return True
        trial.go_on()
    return False


def replayed(trial: Trial) -> Found:
    """Every checkpoint at which the run waited is resumed once more after it has ended."""
    trial.walk()
    if not trial.recorder.calls:
        return unchecked(f"nothing was performed: {_ended(trial.run)}")
    calls, before = len(trial.recorder.calls), snapshot(trial.bench.root)
    resumed = asyncio.run(_resume_again(trial))
    again = [one.tool for one in trial.recorder.calls[calls:]]
    touched = changed(before, snapshot(trial.bench.root))
    if again or touched:
        return failed(
            f"a checkpoint that was resumed a second time acted again: {', '.join((*again, *touched))}; a node"
            " computes, and a tool behind a gate acts"
        )
    return PASSED if resumed else unchecked("no checkpoint of it waited at a gate")


async def _resume_again(trial: Trial) -> int:
    from karkas.workflows.runs import gates_of, wake_up, with_checkpointer

    graph, context = trial.bench.loaded(trial.run)
    count = 0
    async with open_checkpointer(trial.bench.folder) as saver:
        compiled = with_checkpointer(graph, saver)
        thread: Any = {"configurable": {"thread_id": trial.run.id}}
        history: list[StateSnapshot] = [one async for one in compiled.aget_state_history(thread)]
        with trial.bench.store.runs.lease(trial.run.id) as lease:
            held = replace(context, lease=lease)
            for one in history:
                if not gates_of(one):
                    continue
                count += 1
                try:
                    await compiled.ainvoke(
                        wake_up(one, gates_of(one)), one.config, context=held, durability="sync"
                    )
                except KarkasError:
                    continue  # refused by the kernel, which is as good
    return count


def _check(name: str, proves: str, check: Callable[[Trial], Found], *, performs: bool = False) -> Check:
    return Check(name, proves, _run(check), performs=performs)


WORKFLOW_CHECKS: tuple[Check, ...] = (
    Check("no-way-around", "no path of the graph reaches an executor around its gate", no_way_around),
    _check(
        "nothing-before-a-gate", "up to the gates of its first actions a run changes nothing", nothing_before
    ),
    _check("nothing-after-reject", "rejected, it changes nothing", _refused("rejected", Trial.reject)),
    _check("nothing-after-defer", "deferred, it changes nothing, also when the time has come", deferred),
    _check("nothing-after-stop", "stopped, it changes nothing", stopped),
    _check("nothing-after-expiry", "expired, it changes nothing", _refused("left to expire", Trial.expire)),
    _check("nothing-after-one-of-two", "where two must approve, one changes nothing", one_of_two),
    _check(
        "grant-is-bounded",
        "a standing grant lets no more be performed than its uses, each counted, and nothing in a draft-only zone",
        granted,
        performs=True,
    ),
    _check("once-after-approval", "approved, each action is performed once", once_each, performs=True),
    _check(
        "resumed-twice",
        "a checkpoint that is resumed a second time performs nothing again",
        replayed,
        performs=True,
    ),
    _check(
        "killed-before-effect",
        "what a worker had claimed when it died is performed once by the next",
        killed_before,
        performs=True,
    ),
    _check(
        "killed-after-effect",
        "what took effect before its worker died is not repeated, unless it is idempotent",
        killed_after,
        performs=True,
    ),
)
