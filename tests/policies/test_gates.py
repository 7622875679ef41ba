from collections.abc import Iterable
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, TypeAdapter, ValidationError

from karkas.policies.actions import Action, Digest, Effect, Variant
from karkas.policies.errors import VerdictError
from karkas.policies.frames import FrameNode, Rule
from karkas.policies.gates import (
    CriticReport,
    CriticStatus,
    GateKind,
    GateStatus,
    PolicyDecision,
    PolicyVerdict,
)
from karkas.policies.judging import BY_LEVEL, critic_releases, judge
from karkas.policies.provenance import ArgumentOrigin, Origin
from karkas.policies.routing import Route, Touch, route
from karkas.policies.verdicts import (
    Adopt,
    Answer,
    Approve,
    Choose,
    Defer,
    Edit,
    GateFacts,
    Reject,
    Stop,
    Verdict,
    decide,
    possible,
)
from karkas.policies.zones import ControlLevel, Scope, Stage, Zone, ZoneState

ORDER = list(PolicyVerdict)
ACTION = Action(tool="write_file", args={"path": "a.md"}, effect=Effect.REVERSIBLE)
GROUNDED = (ArgumentOrigin(pointer="/path", origin=Origin.TASK),)


def state(name: str, level: ControlLevel, *, framed: bool = True, understanding: int = 5) -> ZoneState:
    scope = Scope(tools=("*",))
    zone = Zone(name=name, understanding=understanding, scope=scope)
    stage = Stage.FRAMED if framed else Stage.MAPPED
    return ZoneState(zone=zone, level=level, stage=stage, scope=scope, reasons=())


def judged(
    states: list[ZoneState],
    variants: Iterable[Variant] = (Variant(action=ACTION, origins=GROUNDED),),
    rules: Iterable[Rule | tuple[FrameNode, Rule]] = (),
    tools: Iterable[str] = ("write_file", "run_command"),
) -> PolicyDecision:
    variants = tuple(variants)
    way = route(states, tools=[variant.action.tool for variant in variants])
    return judge(variants, route=way, states=states, known_tools=tools, rules=rules)


levels = st.sampled_from(ControlLevel)
origins = st.lists(
    st.builds(
        ArgumentOrigin,
        pointer=st.sampled_from(["/path", "/other", "/deep/x", "/deep/x#"]),
        origin=st.sampled_from(Origin),
    ),
    max_size=4,
).map(tuple)
arguments: st.SearchStrategy[dict[str, JsonValue]] = st.sampled_from(
    [{}, {"path": "a.md"}, {"path": "a.md", "other": 1}, {"deep": {"x": "y"}}]
)
actions = st.builds(
    Action,
    tool=st.sampled_from(["write_file", "run_command", "unheard_of"]),
    args=arguments,
    effect=st.sampled_from(Effect),
)
variants = st.builds(Variant, action=actions, origins=origins)
zones = st.lists(st.tuples(levels, st.booleans(), st.integers(0, 5)), max_size=4).map(
    lambda some: [
        state(f"z{index}", level, framed=framed, understanding=understanding)
        for index, (level, framed, understanding) in enumerate(some)
    ]
)
rules = st.lists(st.sampled_from(Rule), max_size=3)


@given(zones, st.lists(variants, min_size=1, max_size=3), rules)
def test_the_verdict_is_the_strictest_that_any_rule_gives(
    states: list[ZoneState], some: list[Variant], ruled: list[Rule]
) -> None:
    decision = judged(states, some, ruled)
    floor = [PolicyVerdict.DRAFT] if not states else [BY_LEVEL[one.level] for one in states]
    if any(not one.may_act for one in states) or Rule.FORBID in ruled:
        floor.append(PolicyVerdict.DENY)
    if any(variant.action.tool == "unheard_of" for variant in some):
        floor.append(PolicyVerdict.DENY)
    if Rule.ASK in ruled or any(variant.action.effect is Effect.IRREVERSIBLE for variant in some):
        floor.append(PolicyVerdict.PROPOSE)
    if any(not origin.grounded for variant in some for origin in variant.origins):
        floor.append(PolicyVerdict.PROPOSE)
    if any(not _traced(variant) for variant in some):
        floor.append(PolicyVerdict.PROPOSE)
    assert decision.verdict is max(floor, key=ORDER.index)
    assert decision.reasons


def _traced(variant: Variant) -> bool:
    wanted = {"path": {"/path"}, "other": {"/other"}, "deep": {"/deep/x", "/deep/x#"}}
    needed = set().union(*(wanted[key] for key in variant.action.args)) if variant.action.args else {""}
    return needed <= {one.pointer for one in variant.origins}


@given(zones.filter(bool), st.lists(variants, min_size=1, max_size=2), rules, st.data())
def test_one_zone_rule_or_variant_more_never_loosens(
    states: list[ZoneState], some: list[Variant], ruled: list[Rule], data: st.DataObject
) -> None:
    before = ORDER.index(judged(states, some, ruled).verdict)
    more = state(
        "more", data.draw(levels), framed=data.draw(st.booleans()), understanding=data.draw(st.integers(0, 5))
    )
    assert ORDER.index(judged([*states, more], some, ruled).verdict) >= before
    assert ORDER.index(judged(states, [*some, data.draw(variants)], ruled).verdict) >= before
    assert ORDER.index(judged(states, some, [*ruled, data.draw(st.sampled_from(Rule))]).verdict) >= before


def test_grounded_reversible_action_in_an_autonomous_framed_zone_is_allowed() -> None:
    assert judged([state("z", ControlLevel.AUTONOMOUS)]).verdict is PolicyVerdict.ALLOW


def test_an_action_that_was_traced_in_part_goes_to_a_person() -> None:
    action = ACTION.model_copy(update={"args": {"path": "a.md", "content": "x"}})
    decision = judged([state("z", ControlLevel.AUTONOMOUS)], [Variant(action=action, origins=GROUNDED)])
    assert decision.verdict is PolicyVerdict.PROPOSE
    assert "argument /content was not traced, so a person decides" in decision.reasons


def test_the_frames_rules_are_named_and_counted() -> None:
    nodes = [
        FrameNode(id=f"n{index}", level=3, title=f"Rule {index}", parent="n", rule=Rule.ASK)
        for index in range(7)
    ]
    decision = judged([state("z", ControlLevel.AUTONOMOUS)], rules=[(node, Rule.ASK) for node in nodes])
    assert decision.verdict is PolicyVerdict.PROPOSE
    asked = "n0 Rule 0; n1 Rule 1; n2 Rule 2; n3 Rule 3; n4 Rule 4 and 2 more"
    assert f"the frame says to ask: {asked}" in decision.reasons


def test_nothing_proposed_is_denied() -> None:
    assert judged([state("z", ControlLevel.AUTONOMOUS)], []).verdict is PolicyVerdict.DENY


def test_a_route_cannot_claim_a_looser_level_than_its_zones() -> None:
    strict = state("z", ControlLevel.DRAFT_ONLY)
    lie = Route(
        touches=(Touch(zone="z", level=ControlLevel.DRAFT_ONLY, because=("tool",)),),
        level=ControlLevel.AUTONOMOUS,
        why="trust me",
    )
    variant = Variant(action=ACTION, origins=GROUNDED)
    for touches, verdict in ((lie.touches, PolicyVerdict.DRAFT), ((), PolicyVerdict.DRAFT)):
        told = lie.model_copy(update={"touches": touches})
        decision = judge([variant], route=told, states=[strict], known_tools=["write_file"])
        assert decision.verdict is verdict


def test_a_touched_zone_of_which_no_state_is_given_denies() -> None:
    way = route([state("z", ControlLevel.AUTONOMOUS)], tools=["write_file"])
    variant = Variant(action=ACTION, origins=GROUNDED)
    decision = judge([variant], route=way, states=[], known_tools=["write_file"])
    assert decision.verdict is PolicyVerdict.DENY


def test_an_action_that_makes_light_of_its_tool_is_denied() -> None:
    states = [state("z", ControlLevel.AUTONOMOUS)]
    grave = {"write_file": SimpleNamespace(effect=Effect.IRREVERSIBLE)}
    assert judged(states, tools=grave).verdict is PolicyVerdict.DENY
    same = {"write_file": SimpleNamespace(effect=Effect.REVERSIBLE)}
    assert judged(states, tools=same).verdict is PolicyVerdict.ALLOW


def report(**change: object) -> CriticReport:
    given_: dict[str, object] = {
        "critic": "critic/engine",
        "status": CriticStatus.PASSED,
        "digests": (ACTION.digest,),
        "reason": "fits",
    }
    return CriticReport.model_validate(given_ | change)


@given(
    verdict=st.sampled_from(PolicyVerdict),
    status=st.sampled_from(CriticStatus),
    effect=st.sampled_from(Effect),
    count=st.integers(1, 2),
    exact=st.booleans(),
    critic=st.sampled_from(["critic/engine", "executor/engine", " Executor/ENGINE ", ""]),
)
def test_a_critic_releases_only_under_the_whole_condition(
    *, verdict: PolicyVerdict, status: CriticStatus, effect: Effect, count: int, exact: bool, critic: str
) -> None:
    action = ACTION.model_copy(update={"effect": effect})
    said = report(
        status=status, critic=critic, digests=(action.digest if exact else Digest("0" * 64),) * count
    )
    released = critic_releases(
        PolicyDecision(verdict=verdict, reasons=()),
        (Variant(action=action),) * count,
        said,
        proposer="executor/engine",
    )
    assert released == (
        verdict is PolicyVerdict.ALLOW
        and status is CriticStatus.PASSED
        and effect is not Effect.IRREVERSIBLE
        and count == 1
        and exact
        and critic == "critic/engine"
    )


@pytest.mark.parametrize("proposer", ["", "  "])
def test_an_unnamed_proposer_or_no_report_releases_nothing(proposer: str) -> None:
    allowed = PolicyDecision(verdict=PolicyVerdict.ALLOW, reasons=())
    assert not critic_releases(allowed, (Variant(action=ACTION),), report(), proposer=proposer)
    assert not critic_releases(allowed, (Variant(action=ACTION),), None, proposer="executor")


facts = st.builds(
    GateFacts,
    kind=st.sampled_from(GateKind),
    status=st.sampled_from(GateStatus),
    policy=st.sampled_from(PolicyVerdict),
    variants=st.integers(0, 4),
    choices=st.sampled_from([(), ("committed", "failed")]),
)


def attempts(gate: GateFacts) -> dict[str, list[Verdict]]:
    framing = gate.kind is GateKind.FRAME
    return {
        "approve": [Approve()],
        "choose": [Choose(variant=index) for index in range(gate.variants)],
        "edit": [Edit(action=ACTION)],
        "adopt": [Adopt(frame=Digest("0" * 64))]
        if framing
        else [Adopt(variant=n) for n in range(gate.variants)],
        "reject": [Reject(reason="no")],
        "answer": [Answer(text=text) for text in gate.choices or ("anything",)],
        "defer": [Defer(until=datetime(2026, 11, 23, tzinfo=UTC))],
        "stop": [Stop()],
    }


@given(facts)
def test_exactly_the_verdicts_that_are_offered_are_accepted(gate: GateFacts) -> None:
    accepted = set()
    for kind, verdicts in attempts(gate).items():
        for verdict in verdicts:
            try:
                decide(gate, verdict)
            except VerdictError:
                assert kind not in possible(gate)
            else:
                accepted.add(kind)
    assert accepted == set(possible(gate))


@given(facts)
def test_what_does_not_wait_cannot_be_decided(gate: GateFacts) -> None:
    if not gate.status.waits:
        assert possible(gate) == ()
        with pytest.raises(VerdictError, match="nothing more can be decided"):
            decide(gate, Stop())


@given(facts)
def test_a_draft_or_a_denied_action_is_never_approved(gate: GateFacts) -> None:
    if gate.kind is GateKind.ACTION and gate.policy in {PolicyVerdict.DRAFT, PolicyVerdict.DENY}:
        for verdict in (Approve(), Choose(variant=0)):
            with pytest.raises(VerdictError):
                decide(gate, verdict)
    if gate.kind is GateKind.ACTION and gate.policy is PolicyVerdict.DENY:
        for adopting in (Adopt(), Edit(action=ACTION)):
            with pytest.raises(VerdictError):
                decide(gate, adopting)


@given(facts)
def test_only_a_persons_yes_passes_a_gate(gate: GateFacts) -> None:
    for kind, verdicts in attempts(gate).items():
        for verdict in verdicts if kind in possible(gate) else ():
            assert (decide(gate, verdict) is GateStatus.PASSED) == (kind in {"approve", "choose", "adopt"})


def test_several_variants_must_be_chosen_from_and_not_approved() -> None:
    gate = GateFacts(kind=GateKind.ACTION, status=GateStatus.OPEN, policy=PolicyVerdict.PROPOSE, variants=2)
    with pytest.raises(VerdictError, match="choose"):
        decide(gate, Approve())
    with pytest.raises(VerdictError, match="no variant 3; there are 2"):
        decide(gate, Choose(variant=2))


def test_an_edit_supersedes_the_gate_and_passes_nothing() -> None:
    gate = GateFacts(kind=GateKind.ACTION, status=GateStatus.OPEN, policy=PolicyVerdict.PROPOSE, variants=1)
    assert decide(gate, Edit(action=ACTION)) is GateStatus.SUPERSEDED


def test_a_frame_is_adopted_only_with_a_frame_and_an_action_only_without() -> None:
    framing = GateFacts(kind=GateKind.FRAME, status=GateStatus.OPEN, policy=PolicyVerdict.PROPOSE)
    with pytest.raises(VerdictError, match="karkas frame ZONE"):
        decide(framing, Adopt())
    draft = GateFacts(kind=GateKind.ACTION, status=GateStatus.OPEN, policy=PolicyVerdict.DRAFT, variants=1)
    with pytest.raises(VerdictError, match="about an action"):
        decide(draft, Adopt(frame=Digest("0" * 64)))


@pytest.mark.parametrize(
    "silence",
    [
        {},
        {"kind": ""},
        {"kind": "y"},
        {"kind": "reject"},
        {"kind": "reject", "reason": "  \n"},
        {"kind": "answer", "text": ""},
        {"kind": "answer", "text": "\t"},
        {"kind": "choose"},
        {"kind": "choose", "variant": -1},
        {"kind": "edit"},
        {"kind": "defer"},
        {"kind": "defer", "until": "2026-11-23T08:00:00"},
        {"kind": "approve", "force": True},
        None,
        "approve",
    ],
)
def test_silence_and_what_cannot_be_parsed_decide_nothing(silence: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[Verdict](Verdict).validate_python(silence)
