"""Rows of the record that karkas did not write, in a chain that holds: what rests on one of them releases nothing.

Whoever may write to the database needs no key to append a row with the right hash, and karkas goes on behind it: the
next signature covers it like any other. So each row that something rests on is asked whether karkas wrote it.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import JsonValue

from karkas.policies.errors import PermitError, VerdictError
from karkas.policies.gates import CriticReport, CriticStatus, GateKind, GateStatus, PolicyVerdict
from karkas.policies.verdicts import Adopt, Approve, Defer, Reject
from karkas.policies.zones import ControlLevel, LevelChange, Scope, Zone
from karkas.storage import Gate, Permit, RunStatus, Store

Tamper = Callable[..., None]
Permitted = Callable[..., Permit]
OpenGate = Callable[..., Gate]

LORA = Zone(name="lora", understanding=5, scope=Scope(topics=("lora",)))
TIGHTENED = LevelChange(
    before=ControlLevel.AUTONOMOUS,
    after=ControlLevel.DRAFT_ONLY,
    author="ada",
    by_person=True,
    reason="it went wrong",
)
SET_BACK = "UPDATE permit SET status = 'approved', claims = 0, worker = NULL, result = NULL"


Forge = Callable[..., None]


@pytest.fixture
def used(store: Store, permitted: Permitted) -> Permit:
    permit = permitted("a.md")
    store.ledger.start(store.ledger.claim(permit.id, worker="w"))
    store.ledger.commit(permit.id, {}, {"path": "a.md"})
    return permit


@pytest.fixture
def tightened(store: Store) -> JsonValue:
    """A zone that was autonomous and that a person tightened; what the record said before."""
    store.zones.observe(LORA)
    before = store.audit.log(subject="zone:lora")[-1].data
    store.zones.set_level("lora", TIGHTENED, declared=ControlLevel.AUTONOMOUS)
    return before


def test_a_used_permit_is_not_used_again_on_the_word_of_a_forged_row(
    store: Store, used: Permit, tamper: Tamper, forge: Forge
) -> None:
    tamper(SET_BACK)
    forge("permit_issued", f"permit:{used.id}", {"gate": used.gate})
    assert store.audit.verify() != []
    with pytest.raises(PermitError, match="did not write"):
        store.ledger.claim(used.id, worker="w")


def test_a_forged_row_hides_no_hole_behind_it(
    store: Store, used: Permit, tamper: Tamper, forge: Forge
) -> None:
    """The use is taken off the record, and where the gate's story begins is moved to after the hole."""
    forge("looked", "something")
    tamper(SET_BACK)
    tamper("DELETE FROM audit WHERE subject = :it AND event <> 'permit_issued'", it=f"permit:{used.id}")
    tamper("UPDATE audit SET subject = 'gate:g-0' WHERE subject = :it", it=f"gate:{used.gate}")
    forge("gate_opened", f"gate:{used.gate}")
    with pytest.raises(PermitError, match="the record behind it is broken"):
        store.ledger.claim(used.id, worker="w")


def test_what_was_taken_back_is_not_taken_back_again_on_the_word_of_a_forged_row(
    store: Store, used: Permit, forge: Forge
) -> None:
    store.ledger.begin_undo(used.id, by="anna")
    forge("undo_failed", f"permit:{used.id}")
    with pytest.raises(PermitError, match="begun already"):
        store.ledger.begin_undo(used.id, by="anna")


def test_an_earlier_looser_zone_does_not_come_back_with_a_forged_row(
    store: Store, tightened: JsonValue, tamper: Tamper, forge: Forge
) -> None:
    """Its old row has a good seal, and the forged row repeats what was once on the record."""
    now = store.audit.log(subject="zone:lora")[-1].data
    assert isinstance(tightened, dict)
    assert isinstance(now, dict)
    zone = store.zones.get("lora")
    assert zone is not None
    assert (tightened["level"], now["level"]) == ("autonomous", "draft-only")
    forge("zone_level_set", "zone:lora", tightened)
    tamper("UPDATE zone SET level = 'autonomous'")
    zone = store.zones.get("lora")
    assert zone is not None
    assert zone.level is ControlLevel.DRAFT_ONLY


def test_an_earlier_looser_zone_does_not_come_back_with_its_own_seal(
    store: Store, tamper: Tamper, forge: Forge
) -> None:
    store.zones.observe(LORA)
    before = store.audit.log(subject="zone:lora")[-1].data
    tamper("CREATE TABLE kept AS SELECT * FROM zone")
    store.zones.set_level("lora", TIGHTENED, declared=ControlLevel.AUTONOMOUS)
    tamper("DELETE FROM zone")
    tamper("INSERT INTO zone SELECT * FROM kept")
    forge("zone_level_set", "zone:lora", before)
    zone = store.zones.get("lora")
    assert zone is not None
    assert zone.level is ControlLevel.DRAFT_ONLY
    assert [line for line in store.verify() if "lora" in line]


def test_a_zone_is_not_declared_anew_because_a_forged_row_says_that_it_was_dropped(
    store: Store, tightened: JsonValue, tamper: Tamper, forge: Forge
) -> None:
    tamper("DELETE FROM zone")
    forge("zone_dropped", "zone:lora", {"reason": "renamed"})
    assert store.zones.observe(LORA).level is ControlLevel.DRAFT_ONLY


def test_a_zone_that_was_erased_with_all_of_its_record_begins_at_the_strictest(
    store: Store, tightened: JsonValue, tamper: Tamper
) -> None:
    store.note("looked", "something", actor="karkas")
    tamper("DELETE FROM zone")
    tamper("DELETE FROM audit WHERE subject = 'zone:lora'")
    record = store.zones.observe(LORA)
    assert record.level is ControlLevel.DRAFT_ONLY
    assert "the record is broken" in record.reason


def test_a_late_frame_is_not_applied_on_the_word_of_a_forged_decision(
    store: Store, open_gate: OpenGate, forge: Forge
) -> None:
    """A person tightened the zone after framing it; a forged row says that the framing came later."""
    store.zones.observe(LORA)
    hashes = [store.artifacts.put_text(text) for text in ("distillate", "frame")]
    store.zones.set_distillate(
        "lora", id="d-1", sha256=hashes[0], artifact=hashes[0], path="zones/lora.yaml", actor="karkas"
    )
    gate = open_gate(kind=GateKind.FRAME)
    store.gates.decide(gate.id, Adopt(frame=hashes[1]), by="ada")
    store.zones.set_level("lora", TIGHTENED, declared=ControlLevel.AUTONOMOUS)
    forge("gate_decided", f"gate:{gate.id}", {"status": "passed"})
    store.zones.set_frame(
        "lora",
        frame=hashes[1],
        level=ControlLevel.AUTONOMOUS,
        author="ada",
        distillate_sha256=hashes[0],
        gate=gate.id,
    )
    zone = store.zones.get("lora")
    assert zone is not None
    assert zone.level is ControlLevel.DRAFT_ONLY


def test_a_rejected_gate_is_not_asked_again_on_the_word_of_a_forged_row(
    store: Store, open_gate: OpenGate, tamper: Tamper, forge: Forge
) -> None:
    gate = open_gate("a.md")
    store.gates.decide(gate.id, Reject(reason="no"), by="anna")
    undecided = "verdict = NULL, decided_by = NULL, decision = NULL, signature = NULL"
    tamper(f"UPDATE gate SET status = 'open', {undecided}")
    forge("gate_reopened", f"gate:{gate.id}")
    with pytest.raises(VerdictError, match="was decided or closed before"):
        store.gates.decide(gate.id, Approve(), by="anna")


@pytest.mark.parametrize("verdict", [Reject(reason="no"), Approve()])
def test_karkas_itself_does_not_reopen_what_was_set_to_deferred_by_hand(
    store: Store,
    open_gate: OpenGate,
    tamper: Tamper,
    advance: Callable[[timedelta], Any],
    verdict: Reject | Approve,
) -> None:
    """The sweep would put its own good signature under it."""
    gate = open_gate("a.md")
    store.gates.decide(gate.id, verdict, by="anna")
    tamper("DELETE FROM permit")
    tamper("UPDATE gate SET status = 'deferred', deferred_until = opened_at")
    advance(timedelta(hours=1))
    assert store.gates.wake_due() == ()
    with pytest.raises(VerdictError):
        store.gates.decide(gate.id, Approve(), by="anna")
    assert store.ledger.for_gate(gate.id) is None


def test_an_earlier_deferral_does_not_come_back_and_time_out_into_an_open_gate(
    store: Store, open_gate: OpenGate, tamper: Tamper, advance: Callable[[timedelta], Any]
) -> None:
    gate = open_gate("a.md")
    store.gates.decide(gate.id, Defer(until=store.clock() + timedelta(hours=1)), by="anna")
    tamper("CREATE TABLE kept AS SELECT * FROM gate")
    store.gates.decide(gate.id, Reject(reason="no"), by="anna")
    tamper("DELETE FROM gate")
    tamper("INSERT INTO gate SELECT * FROM kept")
    advance(timedelta(hours=2))
    assert store.gates.wake_due() == ()
    with pytest.raises(VerdictError):
        store.gates.decide(gate.id, Approve(), by="anna")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE gate SET status = 'deferred'",
        "UPDATE gate SET deferred_until = opened_at",
        "UPDATE gate SET expires_at = opened_at",
        "UPDATE gate SET expires_at = NULL",
    ],
)
def test_the_times_of_a_gate_are_those_that_it_was_opened_with(
    store: Store, open_gate: OpenGate, tamper: Tamper, sql: str
) -> None:
    """Moved by hand they would end it, or keep it, in the name of karkas."""
    gate = open_gate("a.md", expires_at=store.clock() + timedelta(hours=1))
    tamper(sql)
    store.gates.wake_due()
    with pytest.raises(VerdictError):
        store.gates.decide(gate.id, Approve(), by="anna")
    assert [line for line in store.verify() if gate.id in line]
    assert [entry.event for entry in store.audit.log(subject=f"gate:{gate.id}")] == ["gate_opened"]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM permit",
        "UPDATE permit SET result = :evil",
        "UPDATE permit SET undo = :evil",
        "UPDATE permit SET claims = 7",
        "UPDATE permit SET status = 'failed'",
        "UPDATE permit SET reason = 'it never happened'",
        "UPDATE gate SET status = 'cancelled'",
        "UPDATE gate SET status = 'stale'",
        "UPDATE gate SET superseded_by = id",
        "UPDATE gate SET opened_at = issued_at FROM permit",
        "UPDATE run SET status = 'done'",
        "UPDATE run SET reason = 'all is well'",
    ],
)
def test_verify_names_what_no_longer_is_as_the_record_left_it(
    store: Store, used: Permit, tamper: Tamper, sql: str
) -> None:
    assert store.verify() == []
    tamper("UPDATE permit SET issued_at = :early", early=str(store.clock() - timedelta(days=1)))
    if ":evil" in sql:
        tamper(sql, evil='{"path": "/etc/passwd"}')
    else:
        tamper(sql)
    assert store.verify() != []


@pytest.mark.parametrize("noun", ["gate", "run", "zone"])
def test_verify_names_what_was_taken_away(
    store: Store, open_gate: OpenGate, tamper: Tamper, noun: str
) -> None:
    store.zones.observe(LORA)
    gate = open_gate("a.md")
    if noun == "run":
        tamper("DELETE FROM gate")
    tamper(f"DELETE FROM {noun}")
    name = {"gate": gate.id, "run": gate.run, "zone": "lora"}[noun]
    assert f"{noun} {name}: it is on the record, but its row was taken away" in store.verify()


def test_verify_names_a_row_of_which_nothing_is_on_the_record(
    store: Store, open_gate: OpenGate, tamper: Tamper
) -> None:
    gate = open_gate("a.md")
    tamper("CREATE TABLE kept AS SELECT * FROM gate")
    tamper("UPDATE kept SET id = 'g-forged', key = 'forged'")
    tamper("INSERT INTO gate SELECT * FROM kept")
    assert any("g-forged: nothing on the record" in line for line in store.verify())
    with pytest.raises(VerdictError):
        store.gates.decide("g-forged", Approve(), by="anna")
    assert store.gates.get(gate.id).status is GateStatus.OPEN


def test_a_critic_does_not_pass_what_a_person_put_off(store: Store, open_gate: OpenGate) -> None:
    gate = open_gate("a.md", policy=PolicyVerdict.ALLOW)
    store.gates.decide(gate.id, Defer(until=store.clock() + timedelta(hours=1)), by="anna")
    report = CriticReport(
        critic="critic/test", status=CriticStatus.PASSED, digests=(gate.variants[0].digest,), reason="fine"
    )
    with pytest.raises(PermitError, match="put off"):
        store.gates.pass_by_critic(gate.id, report)
    assert store.ledger.for_gate(gate.id) is None


def test_a_permit_that_was_moved_to_another_run_does_not_outlive_its_own(
    store: Store, permitted: Permitted, tamper: Tamper
) -> None:
    """Where its run is stopped, it is not among those that are voided."""
    permit, other = permitted("a.md"), store.runs.create("act")
    tamper("UPDATE permit SET run = :other", other=other.id)
    store.runs.set_status(permit.run, RunStatus.STOPPED, reason="enough", by="anna")
    with pytest.raises(PermitError):
        store.ledger.claim(permit.id, worker="w")
    assert any(permit.id in line for line in store.verify())


def test_verify_names_a_first_yes_that_was_taken_away(
    store: Store, open_gate: OpenGate, tamper: Tamper
) -> None:
    gate = open_gate("a.md", approvers=2)
    store.gates.decide(gate.id, Approve(), by="anna")
    assert store.verify() == []
    tamper("UPDATE gate SET approvals = NULL")
    assert any(f"gate {gate.id}" in line for line in store.verify())
