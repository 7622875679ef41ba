import json
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karkas.agents.sources import Limits, Reading, discover, excerpt, read
from karkas.policies.distillates import SourceStatus
from karkas.server.documents import BlockKind

Reader = Callable[..., Awaitable[dict[str, Reading]]]
Write = Callable[[str, str | bytes], Path]

MARKUP = st.lists(
    st.sampled_from(
        [
            *(
                "# A\n",
                "> ",
                "- ",
                "1. ",
                "```\n",
                "    ",
                "| a | b |\n|--|--|\n",
                "---\n",
                "<Tip>\n",
                "</Tip>\n",
            ),
            *(
                "<!-- ",
                "-->",
                "::: x\n",
                "[[autodoc]] X\n",
                "$$\n",
                "\n",
                "\r\n",
                "\r",
                "\t",
                "word ",
                "слово. ",
            ),
            *(
                ".. note:: x\n",
                "   :a: b\n",
                "====\n",
                ":role:`x`",
                "*",
                "`",
                "|x|",
                "_",
                "\x0c",
                "\u2028",
                "🔍",
            ),
            *(
                '"""',
                "def f(a=1):\n",
                "class A:\n",
                "    '''d'''\n",
                "<p>",
                "<td>",
                "</",
                "<table>",
                "<pre>",
                "&lt;",
            ),
            *('{"cells":', "[", "]", "}", '"source":', "%PDF-1.4\n", "\u202e", "\u00ad"),
        ]
    ),
    max_size=40,
).map("".join)


def check_blocks(reading: Reading) -> None:
    document = reading.document
    if document is None:
        assert reading.record.reason
        assert "the reader failed" not in reading.record.reason
        assert reading.record.status is not SourceStatus.USED
        return
    reached = 0
    for block in document.blocks:
        assert reached <= block.start < block.end <= len(document.text)
        assert document.text[block.start : block.end].rstrip() == document.text[block.start : block.end]
        reached = block.end
    assert reading.record.text is not None
    assert reading.record.text.sha256 == sha256(document.text.encode()).hexdigest() == document.sha256


@pytest.mark.parametrize("suffix", [".md", ".txt", ".rst", ".html", ".ipynb", ".py", ".pdf"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.one_of(st.binary(min_size=1, max_size=300), MARKUP.map(str.encode)))
async def test_no_bytes_make_a_reader_raise_and_blocks_lie_in_order_within_the_text(
    tmp_path: Path, suffix: str, raw: bytes
) -> None:
    (tmp_path / f"x{suffix}").write_bytes(raw or b" ")
    (found,) = discover(f"x{suffix}", root=tmp_path, limits=Limits())
    check_blocks(await read(found, limits=Limits()))
    excerpt(found)


async def test_the_record_says_what_was_stored(write: Write, read_all: Reader) -> None:
    raw = write(
        "notes/on rank.md", b"\xef\xbb\xbf# Rank\n\nThe rank decides the size of the update.\n"
    ).read_bytes()
    (reading,) = (await read_all("notes")).values()
    record, text = reading.record, reading.record.text
    assert text is not None
    assert reading.text == "# Rank\n\nThe rank decides the size of the update.\n"
    assert text.artifact == text.sha256 == sha256(reading.text.encode()).hexdigest()
    assert (text.extractor, text.encoding, text.chars) == ("markdown@1", "utf-8", len(reading.text))
    assert text.repairs == ("byte order mark removed (utf-8)",)
    assert (record.bytes, record.sha256_raw) == (len(raw), sha256(raw).hexdigest())
    assert (record.status, record.lang, record.title) == (SourceStatus.USED, "en", "Rank")
    assert reading.document is not None
    assert reading.document.source == record.id


async def test_ids_are_the_same_again_and_change_with_the_content(write: Write, read_all: Reader) -> None:
    write("a.md", "# One text\n")
    first = (await read_all())["a.md"].record.id
    assert (await read_all())["a.md"].record.id == first
    write("a.md", "# Another text\n")
    assert (await read_all())["a.md"].record.id != first


async def test_bad_documents_are_on_the_record_with_the_reason(write: Write, read_all: Reader) -> None:
    write("a.txt", b"\x00\x01\x02")
    write("b.py", "def (:")
    write("c.ipynb", "{")
    write("d.pdf", b"%PDF")
    write("e.md", "   \n\n")
    write("f.png", b"png")
    reasons = {path: (one.record.status, one.record.reason) for path, one in (await read_all()).items()}
    assert reasons["a.txt"] == (SourceStatus.UNREADABLE, "binary: it contains NUL bytes")
    assert "not Python" in str(reasons["b.py"])
    assert "not a notebook" in str(reasons["c.ipynb"])
    assert "not a PDF" in str(reasons["d.pdf"])
    assert reasons["e.md"] == (SourceStatus.SKIPPED, "nothing to quote in it")
    assert reasons["f.png"] == (SourceStatus.SKIPPED, "no reader for .png files")


async def test_a_file_that_grew_or_went_after_discovery_is_told(write: Write, tmp_path: Path) -> None:
    limits = Limits(max_bytes=100)
    write("a.md", "# x")
    write("b.md", "# x")
    grown, gone = discover(".", root=tmp_path, limits=limits)
    write("a.md", "x" * 200)
    (tmp_path / "b.md").unlink()
    assert (await read(grown, limits=limits)).record.reason == "larger than 100 bytes"
    assert "No such file" in ((await read(gone, limits=limits)).record.reason or "")


async def test_what_is_nested_beyond_reason_is_told(write: Write, read_all: Reader) -> None:
    write("a.html", "<div>" * 5_000 + "deep")
    assert (await read_all())["a.html"].record.reason == "nested too deeply"


async def test_russian_mojibake_becomes_russian_that_can_be_cited(write: Write, read_all: Reader) -> None:
    said = "> Ранг определяет размер матриц обновления.\n"
    write("note.txt", (">[!nexus_user] **User** - 07.07.2025 at 18:23\n" + said).encode().decode("mac_roman"))
    reading = (await read_all())["note.txt"]
    assert reading.document is not None
    assert (reading.record.lang, reading.record.modified) == ("ru", "2025-07-07")
    block = next(block for block in reading.document.blocks if block.kind is BlockKind.PARAGRAPH)
    assert reading.document.text[block.start : block.end] == "Ранг определяет размер матриц обновления."
    assert reading.record.text is not None
    assert reading.record.text.repairs == ("mac-roman-mojibake: 1 of 1 lines",)


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("The rank of the update is set by the user.", "en"),
        ("Ранг задаёт размер обновления в PEFT и bitsandbytes quantization.", "ru"),
        ("Ранг визначає розмір оновлення матриць, і її значення.", "und"),
        ("Der Rang ist die Größe und nicht das Gewicht, das mit der Zeit wird.", "und"),
        ("8 16 32", "und"),
    ],
)
async def test_the_language_follows_from_the_words(
    write: Write, read_all: Reader, text: str, lang: str
) -> None:
    write("a.md", text)
    assert (await read_all())["a.md"].record.lang == lang


async def test_lone_surrogates_cannot_break_the_stored_text(write: Write, read_all: Reader) -> None:
    cell = {"cell_type": "markdown", "source": "broken \ud800 sign in it"}
    write("a.ipynb", json.dumps({"cells": [cell]}))
    reading = (await read_all())["a.ipynb"]
    assert reading.text == "broken \ufffd sign in it"
    assert reading.record.text is not None
    assert reading.record.text.repairs == ("lone surrogates: 1 replaced",)


def test_an_excerpt_begins_with_what_the_document_says(write: Write, tmp_path: Path) -> None:
    write(
        "a.md",
        "---\ntitle: Rank\ndescription: How rank acts\n---\n<!-- licence\n -->\n# Rank\n\nIt "
        + "acts " * 200,
    )
    write("b.pdf", b"%PDF")
    write(
        "c.py", '# Copyright\n"""Waits."""\nclass Wait:\n    def __init__(self): ...\n    def go(self): ...\n'
    )
    first, second, third = discover(".", root=tmp_path, limits=Limits())
    assert excerpt(first).startswith("Rank How rank acts # Rank It acts")
    assert len(excerpt(first)) == 400
    assert excerpt(second) == ""
    assert excerpt(third) == "Waits. Wait go"
