from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karkas.policies.errors import LooseningError
from karkas.policies.zones import (
    ControlLevel,
    LevelChange,
    Scope,
    Stage,
    Zone,
    ZoneRecord,
    declared_level,
    derive_level,
    strictest,
    zone_state,
)

levels = st.sampled_from(ControlLevel)
names = st.sampled_from(["a", "b", "c", "d/**", "*.py"])
scopes = st.builds(
    Scope,
    paths=st.lists(names).map(tuple),
    tools=st.lists(names).map(tuple),
    topics=st.lists(names).map(tuple),
)
zones = st.builds(
    Zone,
    name=st.just("zone"),
    understanding=st.integers(0, 5),
    critical=st.booleans(),
    level=st.none() | levels,
    scope=scopes,
)
records = st.builds(
    ZoneRecord,
    name=st.just("zone"),
    level=levels,
    declared_level=levels,
    scope=scopes,
    stage=st.sampled_from(Stage),
    reason=st.text(max_size=3),
    author=st.text(max_size=3),
)


@given(st.lists(levels))
def test_the_strictest_of_any_levels_wins_and_of_none_it_is_draft_only(some: list[ControlLevel]) -> None:
    result = strictest(some)
    assert not any(level.stricter_than(result) for level in some)
    assert result in some or (not some and result is ControlLevel.DRAFT_ONLY)


@pytest.mark.parametrize(
    ("understanding", "critical", "level"),
    [
        (0, False, "draft-only"),
        (1, False, "draft-only"),
        (2, False, "propose-only"),
        (3, False, "propose-only"),
        (4, False, "autonomous"),
        (5, False, "autonomous"),
        (3, True, "draft-only"),
        (4, True, "propose-only"),
        (5, True, "propose-only"),
        (-1, False, "draft-only"),
        (6, False, "draft-only"),
    ],
)
def test_a_level_follows_from_understanding(understanding: int, level: str, *, critical: bool) -> None:
    assert derive_level(understanding, critical=critical) == level


@pytest.mark.parametrize("critical", [False, True])
def test_more_understanding_never_tightens_and_critical_never_loosens(*, critical: bool) -> None:
    ladder = [derive_level(n, critical=critical) for n in range(6)]
    assert not any(after.stricter_than(before) for before, after in pairwise(ladder))
    assert not any(
        derive_level(n, critical=False).stricter_than(derive_level(n, critical=True)) for n in range(6)
    )


@given(zones)
def test_a_declaration_may_tighten_what_follows_but_not_loosen_it(zone: Zone) -> None:
    derived = derive_level(zone.understanding, critical=zone.critical)
    assert not derived.stricter_than(declared_level(zone))
    assert zone.level is None or not zone.level.stricter_than(declared_level(zone))


@given(records, st.lists(zones, min_size=1, max_size=6))
def test_no_sequence_of_declarations_loosens_what_is_on_the_record(
    record: ZoneRecord, declared: list[Zone]
) -> None:
    for zone in declared:
        state = zone_state(zone, record)
        assert not record.level.stricter_than(state.level)
        assert state.scope.covers(record.scope)
        assert state.scope.covers(zone.scope)
        assert state.stage is record.stage
        if declared_level(zone).stricter_than(record.declared_level):
            assert not declared_level(zone).stricter_than(state.level)
        record = record.model_copy(update={"level": state.level, "scope": state.scope})


@given(zones, records)
def test_a_state_says_why_it_is_not_what_was_declared(zone: Zone, record: ZoneRecord) -> None:
    reasons = " ".join(zone_state(zone, record).reasons)
    if record.declared_level.stricter_than(declared_level(zone)):
        assert "karkas zone set zone --level" in reasons
    if not zone.scope.covers(record.scope):
        assert "--accept-scope" in reasons


@given(zones)
def test_a_new_zone_is_uncharted_and_stands_where_it_was_declared(zone: Zone) -> None:
    state = zone_state(zone, None)
    assert (state.level, state.stage, state.scope) == (declared_level(zone), Stage.UNCHARTED, zone.scope)


@given(zones, records)
def test_below_understanding_four_nothing_acts_where_nothing_is_framed(
    zone: Zone, record: ZoneRecord
) -> None:
    assert zone_state(zone, record).may_act == (zone.understanding >= 4 or record.stage is Stage.FRAMED)


@given(levels, levels, st.text(min_size=1).filter(str.strip))
def test_an_agent_may_tighten_and_never_loosen(
    before: ControlLevel, after: ControlLevel, reason: str
) -> None:
    change = LevelChange(before=before, after=after, author="critic", by_person=False, reason=reason)
    if before.stricter_than(after):
        with pytest.raises(LooseningError, match="no person"):
            change.checked()
    else:
        assert change.checked() is change
    person = change.model_copy(update={"by_person": True})
    assert person.checked() is person


@given(before=levels, after=levels, by_person=st.booleans(), blank=st.sampled_from(["", " ", "\n\t"]))
def test_a_change_of_level_without_author_or_reason_is_refused(
    *, before: ControlLevel, after: ControlLevel, by_person: bool, blank: str
) -> None:
    for author, reason in (("Ada", blank), (blank, "because")):
        with pytest.raises(LooseningError):
            LevelChange(
                before=before, after=after, author=author, by_person=by_person, reason=reason
            ).checked()


@given(scopes, scopes)
def test_a_union_of_scopes_covers_both(one: Scope, other: Scope) -> None:
    assert (one | other).covers(one)
    assert (one | other).covers(other)
    assert not one.covers(one | Scope(paths=("only here",)))
