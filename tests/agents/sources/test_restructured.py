from textwrap import dedent

from karkas.agents.sources.extract import Extract
from karkas.agents.sources.restructured import read_restructured
from karkas.server.documents import BlockKind


def pieces(text: str) -> list[tuple[BlockKind, str]]:
    extract = rst(text)
    return [(block.kind, extract.text[block.start : block.end]) for block in extract.blocks]


def rst(text: str) -> Extract:
    return read_restructured(dedent(text))


def test_sections_paragraphs_items_and_code() -> None:
    extract = rst(
        """
        Waiting
        =======

        Waits *a little*, see `docs <https://x>`_.

        Details
        -------

        - first ``item``
        - second

        term
            its meaning

        .. code-block:: python

            wait(1)
        """
    )
    assert [(block.kind, extract.text[block.start : block.end]) for block in extract.blocks] == [
        (BlockKind.HEADING, "Waiting"),
        (BlockKind.PARAGRAPH, "Waits a little, see docs."),
        (BlockKind.HEADING, "Details"),
        (BlockKind.ITEM, "first `item`"),
        (BlockKind.ITEM, "second"),
        (BlockKind.ITEM, "term: its meaning"),
        (BlockKind.CODE, "wait(1)"),
    ]
    assert extract.blocks[-1].headings == ("Waiting", "Details")
    assert extract.title == "Waiting"


def test_roles_and_directives_of_sphinx_lose_no_words() -> None:
    found = pieces(
        """
        Use :class:`~tenacity.wait.wait_fixed` or :func:`the other <a.b>`.

        .. tab-set::

            .. tab-item:: Linux

                Run **this** there.

        .. versionadded:: 8.2
            Jitter is supported.

        .. py:function:: wait(seconds=1)

            Waits for seconds.
        """
    )
    assert (BlockKind.PARAGRAPH, "Use wait_fixed or the other.") in found
    assert (BlockKind.PARAGRAPH, "Run this there.") in found
    assert (BlockKind.PARAGRAPH, "Added in version 8.2\nJitter is supported.") in found
    assert (BlockKind.SIGNATURE, "wait(seconds=1)") in found
    assert (BlockKind.PARAGRAPH, "Waits for seconds.") in found


def test_tables_are_rows_and_admonitions_are_read() -> None:
    found = pieces(
        """
        ====  =====
        Name  Value
        ====  =====
        r     8
        ====  =====

        .. warning:: Do not merge.
        """
    )
    assert found == [
        (BlockKind.ROW, "Name | Value"),
        (BlockKind.ROW, "r | 8"),
        (BlockKind.PARAGRAPH, "Do not merge."),
    ]


def test_no_file_is_included_and_nothing_raw_is_passed_on() -> None:
    extract = rst(
        """
        .. include:: /etc/passwd

        .. raw:: html
           :file: /etc/passwd

        .. csv-table::
           :file: /etc/passwd

        Prose stays.
        """
    )
    assert "root:" not in extract.text
    assert "Prose stays." in extract.text


def test_fields_at_the_top_are_about_the_document() -> None:
    found = pieces(":title: Topic\n:category: S3\n\nProse.\n\n:later: counts\n")
    assert [kind for kind, _ in found] == [BlockKind.OTHER, BlockKind.PARAGRAPH, BlockKind.ITEM]


def test_pictures_and_lists_of_links_are_no_prose() -> None:
    found = pieces("`One <a>`_ | `Two <b>`_\n\n.. image:: x.png\n\n.. toctree::\n\n   a\n   b\n")
    assert BlockKind.PARAGRAPH not in {kind for kind, _ in found}
