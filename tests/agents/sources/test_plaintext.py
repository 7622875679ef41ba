from karkas.agents.sources.plaintext import read_text
from karkas.server.documents import BlockKind


def kinds(text: str) -> list[tuple[BlockKind, str]]:
    extract = read_text(text)
    return [(block.kind, text[block.start : block.end]) for block in extract.blocks]


def test_paragraphs_end_at_empty_lines_and_items_at_bullets() -> None:
    assert kinds("One line\ngoes on.\n\n- an item\n  more\n* another\n\nLast.") == [
        (BlockKind.PARAGRAPH, "One line\ngoes on."),
        (BlockKind.ITEM, "an item\n  more"),
        (BlockKind.ITEM, "another"),
        (BlockKind.PARAGRAPH, "Last."),
    ]


def test_an_underlined_line_is_a_heading() -> None:
    extract = read_text("Retries\n=======\n\nThree at most.\n")
    assert [block.kind for block in extract.blocks] == [BlockKind.HEADING, BlockKind.PARAGRAPH]
    assert extract.blocks[1].headings == ("Retries",)
    assert extract.title == "Retries"


def test_a_chat_export_keeps_what_was_said_and_tells_its_last_date() -> None:
    text = (
        ">[!nexus_user] **User** - 25.07.2025 at 13:26\n> Что такое ранг?\n<!-- UID: 1 -->\n\n\n"
        ">[!nexus_agent] **Assistant** - 26.07.2025 at 13:26\n> **Имя:** адаптер \n> **Ранг:** размер матриц\n"
        "> \n> ### Итог\n> \n> - пункт\n"
    )
    assert read_text(text).modified == "2025-07-26"
    assert kinds(text) == [
        (BlockKind.OTHER, "[!nexus_user] **User** - 25.07.2025 at 13:26"),
        (BlockKind.PARAGRAPH, "Что такое ранг?"),
        (BlockKind.OTHER, "<!-- UID: 1 -->"),
        (BlockKind.OTHER, "[!nexus_agent] **Assistant** - 26.07.2025 at 13:26"),
        (BlockKind.PARAGRAPH, "**Имя:** адаптер"),
        (BlockKind.PARAGRAPH, "**Ранг:** размер матриц"),
        (BlockKind.HEADING, "Итог"),
        (BlockKind.ITEM, "пункт"),
    ]
