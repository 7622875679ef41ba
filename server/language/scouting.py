"""What to read next: words rank the many candidates, a model scores the few that are worth its reading."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from karkas.server.counting import bytes_of
from karkas.server.language.aside import aside
from karkas.server.language.neutral import barred, line, spoken
from karkas.server.language.prompt import Asking, Number
from karkas.server.offline.scouting import what_next as ranked_by_words
from karkas.server.protocol import Wire
from karkas.server.questions import Candidate, Choice, ReadNext, WhatNext

_SHOWN = 4
"""So many times more candidates are shown than may be chosen."""
_LEAST = 40
"""Candidates that are shown in any case."""
_PORTION = 20
_SCORE = 60
"""Tokens that a score may take."""


class Scored(Wire):
    number: Number
    relevance: int = Field(ge=0, le=10)
    why: str = Field(max_length=120)


class Scores(Wire):
    partial: ClassVar[bool] = True

    scores: Annotated[tuple[Scored, ...], Field(max_length=_PORTION)]
    queries: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], Field(max_length=3)
    ] = ()


async def what_next(asking: Asking, question: WhatNext) -> ReadNext:
    """The best `at_most`; `relevance` is 0..1. What was not judged stands in the order of words, after the relevant."""
    most = max(_SHOWN * question.at_most, _LEAST)
    size = sum(len(one.excerpt) for one in question.candidates)
    by_words = await aside(size, ranked_by_words, question.model_copy(update={"at_most": most}))
    by_key = {candidate.key: candidate for candidate in question.candidates}
    shown = [by_key[choice.key] for choice in by_words.choices]
    if len(shown) < len(by_key):
        await asking.caller.note(
            f"scout: of {len(by_key)} candidates the {len(shown)} best by their words were shown to the model"
        )
    texts = [_shown(number, candidate) for number, candidate in enumerate(shown, 1)]
    asks = _question(question)
    enough = bytes_of("\n".join(texts))
    room = await asking.room("candidates", max_tokens=_SCORE * (_PORTION + 2), beside=asks, enough=enough)
    portions = await asking.portions(texts, room=room, most=_PORTION)

    async def score(portion: range) -> Scores:
        asked = await asking.ask(
            "candidates",
            Scores,
            question="\n".join((*texts[portion.start : portion.stop], asks)),
            max_tokens=_SCORE * (len(portion) + 2),
        )
        valid = tuple(one for one in asked.value.scores if one.number - 1 in portion)
        return asked.value.model_copy(update={"scores": valid})

    found = [one for one in await asking.each(portions, score, what="portions of candidates") if one]
    judged = {one.number - 1: one for scores in reversed(found) for one in reversed(scores.scores)}
    return ReadNext(
        choices=_choices(shown, judged)[: question.at_most],
        queries=_queries([query for scores in found for query in scores.queries], question.queries),
    )


def _shown(number: int, candidate: Candidate) -> str:
    lines = [line(candidate.title), line(candidate.path), line(candidate.excerpt)]
    return "\n".join((f"candidate {number}, {candidate.rank}", *(barred(one) for one in lines if one)))


def _question(question: WhatNext) -> str:
    queries = "\n".join(barred(line(query)) for query in question.queries)
    return f"zone: {line(question.zone)}\nopen queries\n{queries or 'none'}"


def _choices(shown: Sequence[Candidate], judged: dict[int, Scored]) -> tuple[Choice, ...]:
    """Those of no use last; ties and the unjudged in the order of words."""

    def standing(at: int) -> tuple[int, int]:
        score = judged[at].relevance if at in judged else None
        return (1, 0) if score is None else (2 if score == 0 else 0, -score)

    return tuple(
        Choice(
            key=shown[at].key,
            relevance=judged[at].relevance / 10 if at in judged else 0.0,
            why=spoken(judged[at].why) if at in judged else "not judged by the model",
        )
        for at in sorted(range(len(shown)), key=standing)
    )


def _queries(said: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    old = {query.casefold() for query in known}
    new = dict.fromkeys(spoken(query) for query in said)
    return tuple(query for query in new if query and query.casefold() not in old)[:3]
