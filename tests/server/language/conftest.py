"""Documents cut into blocks as the readers cut them, and models that answer by a script."""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pytest
from pydantic import BaseModel

from karkas.agents.prompts import instructions
from karkas.agents.sources.markdown import read_markdown
from karkas.policies.distillates import EngineInfo, SourceRank, part_id
from karkas.server.asking import Asked, Prompt
from karkas.server.documents import Document
from karkas.server.protocol import AnswerT, Caller, Request, Role, Usage

Answer = BaseModel | Exception
Script = Callable[[Prompt, type[Any]], Answer]
Markdown = Callable[..., Document]


@dataclass
class Scripted:
    """Models whose answers a function gives; a token is four bytes."""

    script: Script
    holds: int = 16_384
    asked: list[tuple[Prompt, Request[Any]]] = field(default_factory=list)

    async def info(self) -> EngineInfo:
        return EngineInfo(kind="llm", name="language-model", version="1", model="scripted")

    async def ask(
        self,
        prompt: Prompt,
        answer: type[AnswerT],
        *,
        request: Request[Any],
        caller: Caller,
        max_tokens: int,
        n: int = 1,
    ) -> Asked[AnswerT]:
        self.asked.append((prompt, request))
        value = self.script(prompt, answer)
        if isinstance(value, Exception):
            raise value
        assert isinstance(value, answer), "a script answers with what was asked for"
        assert len(value.model_dump_json()) / 4 <= max_tokens * 2, "the answer has room"
        return Asked((value,) * n, Usage(prompt_tokens=10, completion_tokens=5))

    async def count(self, role: Role, text: str) -> int:
        return len(text.encode("utf-8", "replace")) // 4 + 1

    async def context(self, role: Role) -> int:
        return self.holds


class Noting(Caller):
    """Remembers what was noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    async def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def caller() -> Noting:
    return Noting()


@pytest.fixture
def models() -> Callable[..., Scripted]:
    return Scripted


@pytest.fixture
def markdown() -> Markdown:
    """A document as the Markdown reader makes it."""

    def build(
        text: str, path: str = "docs/page.md", *, rank: SourceRank = SourceRank.OFFICIAL_DOCS, **meta: str
    ) -> Document:
        extract = read_markdown(text)
        return Document(
            source=part_id("s", path), title=extract.title, text=text, blocks=extract.blocks, rank=rank,
            kind="file", path=path, lang="en", sha256=sha256(text.encode()).hexdigest(), meta=meta,
        )  # fmt: skip

    return build


@pytest.fixture
def told() -> Callable[[Role], Any]:
    return instructions
