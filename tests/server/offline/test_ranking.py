from karkas.server.offline.ranking import relevance, salience, textrank, weights
from karkas.server.offline.words import stem, terms

SENTENCES = [
    "Gradient clipping bounds the norm of the gradient during training.",
    "The gradient norm grows when training is unstable.",
    "Bananas are yellow.",
]


def test_a_sentence_that_shares_words_with_others_is_more_central() -> None:
    first, second, third = textrank([terms(sentence) for sentence in SENTENCES])
    assert max(first, second) == 1
    assert third < min(first, second)


def test_a_stated_contribution_rises() -> None:
    sentences = [
        "Networks are large and slow to train.",
        "We propose a method that trains networks in half the time.",
    ]
    one, other = salience(sentences, [terms(sentence) for sentence in sentences])
    assert other > one


def test_no_sentence_gives_no_score() -> None:
    assert textrank([]) == []


def test_a_long_document_is_ranked_in_full() -> None:
    assert len(textrank([["word", str(number)] for number in range(950)])) == 950


def test_relevance_is_the_share_of_a_query_that_is_covered() -> None:
    idf = weights([["rank", "alpha"], ["rank"], ["beta"]])
    assert relevance(frozenset({"rank", "alpha"}), [frozenset({"rank", "alpha"})], idf) == 1
    assert relevance(frozenset({"beta"}), [frozenset({"rank"})], idf) == 0


def test_forms_of_a_word_have_one_stem() -> None:
    assert stem("quantized") == stem("quantizing")
    assert stem("матрицами") == stem("матрица")


def test_an_identifier_gives_itself_and_its_parts() -> None:
    assert {"lora_alpha", "lora", "alpha"} <= set(terms("`lora_alpha`"))


def test_a_link_gives_its_label_and_not_its_target() -> None:
    assert terms("[rank](https://example.org/secret)") == ["rank"]
