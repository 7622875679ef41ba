from collections.abc import Callable
from typing import Any

import pytest

from karkas.agents.prompts import instructions
from karkas.policies.distillates import ClaimMode, Facet
from karkas.policies.errors import BudgetReachedError, InvalidAnswerError
from karkas.server.asking import Prompt
from karkas.server.language.merge import SameClaims, merged
from karkas.server.language.prompt import Asking
from karkas.server.protocol import Request, Role
from karkas.server.questions import Citation, Distil, Distilled, DraftClaim

Models = Callable[..., Any]

FIRST = "The rank r sets the size of the update matrices that are trained."
REWORDED = "How large the trained update matrices are is set by the rank r."
LIKE = "The rank r sets how many parameters of the update matrices are trained."


def claim(
    text: str, document: int = 0, *, subject: str = "r", score: float = 0.5, **scope: str
) -> DraftClaim:
    return DraftClaim(
        facet=Facet.PARAMETER,
        subject=subject,
        scope=scope,
        text=text,
        mode=ClaimMode.ABSTRACTIVE,
        cites=(Citation(document=document, quote="quote", start=0),),
        score=score,
    )


async def merge(models: Any, caller: Any, *claims: DraftClaim) -> list[DraftClaim]:
    request = Request(
        role=Role.SUMMARIZER,
        instructions=instructions(Role.SUMMARIZER),
        question=Distil(zone="lora", at_most=10),
        answer=Distilled,
    )
    return await merged(Asking(models, request, caller), claims)


def same(*sets: tuple[int, ...]) -> Callable[[Prompt, type[Any]], Any]:
    return lambda prompt, answer: SameClaims(same=sets)


async def test_claims_in_the_same_words_become_one_with_both_proofs(models: Models, caller: Any) -> None:
    scripted = models(same())
    [one] = await merge(
        scripted, caller, claim(FIRST, 0, package="peft"), claim(FIRST + "!", 1, score=0.9, version="2")
    )
    assert [cite.document for cite in one.cites] == [0, 1]
    assert one.scope == {"package": "peft", "version": "2"}
    assert one.score == 0.9
    assert scripted.asked == []


async def test_a_model_says_which_claims_that_look_alike_are_the_same(models: Models, caller: Any) -> None:
    scripted = models(same((1, 2)))
    found = await merge(scripted, caller, claim(FIRST, 0), claim(REWORDED, 1), claim(LIKE, 2))
    assert [(one.text, [cite.document for cite in one.cites]) for one in found] == [
        (FIRST, [0, 1]),
        (LIKE, [2]),
    ]
    assert len(scripted.asked) == 1


@pytest.mark.parametrize(
    "other",
    [
        claim(FIRST.replace("size", "size 16"), 1),
        claim(FIRST.replace("sets", "never sets"), 1),
        claim(FIRST, 1, package="trl"),
    ],
    ids=["another value", "a denial", "another package"],
)
async def test_claims_that_differ_in_fact_are_never_one(
    models: Models, caller: Any, other: DraftClaim
) -> None:
    found = await merge(models(same((1, 2))), caller, claim(FIRST, 0, package="peft"), other)
    assert len(found) == 2


async def test_conditions_that_only_together_contradict_keep_claims_apart(
    models: Models, caller: Any
) -> None:
    found = await merge(
        models(same()), caller, claim(FIRST, 0), claim(FIRST, 1, version="1"), claim(FIRST, 2, version="2")
    )
    spans = sorted(cite.document for one in found for cite in one.cites)
    assert len(found) == 2
    assert spans == [0, 1, 2]


@pytest.mark.parametrize("sets", [((1, 99),), ((7, 8),), ((1, 1),)])
async def test_numbers_that_were_not_shown_merge_nothing(
    models: Models, caller: Any, sets: tuple[tuple[int, ...], ...]
) -> None:
    found = await merge(models(same(*sets)), caller, claim(FIRST, 0), claim(REWORDED, 1))
    assert len(found) == 2


async def test_claims_of_different_groups_are_not_merged(models: Models, caller: Any) -> None:
    other, reworded = (
        "Adapters are loaded before the first request is served.",
        "Adapters load before requests.",
    )
    claims = (
        claim(FIRST, 0), claim(REWORDED, 1),
        claim(other, 2, subject="adapters"), claim(reworded, 3, subject="adapters"),
    )  # fmt: skip
    found = await merge(models(same((1, 3), (3, 4))), caller, *claims)
    assert [len(one.cites) for one in found] == [1, 1, 2]


async def test_what_looks_like_nothing_else_asks_nobody(models: Models, caller: Any) -> None:
    scripted = models(same())
    claims = [claim(FIRST), claim("Checkpoints are written every hour.", subject="checkpoints")]
    assert await merge(scripted, caller, *claims) == claims
    assert scripted.asked == []


@pytest.mark.parametrize("fault", [BudgetReachedError(), InvalidAnswerError()])
async def test_a_fault_leaves_claims_apart_and_loses_none(
    models: Models, caller: Any, fault: Exception
) -> None:
    claims = [claim(FIRST, 0), claim(REWORDED, 1)]
    assert await merge(models(lambda *_: fault), caller, *claims) == claims
    assert len(caller.notes) == 1
