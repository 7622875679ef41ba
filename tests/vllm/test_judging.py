"""Reviewer, executor and critic over the real wire: the grammars hold, whatever the model's words are worth."""

from hashlib import sha256

import pytest
from pydantic import BaseModel

from karkas.agents.critic import judge_action, judge_map
from karkas.agents.executor import propose
from karkas.agents.prompts import instructions
from karkas.agents.reviewer import check_support, review
from karkas.agents.tools import ToolBox
from karkas.policies.actions import Evidence
from karkas.policies.distillates import (
    Claim,
    ClaimMode,
    Confidence,
    Facet,
    SourceRank,
    Support,
    SupportLabel,
)
from karkas.policies.gates import CriticStatus
from karkas.server.asking import Prompt
from karkas.server.config import ModelsConfig, ModelSettings
from karkas.server.documents import Block, BlockKind, Document
from karkas.server.language.engine import LanguageEngine
from karkas.server.language.judge import Judgement
from karkas.server.language.pairs import CANDIDATE
from karkas.server.language.propose import answer_for
from karkas.server.language.review import Questions, weighings_of
from karkas.server.language.support import verdicts_on
from karkas.server.pool import ModelPool
from karkas.server.protocol import Caller, Request, Role
from karkas.server.questions import Judged, JudgeMap

from .conftest import Server

EIGHT = "The `lora_rank` of every adapter defaults to 8; «8» is usual. <|im_start|>"
SIXTEEN = 'The `lora_rank` of every adapter defaults to 16; "16" is usual.'
TOOLS = ToolBox.builtin()


@pytest.fixture
def pool(server: Server) -> ModelPool:
    model = ModelSettings(base_url=server.base_url, model=server.model)
    return ModelPool(ModelsConfig(models={"default": model}), environ={})


def document(path: str, text: str) -> Document:
    return Document(
        source=f"s-{path}", title=path, text=text, blocks=(Block(BlockKind.PARAGRAPH, 0, len(text)),),
        rank=SourceRank.OFFICIAL_DOCS, kind="file", path=path, lang="en", sha256=sha256(text.encode()).hexdigest(),
    )  # fmt: skip


DOCUMENTS = (document("a.md", EIGHT), document("b.md", SIXTEEN))
CLAIMS = tuple(
    Claim(
        id=f"c-{one.path}", facet=Facet.PARAMETER, subject="lora_rank", text=one.text, mode=ClaimMode.ABSTRACTIVE,
        evidence=(Evidence(source=one.source, start=0, end=len(one.text), quote=one.text),),
        support=Support(label=SupportLabel.UNCLEAR, checked_by="span-match@1"),
        confidence=Confidence(level="medium", why="one source"),
    )
    for one in DOCUMENTS
)  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        verdicts_on(2),
        weighings_of(2),
        Questions,
        Judgement,
        answer_for([one.spec() for one in TOOLS.values()]),
    ],
    ids=lambda answer: answer.__name__,
)
async def test_every_answer_is_one_that_a_grammar_can_hold(pool: ModelPool, answer: type[BaseModel]) -> None:
    request = Request(
        Role.CRITIC, instructions(Role.CRITIC), JudgeMap(zone="z", claims=(), conflicts=()), Judged
    )
    asked = await pool.ask(
        Prompt("You answer in JSON.", "", "Judge.", "the code is abc123"),
        answer,
        request=request,
        caller=Caller(),
        max_tokens=2_500,
    )
    assert isinstance(asked.value, answer)
    assert asked.usage.completion_tokens > 0


async def test_claims_are_judged_and_compared(pool: ModelPool) -> None:
    engine = LanguageEngine(pool)
    claims = await check_support(engine, zone="lora", claims=CLAIMS, documents=DOCUMENTS)
    assert {claim.id for claim in claims} == {claim.id for claim in CLAIMS}
    assert any(claim.support.checked_by == "reviewer/language-model 1 (tiny)" for claim in claims)
    found = (await review(engine, zone="lora", claims=claims, documents=DOCUMENTS, today="2026-11-22")).value
    assert all(one.label == CANDIDATE or int(one.label) in range(4, 11) for one in found.conflicts)
    assert found.open_questions


async def test_what_is_proposed_are_actions_of_the_tools(pool: ModelPool) -> None:
    plan = await propose(
        LanguageEngine(pool), zone="notes", task="write notes/a.md <|im_end|>", frame=None, distillate=None,
        tools=TOOLS, trusted=(), at_most=3, feedback="",
    )  # fmt: skip
    assert plan.by_model
    assert len(plan.calls) <= 3
    for call in plan.calls:
        parameters = TOOLS[call.tool].spec().parameters
        assert set(parameters["required"]) <= set(call.args) <= set(parameters["properties"])  # type: ignore[arg-type]


async def test_noise_passes_no_gate(pool: ModelPool) -> None:
    """The model is random: whatever verdict it hits upon, it does not bear the code."""
    engine = LanguageEngine(pool)
    action = await judge_action(
        engine, zone="notes", task="write it", frame="", shown="write_file\nnotes/a.md " * 200, digests=()
    )
    whole = await judge_map(engine, zone="notes", claims=CLAIMS, conflicts=(), documents=())
    assert {action.status, whole.status} <= {CriticStatus.OBJECTED, CriticStatus.UNSURE, CriticStatus.ERROR}
    assert "tiny" in action.critic
