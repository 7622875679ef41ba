"""The drafted map: first its outline, then each claim is put where it belongs.

One nested answer would be shorter to write and is more than models of 13 to 30 billion parameters keep in order.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from karkas.policies.distillates import Claim, Conflict
from karkas.server.language.listing import listed, numbered, stated
from karkas.server.language.neutral import barred, line, spoken
from karkas.server.language.prompt import Asking, Number
from karkas.server.offline.subjects import key
from karkas.server.offline.words import terms
from karkas.server.protocol import Wire
from karkas.server.questions import Compose, MapArea, MapMechanism, MapRule

_AREAS, _MECHANISMS = 6, 5
_NODES = 60
"""Nodes of a map that a person will edit."""
_RULES, _CLAIMS = 3, 6
"""Of one mechanism."""
_UNKNOWNS = 3
_PORTION = 30
_TOKENS = 700
"""Tokens that an outline may take."""
_ASSIGNED = 40

Title = Annotated[str, Field(min_length=1, max_length=60)]


class OutlinedArea(Wire):
    title: Title
    mechanisms: Annotated[tuple[Title, ...], Field(min_length=1, max_length=_MECHANISMS)]


class Outline(Wire):
    areas: Annotated[tuple[OutlinedArea, ...], Field(max_length=_AREAS)]


class Assigned(Wire):
    claim: Number
    mechanism: int = Field(ge=0, le=_AREAS * _MECHANISMS)
    rule: str = Field(max_length=72)


class Assignments(Wire):
    partial: ClassVar[bool] = True

    assignments: Annotated[tuple[Assigned, ...], Field(max_length=_PORTION)]


@dataclass
class _Mechanism:
    """`members`: the claims put there, the best first, with the rule that each asks for, or nothing."""

    area: int
    title: str
    members: list[tuple[Claim, str]] = field(default_factory=list)


async def draw(asking: Asking, question: Compose) -> tuple[MapArea, ...]:
    """Empty where the model drew no outline, or put fewer than half of the claims anywhere."""
    areas, mechanisms = await _outline(asking, question)
    if not mechanisms:
        return ()
    said = await _assignments(asking, question, _shown(areas, mechanisms))
    if 2 * len(said) < len(question.claims):
        return ()
    for at, claim in enumerate(question.claims, 1):
        if at in said and 0 < said[at].mechanism <= len(mechanisms):
            mechanisms[said[at].mechanism - 1].members.append((claim, _words(said[at].rule)))
    return _areas(areas, [one for one in mechanisms if one.members], question)


async def _outline(asking: Asking, question: Compose) -> tuple[list[str], list[_Mechanism]]:
    """From the claims where all fit, else from what they are about, the best as far as they fit."""
    room = await asking.room("outline", max_tokens=_TOKENS)
    for said in (stated, _about):
        shown = [numbered(number, claim, said(claim)) for number, claim in enumerate(question.claims, 1)]
        portions = await asking.portions(shown, room=room, most=len(shown))
        if len(portions) == 1:
            break
    if len(portions) > 1:
        await asking.caller.note(
            f"summarizer: the map's outline was drawn from {len(portions[0])} of {len(shown)} claims; more did not fit"
        )

    async def ask(portion: range) -> Outline:
        asked = await asking.ask(
            "outline",
            Outline,
            documents=listed(shown[at] for at in portion),
            question=f"zone: {line(question.zone)}",
            max_tokens=_TOKENS,
        )
        return asked.value

    [outline] = await asking.each(portions[:1], ask, what="outlines of the map")
    areas: list[str] = []
    mechanisms: list[_Mechanism] = []
    known: set[str] = set()
    for area in outline.areas if outline else ():
        new = {
            key(title): _words(title) for title in area.mechanisms if key(title) and key(title) not in known
        }
        known |= new.keys()
        mechanisms += [_Mechanism(len(areas), title) for title in new.values()]
        areas += [_words(area.title)] if new else []
    return areas, mechanisms


def _about(claim: Claim) -> str:
    return claim.subject


def _shown(areas: Sequence[str], mechanisms: Sequence[_Mechanism]) -> str:
    lines = ["outline"]
    for number, one in enumerate(mechanisms, 1):
        if number == 1 or mechanisms[number - 2].area != one.area:
            lines += ["area", barred(line(areas[one.area]))]
        lines += [f"mechanism {number}", barred(line(one.title))]
    return "\n".join((*lines, "end of outline"))


async def _assignments(asking: Asking, question: Compose, outline: str) -> dict[int, Assigned]:
    """By the claim's number; where one is put twice, the first counts."""
    shown = [numbered(number, claim, stated(claim)) for number, claim in enumerate(question.claims, 1)]
    room = await asking.room("assign", max_tokens=_ASSIGNED * _PORTION, beside=outline)
    portions = await asking.portions(shown, room=room, most=_PORTION)

    async def ask(portion: range) -> list[Assigned]:
        asked = await asking.ask(
            "assign",
            Assignments,
            documents=outline,
            question=listed(shown[at] for at in portion),
            max_tokens=_ASSIGNED * (len(portion) + 1),
        )
        return [one for one in asked.value.assignments if one.claim - 1 in portion]

    found = await asking.each(portions, ask, what="portions of the map")
    return {one.claim: one for answer in reversed(found) for one in reversed(answer or [])}


def _areas(titles: Sequence[str], mechanisms: Sequence[_Mechanism], question: Compose) -> tuple[MapArea, ...]:
    areas = sorted({one.area for one in mechanisms})
    rules = max(1, min(_RULES, (_NODES - len(areas) - len(mechanisms)) // max(len(mechanisms), 1)))
    used: set[str] = set()
    drawn: list[MapArea] = []
    for area in areas:
        own = [one for one in mechanisms if one.area == area]
        nodes = [node for one in own if (node := _node(one, rules, question, used)) is not None]
        if nodes:
            said = [question.zone, *(stated(claim) for one in own for claim, _ in one.members)]
            title = titles[area] if _grounded(titles[area], said) else _joined(nodes)
            drawn.append(MapArea(title=title, mechanisms=tuple(nodes)))
    return tuple(drawn)


def _node(one: _Mechanism, most: int, question: Compose, used: set[str]) -> MapMechanism | None:
    """The mechanism with its rules, then the claims that are no rules; none is taken that the map holds already."""
    disputes = {name: conflict for conflict in reversed(question.conflicts) for name in conflict.claims}
    rules: list[MapRule] = []
    about: list[str] = []
    for claim, rule in sorted(one.members, key=lambda member: member[0].id not in disputes):
        if claim.id in used:
            continue
        if rule and len(rules) < most and _grounded(rule, [stated(claim)]):
            conflict = disputes.get(claim.id)
            claims = (claim.id, *_others(claim, conflict, question, used))
            used.update(claims)
            rules.append(MapRule(title=rule, claims=claims, unknowns=_unknowns(claim, conflict, question)))
        elif len(about) < _CLAIMS:
            used.add(claim.id)
            about.append(claim.id)
    if not rules and not about:
        return None
    said = [stated(claim) for claim, _ in one.members]
    subjects = Counter(claim.subject for claim, _ in one.members)
    title = one.title if _grounded(one.title, said) else subjects.most_common(1)[0][0]
    return MapMechanism(title=title, claims=tuple(about), rules=tuple(rules))


def _others(claim: Claim, conflict: Conflict | None, question: Compose, used: set[str]) -> tuple[str, ...]:
    """The other side of the conflict belongs to the same rule."""
    known = {one.id for one in question.claims} - used - {claim.id}
    return tuple(name for name in (conflict.claims if conflict else ()) if name in known)


def _unknowns(claim: Claim, conflict: Conflict | None, question: Compose) -> tuple[str, ...]:
    """Open questions that the claim's conflict raised, or that name what the claim is about."""
    named = re.compile(rf"(?<![\w.]){re.escape(claim.subject)}(?![\w.])")
    return tuple(
        one.id
        for one in question.open_questions
        if (conflict is not None and one.raised_by == conflict.id) or named.search(one.text)
    )[:_UNKNOWNS]


def _grounded(title: str, said: Sequence[str]) -> bool:
    """Whether a word of the title is one of theirs; a title out of thin air is not shown to a person."""
    words = set(terms(title))
    return any(words.intersection(terms(text)) for text in said)


def _joined(nodes: Sequence[MapMechanism]) -> str:
    return " and ".join(node.title for node in nodes[:2])


def _words(said: str) -> str:
    return spoken(said).strip(" .")
