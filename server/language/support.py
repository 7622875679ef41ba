"""Whether the passages that a claim cites say what the claim says, judged page by page.

The pages are those that the summarizer was shown, so that a server finds them in its prefix cache.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import GenericAlias
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field, create_model

from karkas.policies.distillates import Claim, ClaimMode, SupportLabel
from karkas.policies.errors import ContextTooLongError
from karkas.server.documents import Document
from karkas.server.language.listing import headed
from karkas.server.language.neutral import barred, spoken
from karkas.server.language.passages import Page
from karkas.server.language.prompt import Asking
from karkas.server.protocol import Role
from karkas.server.questions import CheckSupport, SupportChecked, Supported

MOST = 16
"""Claims of one page that are judged in one answer."""
_A_CLAIM = 110
"""Tokens that the verdict on one claim may take."""
_WEIGHT = (SupportLabel.CONTRADICTED, SupportLabel.ENTAILED, SupportLabel.UNCLEAR)
"""Over several pages the first of these that one of them gives holds."""
_DOUBT = (SupportLabel.CONTRADICTED, SupportLabel.UNCLEAR, SupportLabel.ENTAILED)
"""So it is where one answer judges one claim twice: words that changed the model's mind are no evidence."""


class Verdict(BaseModel):
    claim: int = Field(ge=1, le=MOST)
    why: str = Field(max_length=240)
    label: Literal["entailed", "contradicted", "unclear"]


class Verdicts(BaseModel):
    partial: ClassVar[bool] = True
    verdicts: list[Verdict] = Field(max_length=MOST)


@cache
def verdicts_on(claims: int) -> type[Verdicts]:
    """Where the server's grammar holds, one verdict on each claim; fewer are an answer all the same."""
    number = Field(ge=1, le=MOST, json_schema_extra={"maximum": claims})
    verdict = create_model("Verdict", __base__=Verdict, claim=(int, number))
    many: Any = GenericAlias(list, verdict)
    each = Field(max_length=MOST, json_schema_extra={"minItems": claims, "maxItems": claims})
    return create_model("Verdicts", __base__=Verdicts, verdicts=(many, each))


@dataclass(frozen=True)
class _Portion:
    """Claims that cite passages of one page, and how they are shown."""

    page: Page
    claims: tuple[Claim, ...]
    shown: tuple[str, ...]

    def halves(self) -> tuple["_Portion", ...]:
        """Nothing where there is but one claim."""
        middle = len(self.claims) // 2
        return tuple(
            _Portion(self.page, self.claims[part], self.shown[part])
            for part in (slice(middle), slice(middle, None))
            if middle
        )


async def check_support(
    asking: Asking, question: CheckSupport, documents: Sequence[Document]
) -> SupportChecked:
    """Judges the claims that are in a model's own words; copied ones prove themselves.

    Contradicted on one page outweighs entailed on another, which outweighs unclear. What no page could be asked
    about is not named.
    """
    claims = [claim for claim in question.claims if claim.mode is ClaimMode.ABSTRACTIVE]
    if not claims:
        return SupportChecked(claims=())
    # The last page first: where a server's cache holds fewer pages than there are, it forgot the first ones.
    pages = reversed(await asking.pages(documents))
    portions = [portion for page in pages for portion in await _portions(asking, page, claims)]
    found: dict[str, list[Supported]] = defaultdict(list)
    for answered in await asking.each(portions, lambda portion: _judge(asking, portion), what="pages"):
        for one in answered or ():
            found[one.claim].append(one)
    left = sum(claim.id not in found for claim in claims)
    if left:
        await asking.caller.note(
            f"{Role.REVIEWER}: {left} of {len(claims)} claims were not held against their passages"
        )
    return SupportChecked(
        claims=tuple(
            min(found[claim.id], key=lambda one: _WEIGHT.index(one.label))
            for claim in claims
            if claim.id in found
        )
    )


async def _portions(asking: Asking, page: Page, claims: Sequence[Claim]) -> list[_Portion]:
    cited = [(claim, numbers) for claim in claims if (numbers := _cited(page, claim))]
    if not cited:
        return []
    shown = [_shown(claim, numbers) for claim, numbers in cited]
    room = await asking.room("support", max_tokens=_A_CLAIM * MOST, beside=page.text)
    return [
        _Portion(page, tuple(cited[at][0] for at in places), tuple(shown[at] for at in places))
        for places in await asking.portions(shown, room=room, most=MOST)
    ]


def _cited(page: Page, claim: Claim) -> tuple[int, ...]:
    return tuple(
        sorted({one for span in claim.evidence for one in page.numbers(span.source, span.start, span.end)})
    )


def _shown(claim: Claim, numbers: Sequence[int]) -> str:
    return "\n".join(
        (
            f"cites passage{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}",
            headed(claim),
            barred(claim.text),
        )
    )


async def _judge(asking: Asking, portion: _Portion) -> list[Supported]:
    listed = "\n".join(f"claim {number}, {shown}" for number, shown in enumerate(portion.shown, 1))
    try:
        asked = await asking.ask(
            "support",
            verdicts_on(len(portion.claims)),
            documents=portion.page.text,
            question=f"claims\n{listed}\nend of claims",
            max_tokens=_A_CLAIM * len(portion.claims) + 40,
        )
    except ContextTooLongError:
        halves = portion.halves()
        if not halves:
            raise
        parts = await asking.each(halves, lambda half: _judge(asking, half), what="halves of a page's claims")
        return [one for part in parts for one in part or ()]
    said: dict[str, list[Supported]] = defaultdict(list)
    for verdict in asked.value.verdicts:
        if verdict.claim <= len(portion.claims):
            claim = portion.claims[verdict.claim - 1]
            label = SupportLabel(verdict.label)
            said[claim.id].append(Supported(claim=claim.id, label=label, why=spoken(verdict.why)))
    return [min(several, key=lambda one: _DOUBT.index(one.label)) for several in said.values()]
