"""Text in the cells of a terminal: folded so that nothing is lost, or fitted so that what is left out is told."""

from collections.abc import Sequence

ELLIPSIS = "…"
NARROWEST = 4


def length(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def fold(text: str, width: int) -> list[str]:
    """One line as lines of at most `width` cells, broken wherever that is; together they are `text`."""
    if length(text) <= width:
        return [text]
    if text.isascii():
        return [text[at : at + width] for at in range(0, len(text), width)]
    from rich.cells import chop_cells

    return chop_cells(text, width)


def wrap(text: str, width: int) -> list[str]:
    """As `fold`, but broken at a blank where there is one; that blank alone is left out."""
    found = []
    while length(text) > width:
        whole = fold(text, width)[0]
        cut = len(whole) if text[len(whole)] == " " else whole.rfind(" ")
        if not whole[:cut].strip() or cut < 0:
            cut = len(whole)
        found.append(text[:cut])
        text = text[cut + 1 :] if text[cut] == " " else text[cut:]
    return [*found, text]


def fit(text: str, width: int) -> str:
    """The beginning of one line in exactly `width` cells; an ellipsis says that there is more."""
    if length(text) > width:
        text = fold(text, width - 1)[0] + ELLIPSIS if width > 1 else ELLIPSIS[:width]
    return text + " " * (width - length(text))


def shared(natural: Sequence[int], width: int, *, fixed: int = 0) -> list[int]:
    """Widths of columns that together take at most `width`: the widest give way first, the first `fixed` never."""
    widths = list(natural)
    while sum(widths) > width:
        loose = [at for at in range(fixed, len(widths)) if widths[at] > NARROWEST]
        if not loose:
            break
        widest = max(loose, key=lambda at: widths[at])
        next_widest = max((widths[at] for at in loose if widths[at] < widths[widest]), default=NARROWEST)
        alike = sum(widths[at] == widths[widest] for at in loose)
        widths[widest] -= min(widths[widest] - next_widest, -(-(sum(widths) - width) // alike)) or 1
    return widths
