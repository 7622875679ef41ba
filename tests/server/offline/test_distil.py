from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karkas.policies.distillates import ClaimMode, Facet, SourceRank
from karkas.server.documents import Document
from karkas.server.offline.distil import distil
from karkas.server.questions import Distil

Page = Callable[..., Document]

LORA = """# LoRA

LoRA is a method that trains two small matrices beside each frozen weight. This reduces the memory for training.

Under the hood, the product of both matrices is added to the output of the frozen layer.

See the configuration guide for more details on every option.

## Parameters

- `r`: Rank of the update matrices (default: `8`).
- `lora_alpha`: Scaling factor of the update, divided by the rank.

## Limitations

LoRA is not supported for layers that share their weights.

Compared to full fine-tuning, LoRA needs less memory than any other method here.

We welcome contributions to this page from everyone.
"""


def test_claims_are_verbatim_and_stand_where_they_say(page: Page) -> None:
    document = page(LORA, framework="peft")
    found = distil(Distil(zone="lora", at_most=20), [document]).claims
    assert {claim.facet for claim in found} >= {
        Facet.DEFINITION,
        Facet.MECHANISM,
        Facet.PARAMETER,
        Facet.LIMITS,
    }
    for claim in found:
        cite = claim.cites[0]
        assert cite.start is not None
        assert document.text[cite.start : cite.start + len(cite.quote)] == cite.quote
        assert claim.text in cite.quote
        assert claim.mode in {ClaimMode.VERBATIM, ClaimMode.VERBATIM_TRIMMED}
        assert 0 <= claim.score <= 1


def test_subject_and_scope_are_what_the_claim_is_about(page: Page) -> None:
    found = distil(Distil(zone="lora", at_most=20), [page(LORA, framework="peft")]).claims
    rank = next(claim for claim in found if claim.subject == "r")
    assert rank.text == "`r`: Rank of the update matrices (default: `8`)."
    assert rank.scope == {"framework": "peft", "page": "LoRA", "section": "Parameters"}
    assert any(claim.subject == "LoRA" and claim.facet is Facet.DEFINITION for claim in found)


def test_filler_is_no_claim(page: Page) -> None:
    text = " ".join(claim.text for claim in distil(Distil(zone="lora", at_most=50), [page(LORA)]).claims)
    assert "welcome" not in text
    assert "See the" not in text


def test_no_more_claims_than_asked_for(page: Page) -> None:
    assert len(distil(Distil(zone="lora", at_most=2), [page(LORA)]).claims) == 2


def test_the_same_sentence_elsewhere_is_more_evidence(page: Page) -> None:
    text = "# {}\n\nThe projection matrices are restored from the random seed that the checkpoint stores."
    documents = [page(text.format("VeRA"), "vera.md"), page(text.format("PVeRA"), "pvera.md")]
    (claim,) = distil(Distil(zone="vera", at_most=9), documents).claims
    assert sorted(cite.document for cite in claim.cites) == [0, 1]


def test_sentences_with_other_values_are_never_merged(page: Page) -> None:
    text = "The `cache_size` of the server defaults to {} entries for each of its workers."
    documents = [page(text.format(8), "a.md"), page(text.format(32), "b.md")]
    assert len(distil(Distil(zone="cache", at_most=9), documents).claims) == 2


def test_what_another_document_contradicts_is_kept_first(page: Page) -> None:
    filler = "\n\n".join(
        f"The `option_{number}` parameter defaults to {number} on this server." for number in range(30)
    )
    stated = "The `cache_size` of the server defaults to {} entries for each worker."
    documents = [page(f"{filler}\n\n{stated.format(8)}", "a.md"), page(stated.format(32), "b.md")]
    found = distil(Distil(zone="server", at_most=12), documents).claims
    assert sum(claim.subject == "cache_size" for claim in found) == 2


def test_an_open_question_raises_what_answers_it(page: Page) -> None:
    documents = [page(LORA)]
    plain = distil(Distil(zone="training", at_most=20), documents).claims
    asked = distil(
        Distil(zone="training", queries=("layers that share weights",), at_most=20), documents
    ).claims

    def score(claims: object) -> float:
        assert isinstance(claims, tuple)
        return float(next(claim.score for claim in claims if "share their weights" in claim.text))

    assert score(asked) > score(plain)


def test_a_table_row_carries_its_header(page: Page) -> None:
    text = "| Option | Type | Default | Description |\n|---|---|---|---|\n| `depth` | int | `3` | How many layers are trained |"
    (claim,) = distil(Distil(zone="training", at_most=9), [page(text)]).claims
    assert claim.facet is Facet.PARAMETER
    assert claim.subject == "depth"
    assert claim.scope["columns"] == "Option | Type | Default | Description"


def test_a_signature_is_code_of_its_class(module: Page) -> None:
    text = 'class Waiter(Base):\n    """Strategy that waits a fixed amount of time."""\n    def __init__(self, wait: float = 1.5) -> None:'
    found = distil(Distil(zone="waiting", at_most=9), [module(text, package="tenacity")]).claims
    signature = next(claim for claim in found if claim.mode is ClaimMode.CODE)
    assert (signature.facet, signature.subject) == (Facet.PARAMETER, "Waiter")
    assert any(claim.facet is Facet.DEFINITION and claim.subject == "Waiter" for claim in found)


def test_private_code_is_not_told(module: Page) -> None:
    text = 'class _Hidden(Base):\n    """Strategy that waits a fixed amount of time."""\n    def __init__(self, wait: float = 1.5) -> None:'
    assert distil(Distil(zone="waiting", at_most=9), [module(text)]).claims == ()


def test_russian_prose_gives_claims(page: Page) -> None:
    text = "# Адаптеры\n\nАдаптер — это небольшой слой, который обучают рядом с замороженной моделью.\n\nРежим QLoRA не поддерживает слои с общими весами."
    found = distil(Distil(zone="адаптеры", at_most=9), [page(text)]).claims
    assert {claim.facet for claim in found} == {Facet.DEFINITION, Facet.LIMITS}
    assert any(claim.subject == "Адаптер" for claim in found)


def test_nothing_found_is_no_prose(page: Page) -> None:
    assert distil(Distil(zone="lora", at_most=9), [page("Hello!\n\n# Thanks")]).claims == ()
    assert distil(Distil(zone="lora", at_most=9), []).claims == ()


def test_a_weighty_source_counts_more(page: Page) -> None:
    text = "The scheduler is not supported for jobs that share their weights."
    (official,) = distil(Distil(zone="jobs", at_most=1), [page(text)]).claims
    (note,) = distil(Distil(zone="jobs", at_most=1), [page(text, rank=SourceRank.NOTE)]).claims
    assert official.score > note.score


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(alphabet=st.sampled_from("ab `*_|#-.:=()[]\n0159 isтест"), max_size=200), max_size=3))
def test_any_text_gives_proven_claims_and_the_same_ones_again(page: Page, texts: list[str]) -> None:
    documents = [page(text, f"{number}.md") for number, text in enumerate([*texts, LORA])]
    question = Distil(zone="lora", at_most=15)
    found = distil(question, documents)
    assert found == distil(question, documents)
    for claim in found.claims:
        assert claim.text in claim.cites[0].quote
        for cite in claim.cites:
            assert cite.start is not None
            assert documents[cite.document].text[cite.start :].startswith(cite.quote)


@pytest.mark.parametrize("at_most", [0, 1])
def test_the_smallest_budgets_hold(page: Page, at_most: int) -> None:
    assert len(distil(Distil(zone="lora", at_most=at_most), [page(LORA)]).claims) == at_most
