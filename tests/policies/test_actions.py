import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from karkas.policies.actions import Action, ActionError, Effect, canonical, digest_of

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda value: not 2**53 <= abs(value) < 1e21
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
arguments = st.dictionaries(texts, values, max_size=4)
actions = st.builds(Action, tool=texts.filter(bool), args=arguments, effect=st.sampled_from(Effect))


def same(one: JsonValue, other: JsonValue) -> bool:
    """Equal as JSON, where `true` is no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other if isinstance(one, str | None) else one == other


@given(actions, actions)
def test_two_actions_have_one_digest_exactly_when_they_are_the_same(one: Action, other: Action) -> None:
    alike = one.tool == other.tool and one.effect is other.effect and same(one.args, other.args)
    assert (one.digest == other.digest) == alike


@given(actions, texts, values)
def test_any_change_of_an_action_changes_its_digest(action: Action, key: str, value: JsonValue) -> None:
    if key in action.args and same(action.args[key], value):
        value = [value]
    assert action.model_copy(update={"args": {**action.args, key: value}}).digest != action.digest
    assert action.model_copy(update={"tool": action.tool + "x"}).digest != action.digest
    for effect in set(Effect) - {action.effect}:
        assert action.model_copy(update={"effect": effect}).digest != action.digest


@given(actions)
def test_the_order_of_keys_does_not_count(action: Action) -> None:
    turned = Action(tool=action.tool, args=dict(reversed(action.args.items())), effect=action.effect)
    assert turned.digest == action.digest


@given(actions)
def test_a_digest_survives_storage(action: Action) -> None:
    assert Action.model_validate_json(action.model_dump_json()).digest == action.digest
    assert (
        Action.model_validate(json.loads(canonical(action.model_dump(mode="json")))).digest == action.digest
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, 2.0**53, -1e20, "\ud800"])
def test_what_json_cannot_say_exactly_has_no_digest(value: JsonValue) -> None:
    with pytest.raises(ActionError, match="JSON"):
        digest_of({"a": value})


def test_unicode_forms_that_look_alike_are_other_actions() -> None:
    composed, decomposed = ({"path": form} for form in ("\u00e9", "e\u0301"))
    assert digest_of(composed["path"]) != digest_of(decomposed["path"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    )
)
def test_what_is_written_quickly_is_what_rfc_8785_asks_for(value: JsonValue) -> None:
    try:
        slowly = rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        with pytest.raises(ActionError):
            canonical(value)
    else:
        assert canonical(value) == slowly


def test_keys_stand_in_the_order_of_their_utf_16() -> None:
    value: JsonValue = {"\uffff": 1, "\U00010000": 2, "a": 3, "\ud7ff": 4}
    assert canonical(value) == '{"a":3,"\ud7ff":4,"\U00010000":2,"\uffff":1}'.encode()
