"""The reviewer: how far pairs of claims exclude each other, where not to lean on a claim yet, and what to ask next."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import cache
from types import GenericAlias
from typing import Any, ClassVar

from pydantic import BaseModel, Field, create_model

from karkas.policies.distillates import (
    Claim,
    ClaimMode,
    Conflict,
    OpenQuestion,
    SupportLabel,
    WeakSpot,
    WeakSpotKind,
    part_id,
)
from karkas.policies.errors import AnswerError, BudgetReachedError, ContextTooLongError
from karkas.server.documents import Document
from karkas.server.language.listing import headed
from karkas.server.language.neutral import barred, line, spoken
from karkas.server.language.pairs import Pair, pairs_of
from karkas.server.language.prompt import Asking
from karkas.server.offline.questions import open_questions
from karkas.server.offline.weak_spots import weak_spots
from karkas.server.protocol import Role
from karkas.server.questions import Review, Reviewed

STEPS = 10
"""The highest of the eleven steps, from 0 (both hold together) on."""
CONFLICT = 4
"""The step from which on a pair is a conflict; below it another case or version explains the difference."""
PORTION = 12
"""Pairs that are judged in one answer."""
RAISED = 5
"""Questions that the model may raise beside those that follow by rule."""
QUOTES = 2
"""Quotes of a claim that are shown; claims cite their best first."""
UNSUPPORTED = 12
"""Weak spots for claims that their passages do not carry."""
_SHOWN = 40
"""Conflicts and weak spots out of which the model may raise questions."""
_A_PAIR = 130
"""Tokens that the verdict on one pair may take."""
_A_QUESTION = 130


class Weighed(BaseModel):
    pair: int = Field(ge=1, le=PORTION)
    why: str = Field(max_length=280)
    step: int = Field(ge=0, le=STEPS)


class Weighings(BaseModel):
    partial: ClassVar[bool] = True
    pairs: list[Weighed] = Field(max_length=PORTION)


@cache
def weighings_of(pairs: int) -> type[Weighings]:
    """Where the server's grammar holds, one verdict on each pair; fewer are an answer all the same."""
    number = Field(ge=1, le=PORTION, json_schema_extra={"maximum": pairs})
    weighed = create_model("Weighed", __base__=Weighed, pair=(int, number))
    many: Any = GenericAlias(list, weighed)
    each = Field(max_length=PORTION, json_schema_extra={"minItems": pairs, "maxItems": pairs})
    return create_model("Weighings", __base__=Weighings, pairs=(many, each))


class Raised(BaseModel):
    about: int = Field(ge=1, le=_SHOWN)
    text: str = Field(max_length=240)
    would_settle: str = Field(max_length=120)


class Questions(BaseModel):
    partial: ClassVar[bool] = True
    questions: list[Raised] = Field(max_length=RAISED)


async def review(asking: Asking, question: Review, documents: Sequence[Document]) -> Reviewed:
    """Conflicts with the step that the model gave them; candidates of rules that it could not judge stay candidates.

    Pairs that are merely alike, and that it could not judge, are named by nothing and left out.
    """
    found = await _conflicts(asking, question, documents)
    weak = [
        *unsupported(question.claims),
        *await asyncio.to_thread(weak_spots, question.claims, documents, question.today),
    ]
    ruled = await asyncio.to_thread(open_questions, question.claims, found, weak)
    raised = await _raise(asking, question.claims, found, weak)
    by_text = {one.text: one for one in (*raised, *ruled)}
    return Reviewed(conflicts=tuple(found), weak_spots=tuple(weak), open_questions=tuple(by_text.values()))


def unsupported(claims: Sequence[Claim]) -> list[WeakSpot]:
    """A weak spot for each claim of which a reviewer found that its passages do not say it, the gravest first."""
    weak = [
        claim
        for label in (SupportLabel.CONTRADICTED, SupportLabel.UNCLEAR)
        for claim in claims
        if claim.mode is ClaimMode.ABSTRACTIVE
        and claim.support.label is label
        and claim.support.checked_by.startswith(f"{Role.REVIEWER}/")
    ]
    return [
        WeakSpot(
            id=part_id("w", WeakSpotKind.UNSUPPORTED, claim.id),
            kind=WeakSpotKind.UNSUPPORTED,
            claims=(claim.id,),
            why=f"{claim.subject}: {claim.confidence.why}",
        )
        for claim in weak[:UNSUPPORTED]
    ]


async def _conflicts(asking: Asking, question: Review, documents: Sequence[Document]) -> list[Conflict]:
    pairs = await asyncio.to_thread(pairs_of, question, documents)
    if pairs.beyond:
        await asking.caller.note(
            f"{Role.REVIEWER}: {pairs.beyond} further pairs of claims on one subject were not compared"
        )
    paths = {document.source: document.path for document in documents}
    shown = [_shown_pair(pair, paths) for pair in pairs.open]
    portions = []
    if pairs.open:
        room = await asking.room("conflicts", max_tokens=_A_PAIR * PORTION)
        portions = await asking.portions(shown, room=room, most=PORTION)

    async def weigh(places: range) -> dict[int, Weighed]:
        return await _weigh(asking, [shown[at] for at in places])

    weighed: dict[int, Weighed] = {}
    for places, answer in zip(
        portions, await asking.each(portions, weigh, what="portions of pairs"), strict=True
    ):
        weighed |= {places[number - 1]: one for number, one in (answer or {}).items()}
    by = f"{Role.REVIEWER}/{await asking.models.info()}" if weighed else ""
    found = list(pairs.judged)
    for at, pair in enumerate(pairs.open):
        if at in weighed:
            found += [_judged(pair, weighed[at], by)] if weighed[at].step >= CONFLICT else []
        elif pair.by_rule:
            found.append(pair.conflict)
    if len(weighed) < len(pairs.open):
        await asking.caller.note(
            f"{Role.REVIEWER}: {len(pairs.open) - len(weighed)} of {len(pairs.open)} pairs of claims were not judged"
        )
    below = sum(one.step < CONFLICT for one in weighed.values())
    if below:
        await asking.caller.note(
            f"{Role.REVIEWER}: {below} of {len(weighed)} pairs judged hold together (below step {CONFLICT})"
        )
    return sorted(found, key=lambda one: (-one.score, one.id))


async def _weigh(asking: Asking, shown: Sequence[str]) -> dict[int, Weighed]:
    """The verdicts by number; where one answer judges a pair twice, the higher step counts."""
    listed = "\n".join(f"pair {number}\n{pair}" for number, pair in enumerate(shown, 1))
    asked = await asking.ask(
        "conflicts",
        weighings_of(len(shown)),
        question=f"pairs\n{listed}\nend of pairs",
        max_tokens=_A_PAIR * len(shown) + 40,
    )
    in_order = sorted(asked.value.pairs, key=lambda one: one.step)
    return {one.pair: one for one in in_order if one.pair <= len(shown)}


def _judged(pair: Pair, weighed: Weighed, by: str) -> Conflict:
    why = spoken(weighed.why)
    return pair.conflict.model_copy(
        update={
            "label": str(weighed.step),
            "score": weighed.step / STEPS,
            "reviewer": f"{by}: {why}",
            "why": pair.conflict.why or why.rstrip(".?!"),
        }
    )


def _shown_pair(pair: Pair, paths: Mapping[str, str]) -> str:
    noticed = ["a rule noticed", barred(pair.conflict.why)] if pair.conflict.why else []
    return "\n".join(
        (
            "first claim", *_shown_claim(pair.one, paths),
            "second claim", *_shown_claim(pair.other, paths),
            *noticed,
        )
    )  # fmt: skip


def _shown_claim(claim: Claim, paths: Mapping[str, str]) -> list[str]:
    shown = [headed(claim), barred(claim.text)]
    for span in claim.evidence[:QUOTES]:
        shown += ["in", f"| {line(paths.get(span.source, span.source))}"]
        shown += ["it says", barred(span.quote)] if span.quote != claim.text else []
    return shown


async def _raise(
    asking: Asking, claims: Sequence[Claim], conflicts: Sequence[Conflict], weak: Sequence[WeakSpot]
) -> list[OpenQuestion]:
    """Questions that the model raises out of conflicts and weak spots; none where it could not be asked."""
    sources: list[Conflict | WeakSpot] = [*conflicts[: _SHOWN // 2], *weak[: _SHOWN // 2]]
    if not sources:
        return []
    subjects = {claim.id: claim.subject for claim in claims}
    items = [_shown_source(one, subjects) for one in sources]
    room = await asking.room("questions", max_tokens=_A_QUESTION * RAISED)
    first = (await asking.portions(items, room=room, most=_SHOWN))[0]
    listed = "\n".join(f"{at + 1}, {items[at]}" for at in first)
    try:
        asked = await asking.ask(
            "questions",
            Questions,
            question=f"conflicts and weak spots\n{listed}\nend of the list",
            max_tokens=_A_QUESTION * RAISED + 40,
        )
    except (AnswerError, BudgetReachedError, ContextTooLongError) as error:
        await asking.caller.note(f"{Role.REVIEWER}: raised no questions of its own: {error}")
        return []
    return [
        OpenQuestion(
            id=part_id("q", text),
            text=text,
            raised_by=sources[one.about - 1].id,
            would_settle=spoken(one.would_settle) or text,
        )
        for one in asked.value.questions
        if one.about <= len(first) and (text := spoken(one.text))
    ]


def _shown_source(source: Conflict | WeakSpot, subjects: Mapping[str, str]) -> str:
    kind = "conflict" if isinstance(source, Conflict) else f"weak spot, {source.kind.replace('_', ' ')}"
    about = ", ".join(dict.fromkeys(subjects[one] for one in source.claims if one in subjects))
    return f"{kind}\n| {line(f'{about}: {source.why}' if about else source.why)}"
