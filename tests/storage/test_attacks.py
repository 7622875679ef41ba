"""Somebody may write to the database, but has no key: what was done is not done again, and nothing is loosened."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from karkas.policies.errors import AuditError, PermitError, VerdictError
from karkas.policies.permits import PermitStatus
from karkas.policies.verdicts import Approve, Defer, Reject
from karkas.policies.zones import ControlLevel, LevelChange, Scope, Zone
from karkas.storage import Gate, Permit, Run, RunStatus, Store

Tamper = Callable[..., None]
Permitted = Callable[..., Permit]
OpenGate = Callable[..., Gate]

AUTONOMOUS, DRAFT = ControlLevel.AUTONOMOUS, ControlLevel.DRAFT_ONLY
LORA = Zone(name="lora", understanding=5, scope=Scope(topics=("lora",)))


def used(store: Store, permitted: Permitted) -> Permit:
    permit = permitted("a.md")
    store.ledger.start(store.ledger.claim(permit.id, worker="w"))
    return store.ledger.commit(permit.id, {})


SET_BACK = "UPDATE permit SET status = 'approved', claims = 0, worker = NULL WHERE id = :id"


@pytest.mark.parametrize(
    "hide",
    [
        "DELETE FROM audit WHERE subject = :subject AND event <> 'permit_issued'",
        "UPDATE audit SET subject = 'permit:p-0' WHERE subject = :subject AND event <> 'permit_issued'",
        "UPDATE audit SET event = 'seen' WHERE subject = :subject AND event <> 'permit_issued'",
    ],
)
def test_a_used_permit_whose_use_was_taken_off_the_record_is_not_used_again(
    store: Store, tamper: Tamper, permitted: Permitted, hide: str
) -> None:
    permit = used(store, permitted)
    tamper(SET_BACK, id=permit.id)
    tamper(hide, subject=f"permit:{permit.id}")
    with pytest.raises(PermitError, match="the record behind it is broken"):
        store.ledger.claim(permit.id, worker="w")


def test_a_log_that_goes_on_after_its_middle_was_taken_out_releases_nothing(
    store: Store, tamper: Tamper, permitted: Permitted
) -> None:
    permit = used(store, permitted)
    tamper(SET_BACK, id=permit.id)
    tamper(
        "DELETE FROM audit WHERE subject = :subject AND event <> 'permit_issued'",
        subject=f"permit:{permit.id}",
    )
    for _ in range(5):
        store.note("something", "else", actor="w")
    with pytest.raises(PermitError, match="the record behind it is broken"):
        store.ledger.claim(permit.id, worker="w")


def test_an_earlier_part_of_the_log_that_was_lost_stops_no_later_permit(
    store: Store, tamper: Tamper, permitted: Permitted
) -> None:
    """`audit verify` names it; what was decided since rests on rows that are whole."""
    used(store, permitted)
    tamper("DELETE FROM audit WHERE seq = 2")
    permit = permitted("b.md")
    store.ledger.claim(permit.id, worker="w")
    assert store.verify()


@pytest.mark.parametrize(
    "hide", ["DELETE FROM audit WHERE seq > :seq", "UPDATE audit SET event = 'x' WHERE seq > :seq"]
)
def test_a_zone_that_was_set_back_with_its_record_releases_nothing(
    store: Store, tamper: Tamper, open_gate: OpenGate, hide: str
) -> None:
    store.zones.observe(LORA)
    (seq,) = [entry.seq for entry in store.audit.log() if entry.event == "zone_declared"]
    tamper("CREATE TABLE kept AS SELECT * FROM zone")
    tightened = LevelChange(
        before=AUTONOMOUS, after=DRAFT, author="ada", by_person=True, reason="it went wrong"
    )
    store.zones.set_level("lora", tightened, declared=AUTONOMOUS)
    tamper("DELETE FROM zone")
    tamper("INSERT INTO zone SELECT * FROM kept")
    tamper("DROP TABLE kept")
    tamper(hide, seq=seq)
    gate = open_gate("a.md")
    store.gates.decide(gate.id, Approve(), by="anna")
    permit = store.ledger.for_gate(gate.id)
    assert permit is not None
    with pytest.raises(PermitError, match="the record behind it is broken"):
        store.ledger.claim(permit.id, worker="w")


def test_a_zone_whose_row_was_taken_away_begins_anew_at_the_strictest(store: Store, tamper: Tamper) -> None:
    store.zones.observe(LORA)
    tamper("DELETE FROM zone")
    record = store.zones.observe(LORA)
    assert (record.level, record.declared_level) == (DRAFT, DRAFT)
    assert "taken away" in record.reason


def test_a_zone_that_a_person_dropped_begins_as_it_is_declared(store: Store) -> None:
    store.zones.observe(LORA)
    store.zones.drop("lora", author="ada", reason="renamed")
    assert store.zones.observe(LORA).level is AUTONOMOUS


@pytest.mark.parametrize("status", ["open", "deferred"])
def test_a_rejected_gate_that_is_set_back_by_hand_is_not_asked_again(
    store: Store, tamper: Tamper, open_gate: OpenGate, status: str
) -> None:
    gate = open_gate("a.md")
    store.gates.decide(gate.id, Reject(reason="no"), by="anna")
    tamper(
        "UPDATE gate SET status = :status, verdict = NULL, decided_by = NULL WHERE id = :id",
        id=gate.id,
        status=status,
    )
    with pytest.raises(VerdictError):
        store.gates.decide(gate.id, Approve(), by="anna")


def test_an_earlier_deferral_that_is_put_back_does_not_undo_the_rejection(
    store: Store, tamper: Tamper, open_gate: OpenGate
) -> None:
    gate = open_gate("a.md")
    store.gates.decide(gate.id, Defer(until=store.clock() + timedelta(hours=1)), by="anna")
    tamper("CREATE TABLE kept AS SELECT * FROM gate")
    store.gates.decide(gate.id, Reject(reason="no"), by="anna")
    tamper("DELETE FROM gate")
    tamper("INSERT INTO gate SELECT * FROM kept")
    with pytest.raises(VerdictError, match="before"):
        store.gates.decide(gate.id, Approve(), by="anna")


def test_a_deferred_and_a_reopened_gate_can_be_decided(
    store: Store, open_gate: OpenGate, advance: Callable[[timedelta], Any]
) -> None:
    for wait in (False, True):
        gate = open_gate("a.md")
        store.gates.decide(gate.id, Defer(until=store.clock() + timedelta(hours=1)), by="anna")
        if wait:
            advance(timedelta(hours=2))
            store.gates.wake_due()
        store.gates.decide(gate.id, Approve(), by="anna")
        permit = store.ledger.for_gate(gate.id)
        assert permit is not None
        assert permit.status is PermitStatus.APPROVED


@pytest.mark.parametrize("column", ["workflow", "input", "options"])
def test_a_run_whose_row_was_changed_does_not_go_on(store: Store, tamper: Tamper, column: str) -> None:
    """They say which code is loaded, and what counts as the person's own words."""
    run = store.runs.create("flows.py:publish", input={"task": "tidy up"}, options={"file_version": "1"})
    assert store.runs.proven(run.id) == run
    tamper(f"UPDATE run SET {column} = :evil", evil='{"task": "evil.py:publish"}')
    with pytest.raises(AuditError, match="Begin a new one"):
        store.runs.proven(run.id)
    assert [line for line in store.verify() if run.id in line]


@pytest.mark.parametrize("evil", [None, "another 1 (model)"])
def test_a_run_whose_engine_was_changed_in_its_row_switches_to_no_other(
    store: Store, tamper: Tamper, evil: str | None
) -> None:
    run = store.runs.create("explore")
    store.runs.set_engine(run.id, "language-model 1 (qwen)")
    assert store.runs.proven(run.id).engine == "language-model 1 (qwen)"
    tamper("UPDATE run SET engine = :evil", evil=evil)
    with pytest.raises(AuditError):
        store.runs.proven(run.id)


def test_a_run_that_was_let_go_of_is_pinned_to_the_next_engine_and_to_no_earlier_one(
    store: Store, tamper: Tamper
) -> None:
    run = store.runs.create("explore")
    store.runs.set_engine(run.id, "one")
    store.runs.release_engine(run.id, by="ada", reason="switched")
    assert store.runs.proven(run.id).engine is None
    tamper("UPDATE run SET engine = 'one'")
    with pytest.raises(AuditError):
        store.runs.proven(run.id)
    tamper("UPDATE run SET engine = NULL")
    store.runs.set_engine(run.id, "two")
    assert store.runs.proven(run.id).engine == "two"


def test_options_that_a_person_set_hold_and_others_do_not(store: Store, tamper: Tamper) -> None:
    run = store.runs.create("flows.py:publish", options={"file_version": "1"})
    store.runs.set_options(run.id, {"file_version": "2"}, by="ada", reason="flows.py changed")
    assert store.runs.proven(run.id).options == {"file_version": "2"}
    tamper("UPDATE run SET options = :old", old='{"file_version": "1"}')
    with pytest.raises(AuditError):
        store.runs.proven(run.id)


def test_what_takes_an_effect_back_comes_from_the_record_and_is_given_once(
    store: Store, tamper: Tamper, permitted: Permitted
) -> None:
    permit = permitted("a.md")
    store.ledger.start(store.ledger.claim(permit.id, worker="w"))
    store.ledger.commit(permit.id, {}, {"path": "a.md"})
    tamper("UPDATE permit SET undo = :evil", evil='{"path": "/etc/passwd"}')
    action, record = store.ledger.begin_undo(permit.id, by="anna")
    assert (action.digest, record) == (permit.action, {"path": "a.md"})
    with pytest.raises(PermitError, match="begun already"):
        store.ledger.begin_undo(permit.id, by="anna")
    store.ledger.end_undo(permit.id, by="anna", error="a.md changed since")
    store.ledger.begin_undo(permit.id, by="anna")
    store.ledger.end_undo(permit.id, by="anna", done="removed a.md")
    with pytest.raises(PermitError, match="undo_done by anna"):
        store.ledger.begin_undo(permit.id, by="anna")


def test_there_is_nothing_to_take_back_of_what_was_not_performed(store: Store, permitted: Permitted) -> None:
    with pytest.raises(PermitError, match="nothing"):
        store.ledger.begin_undo(permitted("a.md").id, by="anna")


@pytest.mark.parametrize("forged", [False, True])
def test_a_run_that_a_person_stopped_does_not_go_on_because_its_row_says_so(
    store: Store, run: Run, tamper: Tamper, forge: Callable[..., None], *, forged: bool
) -> None:
    store.runs.set_status(run.id, RunStatus.STOPPED, reason="enough", by="anna")
    tamper("UPDATE run SET status = 'parked', finished_at = NULL, due_at = created_at")
    if forged:
        forge("run_moved", f"run:{run.id}", {"before": "stopped", "after": "parked", "reason": ""})
    with pytest.raises(AuditError, match="changed outside karkas"):
        store.runs.proven(run.id)
