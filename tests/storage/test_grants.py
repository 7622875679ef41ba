"""Standing grants on the record: counted, bounded, revoked, and of no use where a hand wrote them."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from karkas.policies.actions import Digest
from karkas.policies.errors import NotFoundError, PermitError, VerdictError
from karkas.policies.gates import GateKind, GateStatus, Hold
from karkas.policies.grants import AnyValue, PathGlob
from karkas.policies.permits import PermitStatus
from karkas.policies.verdicts import Defer
from karkas.policies.zones import ControlLevel, LevelChange, Scope, Zone
from karkas.storage import Gate, StandingGrant, Store

OpenGate = Callable[..., Gate]
Tamper = Callable[..., None]
Give = Callable[..., StandingGrant]
LORA = Zone(name="lora", understanding=3)
"""As `give` declares it."""


@pytest.fixture(name="open_gate")
def held_by_level(open_gate: OpenGate) -> OpenGate:
    """Opens gates that nothing but the zone's level holds back."""

    def opened(path: str = "docs/a.md", *more: str, **fields: Any) -> Gate:
        return open_gate(path, *more, **{"holds": (Hold.LEVEL,)} | fields)

    return opened


def in_force(store: Store, grant: StandingGrant) -> bool:
    return not store.grants.get(grant.id).ended


def released(store: Store, gate: Gate) -> bool:
    """Whether a grant passes the gate; if none does, nothing at all happened to it."""
    rows = len(store.audit.log())
    passed = store.grants.release(gate.id)
    if passed is None:
        assert store.gates.get(gate.id).status is GateStatus.OPEN
        assert store.ledger.for_gate(gate.id) is None
        assert len(store.audit.log()) == rows
    return passed is not None


def test_a_grant_passes_what_it_covers_and_each_use_is_on_the_record(
    store: Store, give: Give, open_gate: OpenGate
) -> None:
    grant, gate = give(), open_gate()
    passed = store.grants.release(gate.id)
    assert passed is not None
    assert (passed.status, passed.decided_by, passed.verdict) == (
        GateStatus.PASSED,
        f"grant/{grant.id}",
        None,
    )
    assert passed.reason == "granted in advance by anna: the nightly reports"
    permit = store.ledger.for_gate(gate.id)
    assert permit is not None
    assert store.ledger.claim(permit.id, worker="w").action.digest == gate.variants[0].digest
    added, used = store.audit.log(subject=f"grant:{grant.id}")
    assert (added.event, added.actor) == ("grant_added", "anna")
    assert (used.event, used.data) == (
        "grant_used",
        {"use": 1, "gate": gate.id, "action": gate.variants[0].digest},
    )
    from karkas.storage.tables import GateRow

    with store.database.read() as session:
        row = session.get(GateRow, gate.id)
        assert row is not None
        assert row.decision is not None
    verdict = json.loads(row.decision)["verdict"]
    assert verdict == {"kind": "grant", "grant": grant.id, "use": 1, "author": "anna"}
    assert store.verify() == []


@pytest.mark.parametrize(
    ("grant", "gate"),
    [
        ({"zone": "trl"}, {}),
        ({"tool": "edit_file"}, {}),
        ({"tool_version": Digest("0" * 64)}, {}),
        ({"args": {"path": PathGlob(glob="docs/**")}}, {}),
        ({"args": {"path": PathGlob(glob="src/**"), "content": AnyValue()}}, {}),
        ({}, {"zones": ("lora", "trl")}),
        ({}, {"approvers": 2}),
        ({}, {"holds": (Hold.LEVEL, Hold.FRAME)}),
        ({}, {"holds": ()}),
    ],
)
def test_what_it_does_not_cover_waits_for_a_person(
    store: Store, give: Give, open_gate: OpenGate, grant: dict[str, Any], gate: dict[str, Any]
) -> None:
    give(**grant)
    assert not released(store, open_gate(**gate))
    assert store.verify() == []


def test_neither_variants_nor_frames_nor_questions_are_granted(
    store: Store, give: Give, open_gate: OpenGate
) -> None:
    give()
    assert not released(store, open_gate("docs/a.md", "docs/b.md"))
    for kind in (GateKind.FRAME, GateKind.QUESTION, GateKind.OUTCOME):
        assert not released(store, open_gate(kind=kind))


def test_the_count_is_never_exceeded_by_workers_at_once(
    store: Store, give: Give, open_gate: OpenGate
) -> None:
    grant = give(limit=3)
    gates, barrier = [open_gate(f"docs/{number}.md") for number in range(8)], Barrier(8)

    def release(gate: Gate) -> bool:
        barrier.wait()
        return store.grants.release(gate.id) is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(release, gates)) == 3
    after = store.grants.get(grant.id)
    assert (after.used, after.ended) == (3, "it was used 3 times")
    assert len([one for one in store.audit.log() if one.event == "permit_issued"]) == 3
    uses = [entry.data for entry in store.audit.log() if entry.event == "grant_used"]
    assert [use["use"] for use in uses if isinstance(use, dict)] == [1, 2, 3]
    assert store.verify() == []


def test_a_second_grant_takes_over_where_the_first_is_used_up(
    store: Store, give: Give, open_gate: OpenGate
) -> None:
    first, second = give(limit=1), give(limit=1)
    assert [released(store, open_gate(f"docs/{number}.md")) for number in range(3)] == [True, True, False]
    assert {store.grants.get(one.id).used for one in (first, second)} == {1}


def test_of_two_grants_the_one_given_first_is_used_also_where_the_clock_was_set_back(
    store: Store, give: Give, open_gate: OpenGate, advance: Callable[[timedelta], Any]
) -> None:
    first = give()
    advance(timedelta(hours=-1))
    second = give()
    assert second.created_at < first.created_at
    assert released(store, open_gate())
    assert [store.grants.get(one.id).used for one in (first, second)] == [1, 0]


def test_an_expired_grant_releases_nothing(
    store: Store, give: Give, open_gate: OpenGate, advance: Callable[[timedelta], Any]
) -> None:
    grant = give()
    advance(timedelta(days=7))
    assert not released(store, open_gate())
    assert not in_force(store, grant)
    with pytest.raises(VerdictError, match="later time"):
        give(expires_at=store.clock())


def test_a_revoked_grant_releases_nothing_and_what_was_not_begun_is_void(
    store: Store, give: Give, open_gate: OpenGate
) -> None:
    grant, unused, begun, later = give(), open_gate("docs/u.md"), open_gate("docs/b.md"), open_gate()
    for gate in (unused, begun):
        assert released(store, gate)
    permits = [store.ledger.for_gate(gate.id) for gate in (unused, begun)]
    assert all(permits)
    held, running = (permit for permit in permits if permit)
    store.ledger.start(store.ledger.claim(running.id, worker="w"))
    for by, reason in ((" ", "no"), ("boris", " ")):
        with pytest.raises(VerdictError):
            store.grants.revoke(grant.id, by=by, reason=reason)
    revoked = store.grants.revoke(grant.id, by="boris", reason="they moved")
    assert revoked.ended == "revoked by boris"
    assert store.ledger.get(held.id).status is PermitStatus.VOID
    assert store.ledger.get(running.id).status is PermitStatus.STARTED
    assert not released(store, later)
    with pytest.raises(VerdictError, match="already"):
        store.grants.revoke(grant.id, by="boris", reason="again")
    assert store.verify() == []


def person(before: ControlLevel, after: ControlLevel) -> LevelChange:
    return LevelChange(before=before, after=after, author="anna", by_person=True, reason="because")


@pytest.mark.parametrize("how", ["tightened", "declared stricter", "two approvers", "wider scope", "dropped"])
def test_a_zone_that_was_ruled_anew_ends_its_grants_also_where_it_is_set_back(
    store: Store, give: Give, open_gate: OpenGate, how: str
) -> None:
    grant = give()
    propose, draft = ControlLevel.PROPOSE_ONLY, ControlLevel.DRAFT_ONLY
    match how:
        case "tightened":
            store.zones.set_level("lora", person(propose, draft), declared=propose)
        case "declared stricter":
            store.zones.observe(LORA.model_copy(update={"understanding": 1}))
        case "two approvers":
            store.zones.observe(LORA.model_copy(update={"approvers": 2}))
        case "wider scope":
            store.zones.observe(LORA.model_copy(update={"scope": Scope(paths=("x",))}))
        case _:
            store.zones.drop("lora", author="anna", reason="renamed")
            store.zones.observe(LORA)
    assert not in_force(store, grant)
    assert not released(store, open_gate())
    store.zones.set_level("lora", person(draft, propose), declared=propose, approvers=1)
    assert not released(store, open_gate())


def test_a_new_exploration_alone_ends_no_grant(store: Store, give: Give) -> None:
    grant, one = give(), Digest("1" * 64)
    store.zones.set_distillate("lora", id="d", sha256=one, artifact=one, path="p", actor="explore")
    assert in_force(store, grant)


@pytest.mark.parametrize(
    "change",
    [
        "used = 0",
        "at_most = 99",
        "expires_at = '2099-01-01 00:00:00+00:00'",
        "zone = 'trl'",
        "seal = '00'",
        "terms = :evil",
        "id = 's-000000000000'",
    ],
)
def test_a_grant_that_was_changed_by_hand_releases_nothing(
    store: Store, give: Give, open_gate: OpenGate, tamper: Tamper, change: str
) -> None:
    grant = give()
    assert released(store, open_gate())
    evil = grant.terms.model_copy(update={"args": {"path": AnyValue(), "content": AnyValue()}})
    values = {"evil": json.dumps(evil.model_dump(mode="json"))} if ":evil" in change else {}
    tamper(f"UPDATE standing_grant SET {change}", **values)
    assert not released(store, open_gate("docs/b.md"))
    assert store.grants.list()[0].ended
    assert [line for line in store.verify() if line.startswith("grant ")]


def test_a_revocation_that_was_taken_back_by_hand_stands(
    store: Store, give: Give, open_gate: OpenGate, tamper: Tamper
) -> None:
    grant = give()
    store.grants.revoke(grant.id, by="boris", reason="no")
    tamper("UPDATE standing_grant SET revoked_at = NULL, revoked_by = NULL")
    assert not released(store, open_gate())
    assert [line for line in store.verify() if grant.id in line]


@pytest.mark.parametrize(
    "hide",
    [
        "DELETE FROM audit WHERE event = 'grant_used'",
        "UPDATE audit SET event = 'x' WHERE event = 'grant_used'",
    ],
)
def test_a_use_that_was_taken_from_row_and_record_releases_nothing(
    store: Store, give: Give, open_gate: OpenGate, tamper: Tamper, hide: str
) -> None:
    give(limit=1)
    assert released(store, open_gate())
    tamper("UPDATE standing_grant SET used = 0")
    tamper(hide)
    assert not released(store, open_gate("docs/b.md"))


def test_a_grant_that_nobody_gave_releases_nothing(
    store: Store, give: Give, open_gate: OpenGate, tamper: Tamper
) -> None:
    give()
    tamper("CREATE TABLE kept AS SELECT * FROM standing_grant")
    tamper("UPDATE kept SET id = 's-ffffffffffff', used = 0")
    tamper("DELETE FROM standing_grant")
    tamper("INSERT INTO standing_grant SELECT * FROM kept")
    tamper("DROP TABLE kept")
    assert not released(store, open_gate())


def test_a_gate_that_was_written_to_have_been_passed_by_a_grant_releases_nothing(
    store: Store, give: Give, open_gate: OpenGate, tamper: Tamper
) -> None:
    grant, gate, other = give(), open_gate(), open_gate("docs/b.md")
    assert released(store, gate)
    permit = store.ledger.for_gate(gate.id)
    assert permit is not None
    tamper(
        "UPDATE gate SET status = 'passed', decided_by = :by, decided_at = opened_at WHERE id = :id",
        by=f"grant/{grant.id}",
        id=other.id,
    )
    tamper("UPDATE permit SET gate = :id", id=other.id)
    with pytest.raises(PermitError, match="releases nothing"):
        store.ledger.claim(permit.id, worker="w")


def test_a_grant_is_found_by_the_beginning_of_its_id(store: Store, give: Give) -> None:
    grant = give()
    assert store.grants.get(grant.id[:8]) == grant
    with pytest.raises(NotFoundError, match="karkas grant list"):
        store.grants.get("s-zzz")


def test_what_a_grant_passed_is_not_begun_after_its_end(
    store: Store, give: Give, open_gate: OpenGate, advance: Callable[[timedelta], Any]
) -> None:
    """The worker died in between, and the run was resumed a month later."""
    give()
    gate = open_gate()
    assert released(store, gate)
    permit = store.ledger.for_gate(gate.id)
    assert permit is not None
    assert store.ledger.lapsed(store.gates.get(gate.id)) is None
    advance(timedelta(days=8))
    assert "ended at" in (store.ledger.lapsed(store.gates.get(gate.id)) or "")
    with pytest.raises(PermitError, match="ended at"):
        store.ledger.claim(permit.id, worker="w")


def test_a_grant_does_not_pass_what_a_person_put_off(store: Store, give: Give, open_gate: OpenGate) -> None:
    give()
    gate = open_gate()
    store.gates.decide(gate.id, Defer(until=store.clock() + timedelta(hours=1)), by="anna")
    assert store.grants.release(gate.id) is None
    assert store.ledger.for_gate(gate.id) is None


def test_a_grant_does_not_come_back_on_the_word_of_a_forged_row(
    store: Store, give: Give, open_gate: OpenGate, tamper: Tamper, forge: Callable[..., None]
) -> None:
    """Its uses and its end are taken off the record, and its beginning is moved to after the hole."""
    grant = give(limit=1)
    assert released(store, open_gate())
    store.grants.revoke(grant.id, by="anna", reason="enough")
    forge("looked", "something")
    added = store.audit.log(subject=f"grant:{grant.id}")[0].data
    tamper("DELETE FROM audit WHERE subject = :it AND event <> 'grant_added'", it=f"grant:{grant.id}")
    tamper("UPDATE standing_grant SET used = 0, revoked_at = NULL, revoked_by = NULL")
    forge("grant_added", f"grant:{grant.id}", added)
    assert store.grants.release(open_gate().id) is None


def test_a_use_does_not_go_away_on_the_word_of_a_forged_one(
    store: Store, give: Give, open_gate: OpenGate, tamper: Tamper, forge: Callable[..., None]
) -> None:
    grant = give(limit=1)
    assert released(store, open_gate())
    forge("grant_used", f"grant:{grant.id}", {"use": 0})
    tamper("UPDATE standing_grant SET used = 0")
    assert store.grants.release(open_gate("docs/b.md").id) is None
    assert [line for line in store.verify() if grant.id in line]


@pytest.mark.parametrize("change", ["terms = :later", "expires_at = '2099-01-01 00:00:00+00:00'"])
def test_what_a_grant_passed_gets_no_more_time_by_a_changed_row(  # noqa: PLR0917
    store: Store,
    give: Give,
    open_gate: OpenGate,
    tamper: Tamper,
    advance: Callable[[timedelta], Any],
    change: str,
) -> None:
    grant, gate = give(), open_gate()
    assert released(store, gate)
    permit = store.ledger.for_gate(gate.id)
    assert permit is not None
    later = grant.terms.model_copy(update={"expires_at": store.clock() + timedelta(days=99)})
    values = {"later": json.dumps(later.model_dump(mode="json"))} if ":later" in change else {}
    tamper(f"UPDATE standing_grant SET {change}", **values)
    advance(timedelta(days=8))
    with pytest.raises(PermitError, match="releases nothing"):
        store.ledger.claim(permit.id, worker="w")


def test_verify_names_a_grant_that_was_taken_away(store: Store, give: Give, tamper: Tamper) -> None:
    grant = give()
    tamper("DELETE FROM standing_grant")
    assert f"grant {grant.id}: it is on the record, but its row was taken away" in store.verify()


RELEASE = """
import sys
from pathlib import Path
from karkas.storage import Store

folder, url, *gates = sys.argv[1:]
with Store.open(Path(folder), url=url or None) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for gate in gates:
        print("passed" if store.grants.release(gate) else "waits", flush=True)
"""


def test_two_processes_use_a_grant_as_often_as_it_was_given_and_no_more(
    store: Store, folder: Path, url: str | None, give: Give, open_gate: OpenGate
) -> None:
    give(limit=5, expires_at=datetime.now(UTC) + timedelta(days=1))
    gates = [[open_gate(f"docs/{name}{number}.md").id for number in range(6)] for name in "ab"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RELEASE, str(folder), url or "", *share],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for share in gates
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].split() for process in processes]
    assert sum(lines.count("passed") for lines in said) == 5
    assert len(store.gates.list(status=GateStatus.PASSED)) == 5
    assert store.verify() == []


@pytest.mark.parametrize("how", ["in doubt", "taken back"])
def test_a_grant_ends_with_an_action_of_its_own_that_went_wrong(
    store: Store, give: Give, open_gate: OpenGate, how: str
) -> None:
    grant, bad, unused, later = give(limit=9), open_gate(), open_gate("docs/u.md"), open_gate("docs/b.md")
    for gate in (bad, unused):
        assert released(store, gate)
    permits = [store.ledger.for_gate(gate.id) for gate in (bad, unused)]
    begun, held = (permit for permit in permits if permit is not None)
    store.ledger.start(store.ledger.claim(begun.id, worker="w"))
    if how == "in doubt":
        store.ledger.doubt(begun.id, "the worker died")
    else:
        store.ledger.commit(begun.id, {}, {"path": "docs/a.md"})
        assert in_force(store, grant)
        store.ledger.begin_undo(begun.id, by="anna")
        store.ledger.end_undo(begun.id, by="anna", done="removed docs/a.md")
    assert store.grants.get(grant.id).ended == "revoked by karkas"
    assert how in str(store.audit.log(subject=f"grant:{grant.id}")[-1].data)
    assert store.ledger.get(held.id).status is PermitStatus.VOID
    assert not released(store, later)
    assert store.verify() == []
