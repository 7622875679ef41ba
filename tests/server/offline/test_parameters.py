import pytest

from karkas.server.offline.parameters import FactRole, facts, plain_value, row_facts, signature_defaults


@pytest.mark.parametrize(
    ("sentence", "name", "role", "value", "unit"),
    [
        ("`timeout` defaults to 5.0 seconds.", "timeout", FactRole.DEFAULT, "5", "second"),
        ("`r`: Rank of the update (default: `8`).", "r", FactRole.DEFAULT, "8", ""),
        ("`weight_tying=0.0` (the default) means no sharing.", "", FactRole.DEFAULT, "0", ""),
        ("По умолчанию `True` для `use_cache`.", "", FactRole.DEFAULT, "true", ""),
        ("`batch` must be at least 4.", "batch", FactRole.MINIMUM, "4", ""),
        ("For `bfloat16`, 16/4 = 4 parameters are packed.", "bfloat16", FactRole.RESULT, "4", ""),
        ("It requires torch >= 2.6 to run.", "torch", FactRole.VERSION, "2.6", ""),
    ],
)
def test_a_stated_value_is_found_with_its_role(
    sentence: str, name: str, role: FactRole, value: str, unit: str
) -> None:
    found = [fact for fact in facts(sentence) if fact.role is role]
    assert found
    assert (found[0].value, found[0].unit) == (value, unit)
    if name:
        assert found[0].name == name


def test_a_sentence_without_a_value_states_none() -> None:
    assert facts("The adapter is merged into the base model before serving.") == []


def test_a_row_states_the_default_of_its_column() -> None:
    (fact,) = row_facts(("`interval`", "int", "`1`", "Steps"), ("Option", "Type", "Default", "Description"))
    assert (fact.name, fact.role, fact.value) == ("interval", FactRole.DEFAULT, "1")


def test_an_empty_default_states_nothing() -> None:
    assert row_facts(("`interval`", "--"), ("Option", "Default")) == []


@pytest.mark.parametrize(
    ("one", "other"), [("`8.0`", "8"), ('"None"', "null"), ("1e-4", "0.0001"), ("`x: true`", "True")]
)
def test_equal_values_are_equal_strings(one: str, other: str) -> None:
    assert plain_value(one) == plain_value(other)


def test_only_literal_defaults_of_a_signature_count() -> None:
    text = "async def run(job, depth: int = 3, *, deep=True, name=sentinel, size=...) -> None:"
    assert signature_defaults(text) == {"depth": "3", "deep": "true"}


def test_a_broken_signature_has_no_defaults() -> None:
    assert signature_defaults("def run(job, depth: int = ") == {}
