from collections.abc import Callable
from typing import Any

import pytest

from karkas.agents.prompts import instructions
from karkas.agents.summarizer import distil
from karkas.policies.errors import EngineRefusedError
from karkas.server.documents import Document
from karkas.server.language import VERSION, LanguageEngine
from karkas.server.language.distil import PageClaims, Quoted, Stated
from karkas.server.protocol import Question, Request, Role
from karkas.server.questions import QUESTIONS, Judged

Models = Callable[..., Any]


def reading(prompt: Any, answer: type[Any]) -> Any:
    said = Stated.model_validate(
        {
            "facet": "parameter",
            "subject": "r",
            "text": "r is 8.",
            "cites": (Quoted(passage=1, quote="is 8"),),
            "importance": 5,
        }
    )
    return PageClaims(claims=(said,))


async def test_an_agent_gets_claims_with_proven_spans_and_what_they_cost(
    models: Models, caller: Any, markdown: Callable[..., Document]
) -> None:
    engine = LanguageEngine(models(reading), caller)
    assert engine.info.model is None
    assert engine.info.version == VERSION
    resolved, reply = await distil(
        engine, zone="lora", queries=(), documents=[markdown("# T\n\nThe rank is 8.\n")], at_most=5
    )
    assert [claim.evidence[0].quote for claim in resolved.claims] == ["is 8"]
    assert reply.usage.calls == 1
    assert reply.usage.tokens == 15
    assert reply.engine == engine.info
    assert engine.info.model == "scripted"


async def test_every_question_is_answered_with_its_own_type(models: Models) -> None:
    engine = LanguageEngine(models(reading))
    assert all(engine.answers(question) for question in QUESTIONS)
    assert not engine.answers(Question)


async def test_an_unknown_question_is_refused(models: Models) -> None:
    request = Request(
        role=Role.CRITIC, instructions=instructions(Role.CRITIC), question=Question(), answer=Judged
    )
    with pytest.raises(EngineRefusedError):
        await LanguageEngine(models(reading)).ask(request)
