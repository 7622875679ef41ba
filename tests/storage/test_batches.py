"""Several gates decided at once: all as they were shown, or none."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest

from karkas.policies.actions import Digest, Effect
from karkas.policies.errors import VerdictError
from karkas.policies.gates import GateStatus, PolicyVerdict
from karkas.policies.verdicts import Approve, Defer, Reject
from karkas.policies.zones import ControlLevel
from karkas.storage import Gate, Store

OpenGate = Callable[..., Gate]
Tamper = Callable[..., None]


def pairs(*gates: Gate) -> list[tuple[str, Digest]]:
    return [(gate.id, gate.variants[0].digest) for gate in gates]


def decision(store: Store, gate: Gate) -> dict[str, Any]:
    """What was signed at the gate."""
    from karkas.storage.tables import GateRow

    with store.database.read() as session:
        row = session.get(GateRow, gate.id)
        assert row is not None
        assert row.decision is not None
        assert store.key.verifies(row.decision.encode(), row.signature)
        found: dict[str, Any] = json.loads(row.decision)
        return found


def undecided(store: Store, *gates: Gate) -> bool:
    return all(
        store.gates.get(gate.id).status is GateStatus.OPEN and store.ledger.for_gate(gate.id) is None
        for gate in gates
    )


def test_each_decision_of_a_batch_is_signed_with_the_whole_list(store: Store, open_gate: OpenGate) -> None:
    gates = [open_gate(f"{name}.md") for name in "abc"]
    decided = store.gates.decide_batch(pairs(*gates), by="anna")
    assert [gate.id for gate in decided] == [gate.id for gate in gates]
    assert {gate.status for gate in decided} == {GateStatus.PASSED}
    listed = [list(pair) for pair in pairs(*gates)]
    batches = [decision(store, gate)["batch"] for gate in gates]
    assert [batch["shown"] for batch in batches] == [listed] * 3
    (name,) = {batch["id"] for batch in batches}
    (row,) = store.audit.log(subject=f"batch:{name}")
    assert (row.actor, row.data) == ("anna", {"shown": listed})
    for gate in gates:
        decided_row = store.audit.log(subject=f"gate:{gate.id}")[-1].data
        assert isinstance(decided_row, dict)
        assert decided_row["batch"] == batches[0]
        permit = store.ledger.for_gate(gate.id)
        assert permit is not None
        assert store.ledger.claim(permit.id, worker="w").action.digest == gate.variants[0].digest
    assert store.verify() == []


def spoiled(store: Store, open_gate: OpenGate, how: str) -> tuple[str, Digest]:
    """A gate that is not as it was shown, or that offers no approving."""
    gate = open_gate(
        *(["x.md", "y.md"] if how == "variants" else ["x.md"]),
        policy={"draft": PolicyVerdict.DRAFT, "deny": PolicyVerdict.DENY}.get(how, PolicyVerdict.PROPOSE),
        expires_at=store.clock() + timedelta(hours=1) if how == "expired" else None,
    )
    (pair,) = pairs(gate)
    match how:
        case "rejected":
            store.gates.decide(gate.id, Reject(reason="no"), by="boris")
        case "superseded":
            store.gates.close(gate.id, GateStatus.SUPERSEDED, "a newer one")
        case "another digest":
            return pair[0], Digest("0" * 64)
        case "a prefix":
            return pair[0][:8], pair[1]
        case "unknown":
            return "g-000000000000", pair[1]
        case _:
            pass
    return pair


@pytest.mark.parametrize(
    "how",
    [
        *("rejected", "superseded", "expired", "another digest", "a prefix", "unknown"),
        *("draft", "deny", "variants"),
    ],
)
def test_one_gate_that_is_not_as_shown_leaves_all_undecided_and_is_named(
    store: Store, open_gate: OpenGate, advance: Callable[[timedelta], Any], how: str
) -> None:
    good = [open_gate("a.md"), open_gate("b.md")]
    bad = spoiled(store, open_gate, how)
    advance(timedelta(hours=2))
    rows = len(store.audit.log())
    with pytest.raises(VerdictError, match="nothing was decided") as caught:
        store.gates.decide_batch([*pairs(good[0]), bad, *pairs(good[1])], by="anna")
    assert bad[0] in str(caught.value)
    assert good[0].id not in str(caught.value)
    assert undecided(store, *good)
    assert len(store.audit.log()) == rows
    assert store.verify() == []


def test_a_gate_that_was_changed_by_hand_leaves_all_undecided(
    store: Store, open_gate: OpenGate, tamper: Tamper
) -> None:
    good, bad = open_gate("a.md"), open_gate("b.md")
    shown = pairs(good, bad)
    tamper("UPDATE gate SET seal = '00' WHERE id = :id", id=bad.id)
    with pytest.raises(VerdictError, match="changed outside karkas"):
        store.gates.decide_batch(shown, by="anna")
    assert undecided(store, good)


def test_a_batch_needs_a_name_gates_and_each_once(store: Store, open_gate: OpenGate) -> None:
    gate = open_gate("a.md")
    for shown, by in ((pairs(gate), " "), ([], "anna"), (pairs(gate, gate), "anna")):
        with pytest.raises(VerdictError):
            store.gates.decide_batch(shown, by=by)
    assert undecided(store, gate)


def test_a_batch_says_the_first_yes_where_two_people_are_needed(store: Store, open_gate: OpenGate) -> None:
    one, two = open_gate("a.md"), open_gate("b.md", approvers=2)
    assert [gate.status for gate in store.gates.decide_batch(pairs(one, two), by="anna")] == [
        GateStatus.PASSED,
        GateStatus.OPEN,
    ]
    with pytest.raises(VerdictError, match="somebody else"):
        store.gates.decide_batch(pairs(two), by="anna")
    assert store.gates.decide_batch(pairs(two), by="boris")[0].status is GateStatus.PASSED
    assert store.verify() == []


def test_of_two_batches_that_share_a_gate_one_wins_whole(store: Store, open_gate: OpenGate) -> None:
    left, shared, right = (open_gate(f"{name}.md") for name in ("left", "shared", "right"))
    batches, barrier = {"anna": pairs(left, shared), "boris": pairs(shared, right)}, Barrier(2)

    def decide(person: str) -> bool:
        barrier.wait()
        try:
            store.gates.decide_batch(batches[person], by=person)
        except VerdictError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        won = [person for person, ok in zip(batches, pool.map(decide, batches), strict=True) if ok]
    assert len(won) == 1
    assert undecided(store, right if won == ["anna"] else left)


def test_alike_is_what_has_the_same_zones_level_verdict_tool_and_effect(
    store: Store, open_gate: OpenGate
) -> None:
    gates = [open_gate("a.md"), open_gate("b.md")]
    open_gate("c.md", zones=("lora", "trl"))
    open_gate("d.md", level=ControlLevel.AUTONOMOUS)
    open_gate("e.md", policy=PolicyVerdict.ALLOW)
    open_gate("f.md", effect=Effect.IRREVERSIBLE)
    several, draft = open_gate("g.md", "h.md"), open_gate("i.md", policy=PolicyVerdict.DRAFT)
    for path, verdict in (("j.md", Approve()), ("k.md", Defer(until=store.clock() + timedelta(hours=1)))):
        store.gates.decide(open_gate(path).id, verdict, by="anna")
    assert {gate.id for gate in store.gates.alike(gates[1].id)} == {gate.id for gate in gates}
    for gate in (several, draft):
        with pytest.raises(VerdictError, match="offers no approving"):
            store.gates.alike(gate.id)


@pytest.mark.parametrize(
    "other",
    [
        {"zones": ("lora", "trl")},
        {"level": ControlLevel.AUTONOMOUS},
        {"policy": PolicyVerdict.ALLOW},
        {"effect": Effect.IRREVERSIBLE},
    ],
)
def test_what_is_not_alike_is_no_batch(store: Store, open_gate: OpenGate, other: dict[str, Any]) -> None:
    gates = [open_gate("a.md"), open_gate("b.md", **other)]
    rows = len(store.audit.log())
    for call in (store.gates.check_batch, lambda gates: store.gates.decide_batch(pairs(*gates), by="anna")):
        with pytest.raises(VerdictError, match="not alike"):
            call(gates)
    assert undecided(store, *gates)
    assert len(store.audit.log()) == rows
    store.gates.check_batch(gates[:1])
