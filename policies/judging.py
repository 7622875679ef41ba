"""Judging: what policy lets happen to a proposal, and what a critic may release alone."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from karkas.policies.actions import EDITED_BY, Effect, Variant
from karkas.policies.approvals import FEWEST, most, plain_name
from karkas.policies.frames import FrameNode, Rule
from karkas.policies.gates import CriticReport, CriticStatus, Hold, PolicyDecision, PolicyVerdict
from karkas.policies.provenance import Origin, leaves, some_of
from karkas.policies.routing import Route
from karkas.policies.zones import ControlLevel, ZoneState

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
    verdict = max((verdict for verdict, _, _ in said), key=_STRICTNESS.index)
    return PolicyDecision(
        verdict=verdict,
        reasons=tuple(dict.fromkeys(reason for _, _, reason in said)),
        holds=tuple(dict.fromkeys(hold for one, hold, _ in said if one is not PolicyVerdict.ALLOW)),
        approvers=most(state.approvers for state in states),
    )


_STRICTNESS = tuple(PolicyVerdict)

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
