import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from karkas.policies.actions import Action, Effect
from karkas.policies.errors import KarkasError, PermitError
from karkas.policies.gates import GateId, GateStatus
from karkas.policies.permits import LedgerError, PermitId, PermitStatus
from karkas.storage import Claimed, Permit, Run, RunId, RunStatus, Store
from karkas.storage.leases import Lease, LeaseLostError

Permitted = Callable[..., Permit]
Tamper = Callable[..., None]


def test_a_permit_is_executed_once_and_every_step_is_on_the_record(
    store: Store, permitted: Permitted
) -> None:
    permit = permitted("a.md")
    claimed = store.ledger.claim(permit.id, worker="host:1")
    assert claimed.action.args["path"] == "a.md"
    assert claimed.binding == permit.binding
    assert store.ledger.start(claimed).status is PermitStatus.STARTED
    done = store.ledger.commit(permit.id, {"bytes": 1}, undo={"backup": "0" * 64})
    assert (done.status, done.worker, done.result) == (PermitStatus.COMMITTED, "host:1", {"bytes": 1})
    events = [entry.event for entry in store.audit.log(subject=f"permit:{permit.id}")]
    assert events == ["permit_issued", "permit_claimed", "permit_started", "permit_committed"]
    for again in (
        lambda: store.ledger.claim(permit.id, worker="host:2"),
        lambda: store.ledger.start(claimed),
        lambda: store.ledger.commit(permit.id, {}),
        lambda: store.ledger.fail(permit.id, "no"),
        lambda: store.ledger.void(permit.id, "no"),
    ):
        with pytest.raises((PermitError, LedgerError), match="committed by host:1"):
            again()
    assert store.ledger.get(permit.id) == done
    assert store.verify() == []


def test_of_eight_threads_one_claims_a_permit(store: Store, permitted: Permitted) -> None:
    permit, barrier = permitted("a.md"), Barrier(8)

    def claim(number: int) -> str | None:
        barrier.wait()
        try:
            store.ledger.claim(permit.id, worker=f"w{number}")
        except PermitError:
            return None
        return f"w{number}"

    with ThreadPoolExecutor(8) as pool:
        winners = [one for one in pool.map(claim, range(8)) if one]
    assert len(winners) == 1
    assert store.ledger.get(permit.id).worker == winners[0]


CLAIM = """
import sys
from pathlib import Path
from karkas.policies.errors import PermitError
from karkas.storage import Store
folder, url, permit = sys.argv[1:]
with Store.open(Path(folder), url=url or None) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        store.ledger.claim(permit, worker="w")
    except PermitError:
        sys.exit(3)
"""


def test_of_three_processes_one_claims_a_permit(
    store: Store, folder: Path, url: str | None, permitted: Permitted
) -> None:
    permit = permitted("a.md")
    command = [sys.executable, "-c", CLAIM, str(folder), url or "", permit.id]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate()
    assert sorted(worker.returncode for worker in workers) == [0, 3, 3]
    assert store.verify() == []


def test_nobody_but_the_ledger_makes_a_claim(store: Store, permitted: Permitted) -> None:
    permit = permitted("a.md")
    with pytest.raises(PermitError, match="ledger alone"):
        Claimed(
            permit_id=PermitId(permit.id),
            run=RunId(permit.run),
            gate=GateId(permit.gate),
            action=Action(tool="write_file", args={}, effect=Effect.REVERSIBLE),
            binding=permit.binding,
            idempotency_key="k",
            claim=1,
            again=False,
            mint=object(),
        )
    with pytest.raises(AttributeError):
        store.ledger.claim(permit.id, worker="w").action = None  # type: ignore[assignment, misc]  # pyright: ignore[reportAttributeAccessIssue]


def swap_action(store: Store, tamper: Tamper, permit: Permit, other: Permit) -> None:
    tamper("UPDATE permit SET action = :a, variant = 0 WHERE id = :id", a=other.action, id=permit.id)


def edit_binding(store: Store, tamper: Tamper, permit: Permit, other: Permit) -> None:
    binding = permit.binding.model_dump(mode="json") | {"preconditions": {}}
    tamper("UPDATE permit SET binding = :b WHERE id = :id", b=json.dumps(binding), id=permit.id)


def take_the_other_gate(store: Store, tamper: Tamper, permit: Permit, other: Permit) -> None:
    tamper("DELETE FROM permit WHERE id = :id", id=other.id)
    tamper("UPDATE permit SET gate = :gate WHERE id = :id", gate=other.gate, id=permit.id)


def copy_the_other_decision(store: Store, tamper: Tamper, permit: Permit, other: Permit) -> None:
    tamper(
        "UPDATE gate SET decision = (SELECT decision FROM gate WHERE id = :other),"
        " signature = (SELECT signature FROM gate WHERE id = :other) WHERE id = :id",
        id=permit.gate,
        other=other.gate,
    )


def rewrite_the_gate(store: Store, tamper: Tamper, permit: Permit, other: Permit) -> None:
    tamper(
        "UPDATE gate SET facts = (SELECT facts FROM gate WHERE id = :o) WHERE id = :id",
        o=other.gate,
        id=permit.gate,
    )


def forge_the_decider(store: Store, tamper: Tamper, permit: Permit, other: Permit) -> None:
    tamper("UPDATE gate SET decided_by = 'the boss' WHERE id = :id", id=permit.gate)


def drop_the_signature(store: Store, tamper: Tamper, permit: Permit, other: Permit) -> None:
    tamper("UPDATE gate SET signature = NULL WHERE id = :id", id=permit.gate)


def sign_with_another_key(store: Store, tamper: Tamper, permit: Permit, other: Permit) -> None:
    tamper("UPDATE gate SET signature = :s WHERE id = :id", s="ab" * 64, id=permit.gate)


def swap_the_proposal(store: Store, tamper: Tamper, permit: Permit, other: Permit) -> None:
    proposal = store.gates.get(permit.gate).proposal
    theirs = store.gates.get(other.gate).proposal
    assert proposal is not None
    assert theirs is not None
    store.artifacts.path(proposal).write_bytes(store.artifacts.get(theirs))


def change_what_was_shown(store: Store, tamper: Tamper, permit: Permit, other: Permit) -> None:
    store.artifacts.path(permit.binding.shown).write_text("something harmless")


@pytest.mark.parametrize(
    "attack",
    [
        swap_action,
        edit_binding,
        take_the_other_gate,
        copy_the_other_decision,
        rewrite_the_gate,
        forge_the_decider,
        drop_the_signature,
        sign_with_another_key,
        swap_the_proposal,
        change_what_was_shown,
    ],
)
def test_what_was_changed_after_the_decision_releases_nothing(
    store: Store, tamper: Tamper, permitted: Permitted, attack: Callable[..., None]
) -> None:
    permit, other = permitted("a.md"), permitted("b.md")
    attack(store, tamper, permit, other)
    with pytest.raises(KarkasError):
        store.ledger.claim(permit.id, worker="w")
    assert store.ledger.get(permit.id).status is PermitStatus.APPROVED
    if attack not in {swap_the_proposal, change_what_was_shown}:
        assert store.verify() != []


def test_a_gate_approved_by_hand_releases_nothing(
    store: Store, run: Run, tamper: Tamper, permitted: Permitted, open_gate: Callable[..., Any]
) -> None:
    gate, real = open_gate("a.md"), permitted("b.md")
    tamper("UPDATE gate SET status = 'passed', decided_by = 'anna' WHERE id = :id", id=gate.id)
    binding = gate.variants[0].binding.model_dump_json()
    tamper(
        "INSERT INTO permit (id, gate, run, variant, action, binding, status, issued_at, changed_at, claims, reason)"
        " SELECT 'p-forged', :gate, run, 0, :action, :binding, 'approved', issued_at, changed_at, 0, ''"
        " FROM permit WHERE id = :real",
        gate=gate.id,
        action=gate.variants[0].digest,
        binding=binding,
        real=real.id,
    )
    with pytest.raises(PermitError, match="changed outside karkas"):
        store.ledger.claim("p-forged", worker="w")
    assert store.gates.get(gate.id).status is GateStatus.STALE
    assert store.gates.get(gate.id).decided_by != "anna"
    assert {broken.partition(":")[0] for broken in store.verify()} == {f"gate {gate.id}", "permit p-forged"}


def test_a_used_permit_that_is_set_back_by_hand_is_not_used_again(
    store: Store, tamper: Tamper, permitted: Permitted
) -> None:
    permit = permitted("a.md")
    store.ledger.start(store.ledger.claim(permit.id, worker="w"))
    store.ledger.commit(permit.id, {})
    tamper("UPDATE permit SET status = 'approved', claims = 0, worker = NULL WHERE id = :id", id=permit.id)
    with pytest.raises(PermitError, match="the last on the record is permit_committed"):
        store.ledger.claim(permit.id, worker="w")
    assert "the last on the record is permit_committed" in " ".join(store.verify())


def test_a_void_permit_that_is_set_back_by_hand_is_not_used(
    store: Store, tamper: Tamper, permitted: Permitted
) -> None:
    permit = permitted("a.md")
    store.ledger.void(permit.id, "a.md changed")
    tamper("UPDATE permit SET status = 'approved' WHERE id = :id", id=permit.id)
    with pytest.raises(PermitError, match="the last on the record is permit_void"):
        store.ledger.claim(permit.id, worker="w")


def test_a_finished_permit_that_is_set_back_by_hand_is_not_taken_over(
    store: Store, run: Run, tamper: Tamper, permitted: Permitted
) -> None:
    permit = permitted("a.md")
    store.ledger.start(store.ledger.claim(permit.id, worker="w"))
    store.ledger.commit(permit.id, {})
    for status in ("claimed", "started"):
        tamper("UPDATE permit SET status = :s WHERE id = :id", s=status, id=permit.id)
        with store.runs.lease(run.id) as lease, pytest.raises(PermitError, match="permit_committed"):
            store.ledger.reclaim(permit.id, worker="w", lease=lease, idempotent=True)


def test_a_claim_of_a_dead_worker_is_taken_over_only_under_the_lease_of_its_run(
    store: Store, run: Run, permitted: Permitted
) -> None:
    permit = permitted("a.md")
    before = store.ledger.claim(permit.id, worker="dead")
    elsewhere = store.runs.create("act")
    with store.runs.lease(elsewhere.id) as wrong, pytest.raises(PermitError, match="under the lease"):
        store.ledger.reclaim(permit.id, worker="w", lease=wrong)
    with store.runs.lease(run.id) as lease:
        after = store.ledger.reclaim(permit.id, worker="w", lease=lease)
    with pytest.raises(PermitError, match="under the lease"):
        store.ledger.reclaim(permit.id, worker="w", lease=lease)
    with pytest.raises(PermitError, match="claimed by w"):
        store.ledger.start(before)
    assert store.ledger.start(after).worker == "w"
    assert after.idempotency_key == before.idempotency_key


def test_what_was_started_is_taken_over_only_for_an_idempotent_tool(
    store: Store, run: Run, permitted: Permitted
) -> None:
    permit = permitted("a.md")
    claimed = store.ledger.claim(permit.id, worker="dead")
    store.ledger.start(claimed)
    with store.runs.lease(run.id) as lease:
        with pytest.raises(PermitError, match="is started by dead"):
            store.ledger.reclaim(permit.id, worker="w", lease=lease)
        again = store.ledger.reclaim(permit.id, worker="w", lease=lease, idempotent=True)
    assert again.again
    assert again.idempotency_key == claimed.idempotency_key
    store.ledger.start(again)
    assert store.ledger.commit(permit.id, {}).status is PermitStatus.COMMITTED


def test_who_was_taken_over_says_nothing_of_how_it_ended(
    store: Store, run: Run, permitted: Permitted
) -> None:
    """A worker that was thought dead comes back while the one that took over is at work."""
    permit = permitted("a.md")
    late = store.ledger.claim(permit.id, worker="late")
    store.ledger.start(late)
    with store.runs.lease(run.id) as lease:
        again = store.ledger.reclaim(permit.id, worker="w", lease=lease, idempotent=True)
    store.ledger.start(again)
    with pytest.raises(PermitError, match="taken over"):
        store.ledger.fail(permit.id, "the network is away", claim=late.claim)
    with pytest.raises(PermitError, match="taken over"):
        store.ledger.doubt(permit.id, "it timed out", claim=late.claim)
    with pytest.raises(PermitError, match="taken over"):
        store.ledger.commit(permit.id, {}, claim=late.claim)
    assert store.ledger.commit(permit.id, {}, claim=again.claim).status is PermitStatus.COMMITTED


@pytest.mark.parametrize("status", [PermitStatus.APPROVED, PermitStatus.COMMITTED, PermitStatus.VOID])
def test_nothing_else_is_taken_over(
    store: Store, run: Run, permitted: Permitted, status: PermitStatus
) -> None:
    permit = permitted("a.md")
    if status is PermitStatus.COMMITTED:
        store.ledger.start(store.ledger.claim(permit.id, worker="w"))
        store.ledger.commit(permit.id, {})
    if status is PermitStatus.VOID:
        store.ledger.void(permit.id, "stale")
    with store.runs.lease(run.id) as lease, pytest.raises(PermitError, match=f"is {status}"):
        store.ledger.reclaim(permit.id, worker="w", lease=lease, idempotent=True)


@pytest.mark.parametrize(
    ("committed", "status"), [(True, PermitStatus.COMMITTED), (False, PermitStatus.FAILED)]
)
def test_only_a_person_resolves_a_permit_in_doubt(
    store: Store, permitted: Permitted, *, committed: bool, status: PermitStatus
) -> None:
    permit = permitted("a.md")
    store.ledger.start(store.ledger.claim(permit.id, worker="w"))
    with pytest.raises(LedgerError):
        store.ledger.resolve(permit.id, committed=True, by="anna", reason="I looked")
    store.ledger.doubt(permit.id, "the process died")
    steps: list[Callable[[], object]] = [
        lambda: store.ledger.commit(permit.id, {}),
        lambda: store.ledger.fail(permit.id, "x"),
        lambda: store.ledger.resolve(permit.id, committed=True, by="", reason="I looked"),
        lambda: store.ledger.resolve(permit.id, committed=True, by="anna", reason=" "),
    ]
    for step in steps:
        with pytest.raises((LedgerError, PermitError)):
            step()
    resolved = store.ledger.resolve(permit.id, committed=committed, by="anna", reason="I looked")
    assert (resolved.status, resolved.reason) == (status, "I looked")
    assert store.audit.log(subject=f"permit:{permit.id}")[-1].actor == "anna"


@pytest.mark.parametrize("status", [RunStatus.STOPPED, RunStatus.FAILED, RunStatus.DONE])
def test_nothing_is_begun_in_a_run_that_ended(
    store: Store, run: Run, permitted: Permitted, status: RunStatus
) -> None:
    unused, in_hand = permitted("a.md"), store.ledger.claim(permitted("b.md").id, worker="w")
    store.runs.set_status(run.id, status)
    with pytest.raises(PermitError, match=status):
        store.ledger.claim(unused.id, worker="w")
    with pytest.raises(PermitError, match=status):
        store.ledger.start(in_hand)


CRASH = """
import sys
from pathlib import Path
from karkas.storage import Store
folder, url, permit, run, until = sys.argv[1:]
store = Store.open(Path(folder), url=url or None)
with store.runs.lease(run):
    claimed = store.ledger.claim(permit, worker="doomed")
    if until == "started":
        store.ledger.start(claimed)
    print("ready", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("until", ["claimed", "started"])
def test_a_kill_before_the_end_is_on_the_record_is_found(
    store: Store, folder: Path, url: str | None, run: Run, permitted: Permitted, *, until: str
) -> None:
    permit, finished = permitted("a.md"), permitted("b.md")
    store.ledger.start(store.ledger.claim(finished.id, worker="w"))
    store.ledger.commit(finished.id, {})
    command = [sys.executable, "-c", CRASH, str(folder), url or "", permit.id, run.id, until]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        os.kill(worker.pid, signal.SIGKILL)
    (found,) = store.ledger.in_flight(run.id)
    assert (found.id, found.status, found.worker) == (permit.id, PermitStatus(until), "doomed")
    assert store.ledger.in_flight("r-other") == []
    with _lease_when_free(store, run) as lease:
        if until == "claimed":
            store.ledger.start(store.ledger.reclaim(permit.id, worker="w", lease=lease))
            store.ledger.commit(permit.id, {})
        else:
            store.ledger.doubt(permit.id, "it died")
    assert store.ledger.in_flight() == []
    assert store.verify() == []


def _lease_when_free(store: Store, run: Run) -> Any:
    """PostgreSQL notices a dead client a moment later."""
    import time

    from karkas.storage import LeaseError

    for _ in range(50):
        try:
            with store.runs.lease(run.id):
                break
        except LeaseError:
            time.sleep(0.1)
    return store.runs.lease(run.id)


def test_a_lease_whose_file_was_taken_away_is_lost(store: Store, run: Run) -> None:
    if not store.database.is_sqlite:
        pytest.skip("a lease is a file on one host only")
    with store.runs.lease(run.id) as lease:
        lease.check()
        (store.folder / f"leases/{run.id}.lock").unlink()
        with pytest.raises(LeaseLostError):
            lease.check()
        with store.runs.lease(run.id) as other:
            other.check()
            with pytest.raises(LeaseLostError):
                lease.check()


def test_a_lease_that_ended_is_worth_nothing(store: Store, run: Run, permitted: Permitted) -> None:
    permit = permitted("a.md")
    store.ledger.claim(permit.id, worker="dead")
    with store.runs.lease(run.id) as lease:
        assert isinstance(lease, Lease)
    assert not lease.held
    with pytest.raises(PermitError):
        store.ledger.reclaim(permit.id, worker="w", lease=lease)
