"""Approvals: where a zone asks for two people, both say the same of one gate before it passes."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from karkas.policies.errors import VerdictError
from karkas.policies.provenance import folded

FEWEST, MOST = 1, 2

Approvers = Annotated[int, Field(ge=FEWEST, le=MOST)]
"""How many different people must say yes."""

Said = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""Words of a person: blanks alone say nothing."""


@lru_cache(maxsize=256)
def plain_name(name: str) -> str:
    """Case, blanks, compatibility forms and what cannot be seen make no other person."""
    return folded(name)


def most(approvers: Iterable[int]) -> int:
    """What holds where several zones are touched; one person decides where none says more."""
    return max(approvers, default=FEWEST)


class Approval(BaseModel):
    """One person's yes, while it waits for another's: the verdict, and the same in a few words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: str
    at: AwareDatetime
    verdict: dict[str, JsonValue]
    told: str


def passes(
    before: Sequence[Approval], *, by: str, verdict: dict[str, JsonValue], told: str, needed: int
) -> bool:
    """Whether this yes is the last that is needed. `VerdictError` where it is no other person's, or says otherwise."""
    for one in before:
        if plain_name(one.by) == plain_name(by):
            raise VerdictError(
                f"{one.by} said {one.told} at this gate already; it needs {needed} different people, so somebody else"
                " decides now"
            )
        if one.verdict != verdict:
            raise VerdictError(
                f"{one.by} said {one.told} at this gate, and {told} is not the same; say that too, or reject or edit it"
            )
    return len(before) + 1 >= needed
