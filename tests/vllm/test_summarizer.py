"""Scout and summarizer over the real wire: every answer fits its grammar, and whatever comes out of it is proven."""

from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from karkas.agents.prompts import instructions
from karkas.agents.sources.markdown import read_markdown
from karkas.agents.summarizer import resolve
from karkas.policies.actions import Evidence
from karkas.policies.distillates import Claim, ClaimMode, Confidence, Facet, SourceRank, Support, SupportLabel
from karkas.server.asking import Prompt
from karkas.server.config import ModelsConfig, ModelSettings
from karkas.server.documents import Document
from karkas.server.language import LanguageEngine
from karkas.server.language.distil import PageClaims
from karkas.server.language.mapping import Assignments, Outline
from karkas.server.language.merge import SameClaims
from karkas.server.language.neutral import neutral
from karkas.server.language.passages import pages
from karkas.server.language.prompt import Asking
from karkas.server.language.scouting import Scores
from karkas.server.language.summary import Sections
from karkas.server.pool import ModelPool
from karkas.server.protocol import Caller, Question, Request, Role
from karkas.server.questions import (
    Candidate,
    Compose,
    Composed,
    Distil,
    Distilled,
    ReadNext,
    WhatNext,
)

from .conftest import Server

FOLDER = Path(__file__).parents[1] / "workflows" / "documents"
SPECIAL = ("<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")


class Noting(Caller):
    def __init__(self) -> None:
        self.notes: list[str] = []

    async def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def pool(server: Server) -> ModelPool:
    model = ModelSettings(base_url=server.base_url, model=server.model)
    return ModelPool(ModelsConfig(models={"default": model}), environ={})


def documents() -> list[Document]:
    return [markdown(path.read_text(), path.name) for path in sorted(FOLDER.glob("*.md"))]


def markdown(text: str, path: str) -> Document:
    extract = read_markdown(text)
    return Document(
        source=f"s-{path}", title=extract.title, text=text, blocks=extract.blocks, rank=SourceRank.OFFICIAL_DOCS,
        kind="file", path=path, lang="en", sha256=sha256(text.encode()).hexdigest(),
    )  # fmt: skip


def claims(number: int) -> tuple[Claim, ...]:
    return tuple(
        Claim(
            id=f"c-{at}", facet=list(Facet)[at % 6], subject=f"option {at}", text=f"Option {at} is set by hand.",
            mode=ClaimMode.ABSTRACTIVE, evidence=(Evidence(source="s-1", start=0, end=5, quote="quote"),),
            support=Support(label=SupportLabel.UNCLEAR, checked_by="span-match@1"),
            confidence=Confidence(level="low", why="one source"),
        )
        for at in range(number)
    )  # fmt: skip


def request(
    question: Question, answer: type[BaseModel], role: Role, shown: Sequence[Document] = ()
) -> Request[Any]:
    return Request(
        role=role, instructions=instructions(role), question=question, answer=answer, documents=shown
    )


@pytest.mark.parametrize("answer", [PageClaims, SameClaims, Scores, Sections, Outline, Assignments])
async def test_every_answer_is_one_that_a_grammar_can_hold(pool: ModelPool, answer: type[BaseModel]) -> None:
    asked = await pool.ask(
        Prompt("You answer in JSON.", "", "Answer.", "Now."),
        answer,
        request=request(Distil(zone="z", at_most=1), Distilled, Role.SUMMARIZER),
        caller=Caller(),
        max_tokens=3_000,
    )
    assert isinstance(asked.value, answer)
    assert asked.usage.completion_tokens > 0


async def test_what_comes_out_of_reading_is_proven_or_dropped(pool: ModelPool) -> None:
    caller, shown = Noting(), documents()
    reply = await LanguageEngine(pool, caller).ask(
        request(Distil(zone="retries", at_most=4), Distilled, Role.SUMMARIZER, shown)
    )
    assert isinstance(reply.value, Distilled)
    assert reply.usage.completion_tokens > 0 or caller.notes
    for claim in resolve(reply.value.claims, shown).claims:
        texts = {one.source: one.text for one in shown}
        assert all(texts[span.source][span.start : span.end] == span.quote for span in claim.evidence)


async def test_the_scout_answers_with_known_candidates_only(pool: ModelPool) -> None:
    candidates = tuple(
        Candidate(
            key=f"k{at}", title=f"T{at}", path=f"{at}.md", rank=SourceRank.NOTE, excerpt="About retries."
        )
        for at in range(12)
    )
    question = WhatNext(zone="retries", queries=("backoff",), candidates=candidates, at_most=4)
    reply = await LanguageEngine(pool).ask(request(question, ReadNext, Role.SCOUT))
    assert isinstance(reply.value, ReadNext)
    assert len(reply.value.choices) == 4
    assert {one.key for one in reply.value.choices} <= {one.key for one in candidates}


async def test_summary_and_map_hold_known_claims_only(pool: ModelPool) -> None:
    known = claims(20)
    question = Compose(zone="options", claims=known, conflicts=(), open_questions=())
    reply = await LanguageEngine(pool).ask(request(question, Composed, Role.SUMMARIZER))
    assert isinstance(reply.value, Composed)
    nodes = [node for area in reply.value.areas for node in area.mechanisms]
    named = [
        *(name for part in reply.value.summary for name in part.claims),
        *(name for node in nodes for name in node.claims),
        *(name for node in nodes for rule in node.rules for name in rule.claims),
    ]
    assert named
    assert set(named) <= {claim.id for claim in known}


async def test_the_tokenizer_makes_no_special_token_of_a_source(server: Server) -> None:
    hostile = "".join(f"a {token} b {token}{token}\n{token[:3]}\u200b{token[3:]}" for token in SPECIAL)
    assert set(SPECIAL) <= set(tokens(server, hostile)), "the test is of tokens that the server knows"
    assert not set(SPECIAL) & set(tokens(server, neutral(hostile)))


def tokens(server: Server, text: str) -> list[str]:
    answer = httpx.post(
        f"{server.base_url}/tokenize",
        json={"model": server.model, "prompt": text, "add_special_tokens": False, "return_token_strs": True},
        trust_env=False,
    )
    found: list[str] = answer.raise_for_status().json()["token_strs"]
    return found


async def test_pages_fill_the_room_that_the_tokenizer_says(pool: ModelPool) -> None:
    long = [
        markdown("# T\n\n" + "\n\n".join(f"Sentence {at} about `retry_{at}`." for at in range(900)), "a.md")
    ]

    async def count(text: str) -> int:
        return await pool.count(Role.SUMMARIZER, text)

    async with pool:
        found = await pages(long, 3_000, count)
        sizes = [await count(page.text) for page in found]
    assert len(found) > 2
    assert max(sizes) <= 3_000
    assert min(sizes[:-1]) > 2_400
    assert all(one.passages[-1].end <= other.passages[0].start for one, other in pairwise(found))


async def test_a_second_agent_finds_the_page_in_the_servers_cache(pool: ModelPool) -> None:
    page = "\n\n".join(f"Passage {at} of {token_hex(8)}, which nobody was shown." for at in range(200))
    cached = []
    for role, task in ((Role.SUMMARIZER, "distil"), (Role.REVIEWER, "support")):
        asking = Asking(pool, request(Distil(zone="z", at_most=1), Distilled, role), Caller())
        asked = await asking.ask(task, Sections, documents=page, question="Now.", max_tokens=400)
        cached.append(asked.usage.cached_tokens / asked.usage.prompt_tokens)
    assert cached[1] > 0.6
    assert cached[1] > cached[0]
