"""What is taken from the log behind the point up to which it was proven, and what karkas itself writes after that."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from karkas.policies.actions import Digest
from karkas.policies.errors import PermitError
from karkas.policies.gates import CriticReport, CriticStatus, Hold, PolicyVerdict
from karkas.policies.verdicts import Defer
from karkas.policies.zones import ControlLevel, LevelChange, Scope, Stage, Zone
from karkas.storage import Gate, Permit, StandingGrant, Store

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


def put_back(tamper: Tamper, table: str) -> None:
    tamper(f"DELETE FROM {table}")
    tamper(f"INSERT INTO {table} SELECT * FROM kept")
    tamper("DROP TABLE kept")


@pytest.mark.parametrize("after", ["distilled", "staged", "tightened"])
@pytest.mark.parametrize("proven", [False, True])
def test_a_looser_zone_is_not_put_back_by_what_karkas_writes_after_it(
    store: Store, permitted: Permitted, tamper: Tamper, *, proven: bool, after: str
) -> None:
    """Its old row and no word of the tightening: what is written of the zone next must not sign the old level."""
    store.zones.observe(LORA)
    tamper("CREATE TABLE kept AS SELECT * FROM zone")
    store.zones.set_level("lora", TIGHTENED, declared=ControlLevel.AUTONOMOUS)
    if proven:
        store.ledger.claim(permitted("other.md").id, worker="w")
    store.note("looked", "something", actor="karkas")
    put_back(tamper, "zone")
    tamper("DELETE FROM audit WHERE event = 'zone_level_set'")
    one = Digest("1" * 64)
    match after:
        case "distilled":
            store.zones.set_distillate("lora", id="d", sha256=one, artifact=one, path="p", actor="explore")
        case "staged":
            store.zones.set_stage("lora", Stage.MAPPED, actor="explore")
        case _:
            store.zones.observe(Zone(name="lora", understanding=4, scope=Scope(topics=("lora", "x"))))
    zone = store.zones.get("lora")
    assert zone is not None
    assert zone.level is ControlLevel.DRAFT_ONLY


def test_a_zone_that_was_dropped_once_is_not_declared_anew_over_what_came_after(
    store: Store, permitted: Permitted, tamper: Tamper
) -> None:
    store.zones.observe(LORA)
    store.zones.drop("lora", author="ada", reason="not used")
    store.zones.observe(LORA)
    store.zones.set_level("lora", TIGHTENED, declared=ControlLevel.AUTONOMOUS)
    store.ledger.claim(permitted("other.md").id, worker="w")
    dropped = next(one.seq for one in store.audit.log() if one.event == "zone_dropped")
    tamper("DELETE FROM audit WHERE subject = 'zone:lora' AND seq > :seq", seq=dropped)
    tamper("DELETE FROM zone")
    assert store.zones.observe(LORA).level is ControlLevel.DRAFT_ONLY


@pytest.mark.parametrize("proven", [False, True])
def test_a_gate_that_a_person_put_off_is_not_passed_by_a_grant_once_that_is_hidden(
    store: Store,
    give: Callable[..., StandingGrant],
    permitted: Permitted,
    open_gate: OpenGate,
    tamper: Tamper,
    *,
    proven: bool,
) -> None:
    gate = open_gate("docs/a.md", holds=(Hold.LEVEL,))
    tamper("CREATE TABLE kept AS SELECT * FROM gate")
    store.gates.decide(gate.id, Defer(until=store.clock() + timedelta(days=1)), by="anna")
    if proven:
        store.ledger.claim(permitted("other.md").id, worker="w")
    store.note("looked", "something", actor="karkas")
    tamper("DELETE FROM gate WHERE id = :id", id=gate.id)
    tamper("INSERT INTO gate SELECT * FROM kept")
    tamper("DELETE FROM audit WHERE subject = :it AND event <> 'gate_opened'", it=f"gate:{gate.id}")
    give()
    passed = store.grants.release(gate.id)
    if passed is not None:
        permit = store.ledger.for_gate(gate.id)
        assert permit is not None
        with pytest.raises(PermitError):
            store.ledger.claim(permit.id, worker="w")


def test_a_gate_that_a_person_put_off_is_not_passed_by_a_critic_once_that_is_hidden(
    store: Store, permitted: Permitted, open_gate: OpenGate, tamper: Tamper
) -> None:
    gate = open_gate("docs/a.md", policy=PolicyVerdict.ALLOW, level=ControlLevel.AUTONOMOUS)
    tamper("CREATE TABLE kept AS SELECT * FROM gate")
    store.gates.decide(gate.id, Defer(until=store.clock() + timedelta(days=1)), by="anna")
    store.ledger.claim(permitted("other.md").id, worker="w")
    tamper("DELETE FROM gate WHERE id = :id", id=gate.id)
    tamper("INSERT INTO gate SELECT * FROM kept")
    tamper("DELETE FROM audit WHERE subject = :it AND event <> 'gate_opened'", it=f"gate:{gate.id}")
    report = CriticReport(
        critic="critic/x", status=CriticStatus.PASSED, digests=(gate.variants[0].digest,), reason="good"
    )
    with pytest.raises(PermitError, match="put it off"):
        store.gates.pass_by_critic(gate.id, report)
