from textwrap import dedent

from karkas.agents.sources.extract import Extract
from karkas.agents.sources.markdown import read_markdown
from karkas.server.documents import BlockKind


def pieces(extract: Extract, kind: BlockKind) -> list[str]:
    return [extract.text[block.start : block.end] for block in extract.blocks if block.kind is kind]


def markdown(text: str) -> Extract:
    return read_markdown(dedent(text).lstrip("\n"))


def test_the_text_is_the_file_as_it_is() -> None:
    text = "# A\r\n\r\nOne  \r\ntwo\t*three*.\r\n"
    extract = read_markdown(text)
    assert extract.text == text
    assert pieces(extract, BlockKind.PARAGRAPH) == ["One  \r\ntwo\t*three*."]


def test_blocks_know_the_headings_above_them() -> None:
    extract = markdown(
        """
        # LoRA
        ## Rank `r` {#rank}
        Raise it first.
        ## [Alpha](x.md)
        Scales.
        """
    )
    assert [block.headings for block in extract.blocks if block.kind is BlockKind.PARAGRAPH] == [
        ("LoRA", "Rank r"),
        ("LoRA", "Alpha"),
    ]
    assert pieces(extract, BlockKind.HEADING) == ["LoRA", "Rank `r` {#rank}", "[Alpha](x.md)"]
    assert extract.title == "LoRA"


def test_front_matter_gives_title_and_date_and_is_not_prose() -> None:
    extract = markdown(
        """
        ---
        title: "LoRA Optimizations"
        description: Custom kernels
        date: 2025-03-04
        ---

        Inspired by others.
        """
    )
    assert (extract.title, extract.modified) == ("LoRA Optimizations", "2025-03-04")
    assert pieces(extract, BlockKind.PARAGRAPH) == ["Inspired by others."]
    assert extract.blocks[0].kind is BlockKind.OTHER
    assert extract.blocks[-1].headings == ("LoRA Optimizations",)


def test_a_rule_at_the_top_is_no_front_matter() -> None:
    assert pieces(markdown("---\nNot yaml, but prose.\n---\nMore.\n"), BlockKind.PARAGRAPH) == ["More."]


def test_lists_tables_and_code_are_cut_at_their_marks() -> None:
    extract = markdown(
        """
        - first item
          goes on
          1. nested item
        - [x] ticked item

          its second paragraph

        | name | default |
        |------|---------|
        | `r`  | 8       |

        ```python
        x = 1

        y = 2
        ```
        """
    )
    assert pieces(extract, BlockKind.ITEM) == ["first item\n  goes on", "nested item", "ticked item"]
    assert pieces(extract, BlockKind.PARAGRAPH) == ["its second paragraph"]
    assert pieces(extract, BlockKind.ROW) == ["| name | default |", "| `r`  | 8       |"]
    assert pieces(extract, BlockKind.CODE) == ["x = 1\n\ny = 2"]


def test_quoted_lines_lose_their_marks_and_callouts_their_labels() -> None:
    extract = markdown(
        """
        > [!TIP]
        > Rank matters most.
        > It is set by `r`.
        > - an item
        """
    )
    assert pieces(extract, BlockKind.OTHER) == ["[!TIP]"]
    assert pieces(extract, BlockKind.PARAGRAPH) == ["Rank matters most.", "It is set by `r`."]
    assert pieces(extract, BlockKind.ITEM) == ["an item"]


def test_markup_of_doc_builders_is_no_prose_but_what_it_wraps_is() -> None:
    extract = markdown(
        """
        <!-- Licensed under the
        Apache License -->

        <hfoptions id="a">
        <hfoption id="b">

        Options text.

        </hfoption>
        </hfoptions>

        <Tip warning={true}>
        Merging is unsupported here.
        </Tip>

        ::: {.callout-note}
        A note of Quarto.
        :::

        [[autodoc]] LoraConfig
            - all

        {{< include _other.qmd >}}
        """
    )
    assert pieces(extract, BlockKind.PARAGRAPH) == [
        "Options text.",
        "Merging is unsupported here.",
        "A note of Quarto.",
    ]
    assert "[[autodoc]] LoraConfig\n    - all" in pieces(extract, BlockKind.OTHER)


def test_badges_and_bare_links_are_other() -> None:
    extract = markdown(
        """
        [![CI](https://x/b.svg)](https://x) ![logo](l.png)

        - [Quickstart](q.md)
        - [Config](c.md) sets the rank
        - https://example.org/a

        <p align="center"><img src="x.png"></p>
        """
    )
    assert pieces(extract, BlockKind.ITEM) == ["[Config](c.md) sets the rank"]
    assert len(pieces(extract, BlockKind.OTHER)) == 4
    assert pieces(extract, BlockKind.PARAGRAPH) == []


def test_formulas_alone_are_code_and_within_words_are_prose() -> None:
    extract = markdown("$$\nW = BA\n$$\n\n$W \\cdot X$<br>\n$Y$\n\nThe product $BA$ is added.\n")
    assert pieces(extract, BlockKind.CODE) == ["$$\nW = BA\n$$", "$W \\cdot X$<br>\n$Y$"]
    assert pieces(extract, BlockKind.PARAGRAPH) == ["The product $BA$ is added."]


def test_brackets_without_end_do_not_take_for_ever() -> None:
    text = "![" * 20_000 + "\n\n" + "[a](" * 20_000 + "\n\n" + "<a" * 20_000 + "\n\nEnd of it.\n"
    assert pieces(read_markdown(text), BlockKind.PARAGRAPH)[-1] == "End of it."
