from hypothesis import given
from hypothesis import strategies as st

from karkas.policies.distillates import ClaimMode, SourceRank
from karkas.server.documents import Block, BlockKind, Document
from karkas.server.offline.sentences import _spans, passages, sentence_spans


def _document(text: str, kind: BlockKind = BlockKind.PARAGRAPH) -> Document:
    return Document(
        source="s", title="T", text=text, blocks=(Block(kind, 0, len(text)),), rank=SourceRank.NOTE,
        kind="file", path="a.md", lang="en", sha256="0",
    )  # fmt: skip


def _texts(text: str, kind: BlockKind = BlockKind.PARAGRAPH) -> list[str]:
    return [passage.text for passage in passages(0, _document(text, kind))]


def test_abbreviations_and_code_do_not_end_a_sentence() -> None:
    text = "See Fig. 3 for it, e.g. Adam. Set `a. B` here. Значение см. в табл. 2 ниже. Дальше другое."
    assert [text[a:b] for a, b in sentence_spans(text)] == [
        "See Fig. 3 for it, e.g. Adam.",
        "Set `a. B` here.",
        "Значение см. в табл. 2 ниже.",
        "Дальше другое.",
    ]


def test_a_lead_in_is_trimmed_and_the_quote_keeps_it() -> None:
    (passage,) = passages(0, _document("However, the rank must be positive."))
    assert passage.text == "the rank must be positive."
    assert passage.quote == "However, the rank must be positive."
    assert passage.mode is ClaimMode.VERBATIM_TRIMMED


def test_a_list_mark_and_a_note_are_no_part_of_a_claim() -> None:
    assert _texts("- **Note:** The cache is shared.", BlockKind.ITEM) == ["The cache is shared."]


def test_a_sentence_that_points_back_is_also_given_with_its_predecessor() -> None:
    found = passages(0, _document("LoRA freezes the weights. This saves memory."))
    assert [(one.text, one.anaphoric) for one in found] == [
        ("LoRA freezes the weights.", False),
        ("LoRA freezes the weights. This saves memory.", False),
        ("This saves memory.", True),
    ]


def test_a_table_row_knows_its_header_and_the_header_is_no_passage() -> None:
    text = "| Option | Default |\n|---|---|\n| `a` | `1` |"
    rows = (Block(BlockKind.ROW, 0, 20), Block(BlockKind.ROW, 31, len(text)))
    document = Document(
        source="s", title="T", text=text, blocks=rows, rank=SourceRank.NOTE, kind="file", path="a.md", lang="en",
        sha256="0",
    )  # fmt: skip
    (row,) = passages(0, document)
    assert row.text == "| `a` | `1` |"
    assert row.columns == ("Option", "Default")


def test_a_list_item_knows_the_sentence_that_opens_its_list() -> None:
    text = "Consider it when:\n\n- memory is short on the card"
    blocks = (Block(BlockKind.PARAGRAPH, 0, 17), Block(BlockKind.ITEM, 19, len(text)))
    document = Document(
        source="s", title="T", text=text, blocks=blocks, rank=SourceRank.NOTE, kind="file", path="a.md", lang="en",
        sha256="0",
    )  # fmt: skip
    assert [passage.lead for passage in passages(0, document)] == ["", "Consider it when"]


@given(st.text(max_size=300), st.sampled_from(list(BlockKind)))
def test_every_passage_is_where_it_says(text: str, kind: BlockKind) -> None:
    for passage in passages(0, _document(text, kind)):
        assert text[passage.start : passage.end] == passage.quote
        assert passage.text
        assert passage.text in passage.quote


def test_sentences_of_a_block_longer_than_a_window_are_those_of_the_whole() -> None:
    block = "See Fig. 3 for it. The rank r is 8 (as above. Always). It holds. " * 400
    expected = [block[start:stop] for start, stop in _spans(block)]
    assert [block[start:stop] for start, stop in sentence_spans(block)] == expected
    assert len(block) > 20_000
