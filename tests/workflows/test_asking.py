"""What a run's engine may spend, which engine it is, and what is left on the record."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from langgraph.graph import END, START

from karkas.agents.critic import judge_action
from karkas.agents.executor import call
from karkas.agents.prompts import instructions
from karkas.agents.tools import tool
from karkas.policies.actions import Effect
from karkas.policies.budgets import Budget, Spent, StopReason
from karkas.policies.distillates import EngineInfo
from karkas.policies.errors import (
    EngineChangedError,
    ModelNeededError,
    ModelUnavailableError,
    StorageError,
)
from karkas.policies.gates import CriticStatus
from karkas.policies.permits import PermitStatus
from karkas.policies.verdicts import Approve
from karkas.server.offline import OfflineEngine
from karkas.server.protocol import Request, Role, Usage
from karkas.server.questions import JudgeAction, Judged, Review, Reviewed
from karkas.storage import AuditEntry, Lease, LeaseLostError, Run, RunId, RunStatus
from karkas.storage.runs import Runs
from karkas.workflows.asking import RunCaller
from karkas.workflows.context import Context
from karkas.workflows.define import Workflow

from .conftest import SCRIPTED, Bench

OTHER = EngineInfo(kind="llm", name="scripted", version="1", model="another")
OFFLINE = OfflineEngine().info
QUESTION = Request(
    role=Role.CRITIC,
    instructions=instructions(Role.CRITIC),
    question=JudgeAction(zone="notes", task="", frame="", shown="a"),
    answer=Judged,
)


def caller_of(bench: Bench, **options: Any) -> RunCaller:
    run = bench.project.store.runs.create("test", **options)
    return RunCaller(bench.project.store, run.id, progress=lambda *_, **__: None)


def ask(caller: RunCaller, *usages: Usage, engine: EngineInfo = SCRIPTED) -> list[bool]:
    """Whether each call was allowed, one for each usage."""

    async def calls() -> list[bool]:
        allowed = []
        for usage in usages:
            allowed.append(await caller.before(engine, QUESTION))
            await caller.after(usage)
        return allowed

    return asyncio.run(calls())


def events(bench: Bench, run: str, name: str) -> list[AuditEntry]:
    return [one for one in bench.project.store.audit.log(subject=f"run:{run}") if one.event == name]


THOUSAND = Usage(calls=1, prompt_tokens=900, completion_tokens=100, cached_tokens=640)


@pytest.mark.parametrize("budget", [Budget(tokens=2000), Budget(model_calls=2)])
def test_a_budget_ends_the_calls_that_come_after_it_is_spent(bench: Bench, budget: Budget) -> None:
    caller = caller_of(bench, budget=budget)
    assert ask(caller, THOUSAND, THOUSAND, THOUSAND) == [True, True, False]
    assert caller.cut is StopReason.BUDGET
    spent = bench.project.store.runs.get(caller.run).spent
    assert (spent.tokens, spent.cached_tokens, spent.model_calls) == (3000, 1920, 3)


def test_a_call_is_alone_while_no_other_is_under_way(bench: Bench) -> None:
    caller = caller_of(bench)

    async def calls() -> None:
        async with caller.under_way(1):
            assert caller.alone
            async with caller.under_way(1):
                assert not caller.alone
            assert caller.alone

    asyncio.run(calls())


@pytest.mark.parametrize(("budget", "most"), [(Budget(tokens=5000), 6), (Budget(model_calls=5), 5)])
def test_a_crowd_of_calls_at_once_exceeds_no_budget_by_more_than_one(
    bench: Bench, budget: Budget, most: int
) -> None:
    """A call may cost 1400 tokens, and costs 1000; of those that fail, or are given up, nothing stays reserved."""
    caller = caller_of(bench, budget=budget)

    async def call(number: int) -> bool:
        if not await caller.before(SCRIPTED, QUESTION):
            return False
        with suppress(ValueError):
            async with caller.under_way(1400):
                await asyncio.sleep(0.05)  # so that all others come meanwhile
                if number % 3 == 0:
                    raise ValueError(number)
                await caller.after(THOUSAND)
                return True
        return False

    async def calls() -> list[bool]:
        async with asyncio.timeout(60):
            return await asyncio.gather(*map(call, range(64)))

    allowed = asyncio.run(calls())
    assert 4 < sum(allowed) <= most
    assert caller.cut is StopReason.BUDGET
    assert bench.project.store.runs.get(caller.run).spent.model_calls == sum(allowed)


def test_what_an_earlier_process_spent_counts(bench: Bench) -> None:
    caller = caller_of(bench, budget=Budget(tokens=2000))
    ask(caller, THOUSAND, THOUSAND)
    later = RunCaller(bench.project.store, caller.run, progress=lambda *_, **__: None)  # type: ignore[arg-type]
    assert ask(later, THOUSAND) == [False]


def test_a_deadline_ends_the_calls_and_sources_and_cycles_do_not(bench: Bench) -> None:
    late = caller_of(bench, deadline=bench.project.store.clock() - timedelta(seconds=1))
    assert ask(late, THOUSAND) == [False]
    assert late.cut is StopReason.DEADLINE
    read = caller_of(bench, budget=Budget(sources=1, cycles=1))
    bench.project.store.purses.spend(read.run, Spent(sources=5, cycles=5))
    assert ask(read, THOUSAND) == [True]


def test_the_offline_engine_is_told_but_nothing_of_its_answer_counts_as_cut(bench: Bench) -> None:
    caller = caller_of(bench, deadline=bench.project.store.clock() - timedelta(seconds=1))
    assert ask(caller, Usage(), engine=OFFLINE) == [False]
    assert caller.cut is None


def test_the_first_call_pins_the_engine_and_another_one_is_refused(bench: Bench) -> None:
    caller = caller_of(bench)
    assert bench.project.store.runs.get(caller.run).engine is None
    ask(caller, THOUSAND)
    assert bench.project.store.runs.get(caller.run).engine == str(SCRIPTED)
    with pytest.raises(EngineChangedError, match=f"{caller.run} --switch-engine"):
        ask(caller, THOUSAND, engine=OTHER)


def test_the_record_holds_the_prompt_of_a_role_once_and_its_text_can_be_read(bench: Bench) -> None:
    caller = caller_of(bench)
    ask(caller, THOUSAND, THOUSAND)
    later = RunCaller(bench.project.store, caller.run, progress=lambda *_, **__: None)  # type: ignore[arg-type]
    ask(later, THOUSAND)
    (noted,) = events(bench, caller.run, "prompt_used")
    assert isinstance(noted.data, dict)
    told = instructions(Role.CRITIC)
    assert (noted.data["role"], noted.data["version"]) == ("critic", told.version)
    text = bench.project.store.artifacts.text(bench.project.store.artifacts.find(str(noted.data["text"])))
    for part in (told.shared, told.role, *told.tasks.values()):
        assert part in text


def test_the_offline_engine_has_no_prompt_to_record(bench: Bench) -> None:
    caller = caller_of(bench)
    ask(caller, Usage(), engine=OFFLINE)
    assert events(bench, caller.run, "prompt_used") == []


def test_what_an_engine_notes_is_on_the_record_and_on_the_screen(bench: Bench) -> None:
    shown: list[str] = []
    run = bench.project.store.runs.create("test")
    caller = RunCaller(bench.project.store, run.id, progress=lambda doing, /, **_: shown.append(doing))
    asyncio.run(caller.note("3 of 5 pages were read"))
    (noted,) = events(bench, run.id, "engine_noted")
    assert noted.data == {"text": "3 of 5 pages were read"}
    assert shown == ["3 of 5 pages were read"]


def in_one_node(node: Callable[[Any, Context], Awaitable[None]]) -> Workflow:
    """`before` → `node`, so that what was done before a run parked can be seen to be done once."""

    async def counted(state: Any, runtime: Any) -> None:
        run = runtime.context.run
        await runtime.context.stored(runtime.context.store.note, "was_here", f"run:{run}", actor="test")

    async def called(state: Any, runtime: Any) -> None:
        await node(state, runtime.context)

    workflow = Workflow()
    workflow.add_node("before", counted)
    workflow.add_node("called", called)
    return workflow.add_edge(START, "before").add_edge("before", "called").add_edge("called", END)


async def judge(_: Any, context: Context) -> None:
    request = replace(QUESTION, question=JudgeAction(zone="notes", task="t", frame="", shown="a"))
    await context.engine.ask(request)


def parked(run: Run) -> str:
    assert (run.status, run.error) == (RunStatus.PARKED, None)
    return run.reason


def test_a_server_that_is_down_parks_the_run_and_resuming_goes_on_from_there(bench: Bench) -> None:
    def down(_: JudgeAction) -> Judged:
        raise ModelUnavailableError("nobody answers at http://gpu1:8000")

    bench.engine.replies[JudgeAction] = down
    graph = in_one_node(judge)
    run, context = bench.run(graph)
    assert parked(run) == "nobody answers at http://gpu1:8000"
    bench.engine.replies[JudgeAction] = lambda _: Judged(verdict="pass", reason="fine")
    assert bench.advance(context, graph).status is RunStatus.DONE
    assert len(events(bench, run.id, "was_here")) == 1


def test_a_run_that_is_stopped_elsewhere_gives_up_its_call_within_seconds_and_stays_stopped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("karkas.workflows.watch.WATCH_S", 0.01)
    given_up = []

    async def ask_for_ever(_: Any, context: Context) -> None:
        try:
            context.store.runs.set_status(context.run, RunStatus.STOPPED, reason="not today", by="ada")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            given_up.append(context.run)
            raise

    run, _ = bench.run(in_one_node(ask_for_ever))
    assert (run.status, run.reason) == (RunStatus.STOPPED, "not today")
    assert given_up == [run.id]


def test_a_watch_that_met_an_unforeseen_fault_goes_on_watching(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One watches all runs of a process: without it nobody could stop any of them for the rest of the night."""
    monkeypatch.setattr("karkas.workflows.watch.WATCH_S", 0.01)
    look, faults, ended = Runs.stopped, iter([RuntimeError("a bug")]), []

    def faulty(runs: Runs, watched: Collection[RunId]) -> frozenset[RunId]:
        for fault in faults:
            raise fault
        return look(runs, watched)

    async def wait(_: Any, context: Context) -> None:
        await asyncio.sleep(0.1)
        context.store.runs.set_status(context.run, RunStatus.STOPPED, by="ada")
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 3)
        except BaseException as error:
            ended.append(type(error))
            raise

    monkeypatch.setattr(Runs, "stopped", faulty)
    bench.run(in_one_node(wait))
    assert ended == [asyncio.CancelledError]


def ringing() -> Workflow:
    graph = Workflow(zones=("notes",))
    graph.add_action("ring", lambda _: call("ring", bell="small"))
    graph.add_edge(START, "ring").add_edge("ring", END)
    return graph


def test_a_tool_at_work_ends_and_is_recorded_before_a_stopped_run_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("karkas.workflows.watch.WATCH_S", 0.01)
    store, name = bench.project.store, ""

    @tool(Effect.REVERSIBLE)
    def ring(bell: str) -> str:
        store.runs.set_status(name, RunStatus.STOPPED, by="ada")
        time.sleep(0.3)
        return f"rang {bell}"

    bench.project.register(ring)
    graph = ringing()
    run, context = bench.begin(graph)
    name = run.id
    assert bench.advance(context, graph).status is RunStatus.PARKED
    gate = store.gates.decide(bench.the_gate().id, Approve(), by="ada")
    assert bench.advance(context, graph).status is RunStatus.STOPPED
    permit = store.ledger.for_gate(gate.id)
    assert permit is not None
    assert permit.status is PermitStatus.COMMITTED


def test_a_tool_at_work_in_a_stopped_run_is_given_up_once_the_lease_is_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person may open the run again, and another process go on with it."""
    monkeypatch.setattr("karkas.workflows.watch.WATCH_S", 0.01)
    monkeypatch.setattr("karkas.workflows.runs.ACTING_S", 0.01)
    store, name, given_up = bench.project.store, "", []

    def lost(_: Lease) -> None:
        raise LeaseLostError

    @tool(Effect.REVERSIBLE)
    async def ring(bell: str) -> str:
        store.runs.set_status(name, RunStatus.STOPPED, by="ada")
        await asyncio.sleep(0.2)
        monkeypatch.setattr(Lease, "check", lost)
        try:
            await asyncio.sleep(2)
        except asyncio.CancelledError:
            given_up.append(bell)
            raise
        return f"rang {bell}"

    bench.project.register(ring)
    graph = ringing()
    run, context = bench.begin(graph)
    name = run.id
    bench.advance(context, graph)
    store.gates.decide(bench.the_gate().id, Approve(), by="ada")
    with pytest.raises(LeaseLostError):
        bench.advance(context, graph)
    assert given_up == ["small"]


def test_a_run_begun_by_another_engine_parks_until_a_person_switches(bench: Bench) -> None:
    bench.engine.replies[JudgeAction] = lambda _: Judged(verdict="pass", reason="fine")
    graph = in_one_node(judge)
    run, context = bench.begin(graph)
    bench.project.store.runs.set_engine(run.id, str(OTHER))
    assert "--switch-engine" in parked(bench.advance(context, graph))
    bench.project.store.runs.release_engine(run.id, by="ada", reason="switched")
    ended = bench.advance(context, graph)
    assert (ended.status, ended.engine) == (RunStatus.DONE, str(SCRIPTED))


def test_a_run_that_needs_a_model_is_let_go_of_by_the_offline_engine_that_began_it(bench: Bench) -> None:
    async def review_then_judge(state: Any, context: Context) -> None:
        question = Review(zone="notes", claims=(), today="2026-11-22")
        request = Request(
            role=Role.REVIEWER,
            instructions=instructions(Role.REVIEWER),
            question=question,
            answer=Reviewed,
        )
        await context.engine.ask(request)
        await judge(state, context)

    graph = in_one_node(review_then_judge)
    run, context = bench.begin(graph)
    offline = replace(context, engine=OfflineEngine(context.caller))
    ended = bench.advance(offline, graph)
    assert "[model] in karkas.toml" in parked(ended)
    assert ended.engine is None
    assert events(bench, run.id, "run_engine_released")[0].actor == str(OFFLINE)
    bench.engine.replies |= {
        JudgeAction: lambda _: Judged(verdict="pass", reason="fine"),
        Review: lambda _: Reviewed(conflicts=(), weak_spots=(), open_questions=()),
    }
    assert bench.advance(context, graph).engine == str(SCRIPTED)


def test_a_run_that_a_model_began_stays_its_own_where_the_offline_engine_is_asked_for_judgement(
    bench: Bench,
) -> None:
    graph = in_one_node(judge)
    run, context = bench.begin(graph)
    bench.project.store.runs.set_engine(run.id, str(SCRIPTED))
    offline = replace(context, engine=OfflineEngine(context.caller))
    assert bench.advance(offline, graph).engine == str(SCRIPTED)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ModelNeededError, CriticStatus.REFUSED),
        (ModelUnavailableError, CriticStatus.ERROR),
        (EngineChangedError, CriticStatus.ERROR),
    ],
)
def test_a_critic_that_cannot_be_asked_never_passes_and_never_parks_the_run(
    bench: Bench, error: type[Exception], status: CriticStatus
) -> None:
    def fail(_: JudgeAction) -> Judged:
        raise error

    bench.engine.replies[JudgeAction] = fail
    statuses = []

    async def criticise(_: Any, context: Context) -> None:
        report = await judge_action(context.engine, zone="notes", task="", frame="", shown="a", digests=())
        statuses.append(report.status)

    run, _ = bench.run(in_one_node(criticise))
    assert run.status is RunStatus.DONE
    assert statuses == [status]


def test_what_could_not_be_put_on_the_record_with_an_answer_is_put_there_with_what_comes_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A language model was asked with that prompt, whatever came of the answer."""
    caller = caller_of(bench)

    async def calls() -> None:
        assert await caller.before(SCRIPTED, QUESTION)
        with monkeypatch.context() as fault:
            fault.setattr(bench.project.store.database, "write", full)
            with pytest.raises(StorageError):
                await caller.after(Usage(prompt_tokens=10))
        await caller.spend(Spent())

    def full() -> None:
        raise StorageError("the disk is full")

    asyncio.run(calls())
    assert len(events(bench, caller.run, "prompt_used")) == 1
