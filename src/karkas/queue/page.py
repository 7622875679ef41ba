"""The right side: one decision, laid out for the width that there is, of which only the visible rows are drawn."""

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from karkas.queue.blocks import Block
from karkas.queue.layout import RULE, Row, rows

STYLES = {name: Style.parse(name) for name in ("", "bold", "dim", "green", "red", "cyan", "yellow")}


class Page(ScrollView, can_focus=True):
    """Scrolls through blocks. It never jumps by itself: only `show` and the person's keys move it."""

    DEFAULT_CSS = """
    Page { background: $background; overflow-x: hidden; overflow-y: scroll; scrollbar-size-vertical: 1; }
    """

    class Moved(Message):
        """The rows that can be seen are others now."""

    def __init__(self, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._blocks: Sequence[Block] = ()
        self._rows: list[Row] = []
        self._laid = 0
        self._read_to = 0

    def show(self, blocks: Sequence[Block], *, stay: bool = False) -> None:
        """Shows other blocks from their top, or, where they are the same at another time, from where one was."""
        self._blocks, self._laid, self._read_to = blocks, 0, 0
        self._lay()
        if not stay:
            self.scroll_to(y=0, animate=False, force=True)
        self.refresh()

    @property
    def seen(self) -> tuple[int, int, int]:
        """The first and the last row that can be seen, counted from 1, and how many there are."""
        top = self.scroll_offset.y
        return top + 1, min(top + self.scrollable_content_region.height, len(self._rows)), len(self._rows)

    @property
    def unseen(self) -> int:
        """Rows of the text that is decided on which were not on the screen yet."""
        numbered = [
            at for at, row in enumerate(self._rows, start=1) if any(RULE in text for text, _ in row[:1])
        ]
        return max(numbered[-1] - max(self._read_to, self.seen[1]), 0) if numbered else 0

    def on_resize(self, _: events.Resize) -> None:
        self._lay()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._read_to = max(self._read_to, self.seen[1])
        self.post_message(self.Moved())

    def _lay(self) -> None:
        width = self.scrollable_content_region.width
        if width <= 0 or width == self._laid:
            return
        self._laid = width
        self._rows = rows(self._blocks, width)
        self.virtual_size = Size(width, len(self._rows))
        self.post_message(self.Moved())
        self.refresh()

    def render_line(self, y: int) -> Strip:
        at = y + self.scroll_offset.y
        width = self.scrollable_content_region.width
        background = self.rich_style
        if at >= len(self._rows):
            return Strip.blank(width, background)
        pieces = [Segment(text, background + STYLES[style]) for text, style in self._rows[at]]
        return Strip(pieces).adjust_cell_length(width, background)
