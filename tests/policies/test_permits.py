import pytest
from hypothesis import given
from hypothesis import strategies as st

from karkas.policies.permits import NEXT, Binding, LedgerError, PermitStatus, differences, step

FINAL = {PermitStatus.COMMITTED, PermitStatus.FAILED, PermitStatus.VOID}
hashes = st.text("0123456789abcdef", min_size=1, max_size=4)
bindings = st.builds(
    Binding,
    action=hashes,
    shown=hashes,
    tool_version=hashes,
    policy_version=hashes,
    preconditions=st.dictionaries(st.sampled_from(["a.md", "b.md", "exe"]), hashes),
)


def test_the_ledger_knows_every_state() -> None:
    assert NEXT.keys() == set(PermitStatus)


@pytest.mark.parametrize("final", sorted(FINAL))
def test_nothing_leads_out_of_a_final_state(final: PermitStatus) -> None:
    for after in PermitStatus:
        with pytest.raises(LedgerError, match=f"{final} cannot become {after}"):
            step(final, after)


@given(st.lists(st.sampled_from(PermitStatus), max_size=30))
def test_one_permit_executes_at_most_once_whatever_is_tried(tries: list[PermitStatus]) -> None:
    now, taken = PermitStatus.APPROVED, []
    for after in tries:
        try:
            now = step(now, after)
        except LedgerError:
            continue
        taken.append(now)
    assert taken.count(PermitStatus.CLAIMED) <= 1
    assert taken.count(PermitStatus.STARTED) <= 1
    assert sum(taken.count(final) for final in FINAL) <= 1
    if PermitStatus.STARTED in taken:
        assert PermitStatus.VOID not in taken
    if PermitStatus.COMMITTED in taken:
        assert taken.index(PermitStatus.CLAIMED) < taken.index(PermitStatus.STARTED)


def test_a_doubtful_execution_never_starts_again() -> None:
    assert NEXT[PermitStatus.UNKNOWN] == {PermitStatus.COMMITTED, PermitStatus.FAILED}


@given(bindings, st.sampled_from(sorted(Binding.model_fields)))
def test_a_change_of_any_field_is_found(bound: Binding, name: str) -> None:
    value = getattr(bound, name)
    changed = {**value, "new": "x"} if isinstance(value, dict) else value + "x"
    assert differences(bound, bound.model_copy(update={name: changed}))


@given(bindings, bindings)
def test_bindings_are_the_same_exactly_when_nothing_differs(one: Binding, other: Binding) -> None:
    assert (differences(one, other) == ()) == (one == other)
    assert differences(one, one) == ()


@given(bindings.filter(lambda one: one.preconditions))
def test_a_dropped_precondition_is_a_difference(bound: Binding) -> None:
    name = next(iter(bound.preconditions))
    less = {key: value for key, value in bound.preconditions.items() if key != name}
    assert differences(bound, bound.model_copy(update={"preconditions": less})) == (f"{name} changed",)
