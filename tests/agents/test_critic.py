from collections.abc import Callable
from typing import Any

import pytest

from karkas.agents.critic import judge_action
from karkas.policies.actions import Digest
from karkas.policies.distillates import EngineInfo
from karkas.policies.errors import (
    BudgetReachedError,
    EngineChangedError,
    InvalidAnswerError,
    ModelNeededError,
    ModelUnavailableError,
)
from karkas.policies.gates import CriticReport, CriticStatus
from karkas.server.protocol import Question, Reply, Request, Usage
from karkas.server.questions import Finding, Judged


class Answering:
    """An engine that answers as the test says; which model it asks is known with the first answer."""

    info = EngineInfo(kind="llm", name="scripted", version="1")

    def __init__(self, reply: Callable[[], Judged]) -> None:
        self.reply = reply

    def answers(self, question: type[Question]) -> bool:
        return True

    async def ask(self, request: Request[Any]) -> Reply[Any]:
        engine = self.info.model_copy(update={"model": "qwen"})
        return Reply(value=self.reply(), engine=engine, usage=Usage())


async def report(reply: Callable[[], Judged]) -> CriticReport:
    return await judge_action(
        Answering(reply), zone="z", task="t", frame="", shown="s", digests=(Digest("ab"),)
    )


def raising(error: Exception) -> Callable[[], Judged]:
    def reply() -> Judged:
        raise error

    return reply


async def test_a_report_names_the_model_that_judged_and_the_words_that_it_is_about() -> None:
    found = await report(
        lambda: Judged(verdict="object", reason="too much", findings=(Finding(text="a", quote="rm -rf"),))
    )
    assert found.critic == "critic/scripted 1 (qwen)"
    assert found.status is CriticStatus.OBJECTED
    assert [(one.text, one.quote) for one in found.findings] == [("a", "rm -rf")]


def test_a_report_from_before_findings_had_quotes_is_still_read() -> None:
    stored = {"critic": "c", "status": "objected", "digests": [], "reason": "r", "findings": [{"text": "a"}]}
    assert CriticReport.model_validate(stored).findings[0].quote == ""


@pytest.mark.parametrize(
    "error",
    [
        BudgetReachedError(),
        EngineChangedError(),
        InvalidAnswerError(),
        ModelUnavailableError(),
        ModelNeededError(),
        ValueError("a fault of our own"),
        RecursionError(),
    ],
)
async def test_whatever_fails_the_gate_stays_shut(error: Exception) -> None:
    assert (await report(raising(error))).status in {CriticStatus.ERROR, CriticStatus.REFUSED}


@pytest.mark.parametrize("verdict", ["", "PASS", "pass ", "passed", "approve", "yes", "true"])
async def test_only_the_very_word_is_a_pass(verdict: str) -> None:
    assert (await report(lambda: Judged(verdict=verdict, reason=""))).status is CriticStatus.ERROR
