"""Gates: what policy says of a proposal, what a critic may release, and which verdict a person may give."""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Literal, NewType, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from karkas.policies.actions import EDITED_BY, Action, Digest, Effect, Evidence, Variant, digest_of
from karkas.policies.approvals import FEWEST, most, plain_name
from karkas.policies.errors import VerdictError
from karkas.policies.frames import FrameNode, Rule, Said
from karkas.policies.provenance import Origin, leaves, some_of
from karkas.policies.routing import Route
from karkas.policies.zones import ControlLevel, ZoneState

GateId = NewType("GateId", str)

POLICY_VERSION: Digest = digest_of({"policy": "karkas", "version": 3})
"""Bound by every permit: change `version` whenever a rule in this folder changes what may pass."""


class GateKind(StrEnum):
    """What a gate waits for: a verdict on an action, a frame, an answer, or what became of a crashed action."""

    ACTION = "action"
    FRAME = "frame"
    QUESTION = "question"
    OUTCOME = "outcome"


class GateStatus(StrEnum):
    """`open` and `deferred` wait; `passed`, `rejected` and `answered` were decided; the rest is the system's."""

    OPEN = "open"
    DEFERRED = "deferred"
    PASSED = "passed"
    REJECTED = "rejected"
    ANSWERED = "answered"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    STALE = "stale"
    CANCELLED = "cancelled"

    @property
    def waits(self) -> bool:
        return self in {GateStatus.OPEN, GateStatus.DEFERRED}


class PolicyVerdict(StrEnum):
    """What policy lets happen to a proposal; a later member is stricter."""

    ALLOW = "allow"
    PROPOSE = "propose"
    DRAFT = "draft"
    DENY = "deny"


class Hold(StrEnum):
    """What keeps a proposal from being done without a person."""

    LEVEL = "level"
    GROUND = "ground"
    FRAME = "frame"
    TOOL = "tool"
    EFFECT = "effect"
    MODEL = "model"
    """A value that a model composed."""
    ORIGIN = "origin"
    """A value from an untrusted source, or from nowhere that was found."""


class PolicyDecision(BaseModel):
    """The strictest verdict that any rule gave, and what every rule said."""

    model_config = ConfigDict(frozen=True)

    verdict: PolicyVerdict
    reasons: tuple[str, ...]
    approvers: int = FEWEST
    """How many different people must pass it: the most that any zone touched asks for."""
    holds: tuple[Hold, ...] = ()
    """Of what kind the reasons against `allow` are."""


BY_LEVEL = {
    ControlLevel.AUTONOMOUS: PolicyVerdict.ALLOW,
    ControlLevel.PROPOSE_ONLY: PolicyVerdict.PROPOSE,
    ControlLevel.DRAFT_ONLY: PolicyVerdict.DRAFT,
}


class Registered(Protocol):
    """What policy has to know of a tool."""

    @property
    def effect(self) -> Effect: ...


def judge(
    variants: Iterable[Variant],
    *,
    route: Route,
    states: Iterable[ZoneState],
    known_tools: Mapping[str, Registered] | Iterable[str],
    rules: Iterable[Rule | tuple[FrameNode, Rule]] = (),
) -> PolicyDecision:
    """Judges a proposal: the strictest verdict of all rules, over all variants and all zones touched.

    With a mapping as `known_tools` an action must also have the effect that its tool is registered with. A rule of
    a frame that comes with its node is named.
    """
    tools = known_tools if isinstance(known_tools, Mapping) else dict.fromkeys(known_tools)
    states = tuple(states)
    said = [*_ground(route, states), *_framed(rules)]
    judged = [_variant(variant, tools) for variant in variants]
    said += [told for one in judged for told in one]
    if not judged:
        said.append((PolicyVerdict.DENY, Hold.TOOL, "nothing is proposed"))
    order = list(PolicyVerdict)
    verdict = max((verdict for verdict, _, _ in said), key=order.index)
    return PolicyDecision(
        verdict=verdict,
        reasons=tuple(dict.fromkeys(reason for _, _, reason in said)),
        holds=tuple(dict.fromkeys(hold for one, hold, _ in said if one is not PolicyVerdict.ALLOW)),
        approvers=most(state.approvers for state in states),
    )


Told = tuple[PolicyVerdict, Hold, str]


def _ground(route: Route, states: tuple[ZoneState, ...]) -> Iterator[Told]:
    yield BY_LEVEL[route.level], Hold.LEVEL, route.why
    if not route.touches:
        yield PolicyVerdict.DRAFT, Hold.GROUND, "it touches no declared zone, so draft-only"
    levels = [(touch.zone, touch.level) for touch in route.touches]
    levels += [(state.zone.name, state.level) for state in states]
    for name, level in levels:
        if level.stricter_than(route.level):
            yield BY_LEVEL[level], Hold.LEVEL, f"zone {name} is {level}"
    for name in sorted(set(route.zones) - {state.zone.name for state in states}):
        why = f"zone {name} is touched, and nothing is known of its state"
        yield PolicyVerdict.DENY, Hold.GROUND, why
    for state in states:
        if not state.may_act:
            name = state.zone.name
            why = f"zone {name} is {state.stage} and understood at {state.zone.understanding}"
            why += "".join(f" ({reason})" for reason in state.reasons[:1])
            mend = f"nothing acts there before it is framed; `karkas explore {name} --source ...`"
            yield PolicyVerdict.DENY, Hold.GROUND, f"{why}: {mend}"


def _variant(variant: Variant, tools: Mapping[str, Registered | None]) -> list[Told]:
    action = variant.action
    said: list[Told] = []
    if action.tool not in tools:
        said.append((PolicyVerdict.DENY, Hold.TOOL, f"tool {action.tool!r} is not registered"))
    elif (tool := tools[action.tool]) is not None and tool.effect is not action.effect:
        said.append((PolicyVerdict.DENY, Hold.TOOL, f"{action.tool} is {tool.effect}, not {action.effect}"))
    if action.effect is Effect.IRREVERSIBLE:
        said.append(
            (PolicyVerdict.PROPOSE, Hold.EFFECT, f"{action.tool} is irreversible, so a person decides")
        )
    said += [
        (
            PolicyVerdict.PROPOSE,
            Hold.MODEL if one.origin is Origin.MODEL else Hold.ORIGIN,
            f"argument {one.pointer} comes from {one.origin}, so a person decides",
        )
        for one in variant.origins
        if not one.grounded
    ]
    traced = {one.pointer for one in variant.origins}
    said += [
        (PolicyVerdict.PROPOSE, Hold.ORIGIN, f"argument {pointer} was not traced, so a person decides")
        for pointer, _ in leaves(action.args)
        if pointer not in traced
    ]
    return said


BY_RULE = {Rule.ASK: (PolicyVerdict.PROPOSE, "ask"), Rule.FORBID: (PolicyVerdict.DENY, "forbid")}
"""`allow` is not here: a frame never loosens what else holds."""


def _framed(rules: Iterable[Rule | tuple[FrameNode, Rule]]) -> Iterator[Told]:
    nodes: dict[Rule, list[str]] = {}
    for one in rules:
        node, rule = one if isinstance(one, tuple) else (None, one)
        nodes.setdefault(rule, []).extend([f"{node.id} {node.title}"] if node is not None else [])
    for rule, (verdict, word) in BY_RULE.items():
        if rule in nodes:
            named = some_of(list(dict.fromkeys(nodes[rule])), between="; ")
            yield verdict, Hold.FRAME, f"the frame says to {word}{f': {named}' if named else ''}"


class CriticStatus(StrEnum):
    """What a critic's pass came to. Only `passed` releases anything; every other one leaves it to a person."""

    PASSED = "passed"
    OBJECTED = "objected"
    UNSURE = "unsure"
    REFUSED = "refused"
    ERROR = "error"


class CriticFinding(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    quote: str = ""
    """Words of the shown text, where it named some that stand there."""
    evidence: tuple[Evidence, ...] = ()


class CriticReport(BaseModel):
    """A critic's verdict on exactly the actions with these digests. `critic` names agent and engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    critic: str
    status: CriticStatus
    digests: tuple[Digest, ...]
    reason: str
    findings: tuple[CriticFinding, ...] = ()


def critic_releases(
    decision: PolicyDecision, variants: tuple[Variant, ...], report: CriticReport | None, *, proposer: str
) -> bool:
    """Whether a critic alone may pass the gate: one reversible or read action that policy allows where one person
    would be enough, judged by somebody other than its proposer, on exactly this digest. Whoever edits is shown the
    edit before it counts.
    """
    return (
        report is not None
        and report.status is CriticStatus.PASSED
        and decision.verdict is PolicyVerdict.ALLOW
        and decision.approvers == FEWEST
        and len(variants) == 1
        and variants[0].action.effect in {Effect.READ, Effect.REVERSIBLE}
        and report.digests == (variants[0].action.digest,)
        and bool(plain_name(report.critic))
        and bool(plain_name(proposer))
        and plain_name(report.critic) != plain_name(proposer)
        and EDITED_BY not in proposer
    )


class _Verdict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Approve(_Verdict):
    kind: Literal["approve"] = "approve"


class Choose(_Verdict):
    kind: Literal["choose"] = "choose"
    variant: int = Field(ge=0)


class Edit(_Verdict):
    """Replaces the proposal by a new action, which passes policy, critic and gate again."""

    kind: Literal["edit"] = "edit"
    action: Action


class Adopt(_Verdict):
    """The person becomes the author of a draft, or of a frame. An adopted edit is a new action with its own gate."""

    kind: Literal["adopt"] = "adopt"
    variant: int = Field(default=0, ge=0)
    frame: Digest | None = None
    """The artifact that holds the person's frame, at a gate that frames a zone."""


class Retry(StrEnum):
    NEVER = "never"
    REVISED = "revised"


class Reject(_Verdict):
    kind: Literal["reject"] = "reject"
    reason: Said
    retry: Retry = Retry.NEVER


class Answer(_Verdict):
    kind: Literal["answer"] = "answer"
    text: Said


class Defer(_Verdict):
    kind: Literal["defer"] = "defer"
    until: AwareDatetime


class Stop(_Verdict):
    """Stops the whole run; all its open gates are cancelled."""

    kind: Literal["stop"] = "stop"
    reason: str = ""


Verdict = Annotated[
    Approve | Choose | Edit | Adopt | Reject | Answer | Defer | Stop, Field(discriminator="kind")
]


class GateFacts(BaseModel):
    """What a verdict is checked against."""

    model_config = ConfigDict(frozen=True)

    kind: GateKind
    status: GateStatus
    policy: PolicyVerdict
    variants: int = 0
    choices: tuple[str, ...] = ()
    """The answers that a question accepts; any text where it is empty."""


def possible(gate: GateFacts) -> tuple[str, ...]:
    """The verdicts that a person may give at this gate, in the order in which they are offered."""
    if not gate.status.waits:
        return ()
    match gate.kind:
        case GateKind.ACTION if gate.policy is PolicyVerdict.DENY or gate.variants < 1:
            deciding: tuple[str, ...] = ()
        case GateKind.ACTION if gate.policy is PolicyVerdict.DRAFT:
            deciding = ("adopt", "edit", "reject")
        case GateKind.ACTION:
            deciding = ("approve" if gate.variants == 1 else "choose", "edit", "reject")
        case GateKind.FRAME:
            deciding = ("adopt", "reject")
        case GateKind.QUESTION | GateKind.OUTCOME:
            deciding = ("answer",)
    return (*deciding, "defer", "stop")


def decide(gate: GateFacts, verdict: Verdict) -> GateStatus:
    """The status that a person's verdict leads to, or `VerdictError` with what is possible instead."""
    if not gate.status.waits:
        raise VerdictError(f"the gate is {gate.status} already; nothing more can be decided at it")
    allowed = possible(gate)
    if verdict.kind not in allowed:
        raise VerdictError(f"{verdict.kind!r} is not possible at this gate; possible: {', '.join(allowed)}")
    fault = _fault(gate, verdict)
    if fault is not None:
        raise VerdictError(fault)
    return LEADS_TO[verdict.kind]


LEADS_TO = {
    "approve": GateStatus.PASSED,
    "choose": GateStatus.PASSED,
    "adopt": GateStatus.PASSED,
    "edit": GateStatus.SUPERSEDED,
    "reject": GateStatus.REJECTED,
    "answer": GateStatus.ANSWERED,
    "defer": GateStatus.DEFERRED,
    "stop": GateStatus.CANCELLED,
}


def _fault(gate: GateFacts, verdict: Verdict) -> str | None:
    """What is wrong with a verdict of a possible kind."""
    match verdict:
        case Adopt(frame=None) if gate.kind is GateKind.FRAME:
            return "a frame must be given: `karkas frame ZONE`"
        case Adopt(frame=str()) if gate.kind is not GateKind.FRAME:
            return "this gate is about an action; a frame is adopted with `karkas frame ZONE`"
        case Choose(variant=index) | Adopt(variant=index) if index >= gate.variants and (
            gate.kind is GateKind.ACTION
        ):
            return f"there is no variant {index + 1}; there are {gate.variants}"
        case Answer(text=text) if gate.choices and text not in gate.choices:
            return f"the answer must be one of: {', '.join(gate.choices)}"
        case _:
            return None
