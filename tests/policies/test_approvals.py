from datetime import UTC, datetime

import pytest

from karkas.policies.actions import Action, Effect, Variant
from karkas.policies.approvals import Approval, most, passes
from karkas.policies.errors import VerdictError
from karkas.policies.gates import CriticReport, CriticStatus, PolicyDecision, PolicyVerdict
from karkas.policies.judging import critic_releases, judge
from karkas.policies.routing import route
from karkas.policies.zones import ControlLevel, Scope, Stage, Zone, ZoneRecord, ZoneState, zone_state

ACTION = Action(tool="write_file", args={"path": "a.md"}, effect=Effect.REVERSIBLE)


def said(by: str) -> Approval:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    return Approval(by=by, at=at, verdict={"kind": "approve"}, told="approve")


def test_one_person_passes_what_asks_for_one_and_two_what_asks_for_two() -> None:
    def ask(before: list[Approval], needed: int) -> bool:
        return passes(before, by="boris", verdict={"kind": "approve"}, told="approve", needed=needed)

    assert ask([], 1)
    assert not ask([], 2)
    assert ask([said("anna")], 2)


@pytest.mark.parametrize("name", ["anna", "ANNA", " anna", "an\tna", "anna\u3000"])
def test_another_spelling_is_no_other_person(name: str) -> None:
    first = said("an na" if "\t" in name else "anna")
    with pytest.raises(VerdictError, match="already"):
        passes([first], by=name, verdict={"kind": "approve"}, told="approve", needed=2)


def test_who_says_something_else_is_told_what_was_said() -> None:
    with pytest.raises(VerdictError, match=r"anna said approve .* choose \(variant 2\) is not the same"):
        passes(
            [said("anna")],
            by="boris",
            verdict={"kind": "choose", "variant": 1},
            told="choose (variant 2)",
            needed=2,
        )


def state(name: str, approvers: int) -> ZoneState:
    zone = Zone(name=name, understanding=5, approvers=approvers, scope=Scope(tools=("*",)))
    return ZoneState(
        zone=zone,
        level=ControlLevel.AUTONOMOUS,
        stage=Stage.FRAMED,
        scope=zone.scope,
        reasons=(),
        approvers=approvers,
    )


@pytest.mark.parametrize(("asked", "needed"), [((1, 1), 1), ((1, 2), 2), ((2, 1), 2), ((), 1)])
def test_the_most_of_all_zones_touched_counts(asked: tuple[int, ...], needed: int) -> None:
    states = [state(f"z{index}", number) for index, number in enumerate(asked)]
    decision = judge(
        [Variant(action=ACTION)],
        route=route(states, tools=["write_file"]),
        states=states,
        known_tools=["write_file"],
    )
    assert decision.approvers == needed
    assert most(asked) == needed


@pytest.mark.parametrize("approvers", [1, 2])
def test_a_critic_alone_releases_nothing_that_two_people_pass(approvers: int) -> None:
    decision = PolicyDecision(verdict=PolicyVerdict.ALLOW, reasons=(), approvers=approvers)
    report = CriticReport(
        critic="critic", status=CriticStatus.PASSED, digests=(ACTION.digest,), reason="fine"
    )
    released = critic_releases(decision, (Variant(action=ACTION),), report, proposer="executor")
    assert released is (approvers == 1)


@pytest.mark.parametrize(("declared", "recorded", "held"), [(1, 1, 1), (2, 1, 2), (1, 2, 2), (2, 2, 2)])
def test_a_declaration_never_has_fewer_people_decide_than_are_on_the_record(
    declared: int, recorded: int, held: int
) -> None:
    record = ZoneRecord(
        name="lora",
        level=ControlLevel.AUTONOMOUS,
        declared_level=ControlLevel.AUTONOMOUS,
        scope=Scope(),
        approvers=recorded,
    )
    found = zone_state(Zone(name="lora", understanding=5, approvers=declared), record)
    assert found.approvers == held
    assert any("--approvers 1" in reason for reason in found.reasons) is (declared < recorded)
