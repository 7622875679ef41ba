import pytest

from karkas.policies.distillates import SourceRank
from karkas.policies.errors import EngineRefusedError
from karkas.server.offline import OfflineEngine
from karkas.server.protocol import Engine, Instructions, Question, Request, Role
from karkas.server.questions import (
    QUESTIONS,
    Candidate,
    Compose,
    Distil,
    JudgeAction,
    JudgeMap,
    Propose,
    Review,
    WhatNext,
)

ANSWERED: list[Question] = [
    WhatNext(zone="lora", queries=("rank",), candidates=(), at_most=3),
    Distil(zone="lora", at_most=3),
    Review(zone="lora", claims=(), today="2026-11-22"),
    Compose(zone="lora", claims=(), conflicts=(), open_questions=()),
]
REFUSED: list[Question] = [
    Propose(zone="lora", task="train", frame="", tools=()),
    JudgeAction(zone="lora", task="train", frame="", shown="rm"),
    JudgeMap(zone="lora", claims=(), conflicts=()),
]


def test_it_says_what_it_is() -> None:
    engine: Engine = OfflineEngine()
    assert engine.info.kind == "extractive"
    assert engine.info.model is None


@pytest.mark.parametrize("question", ANSWERED, ids=lambda question: type(question).__name__)
async def test_it_answers_with_the_type_that_belongs_to_the_question(question: Question) -> None:
    engine = OfflineEngine()
    assert engine.answers(type(question))
    reply = await engine.ask(
        Request(
            role=Role.SCOUT, instructions=Instructions(), question=question, answer=QUESTIONS[type(question)]
        )
    )
    assert isinstance(reply.value, QUESTIONS[type(question)])
    assert reply.engine == engine.info
    assert reply.usage.tokens == 0


@pytest.mark.parametrize("question", REFUSED, ids=lambda question: type(question).__name__)
async def test_it_refuses_what_needs_judgement_and_says_what_to_do(question: Question) -> None:
    engine = OfflineEngine()
    assert not engine.answers(type(question))
    with pytest.raises(EngineRefusedError, match=r"karkas\.toml"):
        await engine.ask(
            Request(
                role=Role.CRITIC,
                instructions=Instructions(),
                question=question,
                answer=QUESTIONS[type(question)],
            )
        )


def _candidate(key: str, excerpt: str, rank: SourceRank = SourceRank.OFFICIAL_DOCS) -> Candidate:
    return Candidate(key=key, title=key, path=f"docs/{key}.md", rank=rank, excerpt=excerpt)


async def _chosen(*candidates: Candidate, query: str, at_most: int) -> list[str]:
    question = WhatNext(zone="training", queries=(query,), candidates=candidates, at_most=at_most)
    reply = await OfflineEngine().ask(
        Request(role=Role.SCOUT, instructions=Instructions(), question=question, answer=QUESTIONS[WhatNext])
    )
    return [choice.key for choice in reply.value.choices]


async def test_the_source_that_speaks_of_the_query_is_read_first() -> None:
    chosen = await _chosen(
        _candidate("colours", "Bananas are yellow."),
        _candidate("memory", "Quantized adapters save memory."),
        query="quantization memory",
        at_most=1,
    )
    assert chosen == ["memory"]


async def test_of_equal_sources_the_weightier_is_read_first() -> None:
    same = "Quantized adapters save memory."
    chosen = await _chosen(
        _candidate("note", same, SourceRank.NOTE), _candidate("page", same), query="memory", at_most=2
    )
    assert chosen == ["page", "note"]


async def test_a_second_copy_comes_after_something_new() -> None:
    text = "Quantized adapters save memory on small graphics cards."
    chosen = await _chosen(
        _candidate("a", text),
        _candidate("b", text),
        _candidate("c", "The states of an optimizer need a lot of memory during a long run."),
        query="memory",
        at_most=2,
    )
    assert chosen == ["a", "c"]
