"""Gates that two different people must pass."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest

from karkas.policies.actions import Digest
from karkas.policies.errors import FrameError, LooseningError, PermitError, VerdictError
from karkas.policies.gates import CriticReport, CriticStatus, GateKind, GateStatus, PolicyVerdict
from karkas.policies.permits import PermitStatus
from karkas.policies.verdicts import Adopt, Approve, Choose, Defer, Reject, Stop, Verdict
from karkas.policies.zones import ControlLevel, LevelChange, Zone
from karkas.storage import Gate, Run, RunStatus, Store

OpenGate = Callable[..., Gate]
Tamper = Callable[..., None]
ONE = Digest("1" * 64)


@pytest.fixture(name="open_gate")
def by_two(open_gate: OpenGate) -> OpenGate:
    """Opens gates as the shared fixture does, where two people are needed unless it is said otherwise."""

    def opened(
        *paths: str, verdict: PolicyVerdict = PolicyVerdict.PROPOSE, approvers: int = 2, **fields: Any
    ) -> Gate:
        return open_gate(*paths, policy=verdict, approvers=approvers, **fields)

    return opened


def waits_for_one_more(store: Store, gate: Gate) -> bool:
    now = store.gates.get(gate.id)
    return (
        now.status is GateStatus.OPEN
        and len(now.approvals) == 1
        and (now.verdict, now.decided_by) == (None, None)
        and store.ledger.for_gate(gate.id) is None
    )


@pytest.mark.parametrize(
    ("paths", "policy", "verdict", "chosen"),
    [
        (("a.md",), PolicyVerdict.PROPOSE, Approve(), 0),
        (("a.md", "b.md"), PolicyVerdict.PROPOSE, Choose(variant=1), 1),
        (("a.md", "b.md"), PolicyVerdict.DRAFT, Adopt(variant=1), 1),
    ],
)
def test_the_first_yes_waits_and_the_second_of_another_person_issues_the_permit(
    store: Store,
    open_gate: OpenGate,
    *,
    paths: tuple[str, ...],
    policy: PolicyVerdict,
    verdict: Verdict,
    chosen: int,
) -> None:
    gate = open_gate(*paths, verdict=policy)
    first = store.gates.decide(gate.id, verdict, by="anna")
    assert waits_for_one_more(store, gate)
    assert [(one.by, one.told.split()[0]) for one in first.approvals] == [("anna", verdict.kind)]
    assert store.verify() == []
    passed = store.gates.decide(gate.id, verdict, by="boris")
    permit = store.ledger.for_gate(gate.id)
    assert permit is not None
    assert (passed.status, passed.decided_by, permit.variant) == (GateStatus.PASSED, "boris", chosen)
    assert [one.by for one in passed.approvals] == ["anna"]
    assert store.ledger.claim(permit.id, worker="w").action.digest == gate.variants[chosen].digest
    events = [(entry.event, entry.actor) for entry in store.audit.log(subject=f"gate:{gate.id}")]
    assert events == [("gate_opened", "karkas"), ("gate_approved", "anna"), ("gate_decided", "boris")]
    assert store.verify() == []


@pytest.mark.parametrize("again", ["anna", "Anna ", "ANNA"])
def test_the_same_person_twice_is_one_person(store: Store, open_gate: OpenGate, again: str) -> None:
    gate = open_gate("a.md")
    store.gates.decide(gate.id, Approve(), by="anna")
    with pytest.raises(VerdictError, match="somebody else"):
        store.gates.decide(gate.id, Approve(), by=again)
    assert waits_for_one_more(store, gate)


@pytest.mark.parametrize(
    ("policy", "first", "second"),
    [
        (PolicyVerdict.PROPOSE, Choose(variant=0), Choose(variant=1)),
        (PolicyVerdict.DRAFT, Adopt(variant=1), Adopt()),
    ],
)
def test_another_yes_than_the_first_is_refused_with_what_the_first_said(
    store: Store, open_gate: OpenGate, policy: PolicyVerdict, first: Verdict, second: Verdict
) -> None:
    gate = open_gate("a.md", "b.md", verdict=policy)
    store.gates.decide(gate.id, first, by="anna")
    with pytest.raises(VerdictError, match=rf"anna said {first.kind} \(variant"):
        store.gates.decide(gate.id, second, by="boris")
    assert waits_for_one_more(store, gate)


@pytest.mark.parametrize("by", ["anna", "boris"])
@pytest.mark.parametrize(
    ("verdict", "status"), [(Reject(reason="no"), GateStatus.REJECTED), (Stop(), GateStatus.CANCELLED)]
)
def test_one_person_is_enough_to_say_no(
    store: Store, open_gate: OpenGate, by: str, verdict: Verdict, status: GateStatus
) -> None:
    gate = open_gate("a.md")
    store.gates.decide(gate.id, Approve(), by="anna")
    assert store.gates.decide(gate.id, verdict, by=by).status is status
    assert store.ledger.for_gate(gate.id) is None
    with pytest.raises(VerdictError):
        store.gates.decide(gate.id, Approve(), by="clara")
    assert store.verify() == []


def test_putting_it_off_keeps_what_the_first_said(
    store: Store, open_gate: OpenGate, advance: Callable[[timedelta], Any]
) -> None:
    gate = open_gate("a.md")
    store.gates.decide(gate.id, Approve(), by="anna")
    store.gates.decide(gate.id, Defer(until=store.clock() + timedelta(hours=1)), by="boris")
    assert store.verify() == []
    advance(timedelta(hours=2))
    store.gates.wake_due()
    assert waits_for_one_more(store, gate)
    assert store.gates.decide(gate.id, Approve(), by="boris").status is GateStatus.PASSED
    assert store.verify() == []


def test_a_first_yes_brings_back_what_was_put_off(store: Store, open_gate: OpenGate) -> None:
    gate = open_gate("a.md")
    store.gates.decide(gate.id, Defer(until=store.clock() + timedelta(hours=1)), by="boris")
    store.gates.decide(gate.id, Approve(), by="anna")
    assert waits_for_one_more(store, gate)
    assert store.verify() == []


def test_a_gate_that_expires_or_whose_run_stops_after_the_first_yes_releases_nothing(
    store: Store, run: Run, open_gate: OpenGate, advance: Callable[[timedelta], Any]
) -> None:
    expiring = open_gate("a.md", expires_at=store.clock() + timedelta(hours=1))
    stopping = open_gate("b.md")
    for gate in (expiring, stopping):
        store.gates.decide(gate.id, Approve(), by="anna")
    advance(timedelta(hours=1))
    with pytest.raises(VerdictError, match="expired"):
        store.gates.decide(expiring.id, Approve(), by="boris")
    store.gates.wake_due()
    store.runs.set_status(run.id, RunStatus.STOPPED)
    for gate, status in ((expiring, GateStatus.EXPIRED), (stopping, GateStatus.CANCELLED)):
        assert store.gates.get(gate.id).status is status
        assert store.ledger.for_gate(gate.id) is None
        with pytest.raises(VerdictError):
            store.gates.decide(gate.id, Approve(), by="boris")
    assert store.verify() == []


def test_a_critic_alone_never_passes_it(store: Store, open_gate: OpenGate) -> None:
    gate = open_gate("a.md", verdict=PolicyVerdict.ALLOW)
    report = CriticReport(
        critic="critic/test",
        status=CriticStatus.PASSED,
        digests=tuple(one.digest for one in gate.variants),
        reason="fine",
    )
    for by in (None, "anna"):
        if by:
            store.gates.decide(gate.id, Approve(), by=by)
        with pytest.raises(PermitError, match="a person decides"):
            store.gates.pass_by_critic(gate.id, report)
    assert waits_for_one_more(store, gate)


def test_a_zone_that_asks_for_two_since_the_gate_opened_has_two_decide(
    store: Store, open_gate: OpenGate
) -> None:
    gate = open_gate("a.md", verdict=PolicyVerdict.ALLOW, approvers=1)
    store.zones.observe(Zone(name="lora", understanding=5, approvers=2))
    report = CriticReport(
        critic="c", status=CriticStatus.PASSED, digests=(gate.variants[0].digest,), reason="fine"
    )
    with pytest.raises(PermitError):
        store.gates.pass_by_critic(gate.id, report)
    store.gates.decide(gate.id, Approve(), by="anna")
    assert waits_for_one_more(store, gate)


def test_of_many_who_say_yes_at_once_two_pass_it(store: Store, open_gate: OpenGate) -> None:
    gate, barrier = open_gate("a.md"), Barrier(6)

    def approve(number: int) -> bool:
        barrier.wait()
        try:
            store.gates.decide(gate.id, Approve(), by=f"person {number}")
        except VerdictError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(approve, range(6))) == 2
    assert len([one for one in store.audit.log() if one.event == "permit_issued"]) == 1
    assert store.verify() == []


def forged(store: Store, gate: Gate, other: Gate) -> dict[str, Any]:
    """Approvals as somebody without the key can write them: made up, of another gate, under another name."""
    store.gates.decide(other.id, Approve(), by="anna")
    with store.database.read() as session:
        from karkas.storage.tables import GateRow

        row = session.get(GateRow, other.id)
        assert row is not None
        (real,) = row.approvals or []
    assert isinstance(real, dict)
    said = json.loads(str(real["said"]))
    return {
        "made up": {"said": json.dumps(said | {"gate": gate.id}), "signature": "00"},
        "of another gate": real,
        "under another name": {**real, "said": str(real["said"]).replace("anna", "clara")},
        "no approval": "yes",
    }


@pytest.mark.parametrize("how", ["made up", "of another gate", "under another name", "no approval"])
def test_an_approval_that_was_written_by_hand_releases_nothing(
    store: Store, open_gate: OpenGate, tamper: Tamper, how: str
) -> None:
    gate, other = open_gate("a.md"), open_gate("b.md")
    evil = json.dumps([forged(store, gate, other)[how]])
    tamper("UPDATE gate SET approvals = :evil WHERE id = :id", evil=evil, id=gate.id)
    assert store.gates.get(gate.id).status is GateStatus.STALE
    with pytest.raises(VerdictError, match="changed outside karkas"):
        store.gates.decide(gate.id, Approve(), by="boris")
    assert store.ledger.for_gate(gate.id) is None
    assert [line for line in store.verify() if gate.id in line]


@pytest.mark.parametrize("twice", [False, True])
def test_an_approval_that_was_taken_away_or_doubled_by_hand_releases_nothing(
    store: Store, open_gate: OpenGate, tamper: Tamper, *, twice: bool
) -> None:
    gate = open_gate("a.md")
    store.gates.decide(gate.id, Approve(), by="anna")
    with store.database.read() as session:
        from karkas.storage.tables import GateRow

        row = session.get(GateRow, gate.id)
        assert row is not None
        kept = row.approvals or []
    tamper("UPDATE gate SET approvals = :evil", evil=json.dumps(kept * 2 if twice else []))
    with pytest.raises(VerdictError, match="changed outside karkas"):
        store.gates.decide(gate.id, Approve(), by="boris")
    assert store.ledger.for_gate(gate.id) is None


def test_a_passed_gate_whose_first_approval_was_taken_away_is_none(
    store: Store, open_gate: OpenGate, tamper: Tamper
) -> None:
    gate = open_gate("a.md")
    for person in ("anna", "boris"):
        store.gates.decide(gate.id, Approve(), by=person)
    permit = store.ledger.for_gate(gate.id)
    assert permit is not None
    tamper("UPDATE gate SET approvals = NULL")
    with pytest.raises(PermitError, match="releases nothing"):
        store.ledger.claim(permit.id, worker="w")


def test_a_frame_is_adopted_by_two_who_take_the_same_one(store: Store, open_gate: OpenGate) -> None:
    gate = open_gate(kind=GateKind.FRAME)
    other = Digest("2" * 64)
    store.gates.decide(gate.id, Adopt(frame=ONE), by="anna")
    with pytest.raises(VerdictError, match="anna said adopt"):
        store.gates.decide(gate.id, Adopt(frame=other), by="boris")
    assert store.gates.get(gate.id).status is GateStatus.OPEN
    assert store.gates.decide(gate.id, Adopt(frame=ONE), by="boris").status is GateStatus.PASSED


def test_one_person_puts_no_frame_in_force_where_two_are_needed(store: Store, open_gate: OpenGate) -> None:
    store.zones.observe(Zone(name="lora", understanding=2, approvers=2))
    store.zones.set_distillate("lora", id="d", sha256=ONE, artifact=ONE, path="p", actor="explore")
    gate = open_gate(kind=GateKind.FRAME)

    def frame(name: str | None) -> ControlLevel:
        return store.zones.set_frame(
            "lora",
            frame=ONE,
            level=ControlLevel.AUTONOMOUS,
            author="anna",
            distillate_sha256=ONE,
            gate=name,
        ).level

    with pytest.raises(FrameError, match="2 people frame lora"):
        frame(None)
    store.gates.decide(gate.id, Adopt(frame=ONE), by="anna")
    assert frame(gate.id) is ControlLevel.PROPOSE_ONLY
    store.gates.decide(gate.id, Adopt(frame=ONE), by="boris")
    assert frame(gate.id) is ControlLevel.AUTONOMOUS


def test_a_declaration_asks_for_more_people_and_never_for_fewer(store: Store) -> None:
    assert store.zones.observe(Zone(name="lora", understanding=5)).approvers == 1
    assert store.zones.observe(Zone(name="lora", understanding=5, approvers=2)).approvers == 2
    assert store.zones.observe(Zone(name="lora", understanding=5)).approvers == 2
    assert store.verify() == []


@pytest.mark.parametrize(("person", "reason"), [(True, "we are two now"), (True, " "), (False, "trust me")])
def test_only_a_person_with_a_reason_has_fewer_people_decide(
    store: Store, *, person: bool, reason: str
) -> None:
    before = store.zones.observe(Zone(name="lora", understanding=5, approvers=2))
    change = LevelChange(
        before=before.level, after=before.level, author="anna", by_person=person, reason=reason
    )

    def lower() -> int:
        return store.zones.set_level("lora", change, declared=before.level, approvers=1).approvers

    if person and reason.strip():
        assert lower() == 1
        assert store.audit.log(subject="zone:lora")[-1].actor == "anna"
        return
    with pytest.raises(LooseningError):
        lower()
    assert store.zones.get("lora") == before


def test_approvers_that_were_lowered_by_hand_count_as_most(store: Store, tamper: Tamper) -> None:
    store.zones.observe(Zone(name="lora", understanding=5, approvers=2))
    tamper("UPDATE zone SET approvers = 1")
    record = store.zones.get("lora")
    assert record is not None
    assert (record.level, record.approvers) == (ControlLevel.DRAFT_ONLY, 2)
    assert [line for line in store.verify() if "lora" in line]


def test_a_permit_of_two_is_void_where_the_run_is_stopped(
    store: Store, run: Run, open_gate: OpenGate
) -> None:
    gate = open_gate("a.md")
    for person in ("anna", "boris"):
        store.gates.decide(gate.id, Approve(), by=person)
    store.runs.set_status(run.id, RunStatus.STOPPED)
    permit = store.ledger.for_gate(gate.id)
    assert permit is not None
    assert permit.status is PermitStatus.VOID
