from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from pydantic import ValidationError

from karkas.policies.actions import Action, Digest, Effect
from karkas.policies.errors import AuditError, NotFoundError, PermitError, VerdictError
from karkas.policies.gates import CriticReport, CriticStatus, GateKind, GateStatus, PolicyVerdict
from karkas.policies.permits import LedgerError, PermitStatus
from karkas.policies.verdicts import Adopt, Answer, Approve, Choose, Defer, Edit, Reject, Stop, Verdict
from karkas.storage import Gate, Permit, Run, RunStatus, ShownVariant, Store

OpenGate = Callable[..., Gate]
Permitted = Callable[..., Permit]


def test_the_same_key_opens_no_second_gate(store: Store, open_gate: OpenGate) -> None:
    first = open_gate("a.md", key="run:lane:0")
    store.gates.decide(first.id, Approve(), by="anna")
    again = open_gate("b.md", key="run:lane:0")
    assert again.id == first.id
    assert again.status is GateStatus.PASSED
    assert again.variants == first.variants
    assert len(store.gates.list()) == 1


def test_threads_that_open_one_key_get_one_gate(store: Store, open_gate: OpenGate) -> None:
    barrier = Barrier(6)

    def opened(_: int) -> str:
        barrier.wait()
        return open_gate("a.md", key="one").id

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(opened, range(6)))) == 1
    assert len(store.gates.list()) == 1


def test_a_gate_that_shows_other_actions_than_its_proposal_is_not_opened(
    store: Store, open_gate: OpenGate
) -> None:
    honest, other = open_gate("a.md"), open_gate("b.md")
    with pytest.raises(PermitError, match="other actions"):
        open_gate("a.md", proposal=other.proposal)
    with pytest.raises(PermitError, match="needs a stored proposal"):
        open_gate("a.md", variants=())
    with pytest.raises(PermitError, match="holds no proposal"):
        open_gate("a.md", proposal=store.artifacts.put_json({"not": "a proposal"}))
    assert {gate.id for gate in store.gates.list()} == {honest.id, other.id}


def test_a_binding_of_another_action_cannot_stand_at_a_gate(open_gate: OpenGate) -> None:
    variant = open_gate("a.md").variants[0]
    with pytest.raises(ValidationError, match="another action"):
        ShownVariant(digest=Digest("0" * 64), shown=variant.shown, binding=variant.binding)


def test_no_gate_opens_in_a_run_that_ended(store: Store, run: Run, open_gate: OpenGate) -> None:
    store.runs.set_status(run.id, RunStatus.DONE)
    with pytest.raises(VerdictError, match="is done"):
        open_gate("a.md")


@pytest.mark.parametrize(
    ("paths", "policy", "verdict", "chosen"),
    [
        (("a.md",), PolicyVerdict.PROPOSE, Approve(), 0),
        (("a.md", "b.md", "c.md"), PolicyVerdict.PROPOSE, Choose(variant=2), 2),
        (("a.md", "b.md"), PolicyVerdict.DRAFT, Adopt(variant=1), 1),
    ],
)
def test_a_passed_gate_issues_one_permit_for_the_chosen_variant(
    store: Store,
    open_gate: OpenGate,
    *,
    paths: tuple[str, ...],
    policy: PolicyVerdict,
    verdict: Verdict,
    chosen: int,
) -> None:
    gate = open_gate(*paths, policy=policy)
    decided = store.gates.decide(gate.id, verdict, by="anna")
    permit = store.ledger.for_gate(gate.id)
    assert (decided.status, decided.decided_by, decided.verdict) == (GateStatus.PASSED, "anna", verdict)
    assert permit is not None
    assert permit.status is PermitStatus.APPROVED
    assert permit.binding == gate.variants[chosen].binding
    assert permit.action == gate.variants[chosen].digest
    assert store.verify() == []


@pytest.mark.parametrize(
    ("policy", "verdict"),
    [
        (PolicyVerdict.DENY, Approve()),
        (PolicyVerdict.DRAFT, Approve()),
        (PolicyVerdict.PROPOSE, Adopt()),
        (PolicyVerdict.PROPOSE, Choose(variant=0)),
        (PolicyVerdict.DRAFT, Adopt(variant=1)),
    ],
)
def test_a_verdict_that_policy_does_not_offer_changes_nothing(
    store: Store, open_gate: OpenGate, policy: PolicyVerdict, verdict: Verdict
) -> None:
    gate, rows = open_gate("a.md", policy=policy), len(store.audit.log())
    with pytest.raises(VerdictError):
        store.gates.decide(gate.id, verdict, by="anna")
    assert store.gates.get(gate.id) == gate
    assert store.ledger.for_gate(gate.id) is None
    assert len(store.audit.log()) == rows


def test_a_verdict_of_nobody_is_none(store: Store, open_gate: OpenGate) -> None:
    with pytest.raises(VerdictError, match="name of the person"):
        store.gates.decide(open_gate("a.md").id, Approve(), by="  ")


def test_of_two_deciders_one_wins_and_the_other_is_told_who(store: Store, open_gate: OpenGate) -> None:
    gate, barrier = open_gate("a.md"), Barrier(8)

    def decide(number: int) -> str | VerdictError:
        barrier.wait()
        verdict = Approve() if number % 2 else Reject(reason="no")
        try:
            return store.gates.decide(gate.id, verdict, by=f"person {number}").decided_by or ""
        except VerdictError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(decide, range(8)))
    winners = [one for one in outcomes if isinstance(one, str)]
    assert len(winners) == 1
    assert all(winners[0] in str(one) for one in outcomes if isinstance(one, VerdictError))
    assert (store.ledger.for_gate(gate.id) is not None) == (
        store.gates.get(gate.id).status is GateStatus.PASSED
    )
    assert store.verify() == []


def test_a_rejection_keeps_its_reason_and_issues_nothing(store: Store, open_gate: OpenGate) -> None:
    gate = store.gates.decide(open_gate("a.md").id, Reject(reason="wrong folder"), by="anna")
    assert (gate.status, gate.reason) == (GateStatus.REJECTED, "wrong folder")
    assert store.ledger.for_gate(gate.id) is None


def test_an_edit_is_a_new_action_and_issues_nothing(store: Store, open_gate: OpenGate) -> None:
    changed = Action(tool="write_file", args={"path": "c.md", "content": "y"}, effect=Effect.REVERSIBLE)
    old = store.gates.decide(open_gate("a.md").id, Edit(action=changed), by="anna")
    new = open_gate("c.md")
    assert (old.status, old.verdict) == (GateStatus.SUPERSEDED, Edit(action=changed))
    assert store.ledger.for_gate(old.id) is None
    assert store.gates.supersede_by(old.id, new.id).superseded_by == new.id
    assert store.gates.get(new.id).status is GateStatus.OPEN
    assert store.verify() == []


def test_a_passed_gate_cannot_be_superseded(store: Store, open_gate: OpenGate) -> None:
    passed, new = store.gates.decide(open_gate("a.md").id, Approve(), by="anna"), open_gate("b.md")
    with pytest.raises(VerdictError, match="cannot be superseded"):
        store.gates.supersede_by(passed.id, new.id)


def test_stop_ends_the_run_with_all_that_it_waits_for(
    store: Store, run: Run, open_gate: OpenGate, permitted: Permitted
) -> None:
    unused, claimed, begun = permitted("u.md"), permitted("c.md"), permitted("b.md")
    in_hand = store.ledger.claim(claimed.id, worker="w")
    store.ledger.start(store.ledger.claim(begun.id, worker="w"))
    here, beside, elsewhere = open_gate("a.md"), open_gate("d.md"), store.runs.create("act")
    later = store.gates.decide(
        open_gate("f.md").id, Defer(until=store.clock() + timedelta(days=1)), by="boris"
    )
    theirs = open_gate("e.md", run=elsewhere.id)
    decided = store.gates.decide(here.id, Stop(reason="enough"), by="anna")
    assert decided.status is GateStatus.CANCELLED
    assert store.gates.get(beside.id).status is GateStatus.CANCELLED
    cancelled = store.gates.get(later.id)
    assert (cancelled.status, cancelled.verdict, cancelled.reason) == (GateStatus.CANCELLED, None, "enough")
    assert store.gates.get(theirs.id).status is GateStatus.OPEN
    assert (store.runs.get(run.id).status, store.runs.get(run.id).reason) == (RunStatus.STOPPED, "enough")
    assert store.runs.get(elsewhere.id).status is RunStatus.QUEUED
    assert store.ledger.get(unused.id).status is PermitStatus.VOID
    assert store.ledger.get(claimed.id).status is PermitStatus.VOID
    assert store.ledger.get(begun.id).status is PermitStatus.STARTED
    with pytest.raises(PermitError, match="stopped"):
        store.ledger.start(in_hand)
    assert store.verify() == []


def test_a_deferred_gate_comes_back_when_its_time_has_come(
    store: Store, open_gate: OpenGate, advance: Callable[[timedelta], None], time: list[object]
) -> None:
    gate, later = open_gate("a.md"), store.clock() + timedelta(hours=2)
    assert store.gates.decide(gate.id, Defer(until=later), by="anna").status is GateStatus.DEFERRED
    assert store.gates.wake_due() == ()
    advance(timedelta(hours=2))
    (woken,) = store.gates.wake_due()
    assert (woken.id, woken.status, woken.verdict, woken.decided_by) == (gate.id, GateStatus.OPEN, None, None)
    assert store.gates.decide(gate.id, Approve(), by="boris").decided_by == "boris"


def test_a_gate_is_not_deferred_to_the_past(store: Store, open_gate: OpenGate) -> None:
    with pytest.raises(VerdictError, match="later time"):
        store.gates.decide(open_gate("a.md").id, Defer(until=store.clock()), by="anna")


def test_silence_is_not_consent(
    store: Store, open_gate: OpenGate, advance: Callable[[timedelta], None]
) -> None:
    gate = open_gate("a.md", expires_at=store.clock() + timedelta(hours=1))
    waits = open_gate("b.md")
    advance(timedelta(hours=1))
    with pytest.raises(VerdictError, match="expired"):
        store.gates.decide(gate.id, Approve(), by="anna")
    (expired,) = store.gates.wake_due()
    assert (expired.id, expired.status, expired.verdict) == (gate.id, GateStatus.EXPIRED, None)
    assert store.ledger.for_gate(gate.id) is None
    assert store.gates.get(waits.id).status is GateStatus.OPEN


def report(gate: Gate, **changes: object) -> CriticReport:
    fields = {
        "critic": "critic/test",
        "status": CriticStatus.PASSED,
        "digests": tuple(variant.digest for variant in gate.variants),
        "reason": "it does what it says",
    }
    return CriticReport.model_validate(fields | changes)


def test_a_critic_alone_passes_one_reversible_action_that_policy_allows(
    store: Store, open_gate: OpenGate
) -> None:
    gate = open_gate("a.md", policy=PolicyVerdict.ALLOW)
    passed = store.gates.pass_by_critic(gate.id, report(gate))
    permit = store.ledger.for_gate(gate.id)
    assert (passed.status, passed.decided_by, passed.verdict) == (GateStatus.PASSED, "critic/test", None)
    assert passed.critic == report(gate)
    assert permit is not None
    assert store.ledger.claim(permit.id, worker="w").action.args["path"] == "a.md"
    assert store.verify() == []


@pytest.mark.parametrize(
    ("paths", "policy", "effect", "changes"),
    [
        (("a.md",), PolicyVerdict.PROPOSE, Effect.REVERSIBLE, {}),
        (("a.md",), PolicyVerdict.DENY, Effect.REVERSIBLE, {}),
        (("a.md",), PolicyVerdict.ALLOW, Effect.IRREVERSIBLE, {}),
        (("a.md", "b.md"), PolicyVerdict.ALLOW, Effect.REVERSIBLE, {}),
        (("a.md",), PolicyVerdict.ALLOW, Effect.REVERSIBLE, {"status": CriticStatus.UNSURE}),
        (("a.md",), PolicyVerdict.ALLOW, Effect.REVERSIBLE, {"status": CriticStatus.ERROR}),
        (("a.md",), PolicyVerdict.ALLOW, Effect.REVERSIBLE, {"digests": ("0" * 64,)}),
        (("a.md",), PolicyVerdict.ALLOW, Effect.REVERSIBLE, {"critic": "executor/test"}),
    ],
)
def test_a_critic_passes_nothing_else(
    store: Store,
    open_gate: OpenGate,
    *,
    paths: tuple[str, ...],
    policy: PolicyVerdict,
    effect: Effect,
    changes: dict[str, object],
) -> None:
    gate = open_gate(*paths, policy=policy, effect=effect)
    with pytest.raises(PermitError, match="karkas queue show"):
        store.gates.pass_by_critic(gate.id, report(gate, **changes))
    assert store.gates.get(gate.id) == gate
    assert store.ledger.for_gate(gate.id) is None


@pytest.mark.parametrize(
    "status", [GateStatus.PASSED, GateStatus.REJECTED, GateStatus.ANSWERED, GateStatus.OPEN]
)
def test_the_system_never_speaks_for_a_person(store: Store, open_gate: OpenGate, status: GateStatus) -> None:
    with pytest.raises(VerdictError, match="a person's to say"):
        store.gates.close(open_gate("a.md").id, status, "because")


def test_a_stale_gate_voids_its_permit_unless_it_was_begun(store: Store, permitted: Permitted) -> None:
    unused, begun = permitted("a.md"), permitted("b.md")
    store.ledger.start(store.ledger.claim(begun.id, worker="w"))
    stale = store.gates.close(unused.gate, GateStatus.STALE, "a.md changed")
    assert (stale.status, stale.reason, stale.decided_by) == (GateStatus.STALE, "a.md changed", "anna")
    assert store.ledger.get(unused.id).status is PermitStatus.VOID
    with pytest.raises(LedgerError):
        store.gates.close(begun.gate, GateStatus.STALE, "b.md changed")
    assert store.gates.get(begun.gate).status is GateStatus.PASSED
    assert store.verify() == []


def test_a_question_takes_one_of_its_choices(store: Store, open_gate: OpenGate) -> None:
    gate = open_gate(kind=GateKind.QUESTION, prompt="Which?", choices=("left", "right"))
    with pytest.raises(VerdictError, match="left, right"):
        store.gates.decide(gate.id, Answer(text="up"), by="anna")
    assert store.gates.decide(gate.id, Answer(text="left"), by="anna").verdict == Answer(text="left")
    assert store.ledger.for_gate(gate.id) is None


def test_gates_are_found_by_status_zone_run_and_by_the_beginning_of_their_id(
    store: Store, run: Run, open_gate: OpenGate
) -> None:
    waiting, decided = open_gate("a.md"), open_gate("b.md", zones=("lora", "trl"))
    store.gates.decide(decided.id, Reject(reason="no"), by="anna")
    assert [gate.id for gate in store.gates.list(status=GateStatus.OPEN)] == [waiting.id]
    assert [gate.id for gate in store.gates.list(zone="trl")] == [decided.id]
    assert {gate.id for gate in store.gates.list(run=run.id)} == {waiting.id, decided.id}
    assert store.gates.list(run="r-none") == []
    assert store.gates.get(waiting.id[:8]).id == waiting.id
    assert store.gates.get(waiting.id.removeprefix("g-")).id == waiting.id
    with pytest.raises(NotFoundError, match="karkas queue list"):
        store.gates.get("g-zzz")
    with pytest.raises(NotFoundError):
        store.gates.get("")


@pytest.mark.parametrize(
    "change",
    [
        """verdict = '{"kind": "answer", "text": "right"}'""",
        "verdict = NULL",
        "decided_by = 'boris'",
        "status = 'passed'",
        "status = 'open'",
        "signature = NULL",
        "decision = NULL",
    ],
)
def test_a_decision_changed_by_hand_is_none(
    store: Store, open_gate: OpenGate, tamper: Callable[..., None], change: str
) -> None:
    gate = open_gate(kind=GateKind.QUESTION, prompt="Which?", choices=("left", "right"))
    store.gates.decide(gate.id, Answer(text="left"), by="anna")
    tamper(f"UPDATE gate SET {change} WHERE id = :id", id=gate.id)
    seen = store.gates.get(gate.id)
    assert (seen.status, seen.verdict, seen.decided_by) == (GateStatus.STALE, None, "karkas")
    assert seen == store.gates.list(run=gate.run)[0]
    assert [line for line in store.verify() if gate.id in line]
    with pytest.raises(VerdictError, match="changed outside karkas"):
        store.gates.decide(gate.id, Answer(text="right"), by="anna")


def test_a_gate_that_holds_no_json_is_named(
    store: Store, open_gate: OpenGate, tamper: Callable[..., None]
) -> None:
    gate = open_gate("a.md")
    tamper("UPDATE gate SET facts = :facts WHERE id = :id", facts='{"kind": "action"}', id=gate.id)
    with pytest.raises(AuditError, match=gate.id):
        store.gates.get(gate.id)
    assert [line for line in store.verify() if gate.id in line]
