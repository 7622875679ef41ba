import pytest

from karkas.policies.distillates import Facet
from karkas.server.documents import BlockKind
from karkas.server.offline.facets import facet_of
from karkas.server.offline.filler import blemish, is_filler, is_fragment


@pytest.mark.parametrize(
    ("facet", "sentence"),
    [
        (Facet.DEFINITION, "[LoRA](https://x.org/1) is a method that adds two small matrices."),
        (Facet.DEFINITION, "Tenacity is a general-purpose retrying library to simplify retries."),
        (Facet.DEFINITION, "Агент — это система, которая сама выбирает следующее действие."),
        (Facet.MECHANISM, "Under the hood, the update is computed and merged into the frozen weights."),
        (Facet.MECHANISM, "Модель состоит из слоёв и вычисляет внимание за счёт матриц."),
        (Facet.PARAMETER, "`timeout` defaults to 5 seconds."),
        (Facet.PARAMETER, "По умолчанию параметр `depth` равен 3."),
        (Facet.LIMITS, "8-bit quantization is not supported with this backend."),
        (Facet.LIMITS, "Этот режим не поддерживает смешанную точность."),
        (Facet.COMPARISON, "Adam needs more memory than SGD."),
        (Facet.COMPARISON, "В отличие от полного обучения, адаптеры меняют лишь малую часть весов."),
        (Facet.PROCEDURE, "Install the package and run the tests before you train."),
    ],
)
def test_a_sentence_speaks_to_its_facet(facet: Facet, sentence: str) -> None:
    cue = facet_of(sentence)
    assert cue is not None
    assert cue.facet is facet


def test_a_table_is_read_by_its_header() -> None:
    row = "| Loss is NaN | Lower the learning rate and clip gradients |"
    cue = facet_of(row, (), BlockKind.ROW, ("Problem", "Fix"))
    assert cue is not None
    assert cue.facet is Facet.LIMITS


def test_the_first_line_of_a_docstring_says_what_its_owner_is() -> None:
    cue = facet_of("Wait strategy that waits a fixed time.", (), BlockKind.DOCSTRING, opens=True)
    assert cue is not None
    assert cue.facet is Facet.DEFINITION


@pytest.mark.parametrize(
    "sentence",
    [
        "See the configuration guide for more details on this.",
        "We welcome contributions of any kind from the community.",
        "This guide covers the commands and their usage.",
        "Please open an issue on GitHub if you find a bug.",
        "The code is licensed under the Apache License.",
        "Let's dive a little deeper into the script.",
        "Хочешь — я помогу тебе составить план.",
        "Подробнее читайте в следующем разделе этой книги.",
    ],
)
def test_pointers_and_chatter_are_filler(sentence: str) -> None:
    assert is_fragment(sentence, BlockKind.PARAGRAPH) or is_filler(
        sentence, BlockKind.PARAGRAPH, Facet.MECHANISM
    )


@pytest.mark.parametrize(
    "fragment",
    ["Use this.", "Is the rank always that important?", "![badge](https://x.org/b.svg) the build is passing today.",
     "and then the rest of the sentence is lost.", "| a | b |x", "The options that you can set are the following:"],
)  # fmt: skip
def test_fragments_are_no_claims(fragment: str) -> None:
    cut_off = is_filler(fragment, BlockKind.PARAGRAPH, Facet.PARAMETER)
    assert is_fragment(fragment, BlockKind.PARAGRAPH) or cut_off


def test_a_plain_statement_is_neither() -> None:
    sentence = "The optimizer keeps two moments for each trainable weight."
    assert not is_fragment(sentence, BlockKind.PARAGRAPH)
    assert not is_filler(sentence, BlockKind.PARAGRAPH, Facet.MECHANISM)


def test_praise_costs_rank() -> None:
    assert blemish("It is a blazing fast, powerful and seamless framework.") > blemish(
        "It is a fast framework for one GPU."
    )


def test_a_signature_without_a_default_that_tells_something_is_filler() -> None:
    def dropped(text: str) -> bool:
        return is_filler(text, BlockKind.SIGNATURE, Facet.PARAMETER)

    assert dropped("def run(self, job: str) -> None:")
    assert dropped("def run(self, job: str = sentinel, other: str | None = None) -> None:")
    assert dropped("def _hidden(depth: int = 3) -> None:")
    assert not dropped("def run(self, depth: int = 3) -> None:")
