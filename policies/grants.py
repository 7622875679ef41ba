"""Standing grants: a narrow class of actions that a person let happen in advance, and nothing beside it."""

import posixpath
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from karkas.policies.actions import EDITED_BY, Action, Digest, Effect, Proposal, canonical
from karkas.policies.approvals import FEWEST, Said
from karkas.policies.gates import CriticReport, CriticStatus, Hold, PolicyDecision, PolicyVerdict
from karkas.policies.rendering import visible_line
from karkas.policies.routing import glob_pattern
from karkas.policies.zones import ZoneName

MOST_USES = 1000
GRANTABLE = frozenset({Hold.LEVEL, Hold.MODEL})
"""All that a grant stands in for: the person whom the level asks for, and who let a value be any in advance."""


class _Pattern(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AnyValue(_Pattern):
    kind: Literal["any"] = "any"


class TextGlob(_Pattern):
    """A glob (fnmatch) over a whole text, case included; a text that climbs by `..` matches none."""

    kind: Literal["text"] = "text"
    glob: str = Field(min_length=1)


class PathGlob(_Pattern):
    """A glob (gitwildmatch) over a path, from the workspace's own folder on and with its case: narrower than a scope.
    A path in any but its one plain spelling matches none.
    """

    kind: Literal["path"] = "path"
    glob: str = Field(min_length=1)


class ExactValue(_Pattern):
    kind: Literal["exact"] = "exact"
    value: JsonValue


Pattern = Annotated[AnyValue | TextGlob | PathGlob | ExactValue, Field(discriminator="kind")]


class Grant(BaseModel):
    """What a person grants: calls of one tool in one zone, every argument of which matches its pattern.

    It is given for the tool as it is coded now, at most `limit` times, until `expires_at`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    zone: ZoneName
    tool: str = Field(min_length=1)
    tool_version: Digest
    args: dict[str, Pattern]
    limit: int = Field(ge=1, le=MOST_USES)
    expires_at: AwareDatetime
    reason: Said
    author: Said


def refusal(
    grant: Grant,
    *,
    policy: PolicyDecision,
    zones: tuple[ZoneName, ...],
    proposal: Proposal,
    critic: CriticReport | None,
) -> str | None:
    """Why the grant does not release what is proposed, or None where it does. Time, count and code are the caller's."""
    if len(proposal.variants) != 1:
        return f"there are {len(proposal.variants)} variants to choose from"
    (variant,) = proposal.variants
    found = (
        *_of_another_kind(grant, variant.action, zones),
        *_kept_for_people(policy, proposal, variant.action, critic),
        *_unmatched(grant, variant.action.args),
    )
    return next(iter(found), None)


def _of_another_kind(grant: Grant, action: Action, zones: tuple[ZoneName, ...]) -> Iterator[str]:
    if action.tool != grant.tool:
        yield f"it is a call of {action.tool}"
    if zones != (grant.zone,):
        yield f"it touches {', '.join(zones) or 'no zone'}"


def _kept_for_people(
    policy: PolicyDecision, proposal: Proposal, action: Action, critic: CriticReport | None
) -> Iterator[str]:
    if proposal.proposer.startswith("person/") or EDITED_BY in proposal.proposer:
        yield "a person proposed it, who decides it too"
    if action.effect not in {Effect.READ, Effect.REVERSIBLE}:
        yield f"it is {action.effect}"
    if policy.verdict is not PolicyVerdict.PROPOSE or Hold.LEVEL not in policy.holds:
        yield f"policy says {policy.verdict}, and not for the zone's level"
    if beyond := [hold.value for hold in policy.holds if hold not in GRANTABLE]:
        yield f"more than the level asks for a person: {', '.join(beyond)}"
    if policy.approvers != FEWEST:
        yield f"{policy.approvers} people decide it"
    if critic is not None and critic.status not in {CriticStatus.PASSED, CriticStatus.REFUSED}:
        yield f"the critic says {critic.status}"
    if critic is not None and critic.digests != (action.digest,):
        yield "the critic judged something else"


def _unmatched(grant: Grant, args: dict[str, JsonValue]) -> Iterator[str]:
    for name, value in args.items():
        if name not in grant.args:
            yield f"argument {name} has no pattern"
        elif not covers(grant.args[name], value):
            yield f"argument {name} does not match"


def covers(pattern: Pattern, value: JsonValue) -> bool:
    """Whether a pattern allows the value of an argument."""
    match pattern:
        case AnyValue():
            return True
        case TextGlob(glob=glob):
            return isinstance(value, str) and not _climbs(value) and fnmatchcase(value, glob)
        case PathGlob(glob=glob):
            paths = value if isinstance(value, list) else [value]
            return bool(paths) and all(isinstance(one, str) and _below(one, glob) for one in paths)
        case ExactValue(value=wanted):
            return canonical(value) == canonical(wanted)


def _climbs(text: str) -> bool:
    return ".." in re.split(r"[/\\]", text)


def _below(path: str, glob: str) -> bool:
    plain = (
        path not in {"", "."}
        and posixpath.normpath(path) == path
        and visible_line(path) == path
        and "\\" not in path
        and not path.startswith(("/", "~"))
        and not _climbs(path)
    )
    # A leading slash binds the glob to the workspace's own folder, where one without would match at any depth.
    return plain and glob_pattern(f"/{glob.lstrip('/').removeprefix('./')}").fullmatch(path) is not None
