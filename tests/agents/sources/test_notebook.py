import json

import pytest

from karkas.agents.sources.notebook import read_notebook
from karkas.policies.errors import SourceError
from karkas.server.documents import BlockKind


def test_cells_are_read_and_outputs_are_not() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Tuning\n", "\n", "Raise `r` first."]},
        {"cell_type": "code", "source": "r = 8", "outputs": [{"text": ["SECRET"]}]},
        {"cell_type": "markdown", "source": "- then alpha"},
    ]
    extract = read_notebook(json.dumps({"cells": cells, "nbformat": 4}))
    assert [(block.kind, extract.text[block.start : block.end]) for block in extract.blocks] == [
        (BlockKind.HEADING, "Tuning"),
        (BlockKind.PARAGRAPH, "Raise `r` first."),
        (BlockKind.CODE, "r = 8"),
        (BlockKind.ITEM, "then alpha"),
    ]
    assert extract.blocks[-1].headings == ("Tuning",)
    assert "SECRET" not in extract.text
    assert extract.title == "Tuning"


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "[" * 100_000])
def test_what_is_no_notebook_says_so(text: str) -> None:
    with pytest.raises(SourceError, match="not a notebook"):
        read_notebook(text)
