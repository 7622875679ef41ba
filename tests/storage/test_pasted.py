"""Good rows in the wrong place: signed words of one gate, permit, project or time, put where they were not said."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import copyfile

import pytest

from karkas.policies.errors import KarkasError, PermitError, StorageError, VerdictError
from karkas.policies.gates import GateStatus
from karkas.policies.permits import PermitStatus
from karkas.policies.verdicts import Approve
from karkas.storage import Claimed, Gate, Permit, SigningKey, Store
from karkas.storage.tables import GateRow, PermitRow

Tamper = Callable[..., None]
Permitted = Callable[..., Permit]
OpenGate = Callable[..., Gate]

CELLS = [
    *(("gate", column) for column in GateRow.model_fields),
    *(("permit", column) for column in PermitRow.model_fields),
]
SIGNED = {"decision", "signature", "seal", "facts", "binding", "action", "gate"}


def claim(store: Store, permit: Permit) -> Claimed | None:
    try:
        return store.ledger.claim(permit.id, worker="w")
    except KarkasError:
        return None


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(("table", "column"), CELLS)
def test_a_cell_of_another_gate_or_permit_releases_nothing_else(  # noqa: PLR0917
    store: Store,
    permitted: Permitted,
    tamper: Tamper,
    table: str,
    column: str,
    swap: bool,  # noqa: FBT001
) -> None:
    """Copied into this one's row, or exchanged with it."""
    one, other = permitted("a.md", "b.md"), permitted("c.md")
    tamper(f'CREATE TABLE pasted AS SELECT id AS whose, "{column}" AS what FROM {table}')
    names = {"a": one.gate, "b": other.gate} if table == "gate" else {"a": one.id, "b": other.id}
    places = "(:a, :b)" if swap else "(:a)"
    there = f"(SELECT what FROM pasted WHERE whose = CASE {table}.id WHEN :a THEN :b ELSE :a END)"
    try:
        tamper(f'UPDATE {table} SET "{column}" = {there} WHERE id IN {places}', **names)
    except StorageError:
        return  # the database itself refuses it
    for permit in (one, other):
        if claimed := claim(store, permit):
            assert (claimed.action.digest, claimed.binding) == (permit.action, permit.binding)
            assert column not in SIGNED or permit is other


def test_a_decision_of_another_project_is_none(
    store: Store, permitted: Permitted, open_gate: OpenGate, tamper: Tamper, tmp_path: Path
) -> None:
    """Signed by the key of a project that its owner holds, with every id as it stands here."""
    gate, foreign = open_gate("a.md"), SigningKey.create(tmp_path / "foreign.key")
    model = permitted("b.md")
    decision = row(store, "gate", model.gate)["decision"].replace(model.gate, gate.id)
    decision = decision.replace(store.gates.get(model.gate).variants[0].digest, gate.variants[0].digest)
    tamper(
        "UPDATE gate SET status = 'passed', decided_by = 'anna', decided_at = opened_at, decision = :decision,"
        " signature = :signature, verdict = :verdict WHERE id = :id",
        decision=decision,
        signature=foreign.sign(decision.encode()),
        verdict='{"kind": "approve"}',
        id=gate.id,
    )
    tamper("UPDATE permit SET gate = :gate", gate=gate.id)
    assert store.gates.get(gate.id).status is GateStatus.STALE
    with pytest.raises(PermitError):
        store.ledger.claim(model.id, worker="w")


def row(store: Store, table: str, name: str) -> dict[str, str]:
    with store.database.connection() as connection:
        found = connection.exec_driver_sql(f"SELECT * FROM {table} WHERE id = '{name}'").mappings().one()
        return dict(found)


def test_a_database_that_is_put_back_from_a_copy_repeats_nothing(
    store: Store, permitted: Permitted, tamper: Tamper
) -> None:
    """The file beside it remembers more than the copy holds."""
    permit = permitted("a.md")
    seq = store.audit.log()[-1].seq
    store.ledger.start(store.ledger.claim(permit.id, worker="w"))
    store.ledger.commit(permit.id, {})
    tamper("UPDATE permit SET status = 'approved', claims = 0, worker = NULL, result = NULL")
    tamper("DELETE FROM audit WHERE seq > :seq", seq=seq)
    with pytest.raises(PermitError, match="rows were dropped"):
        store.ledger.claim(permit.id, worker="w")
    store.note("looked", "something", actor="karkas")
    with pytest.raises(PermitError, match="rows were dropped"):
        store.ledger.claim(permit.id, worker="w")


def test_a_permit_that_is_written_anew_under_a_used_decision_is_none(
    store: Store, permitted: Permitted, tamper: Tamper
) -> None:
    permit = permitted("a.md")
    store.ledger.start(store.ledger.claim(permit.id, worker="w"))
    store.ledger.commit(permit.id, {})
    tamper("UPDATE permit SET id = 'p-forged', status = 'approved', claims = 0")
    with pytest.raises(PermitError, match="not the one that was signed"):
        store.ledger.claim("p-forged", worker="w")


DECIDE = """
import sys
from pathlib import Path
from karkas.policies.errors import KarkasError
from karkas.policies.gates import GateStatus
from karkas.policies.verdicts import Approve, Reject
from karkas.storage import Store

folder, url, who, what, *gates = sys.argv[1:]
with Store.open(Path(folder), url=url or None) as store:
    acts = {
        "approve": lambda gate: store.gates.decide(gate, Approve(), by=who),
        "reject": lambda gate: store.gates.decide(gate, Reject(reason="no"), by=who),
        "close": lambda gate: store.gates.close(gate, GateStatus.SUPERSEDED, "a newer one"),
        "claim": lambda gate: store.ledger.claim(store.ledger.for_gate(gate).id, worker=who),
    }
    print("ready", flush=True)
    sys.stdin.readline()
    for gate in gates:
        try:
            acts[what](gate)
        except KarkasError as error:
            print("lost", error, flush=True)
        else:
            print("won", flush=True)
"""


@pytest.mark.parametrize("acts", [("approve", "approve", "close"), ("approve", "reject", "close")])
def test_of_processes_that_decide_and_supersede_at_once_one_wins_and_the_others_are_told(
    store: Store, folder: Path, url: str | None, open_gate: OpenGate, acts: tuple[str, ...]
) -> None:
    gates = [open_gate(f"{number}.md").id for number in range(8)]
    said = at_once(folder, url, acts, gates)
    for number, gate in enumerate(gates):
        winners = [act for act, lines in zip(acts, said, strict=True) if lines[number] == "won"]
        assert len(winners) == 1
        status = {"approve": GateStatus.PASSED, "reject": GateStatus.REJECTED, "close": GateStatus.SUPERSEDED}
        assert store.gates.get(gate).status is status[winners[0]]
        assert (store.ledger.for_gate(gate) is not None) == (winners == ["approve"])
        assert all("already" in lines[number] for lines in said if lines[number] != "won")
    assert store.verify() == []


def test_of_two_processes_that_claim_twelve_permits_each_is_claimed_by_one(
    store: Store, folder: Path, url: str | None, permitted: Permitted
) -> None:
    permits = [permitted(f"{number}.md") for number in range(12)]
    said = at_once(folder, url, ("claim", "claim"), [permit.gate for permit in permits])
    assert [[lines[number] for lines in said].count("won") for number in range(12)] == [1] * 12
    assert [store.ledger.get(permit.id).status for permit in permits] == [PermitStatus.CLAIMED] * 12
    assert [store.ledger.get(permit.id).claims for permit in permits] == [1] * 12


def at_once(folder: Path, url: str | None, acts: tuple[str, ...], gates: Sequence[str]) -> list[list[str]]:
    """Real processes, started together once each has its store open; what each said of each gate."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", DECIDE, str(folder), url or "", f"p{number}", act, *gates],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, act in enumerate(acts)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.communicate(timeout=60)[0].splitlines() for process in processes]


def test_a_superseded_proposal_is_not_approved(store: Store, open_gate: OpenGate) -> None:
    old, new = open_gate("a.md"), open_gate("b.md")
    store.gates.supersede_by(old.id, new.id)
    with pytest.raises(VerdictError, match="superseded"):
        store.gates.decide(old.id, Approve(), by="anna")
    assert store.ledger.for_gate(old.id) is None


def test_the_key_of_a_project_that_was_copied_over_proves_nothing_older(
    store: Store, permitted: Permitted, folder: Path, url: str | None, tmp_path: Path
) -> None:
    """Somebody puts a key of their own in its place: what was approved under the old one releases nothing."""
    permit = permitted("a.md")
    SigningKey.create(tmp_path / "own.key")
    copyfile(tmp_path / "own.key", folder / "signing.key")
    with Store.open(folder, url=url, clock=store.clock) as other, pytest.raises(PermitError):
        other.ledger.claim(permit.id, worker="w")
