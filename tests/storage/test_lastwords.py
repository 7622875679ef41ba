"""What a claim remembers of the log: rows are changed or taken away *behind* the point up to which it was proven."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from karkas.policies.actions import Digest
from karkas.policies.errors import PermitError
from karkas.policies.gates import GateStatus, Hold
from karkas.policies.verdicts import Approve, Reject
from karkas.policies.zones import ControlLevel, LevelChange, Scope, Zone
from karkas.storage import Gate, Permit, StandingGrant, Store, lastwords
from karkas.storage.audit import Noted

Tamper = Callable[..., None]
Forge = Callable[..., None]
Permitted = Callable[..., Permit]
OpenGate = Callable[..., Gate]
Beyond = Callable[[], Store]

LORA = Zone(name="lora", understanding=5, scope=Scope(topics=("lora",)))
SET_BACK = "UPDATE permit SET status = 'approved', claims = 0, worker = NULL, result = NULL WHERE id = :id"
HIDDEN = "DELETE FROM audit WHERE subject = :subject AND event <> :but"


@pytest.fixture(params=["in the process", "in the file", "nowhere"])
def beyond(
    request: pytest.FixtureRequest,
    store: Store,
    url: str | None,
    permitted: Permitted,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Beyond]:
    """Has the log proven beyond all that happened so far, by the claim of another permit; the store that goes on, with
    what it remembers.
    """
    monkeypatch.setattr(lastwords, "SAVED_EVERY", 0)
    opened: list[Store] = []
    file = store.folder / "audit.words"

    def beyond() -> Store:
        store.ledger.claim(permitted("other.md").id, worker="w")
        assert file.exists()
        if request.param == "in the process":
            file.unlink()
            return store
        if request.param == "nowhere":
            file.unlink()
        opened.append(Store.open(store.folder, url=url, clock=store.clock))
        return opened[-1]

    yield beyond
    for one in opened:
        one.close()


def used(store: Store, permitted: Permitted) -> Permit:
    permit = permitted("a.md")
    store.ledger.start(store.ledger.claim(permit.id, worker="w"))
    return store.ledger.commit(permit.id, {})


def releases_nothing(store: Store, permit: str) -> None:
    for _ in range(2):
        with pytest.raises(PermitError, match="the record behind it is broken"):
            store.ledger.claim(permit, worker="w")


@pytest.mark.parametrize(
    "hide",
    [
        HIDDEN,
        "UPDATE audit SET subject = 'permit:p-0' WHERE subject = :subject AND event <> :but",
        "UPDATE audit SET event = 'seen' WHERE subject = :subject AND event <> :but",
    ],
)
def test_a_used_permit_is_not_used_again(
    store: Store, beyond: Beyond, permitted: Permitted, tamper: Tamper, hide: str
) -> None:
    permit = used(store, permitted)
    on = beyond()
    tamper(SET_BACK, id=permit.id)
    tamper(hide, subject=f"permit:{permit.id}", but="permit_issued")
    releases_nothing(on, permit.id)


def test_a_permit_that_is_begun_is_not_given_out_as_if_it_were_not(
    store: Store, beyond: Beyond, permitted: Permitted, tamper: Tamper
) -> None:
    permit = permitted("a.md")
    store.ledger.start(store.ledger.claim(permit.id, worker="w"))
    on = beyond()
    tamper(SET_BACK, id=permit.id)
    tamper(HIDDEN, subject=f"permit:{permit.id}", but="permit_issued")
    releases_nothing(on, permit.id)


def test_a_used_permit_does_not_come_back_by_a_forged_row_that_was_heard_and_is_gone(  # noqa: PLR0917
    store: Store, beyond: Beyond, permitted: Permitted, open_gate: OpenGate, tamper: Tamper, forge: Forge
) -> None:
    """A forged row names an open gate, so that the permit would stand in its place."""
    permit, waits = used(store, permitted), open_gate("b.md")
    forge("permit_issued", f"permit:{permit.id}", {"gate": waits.id})
    on = beyond()
    tamper(SET_BACK, id=permit.id)
    tamper("DELETE FROM audit WHERE subject = :it AND actor = 'ada'", it=f"permit:{permit.id}")
    tamper(HIDDEN, subject=f"permit:{permit.id}", but="permit_issued")
    releases_nothing(on, permit.id)


@pytest.mark.parametrize("hide", ["DELETE FROM audit WHERE", "UPDATE audit SET event = 'x' WHERE"])
def test_a_zone_that_was_set_back_with_its_record_releases_nothing(
    store: Store, beyond: Beyond, open_gate: OpenGate, tamper: Tamper, hide: str
) -> None:
    store.zones.observe(LORA)
    tamper("CREATE TABLE kept AS SELECT * FROM zone")
    tightened = LevelChange(
        before=ControlLevel.AUTONOMOUS,
        after=ControlLevel.DRAFT_ONLY,
        author="ada",
        by_person=True,
        reason="it went wrong",
    )
    store.zones.set_level("lora", tightened, declared=ControlLevel.AUTONOMOUS)
    on = beyond()
    tamper("DELETE FROM zone")
    tamper("INSERT INTO zone SELECT * FROM kept")
    tamper("DROP TABLE kept")
    tamper(f"{hide} event = 'zone_level_set'")
    gate = open_gate("a.md")
    on.gates.decide(gate.id, Approve(), by="anna")
    permit = on.ledger.for_gate(gate.id)
    assert permit is not None
    releases_nothing(on, permit.id)


def reject(store: Store, gate: Gate, tamper: Tamper) -> None:
    """A person rejects the gate; then its row is set back, and the record says nothing of it."""
    store.gates.decide(gate.id, Reject(reason="no"), by="anna")
    tamper(
        "UPDATE gate SET status = 'open', verdict = NULL, decision = NULL, signature = NULL, decided_by = NULL,"
        " decided_at = NULL, reason = '' WHERE id = :id",
        id=gate.id,
    )


@pytest.mark.parametrize("forged", [False, True])
def test_a_rejected_gate_is_not_passed_by_a_grant(  # noqa: PLR0917
    store: Store,
    beyond: Beyond,
    give: Callable[..., StandingGrant],
    open_gate: OpenGate,
    tamper: Tamper,
    forge: Forge,
    forged: bool,  # noqa: FBT001
) -> None:
    """Also not where a forged row opened it once more, which was heard and is gone. Nor does a permit stand on it."""
    gate = open_gate("docs/a.md", holds=(Hold.LEVEL,))
    reject(store, gate, tamper)
    if forged:
        forge("gate_opened", f"gate:{gate.id}")
    on = beyond()
    subject = f"gate:{gate.id}"
    tamper("CREATE TABLE kept AS SELECT * FROM audit WHERE subject = :it AND actor = 'ada'", it=subject)
    tamper("DELETE FROM audit WHERE subject = :it AND actor = 'ada'", it=subject)
    tamper(HIDDEN, subject=subject, but="gate_opened")
    give()
    assert on.grants.release(gate.id) is None
    on.gates.decide(gate.id, Approve(), by="anna")
    permit = on.ledger.for_gate(gate.id)
    assert permit is not None
    releases_nothing(on, permit.id)
    tamper("INSERT INTO audit SELECT * FROM kept")
    releases_nothing(on, permit.id)


@pytest.mark.parametrize("how", ["used", "revoked", "ruled", "forged"])
def test_a_grant_that_is_over_does_not_come_back(  # noqa: PLR0917
    store: Store,
    beyond: Beyond,
    give: Callable[..., StandingGrant],
    open_gate: OpenGate,
    tamper: Tamper,
    forge: Forge,
    how: str,
) -> None:
    grant = give(limit=1)
    subject, but = f"grant:{grant.id}", "grant_added"
    match how:
        case "used":
            assert store.grants.release(open_gate("docs/a.md", holds=(Hold.LEVEL,)).id) is not None
        case "ruled":
            subject, but = "zone:lora", "zone_distilled"
            wider = Zone(name="lora", understanding=3, scope=Scope(paths=("docs", "src")))
            store.zones.observe(wider)
            one = Digest("1" * 64)
            store.zones.set_distillate("lora", id="d", sha256=one, artifact=one, path="p", actor="explore")
        case _:
            store.grants.revoke(grant.id, by="anna", reason="enough")
            if how == "forged":
                forge("grant_added", subject, {"zone": "lora"})
    on = beyond()
    tamper("UPDATE standing_grant SET used = 0, revoked_at = NULL, revoked_by = NULL")
    tamper("DELETE FROM audit WHERE subject = :it AND actor = 'ada'", it=subject)
    tamper(HIDDEN, subject=subject, but=but)
    assert on.grants.get(grant.id).ended == ""
    assert on.grants.release(open_gate("docs/b.md", holds=(Hold.LEVEL,)).id) is None


@pytest.mark.parametrize("what", ["nothing", "cut", "another key", "words"])
def test_what_somebody_wrote_into_the_file_is_not_believed(  # noqa: PLR0917
    store: Store,
    url: str | None,
    permitted: Permitted,
    tamper: Tamper,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    monkeypatch.setattr(lastwords, "SAVED_EVERY", 0)
    permit, other = used(store, permitted), permitted("b.md")
    file = store.folder / "audit.words"
    store.ledger.claim(permitted("c.md").id, worker="w")
    kept = file.read_bytes()
    assert other.id.encode() in kept
    file.write_bytes(
        {
            "nothing": b"",
            "cut": kept[:40],
            "another key": bytes(32) + kept[32:],
            "words": kept.replace(other.id.encode(), permit.id.encode()),
        }[what]
    )
    tamper(SET_BACK, id=permit.id)
    tamper(HIDDEN, subject=f"permit:{permit.id}", but="permit_issued")
    with Store.open(store.folder, url=url, clock=store.clock) as on:
        releases_nothing(on, permit.id)


def test_an_older_file_hides_nothing(
    store: Store, url: str | None, permitted: Permitted, tamper: Tamper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is of the time when the permit was not used, and so is the row; the head remembers more."""
    monkeypatch.setattr(lastwords, "SAVED_EVERY", 0)
    permit, file = permitted("a.md"), store.folder / "audit.words"
    store.ledger.claim(permitted("b.md").id, worker="w")
    older, seq = file.read_bytes(), store.audit.log()[-1].seq
    store.ledger.start(store.ledger.claim(permit.id, worker="w"))
    store.ledger.commit(permit.id, {})
    file.write_bytes(older)
    tamper(SET_BACK, id=permit.id)
    tamper("CREATE TABLE kept AS SELECT * FROM audit")
    for hide in (HIDDEN, "DELETE FROM audit WHERE seq > :seq"):
        tamper("DELETE FROM audit")
        tamper("INSERT INTO audit SELECT * FROM kept")
        named = {"seq": seq} if ":seq" in hide else {"subject": f"permit:{permit.id}", "but": "permit_issued"}
        tamper(hide, **named)
        with Store.open(store.folder, url=url, clock=store.clock) as on:
            releases_nothing(on, permit.id)


def test_a_record_that_is_put_back_as_it_was_releases_again(
    store: Store, beyond: Beyond, permitted: Permitted, tamper: Tamper
) -> None:
    permit = permitted("a.md")
    on = beyond()
    tamper("CREATE TABLE kept AS SELECT * FROM audit")
    tamper("DELETE FROM audit WHERE subject = :it", it=f"gate:{permit.gate}")
    with pytest.raises(PermitError):
        on.ledger.claim(permit.id, worker="w")
    tamper("DELETE FROM audit")
    tamper("INSERT INTO audit SELECT * FROM kept")
    on.ledger.claim(permit.id, worker="w")


def test_a_claim_reads_what_came_since_and_not_the_log(
    store: Store, url: str | None, permitted: Permitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    hear = lastwords._Known.hear

    def counted(known: lastwords._Known, row: Noted) -> None:
        read[-1] += 1
        hear(known, row)

    def claim(on: Store, path: str) -> None:
        permit = permitted(path)
        read.append(0)
        on.ledger.claim(permit.id, worker="w")

    monkeypatch.setattr(lastwords._Known, "hear", counted)
    for number in range(lastwords.SAVED_EVERY + 50):
        store.note("looked", f"file:{number}", actor="karkas")
    for number in range(3):
        claim(store, f"{number}.md")
    assert read[0] > lastwords.SAVED_EVERY
    assert max(read[1:]) < 10
    with Store.open(store.folder, url=url, clock=store.clock) as on:
        claim(on, "fresh.md")
    assert read[-1] < 30
    assert store.verify() == []


def test_what_is_over_is_not_kept(
    store: Store, permitted: Permitted, open_gate: OpenGate, folder: Path
) -> None:
    for number in range(3):
        permit = permitted(f"{number}.md")
        store.ledger.start(store.ledger.claim(permit.id, worker="w"))
        store.ledger.commit(permit.id, {})
        store.gates.decide(open_gate("no.md").id, Reject(reason="no"), by="anna")
        store.gates.close(open_gate("late.md").id, GateStatus.EXPIRED, "nobody decided")
    last, waits = permitted("last.md"), open_gate("waits.md")
    store.ledger.claim(last.id, worker="w")
    known = store._records.words._known
    assert known is not None
    assert set(known.words) == {f"permit:{last.id}", f"gate:{waits.id}"}
