"""Exploring with an engine that has words of its own: checked claims, and budgets that end it in the middle."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from karkas import runner
from karkas.agents.distillate import load, verify
from karkas.policies.budgets import Budget
from karkas.policies.distillates import (
    ClaimMode,
    Conflict,
    ConflictKind,
    Distillate,
    SupportLabel,
    part_id,
)
from karkas.policies.errors import AnswerError, BudgetReachedError, InvalidAnswerError
from karkas.project import Project
from karkas.server.offline import OfflineEngine
from karkas.server.protocol import AnswerT, Caller, Question, Reply, Request, Usage
from karkas.server.questions import (
    CheckSupport,
    Citation,
    Compose,
    Distil,
    Distilled,
    Review,
    SupportChecked,
    Supported,
    WhatNext,
)
from karkas.storage import Run, RunStatus, open_checkpointer
from karkas.workflows.explore import explore_workflow
from karkas.workflows.mapping import distillate_path, text_of
from karkas.workflows.runs import advance

from .conftest import SCRIPTED

DOCUMENTS = Path(__file__).with_name("documents")


@dataclass
class Reader:
    """Reads as the offline engine does, and calls each claim its own words; a call costs 100 tokens."""

    caller: Caller = field(default_factory=Caller)
    asked: list[Request[Any]] = field(default_factory=list)
    fails: dict[type[Question], AnswerError] = field(default_factory=dict)
    info = SCRIPTED

    def answers(self, question: type[Question]) -> bool:
        return question in {WhatNext, Distil, CheckSupport, Review, Compose}

    async def ask(self, request: Request[AnswerT]) -> Reply[AnswerT]:
        if not await self.caller.before(self.info, request):
            raise BudgetReachedError
        self.asked.append(request)
        usage = Usage(prompt_tokens=90, completion_tokens=10)
        await self.caller.after(usage)
        if type(request.question) in self.fails:
            raise self.fails[type(request.question)]
        match request.question:
            case CheckSupport(claims=claims):
                said = [Supported(claim=one.id, label=SupportLabel.ENTAILED) for one in claims[1:]]
                doubted = Supported(claim=claims[0].id, label=SupportLabel.UNCLEAR, why="it says less")
                value: Any = SupportChecked(claims=(doubted, *said))
            case _:
                value = (await OfflineEngine().ask(request)).value
        if isinstance(value, Distilled):
            own = (one.model_copy(update={"mode": ClaimMode.ABSTRACTIVE}) for one in value.claims)
            value = Distilled(claims=tuple(own))
        return Reply(value=cast("AnswerT", value), engine=self.info, usage=usage)

    def questions(self, kind: type[Question]) -> list[Any]:
        return [one.question for one in self.asked if isinstance(one.question, kind)]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.init(tmp_path / "project") as opened:
        yield opened


def explore(project: Project, engine: Reader, *, batch: int = 40, budget: Budget | None = None) -> Run:
    given: dict[str, Any] = {"zone": "courier", "sources": [str(DOCUMENTS)]}
    run = runner.begin(project, "explore", given, zone="courier", budget=budget)
    context = replace(runner.context(project, run.id), engine=engine, batch=batch)
    engine.caller = context.caller
    return asyncio.run(advance(context, explore_workflow(), lambda: open_checkpointer(project.folder)))


def distillate(project: Project) -> Distillate:
    found = load(distillate_path(project.root, "courier").read_bytes())
    assert verify(found, text_of(project.store)) == []
    return found


def test_each_claim_is_checked_against_the_passages_that_the_summarizer_was_shown(project: Project) -> None:
    engine = Reader()
    explore(project, engine)
    distilled, checked = (
        next(one for one in engine.asked if isinstance(one.question, kind)) for kind in (Distil, CheckSupport)
    )
    assert [one.source for one in checked.documents] == [one.source for one in distilled.documents]
    found = distillate(project)
    doubted = engine.questions(CheckSupport)[0].claims[0].id
    labels = {claim.id: claim.support.label for claim in found.claims}
    assert {name for name, label in labels.items() if label is SupportLabel.UNCLEAR} == {doubted}
    assert (found.honesty.abstractive, found.honesty.unsupported_claims) == (True, 1)
    assert found.engine == SCRIPTED


def test_a_cycle_checks_and_compares_only_what_it_brought(project: Project) -> None:
    engine = Reader()
    explore(project, engine, batch=2)
    first, second = engine.questions(CheckSupport)
    assert {one.id for one in first.claims}.isdisjoint(one.id for one in second.claims)
    before, after = engine.questions(Review)
    assert set(before.fresh) == {one.id for one in first.claims}
    assert set(after.fresh) == {one.id for one in second.claims}
    assert before.known == ()
    assert {one.id for one in after.claims} == {*before.fresh, *after.fresh}


class Forger(Reader):
    """Quotes so many sentences that stand in no source."""

    forged = 0

    async def ask(self, request: Request[AnswerT]) -> Reply[AnswerT]:
        reply = await super().ask(request)
        if isinstance(reply.value, Distilled):
            cite = Citation(document=0, quote="A depot is made of gold.")
            drafts = (one.model_copy(update={"cites": (cite,)}) for one in reply.value.claims[: self.forged])
            return replace(reply, value=cast("AnswerT", Distilled(claims=tuple(drafts))))
        return reply


def test_a_file_without_claims_says_how_many_were_dropped_this_time(project: Project) -> None:
    engine = Forger()
    for engine.forged in (0, 3, 1):
        run = explore(project, engine)
        assert run.status is RunStatus.DONE
        found = distillate(project)
        assert (found.claims, found.honesty.dropped_claims) == ((), engine.forged)
        assert found.run.id == run.id


class Judge(Reader):
    """Finds a conflict where none is known yet."""

    async def ask(self, request: Request[AnswerT]) -> Reply[AnswerT]:
        reply = await super().ask(request)
        match request.question:
            case Review(claims=(one, other, *_), known=()):
                ids, kind = (one.id, other.id), ConflictKind.NUMERIC
                found = Conflict(
                    id=part_id("k", kind, *ids), kind=kind, claims=ids, detector="a", score=0.7, label="7"
                )
                return replace(reply, value=reply.value.model_copy(update={"conflicts": (found,)}))
        return reply


def test_what_one_cycle_judged_is_known_to_the_next(project: Project) -> None:
    engine = Judge()
    explore(project, engine, batch=2)
    _, after = engine.questions(Review)
    assert [one.label for one in after.known] == ["7"]


def test_the_offline_engine_is_not_asked_to_check_what_it_copied(project: Project) -> None:
    run = runner.begin(project, "explore", {"zone": "courier", "sources": [str(DOCUMENTS)]}, zone="courier")
    asyncio.run(runner.advance(project, run.id))
    labels = {claim.support.label for claim in distillate(project).claims}
    assert labels == {SupportLabel.VERBATIM}


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_budget_that_ends_in_the_middle_leaves_a_valid_map_that_says_so(
    project: Project, calls: int
) -> None:
    engine = Reader()
    run = explore(project, engine, budget=Budget(tokens=100 * calls))
    assert len(engine.asked) == calls
    assert run.result is not None
    assert run.result["values"]["stop"] == "budget"  # type: ignore[index,call-overload]
    found = distillate(project)
    assert (found.run.stop_reason, found.engine) == ("budget", SCRIPTED)
    assert len(found.claims) > 5
    assert "drawn by rule" in " ".join(one.why for one in found.not_covered)
    noted = [
        one.data for one in project.store.audit.log(subject=f"run:{run.id}") if one.event == "engine_noted"
    ]
    assert any("left to the offline engine" in str(one) for one in noted)
    assert len(found.summary) > 2


def test_a_budget_that_ends_before_anything_was_distilled_ends_with_an_empty_map(project: Project) -> None:
    engine = Reader()
    explore(project, engine, batch=2, budget=Budget(tokens=0))
    found = distillate(project)
    assert (found.run.stop_reason, found.claims) == ("budget", ())
    assert found.not_covered[0].topic == "sources not reached"


@pytest.mark.parametrize("kind", [Review, CheckSupport, Compose, WhatNext])
def test_an_answer_that_is_of_no_use_costs_no_night(project: Project, kind: type[Question]) -> None:
    engine = Reader(fails={kind: InvalidAnswerError("it answered in verse")})
    run = explore(project, engine, batch=2)
    assert (run.status, run.error) == ("parked", None)
    found = distillate(project)
    assert len(found.claims) > 5
    noted = [
        one.data for one in project.store.audit.log(subject=f"run:{run.id}") if one.event == "engine_noted"
    ]
    assert any("it answered in verse" in str(one) for one in noted)
    assert found.run.stop_reason == "sources_exhausted"
