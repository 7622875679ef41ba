from karkas.agents.sources import near_duplicates
from karkas.agents.sources.plaintext import read_text
from karkas.policies.distillates import SourceRank, part_id
from karkas.server.documents import Document

WORDS = [f"word{number}" for number in range(400)]


def document(source: str, text: str) -> Document:
    return Document(
        source=source,
        title=source,
        text=text,
        blocks=read_text(text).blocks,
        rank=SourceRank.NOTE,
        kind="file",
        path=source,
        lang="en",
        sha256=part_id("h", text),
    )


def test_a_document_with_few_changes_points_at_the_earlier_one() -> None:
    original, changed = " ".join(WORDS), " ".join([*WORDS[:200], "changed", *WORDS[201:]])
    other = " ".join(reversed(WORDS))
    documents = [document("s-1", original), document("s-2", other), document("s-3", changed)]
    assert near_duplicates(documents) == {"s-3": "s-1"}


def test_equal_texts_are_duplicates_however_short() -> None:
    assert near_duplicates([document(name, "Two words.") for name in ("s-1", "s-2", "s-3")]) == {
        "s-2": "s-1",
        "s-3": "s-1",
    }


def test_short_pages_that_only_look_alike_are_kept_apart() -> None:
    documents = [document(f"s-{name}", f"The {name} config of this library.") for name in ("lora", "lokr")]
    assert near_duplicates(documents) == {}
