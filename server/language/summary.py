"""The summary: the claims that a newcomer reads first, chosen in as many rounds as the room asks for."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Annotated

from pydantic import Field

from karkas.policies.distillates import SummarySection
from karkas.server.language.listing import listed, numbered, stated
from karkas.server.language.neutral import line
from karkas.server.language.prompt import Asking, Number
from karkas.server.offline.compose import CONFLICTS_SHOWN, DISAGREEMENT, SECTIONS
from karkas.server.protocol import Wire
from karkas.server.questions import Compose

_MOST = 7
"""Claims of a section."""
_ROUNDS = 3
_TOKENS = 300

Numbers = Annotated[tuple[Number, ...], Field(max_length=_MOST)]


class Sections(Wire):
    """By the facets of the sections that the offline engine has too."""

    definition: Numbers
    mechanism: Numbers
    comparison: Numbers
    parameter: Numbers
    limits: Numbers


async def summarize(asking: Asking, question: Compose) -> tuple[SummarySection, ...]:
    """Empty where the model chose nothing. Where sources disagree follows from the conflicts."""
    texts = [numbered(number, claim, stated(claim)) for number, claim in enumerate(question.claims, 1)]
    room = await asking.room("summary", max_tokens=_TOKENS)
    left = list(range(len(texts)))
    chosen: dict[str, list[int]] = {}
    for _ in range(_ROUNDS):
        portions = await asking.portions([texts[at] for at in left], room=room, most=len(left))

        async def choose(portion: range, left: Sequence[int] = tuple(left)) -> dict[str, list[int]]:
            shown = [left[at] for at in portion]
            asked = await asking.ask(
                "summary",
                Sections,
                documents=listed(texts[at] for at in shown),
                question=f"zone: {line(question.zone)}",
                max_tokens=_TOKENS,
            )
            return _valid(asked.value, frozenset(shown))

        answers = await asking.each(portions, choose, what="portions of the summary")
        chosen = _together([answer for answer in answers if answer]) or chosen
        left = sorted({at for places in chosen.values() for at in places})
        if len(portions) == 1 or not left:
            break
    sections = [
        SummarySection(title=title, claims=tuple(question.claims[at].id for at in chosen[facet][:_MOST]))
        for title, facet, _ in SECTIONS
        if chosen.get(facet)
    ]
    disputed = _disputed(question) if sections else ()
    if disputed:
        sections.append(SummarySection(title=DISAGREEMENT, claims=disputed))
    return tuple(sections)


def _valid(said: Sections, shown: frozenset[int]) -> dict[str, list[int]]:
    """Claims that were shown, each in the first section that names it."""
    used: set[int] = set()
    found: dict[str, list[int]] = {}
    for _, facet, _ in SECTIONS:
        numbers: Sequence[int] = getattr(said, facet)
        places = [at for number in dict.fromkeys(numbers) if (at := number - 1) in shown - used]
        used.update(places)
        found[facet] = places
    return found if used else {}


def _together(answers: Sequence[dict[str, list[int]]]) -> dict[str, list[int]]:
    """Each section from all portions in turn, so that no portion crowds out the others."""
    return {
        facet: [
            at for row in zip_longest(*(answer[facet] for answer in answers)) for at in row if at is not None
        ]
        for _, facet, _ in SECTIONS
        if answers
    }


def _disputed(question: Compose) -> tuple[str, ...]:
    gravest = sorted(question.conflicts, key=lambda conflict: -conflict.score)[:CONFLICTS_SHOWN]
    known = {claim.id for claim in question.claims}
    return tuple(dict.fromkeys(name for conflict in gravest for name in conflict.claims if name in known))
