"""Frames: the person's three-level map of a zone, pinned to the distillate that it was drawn from."""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from karkas.policies.approvals import Said
from karkas.policies.distillates import Distillate
from karkas.policies.zones import ControlLevel, ZoneName


class Rule(StrEnum):
    """What agents may do where a rule applies; a later member is stricter."""

    ALLOW = "allow"
    ASK = "ask"
    FORBID = "forbid"


class FrameNode(BaseModel):
    """An area (level 1), a mechanism (level 2) or a rule for agents (level 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    level: Literal[1, 2, 3]
    title: Said
    parent: str | None = None
    claims: tuple[str, ...] = ()
    unknowns: tuple[str, ...] = ()
    rule: Rule | None = None
    tools: tuple[str, ...] = ()
    """Tool name globs that the rule is about; every tool where it is empty."""
    paths: tuple[str, ...] = ()
    """Path globs that the rule is about; every path where it is empty."""
    topics: tuple[str, ...] = ()
    """Words of a task that the rule is about; every task where it is empty."""


class ConflictDecision(BaseModel):
    """How the person decided a conflict: a claim's id, `both` or `neither`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    conflict: str
    verdict: str
    reason: Said


class DistillateRef(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    sha256: str


def _none_is_empty(value: Any) -> Any:
    """`decisions:` with every entry still commented out reads as null."""
    return () if value is None else value


class Frame(BaseModel):
    """`karkas.frame/1`, as FORMATS describes it and `docs/frame.schema.json` fixes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal["karkas.frame/1"] = Field(default="karkas.frame/1", alias="schema")
    zone: ZoneName
    distillate: DistillateRef
    author: Said
    level: ControlLevel
    nodes: tuple[FrameNode, ...] = Field(min_length=1)
    decisions: Annotated[tuple[ConflictDecision, ...], BeforeValidator(_none_is_empty)] = ()


def check_frame(frame: Frame, distillate: Distillate, distillate_sha256: str) -> tuple[str, ...]:
    """Every fault of the frame, each with its mend; empty when it can be accepted."""
    return (
        *_check_pin(frame, distillate, distillate_sha256),
        *_check_tree(frame.nodes),
        *_check_references(frame, distillate),
        *_check_decisions(frame, distillate),
    )


def _check_pin(frame: Frame, distillate: Distillate, sha256: str) -> Iterable[str]:
    if frame.zone != distillate.zone:
        yield f"the frame is for zone {frame.zone}, its distillate for {distillate.zone}"
    if frame.distillate.sha256 != sha256:
        yield (
            f"the frame pins distillate {frame.distillate.id} ({frame.distillate.sha256[:12]}), but the"
            f" zone's is {distillate.id} ({sha256[:12]}); read what changed, then pin the new hash"
        )
    elif frame.distillate.id != distillate.id:
        yield f"the frame names distillate {frame.distillate.id}, but the file with that hash is {distillate.id}"


def _check_tree(nodes: tuple[FrameNode, ...]) -> Iterable[str]:
    by_id = {node.id: node for node in nodes}
    for name, count in Counter(node.id for node in nodes).items():
        if count > 1:
            yield f"node id {name!r} stands {count} times"
    for node in nodes:
        parent = by_id.get(node.parent) if node.parent is not None else None
        if node.level == 1 and node.parent is not None:
            yield f"node {node.id} is of level 1 and must have no parent"
        elif node.level > 1 and parent is None:
            yield f"node {node.id} is of level {node.level} and needs a parent of level {node.level - 1}"
        elif parent is not None and parent.level != node.level - 1:
            yield (
                f"node {node.id} is of level {node.level} and needs a parent of level {node.level - 1},"
                f" but {parent.id} is of level {parent.level}"
            )
        if (node.rule is not None) != (node.level == 3):  # noqa: PLR2004
            yield (
                f"node {node.id} is of level 3 and needs `rule: allow | ask | forbid`"
                if node.rule is None
                else f"node {node.id} has a rule, so it must be of level 3"
            )


def _check_references(frame: Frame, distillate: Distillate) -> Iterable[str]:
    claims = {claim.id for claim in distillate.claims}
    questions = {question.id for question in distillate.open_questions}
    for node in frame.nodes:
        for kind, names, known in (("claim", node.claims, claims), ("question", node.unknowns, questions)):
            for name in names:
                if name not in known:
                    yield f"node {node.id} names {kind} {name}, which is not in the distillate"


def _check_decisions(frame: Frame, distillate: Distillate) -> Iterable[str]:
    conflicts = {conflict.id: conflict for conflict in distillate.conflicts}
    decided = Counter(decision.conflict for decision in frame.decisions)
    yield from (f"conflict {name} is decided {count} times" for name, count in decided.items() if count > 1)
    for decision in frame.decisions:
        conflict = conflicts.get(decision.conflict)
        if conflict is None:
            yield f"decision on {decision.conflict}, which is not a conflict in the distillate"
        elif decision.verdict not in {*conflict.claims, "both", "neither"}:
            yield (
                f"decision on {conflict.id}: the verdict must be one of {', '.join(conflict.claims)}, both, neither"
            )
    ruled = {claim for node in frame.nodes if node.rule is not None for claim in node.claims}
    for conflict in distillate.conflicts:
        if conflict.id not in decided and ruled & set(conflict.claims):
            choice = " | ".join((*conflict.claims, "both", "neither"))
            yield (
                f"conflict {conflict.id} ({conflict.kind}) stands under a rule and is not decided; add to"
                f" `decisions`: {{conflict: {conflict.id}, verdict: {choice}, reason: ...}}"
            )
