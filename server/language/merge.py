"""Claims that say the same become one with the proofs of all: by rule where words agree, else where a model says so."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, ClassVar

from pydantic import Field

from karkas.policies.distillates import Facet
from karkas.server.language.aside import aside
from karkas.server.language.listing import PLACES, numbered, stated
from karkas.server.language.prompt import Asking, Number
from karkas.server.offline.subjects import key
from karkas.server.offline.words import overlap, terms
from karkas.server.protocol import Wire
from karkas.server.questions import DraftClaim

_SAME = 0.8
"""Overlap of words from which claims of one facet and subject say the same."""
_ALIKE = 0.4
"""Overlap of words from which a model is asked."""
_GROUP = 8
"""Claims that look alike and are shown together."""
_PORTION = 48
"""Claims shown in one prompt."""
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_DENIES = re.compile(r"\b(?:not?|never|cannot|without|un\w{4,}|не|нет|нельзя|без)\b|n['’]t\b", re.IGNORECASE)


class SameClaims(Wire):
    partial: ClassVar[bool] = True

    same: Annotated[
        tuple[Annotated[tuple[Number, ...], Field(min_length=2, max_length=_GROUP)], ...],
        Field(max_length=_PORTION // 2),
    ]


@dataclass(frozen=True)
class _Seen:
    """A claim, and what it is compared by."""

    claim: DraftClaim
    words: frozenset[str]
    subject: str
    values: frozenset[str]
    denies: bool

    @classmethod
    def of(cls, claim: DraftClaim) -> "_Seen":
        return cls(
            claim=claim,
            words=frozenset(terms(claim.text)),
            subject=key(claim.subject),
            values=frozenset(_NUMBER.findall(claim.text)),
            denies=_DENIES.search(claim.text) is not None,
        )

    def may_be(self, other: "_Seen") -> bool:
        """Whether nothing shows that they say different things: values, denials, conditions."""
        return (
            self.values == other.values
            and self.denies == other.denies
            and _agree(self.claim.scope, other.claim.scope)
        )

    def same(self, other: "_Seen") -> bool:
        alike = self.claim.facet is other.claim.facet and self.subject == other.subject
        return alike and self.may_be(other) and overlap(self.words, other.words) >= _SAME

    def like(self, other: "_Seen") -> bool:
        """Whether a model should say. Of one subject, half the words are enough."""
        enough = _ALIKE / 2 if self.subject == other.subject else _ALIKE
        return self.may_be(other) and overlap(self.words, other.words) >= enough


async def merged(asking: Asking, claims: Sequence[DraftClaim]) -> list[DraftClaim]:
    """In the order given; of each set of claims that say the same, the first stays. No span is lost."""
    if len(claims) < 2:  # noqa: PLR2004 - what stands alone
        return list(claims)
    seen, groups = await aside(sum(len(one.text) for one in claims), _alike, claims)
    texts = [_shown(group, seen) for group in groups]
    room = await asking.room("merge", max_tokens=_tokens(_PORTION)) if groups else 0
    portions = await asking.portions(texts, room=room, most=max(1, _PORTION // _GROUP))

    async def judge(portion: range) -> list[frozenset[int]]:
        shown = [groups[at] for at in portion]
        asked = await asking.ask(
            "merge",
            SameClaims,
            question="\n".join(texts[at] for at in portion),
            max_tokens=_tokens(sum(map(len, shown))),
        )
        return _valid(asked.value.same, shown, seen)

    found = await asking.each(portions, judge, what="portions of claims that look alike")
    return _united([one.claim for one in seen], [same for sets in found for same in sets or ()])


def _alike(claims: Sequence[DraftClaim]) -> tuple[list[_Seen], list[list[int]]]:
    """What is left after the rule, and the groups that a model is to judge."""
    seen = [_Seen.of(claim) for claim in _by_rule(claims)]
    return seen, _groups(seen)


def _by_rule(claims: Sequence[DraftClaim]) -> list[DraftClaim]:
    kept: dict[tuple[Facet, str], list[int]] = {}
    seen = [_Seen.of(claim) for claim in claims]
    same: list[frozenset[int]] = []
    for at, one in enumerate(seen):
        rivals = kept.setdefault((one.claim.facet, one.subject), [])
        twin = next((other for other in rivals if one.same(seen[other])), None)
        if twin is None:
            rivals.append(at)
        else:
            same.append(frozenset({twin, at}))
    return _united(claims, same)


def _groups(seen: Sequence[_Seen]) -> list[list[int]]:
    """Claims that look alike, by place: each beside the first one that it is like. A claim is in one group at most."""
    groups: list[list[int]] = []
    for at, one in enumerate(seen):
        home = next((group for group in groups if len(group) < _GROUP and one.like(seen[group[0]])), None)
        if home is None:
            groups.append([at])
        else:
            home.append(at)
    return [group for group in groups if len(group) > 1]


def _shown(group: Sequence[int], seen: Sequence[_Seen]) -> str:
    return "\n".join(
        ("group", *(numbered(at + 1, claim, stated(claim)) for at in group for claim in (seen[at].claim,)))
    )


def _valid(
    said: Iterable[Sequence[int]], groups: Sequence[Sequence[int]], seen: Sequence[_Seen]
) -> list[frozenset[int]]:
    """What was said of claims of one shown group that nothing shows to differ, each claim once."""
    home = {at: number for number, group in enumerate(groups) for at in group}
    used: set[int] = set()
    found: list[frozenset[int]] = []
    for numbers in said:
        places = sorted({number - 1 for number in numbers} & home.keys() - used)
        same = frozenset(places) if len({home[at] for at in places}) == 1 else frozenset[int]()
        if len(same) > 1 and all(seen[one].may_be(seen[other]) for one, other in combinations(same, 2)):
            used |= same
            found.append(same)
    return found


def _agree(ours: Mapping[str, str], theirs: Mapping[str, str]) -> bool:
    conditions = (ours.keys() & theirs.keys()) - PLACES
    return all(ours[name].lower() == theirs[name].lower() for name in conditions)


def _united(claims: Sequence[DraftClaim], same: Iterable[frozenset[int]]) -> list[DraftClaim]:
    """The first of each set, with all cites. Its scope holds all conditions: under these, every proof carries it."""
    kept = dict(enumerate(claims))
    for places in same:
        first, *others = sorted(places)
        for at in others:
            into, claim = kept[first], kept[at]
            if _agree(into.scope, claim.scope):
                conditions = {name: value for name, value in claim.scope.items() if name not in PLACES}
                kept[first] = into.model_copy(
                    update={
                        "cites": tuple(dict.fromkeys((*into.cites, *claim.cites))),
                        "scope": {**conditions, **into.scope},
                        "score": max(into.score, claim.score),
                    }
                )
                del kept[at]
    return list(kept.values())


def _tokens(claims: int) -> int:
    return 50 + 8 * claims
