from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from karkas.policies.actions import Digest
from karkas.policies.errors import FrameError, LooseningError, NotFoundError
from karkas.policies.zones import ControlLevel, LevelChange, Scope, Stage, Zone, zone_state
from karkas.storage import Store, ZoneGround

AUTONOMOUS, PROPOSE, DRAFT = ControlLevel
ONE, TWO = Digest("1" * 64), Digest("2" * 64)


def by_person(before: ControlLevel, after: ControlLevel, reason: str = "I know it by now") -> LevelChange:
    return LevelChange(before=before, after=after, author="anna", by_person=True, reason=reason)


def test_the_first_declaration_stands_as_it_is(store: Store) -> None:
    zone = Zone(name="lora", understanding=3, scope=Scope(paths=("docs",)))
    assert store.zones.get("lora") is None
    record = store.zones.observe(zone)
    assert (record.level, record.declared_level, record.stage) == (PROPOSE, PROPOSE, Stage.UNCHARTED)
    assert record.scope == zone.scope
    assert store.zones.all() == {"lora": record}


def test_a_stricter_declaration_tightens_and_a_looser_one_changes_nothing(store: Store) -> None:
    store.zones.observe(Zone(name="lora", understanding=3))
    tightened = store.zones.observe(Zone(name="lora", understanding=1))
    assert (tightened.level, tightened.declared_level) == (DRAFT, DRAFT)
    rows = len(store.audit.log())
    assert store.zones.observe(Zone(name="lora", understanding=5)) == tightened
    assert len(store.audit.log()) == rows


def test_a_scope_only_grows_by_declaration(store: Store) -> None:
    store.zones.observe(Zone(name="lora", scope=Scope(paths=("a",), topics=("x",))))
    grown = store.zones.observe(Zone(name="lora", scope=Scope(paths=("b",))))
    assert grown.scope == Scope(paths=("a", "b"), topics=("x",))


def test_a_person_loosens_with_a_reason_and_may_shrink_the_scope(store: Store) -> None:
    store.zones.observe(Zone(name="lora", understanding=1, scope=Scope(paths=("a", "b"))))
    record = store.zones.set_level(
        "lora", by_person(DRAFT, AUTONOMOUS), declared=AUTONOMOUS, scope=Scope(paths=("a",))
    )
    assert (record.level, record.author, record.reason) == (AUTONOMOUS, "anna", "I know it by now")
    assert record.scope == Scope(paths=("a",))
    assert store.zones.get("lora") == record
    assert store.audit.log(subject="zone:lora")[-1].actor == "anna"
    with pytest.raises(LooseningError, match="reason"):
        store.zones.set_level("lora", by_person(AUTONOMOUS, DRAFT, reason=" "), declared=DRAFT)


@pytest.mark.parametrize("claimed_before", list(ControlLevel))
def test_an_agent_never_loosens_whatever_it_says_the_level_was(
    store: Store, claimed_before: ControlLevel
) -> None:
    before = store.zones.observe(Zone(name="lora", understanding=1))
    change = LevelChange(
        before=claimed_before, after=AUTONOMOUS, author="agent", by_person=False, reason="trust me"
    )
    with pytest.raises(LooseningError):
        store.zones.set_level("lora", change, declared=AUTONOMOUS)
    assert store.zones.get("lora") == before


def test_an_agent_may_tighten_but_not_shrink_the_scope(store: Store) -> None:
    store.zones.observe(Zone(name="lora", understanding=5, scope=Scope(paths=("a", "b"))))
    change = LevelChange(
        before=AUTONOMOUS, after=DRAFT, author="watch", by_person=False, reason="three rejections"
    )
    with pytest.raises(LooseningError, match="shrink"):
        store.zones.set_level("lora", change, declared=AUTONOMOUS, scope=Scope(paths=("a",)))
    assert store.zones.set_level("lora", change, declared=AUTONOMOUS).level is DRAFT


def test_a_zone_that_nobody_declared_cannot_be_changed(store: Store) -> None:
    changes: list[Callable[[], object]] = [
        lambda: store.zones.set_stage("lora", Stage.MAPPED, actor="scout"),
        lambda: store.zones.set_level("lora", by_person(DRAFT, PROPOSE), declared=PROPOSE),
    ]
    for change in changes:
        with pytest.raises(NotFoundError, match=r"karkas\.toml"):
            change()
    assert store.zones.ground("lora") == ZoneGround(name="lora")


def distilled(store: Store) -> None:
    store.zones.observe(Zone(name="lora", understanding=1))
    store.zones.set_distillate(
        "lora", id="d-1", sha256=ONE, artifact=ONE, path="zones/lora.distillate.yaml", actor="summarizer"
    )


def test_only_a_person_frames_a_zone_and_only_on_its_distillate(store: Store) -> None:
    distilled(store)
    store.zones.set_stage("lora", Stage.CRITICISED, actor="reviewer")
    with pytest.raises(LooseningError, match="karkas frame lora"):
        store.zones.set_stage("lora", Stage.FRAMED, actor="reviewer")
    with pytest.raises(FrameError, match="drawn from distillate"):
        store.zones.set_frame("lora", frame=TWO, level=PROPOSE, author="anna", distillate_sha256=TWO)
    with pytest.raises(FrameError, match="name of the person"):
        store.zones.set_frame("lora", frame=TWO, level=PROPOSE, author="", distillate_sha256=ONE)
    record = store.zones.set_frame("lora", frame=TWO, level=PROPOSE, author="anna", distillate_sha256=ONE)
    assert (record.stage, record.level, record.author) == (Stage.FRAMED, PROPOSE, "anna")
    ground = store.zones.ground("lora")
    assert (ground.distillate_id, ground.frame_artifact, ground.frame_level) == ("d-1", TWO, PROPOSE)
    assert ground.framed_at == store.clock()
    assert not ground.frame_is_stale


def test_a_frame_is_stale_when_the_distillate_changed(store: Store) -> None:
    distilled(store)
    store.zones.set_frame("lora", frame=TWO, level=PROPOSE, author="anna", distillate_sha256=ONE)
    ground = store.zones.set_distillate(
        "lora", id="d-2", sha256=TWO, artifact=TWO, path="x", actor="summarizer"
    )
    assert ground.frame_is_stale


@pytest.mark.parametrize(
    "change",
    [
        "level = 'autonomous'",
        "declared_level = 'autonomous'",
        "stage = 'framed'",
        "scope = '{}'",
        "frame_artifact = 'abc'",
        "seal = ''",
    ],
)
def test_a_zone_changed_by_hand_falls_to_the_strictest(
    store: Store, tamper: Callable[..., None], change: str
) -> None:
    zone = Zone(name="lora", understanding=3, scope=Scope(paths=("docs",)))
    store.zones.observe(zone)
    store.zones.set_distillate("lora", id="d-1", sha256=ONE, artifact=ONE, path="x", actor="summarizer")
    tamper(f"UPDATE zone SET {change} WHERE name = 'lora'")
    state = zone_state(zone, store.zones.get("lora"))
    assert (state.level, state.stage) == (DRAFT, Stage.UNCHARTED)
    assert any("outside karkas" in reason for reason in state.reasons)
    assert store.zones.ground("lora") == ZoneGround(name="lora")
    assert [line for line in store.verify() if "zone lora" in line]
    store.zones.set_level(
        "lora", by_person(DRAFT, PROPOSE, "looked at it"), declared=PROPOSE, scope=zone.scope
    )
    assert zone_state(zone, store.zones.get("lora")).level is PROPOSE


def test_a_zone_taken_up_again_after_a_hand_changed_it_keeps_nothing_of_that(
    store: Store, tamper: Callable[..., None]
) -> None:
    zone = Zone(name="lora", understanding=1)
    store.zones.observe(zone)
    tamper(
        "UPDATE zone SET level = 'autonomous', stage = 'framed', frame_artifact = 'abc' WHERE name = 'lora'"
    )
    writes: list[Callable[[], object]] = [
        lambda: store.zones.observe(Zone(name="lora", scope=Scope(paths=("docs",)))),
        lambda: store.zones.set_stage("lora", Stage.MAPPED, actor="scout"),
    ]
    for write in writes:
        write()
        record = store.zones.get("lora")
        assert record is not None
        assert (record.level, record.stage is Stage.FRAMED) == (DRAFT, False)
    assert store.zones.ground("lora").frame_artifact is None


def test_a_dropped_zone_stays_in_the_log(store: Store) -> None:
    store.zones.observe(Zone(name="lora"))
    store.zones.drop("lora", author="anna", reason="the project ended")
    assert store.zones.get("lora") is None
    assert store.audit.log(subject="zone:lora")[-1].event == "zone_dropped"
    assert store.verify() == []


def test_an_older_row_that_is_put_back_by_hand_does_not_count(
    store: Store, tamper: Callable[..., None]
) -> None:
    zone = Zone(name="lora", understanding=5)
    store.zones.observe(zone)
    store.zones.set_level("lora", by_person(AUTONOMOUS, DRAFT, "it went wrong"), declared=AUTONOMOUS)
    tamper("CREATE TABLE kept AS SELECT * FROM zone")
    store.zones.set_level("lora", by_person(DRAFT, PROPOSE, "it went well"), declared=AUTONOMOUS)
    before = store.zones.get("lora")
    assert before is not None
    assert before.level is PROPOSE
    store.zones.set_level("lora", by_person(PROPOSE, DRAFT, "it went wrong again"), declared=AUTONOMOUS)
    tamper("UPDATE kept SET level = level")
    for restored in ("DELETE FROM zone", "INSERT INTO zone SELECT * FROM kept", "DROP TABLE kept"):
        tamper(restored)
    record = store.zones.get("lora")
    assert record is not None
    assert (record.level, record.author) == (DRAFT, "karkas")
    assert [line for line in store.verify() if "zone lora" in line]


def test_names_that_no_database_takes_do_not_break_the_seal(store: Store) -> None:
    store.zones.observe(Zone(name="lora"))
    store.zones.set_level(
        "lora",
        LevelChange(before=DRAFT, after=PROPOSE, author="a\x00nn", by_person=True, reason="I \x00 know"),
        declared=DRAFT,
    )
    record = store.zones.get("lora")
    assert record is not None
    assert (record.level, record.author) == (PROPOSE, "a\\x00nn")


def test_a_reader_never_takes_a_zone_for_tampered_while_it_changes(store: Store) -> None:
    store.zones.observe(Zone(name="lora", understanding=5))
    stop = Event()

    def change() -> None:
        for number in range(60):
            store.zones.set_level("lora", by_person(AUTONOMOUS, AUTONOMOUS, str(number)), declared=AUTONOMOUS)
        stop.set()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(change)
        while not stop.is_set():
            record = store.zones.get("lora")
            assert record is not None
            assert record.level is AUTONOMOUS
