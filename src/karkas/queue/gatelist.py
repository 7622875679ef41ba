"""The left side: the gates in their groups, one line each; only the visible lines are drawn."""

from collections.abc import Sequence
from datetime import datetime

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from karkas import cells
from karkas.policies.approvals import MOST
from karkas.policies.rendering import visible_line
from karkas.queue.order import Blocks, Group, blocks
from karkas.queue.outcome import since
from karkas.storage import WaitingLine

HOLDS = {
    Blocks.ZONE: "blocks zone",
    Blocks.DOUBT: "in doubt",
    Blocks.RUN: "blocks run",
    Blocks.BRANCH: "with others",
    Blocks.LATER: "put off",
}
WIDE = 60
HEAD = Style(bold=True, underline=True)
UNDER = Style(reverse=True)


class GateList(ScrollView, can_focus=True, inherit_bindings=False):
    """Keeps the gate under the cursor where it is on the screen, whatever comes and goes around it.

    It takes the arrows only: the page keys read the decision, also while the list has the focus.
    """

    DEFAULT_CSS = """
    GateList { background: $background; overflow-x: hidden; overflow-y: scroll; scrollbar-size-vertical: 1; }
    """

    class Chosen(Message):
        """The cursor is at another gate now."""

    class Ended(Message):
        """The cursor would go on, and behind the last line there are more gates."""

    def __init__(self, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._rows: list[str | WaitingLine] = []
        self._at: dict[str, int] = {}
        self.gate: str | None = None
        self.marked: set[str] = set()
        self._more = 0
        self.now = datetime.min  # noqa: DTZ901 - replaced with every fill

    def fill(
        self, groups: Sequence[Group], now: datetime, *, more: int = 0, keep: WaitingLine | None = None
    ) -> None:
        """Lists other gates, `more` of which are left out at the end. `keep` stays in its place as what it was, where
        it is under the cursor and gone.
        """
        before = self._at.get(self.gate or "")
        self.now, self._more = now, more
        self._rows = []
        for group in groups:
            self._rows += [group.title, *group.lines]
        there = {row.id for row in self._rows if isinstance(row, WaitingLine)}
        if keep is not None and keep.id == self.gate and keep.id not in there:
            self._rows.insert(min(before if before is not None else 0, len(self._rows)), keep)
        if more:
            self._rows.append(f"{more:,} more; go on to list them")
        self._at = {row.id: at for at, row in enumerate(self._rows) if isinstance(row, WaitingLine)}
        self.marked &= set(self._at)
        self.virtual_size = Size(self.scrollable_content_region.width, len(self._rows))
        if self.gate not in self._at:
            self._choose(next(iter(self._at), None))
        elif before is not None and self._at[self.gate] != before:
            moved = self._at[self.gate] - before
            self.scroll_to(y=self.scroll_offset.y + moved, animate=False, force=True)
        self.refresh()

    @property
    def ids(self) -> Sequence[str]:
        return tuple(self._at)

    def line(self, gate: str | None) -> WaitingLine | None:
        at = self._at.get(gate or "")
        row = self._rows[at] if at is not None else None
        return row if isinstance(row, WaitingLine) else None

    def step(self, by: int) -> bool:
        """Moves the cursor; says whether there was another gate that way."""
        ids = self.ids
        if self.gate not in self._at:
            return False
        at = ids.index(self.gate) + by
        if at == len(ids) and self._more:
            self.post_message(self.Ended())
            return True
        if not 0 <= at < len(ids):
            return False
        self._choose(ids[at])
        return True

    def grow_older(self, now: datetime) -> None:
        """Draws the same lines with the time that they wait now."""
        self.now = now
        self.refresh()

    def go_to(self, gate: str) -> bool:
        if gate in self._at:
            self._choose(gate)
        return gate in self._at

    def toggle_mark(self) -> None:
        if self.gate is not None:
            self.marked ^= {self.gate}
            self.refresh()

    def key_up(self) -> None:
        self.step(-1)

    def key_down(self) -> None:
        self.step(1)

    def on_click(self, event: events.Click) -> None:
        at = event.y + self.scroll_offset.y
        row = self._rows[at] if 0 <= at < len(self._rows) else None
        if isinstance(row, WaitingLine):
            self._choose(row.id)

    def on_resize(self, _: events.Resize) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, len(self._rows))
        self._reveal()

    def _choose(self, gate: str | None) -> None:
        changed, self.gate = gate != self.gate, gate
        self._reveal()
        self.refresh()
        if changed:
            self.post_message(self.Chosen())

    def _reveal(self) -> None:
        at, height = self._at.get(self.gate or ""), self.scrollable_content_region.height
        if at is None or height <= 0:
            return
        # The heading above a group's first gate is shown with it.
        first = at - 1 if at and isinstance(self._rows[at - 1], str) else at
        top = self.scroll_offset.y
        if first < top:
            self.scroll_to(y=first, animate=False, force=True)
        elif at >= top + height:
            self.scroll_to(y=at - height + 1, animate=False, force=True)

    def render_line(self, y: int) -> Strip:
        at, width = y + self.scroll_offset.y, self.scrollable_content_region.width
        if at >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        row = self._rows[at]
        if isinstance(row, str):
            return Strip([Segment(cells.fit(visible_line(row), width), self.rich_style + HEAD)])
        style = self.rich_style + UNDER if row.id == self.gate else self.rich_style
        return Strip([Segment(self._told(row, width), style)])

    def _told(self, line: WaitingLine, width: int) -> str:
        mark = f"{'>' if line.id == self.gate else ' '}{'*' if line.id in self.marked else ' '}"
        waits = since(self.now - line.opened_at) if line.status.waits else line.status.value
        title = visible_line(line.title or f"{line.kind} {line.id}")
        if line.approvals and line.status.waits:
            title = f"({line.approvals} of {MOST}) {title}"
        if width < WIDE:
            return cells.fit(f"{mark}{waits:>6} {title}", width)
        tail = f" {HOLDS[blocks(line)]:<11} {line.level:<12}"
        return cells.fit(f"{mark}{waits:>7} {title}", width - len(tail)) + tail
