from collections.abc import Callable
from typing import Any

from karkas.agents.reviewer import check_support, review
from karkas.policies.actions import Evidence
from karkas.policies.distillates import (
    Claim,
    ClaimMode,
    Confidence,
    Conflict,
    ConflictKind,
    EngineInfo,
    Facet,
    Support,
    SupportLabel,
)
from karkas.server.offline.engine import OfflineEngine
from karkas.server.protocol import Question, Reply, Request, Usage
from karkas.server.questions import CheckSupport, Review, Reviewed, SupportChecked, Supported


class Answering:
    """An engine that answers as the test says."""

    info = EngineInfo(kind="llm", name="scripted", version="1")

    def __init__(self, reply: Callable[[Any], Any]) -> None:
        self.reply = reply
        self.asked: list[Any] = []

    def answers(self, question: type[Question]) -> bool:
        return True

    async def ask(self, request: Request[Any]) -> Reply[Any]:
        self.asked.append(request.question)
        return Reply(value=self.reply(request.question), engine=self.info, usage=Usage())


def claim(name: str, mode: ClaimMode = ClaimMode.ABSTRACTIVE) -> Claim:
    return Claim(
        id=name, facet=Facet.PARAMETER, subject="rank", text=f"claim {name}", mode=mode,
        evidence=(Evidence(source="s", start=0, end=1, quote="x"),),
        support=Support(label=SupportLabel.UNCLEAR, checked_by="span-match@1"),
        confidence=Confidence(level="high", why="2 sources"),
    )  # fmt: skip


def judging(**labels: SupportLabel) -> Answering:
    said = tuple(Supported(claim=name, label=label, why="it says 8") for name, label in labels.items())
    return Answering(lambda _: SupportChecked(claims=said))


async def test_a_claim_is_told_who_judged_it_and_doubt_lowers_its_confidence() -> None:
    engine = judging(a=SupportLabel.ENTAILED, b=SupportLabel.CONTRADICTED, c=SupportLabel.UNCLEAR)
    claims = [claim(name) for name in "abcd"]
    a, b, c, d = await check_support(engine, zone="z", claims=claims, documents=())
    assert a.support == Support(label=SupportLabel.ENTAILED, checked_by="reviewer/scripted 1")
    assert a.confidence.level == "high"
    assert b.support.label is SupportLabel.CONTRADICTED
    assert b.confidence == Confidence(level="low", why="its passages say otherwise: it says 8")
    assert c.confidence == Confidence(level="low", why="its passages do not say it: it says 8")
    assert d == claims[3]


async def test_copied_words_stay_as_they_are_whatever_is_said_of_them() -> None:
    engine = judging(a=SupportLabel.CONTRADICTED)
    copied = claim("a", ClaimMode.VERBATIM)
    assert await check_support(engine, zone="z", claims=[copied], documents=()) == (copied,)


async def test_an_engine_that_cannot_judge_support_is_not_asked() -> None:
    assert not OfflineEngine().answers(CheckSupport)
    claims = (claim("a"),)
    assert await check_support(OfflineEngine(), zone="z", claims=claims, documents=()) == claims


async def test_what_is_new_and_what_earlier_reviews_found_is_handed_on() -> None:
    engine = Answering(lambda _: Reviewed(conflicts=(), weak_spots=(), open_questions=()))
    known = Conflict(id="k-1", kind=ConflictKind.NUMERIC, claims=("a", "b"), detector="x", score=0.5)
    await review(
        engine, zone="z", claims=[claim("a")], documents=(), today="2026-11-22", fresh=["a"], known=[known]
    )
    (asked,) = engine.asked
    assert isinstance(asked, Review)
    assert (asked.fresh, asked.known) == (("a",), (known,))
