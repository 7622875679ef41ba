"""Claims as a model is shown them: numbered, their words behind bars."""

from collections.abc import Iterable

from karkas.policies.distillates import Claim
from karkas.server.language.neutral import barred, line
from karkas.server.questions import DraftClaim

PLACES = frozenset({"page", "section", "under", "columns"})
"""Scope that says where a claim stands, not under which conditions it holds."""


def stated(claim: Claim | DraftClaim) -> str:
    """What a claim says, of what, and under which conditions."""
    conditions = ", ".join(f"{name}: {value}" for name, value in claim.scope.items() if name not in PLACES)
    return f"{claim.subject}{f' ({conditions})' if conditions else ''}: {claim.text}"


def headed(claim: Claim) -> str:
    """What a claim is of, and all that its scope says."""
    scope = ", ".join(f"{name} {value}" for name, value in claim.scope.items())
    return f"| {line(claim.subject)}{f' (for {line(scope)})' if scope else ''}"


def numbered(number: int, claim: Claim | DraftClaim, said: str) -> str:
    return f"claim {number}, {claim.facet}\n{barred(line(said))}"


def listed(shown: Iterable[str]) -> str:
    return "\n".join(("claims", *shown, "end of claims"))
