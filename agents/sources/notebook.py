"""Jupyter notebooks: Markdown cells and code cells one after the other; outputs are left out.

Source: nbformat 4, and the `worksheets` of nbformat 3.
"""

import json
from typing import Any

from karkas.agents.sources.extract import Extract, HeadingPath, tiled
from karkas.agents.sources.markdown import markdown_blocks, plain
from karkas.policies.errors import SourceError
from karkas.server.documents import Block, BlockKind


def read_notebook(text: str) -> Extract:
    try:
        notebook: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"not a notebook: its JSON cannot be parsed ({error})") from None
    headings, pieces, blocks, length = HeadingPath(), list[str](), list[Block](), 0
    for kind, source in _cells(notebook):
        if not source.strip():
            continue
        if kind == "markdown":
            blocks.extend(markdown_blocks(source, headings, offset=length))
        elif kind == "code":
            blocks.append(Block(BlockKind.CODE, length, length + len(source), headings.above))
        else:
            blocks.append(Block(BlockKind.OTHER, length, length + len(source), headings.above))
        pieces.append(source)
        length += len(source) + 2
    whole = "\n\n".join(pieces)
    placed = tiled(whole, blocks)
    title = next(
        (plain(whole[block.start : block.end]) for block in placed if block.kind is BlockKind.HEADING), ""
    )
    return Extract(whole, placed, "notebook@1", title)


def _cells(notebook: Any) -> list[tuple[str, str]]:
    if not isinstance(notebook, dict):
        raise SourceError("not a notebook: there are no cells in it")
    lists = [notebook.get("cells")]
    sheets = notebook.get("worksheets")
    if isinstance(sheets, list):
        lists.extend(sheet.get("cells") for sheet in sheets if isinstance(sheet, dict))
    cells = [cell for cells in lists if isinstance(cells, list) for cell in cells if isinstance(cell, dict)]
    return [(str(cell.get("cell_type")), _joined(cell.get("source", cell.get("input")))) for cell in cells]


def _joined(source: Any) -> str:
    if isinstance(source, list):
        return "".join(line for line in source if isinstance(line, str))
    return source if isinstance(source, str) else ""
