"""The checks on a workflow of what is no consent: one yes where two are needed, and a grant for something else."""

from datetime import timedelta

from karkas.policies.actions import Proposal
from karkas.policies.approvals import FEWEST
from karkas.policies.grants import AnyValue, Grant
from karkas.policies.zones import ControlLevel, LevelChange, declared_level
from karkas.storage import Gate, StandingGrant
from karkas.testing.bench import PERSON
from karkas.testing.suite import PASSED, Found, failed, inapplicable, unchecked
from karkas.testing.workflow_trial import ACTING, PEOPLE, Trial

USES = 1
RUNS = 2
"""More runs than the grant has uses."""


def one_of_two(trial: Trial) -> Found:
    """The first of two people approves whatever needs two, and nobody else says anything."""
    trial.reach()
    gates = [one for one in trial.waiting if one.kind in ACTING and one.policy.approvers > FEWEST]
    if trial.acting and not gates:
        return inapplicable("its first actions need one person; a zone with `approvers = 2` needs two")
    for gate in gates:
        trial.approve(gate, people=PEOPLE[:1])
    trial.go_on()
    why = trial.performed()
    return PASSED if why is None else failed(f"though only one of two people approved, {why}")


def granted(trial: Trial) -> Found:
    """A grant for whatever its first action may be is used no more often than is counted, and never in draft-only."""
    gate = trial.reach_action()
    if gate is None:
        return unchecked("it frames a zone, and came to no action") if trial.acting else PASSED
    grant = _grant(trial, gate)
    for _ in range(RUNS):
        trial.again()
    counted, calls = trial.bench.store.grants.get(grant.id).used, len(trial.recorder.calls)
    if (why := trial.bypass() or trial.twice()) is not None:
        return failed(f"with a standing grant, {why}")
    if calls > counted or counted > USES:
        return failed(f"under a standing grant for {USES} use, {calls} were performed and {counted} counted")
    for zone in gate.zones:
        _tighten(trial, zone)
    _grant(trial, gate)
    trial.again()
    if len(trial.recorder.calls) > calls:
        return failed(
            f"in a draft-only zone, a standing grant let {trial.recorder.calls[-1].tool} be performed"
        )
    return PASSED


def _tighten(trial: Trial, zone: str) -> None:
    level = trial.bench.zone(zone).level
    change = LevelChange(
        before=level,
        after=ControlLevel.DRAFT_ONLY,
        author=PERSON,
        by_person=True,
        reason="the suite tightens it",
    )
    trial.bench.store.zones.set_level(zone, change, declared=declared_level(trial.bench.zone(zone).zone))


def _grant(trial: Trial, gate: Gate) -> StandingGrant:
    store = trial.bench.store
    assert gate.proposal is not None, "an action's gate has one"
    proposal = Proposal.model_validate(store.artifacts.json(gate.proposal))
    action = proposal.variants[0].action
    return store.grants.add(
        Grant(
            zone=gate.zones[0],
            tool=action.tool,
            tool_version=gate.variants[0].binding.tool_version,
            args={name: AnyValue() for name in action.args},
            limit=USES,
            expires_at=trial.bench.clock() + timedelta(days=1),
            reason="the conformance suite grants it",
            author=PERSON,
        )
    )
