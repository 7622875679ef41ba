"""The keys that decide nothing: going on, reading, narrowing the list, and what else can be looked at."""

import asyncio

from textual import on

from karkas.queue import morning
from karkas.queue.asking import Reading, Words
from karkas.queue.gatelist import GateList
from karkas.queue.lifetime import Working, alone
from karkas.queue.listed import ROOM
from karkas.queue.order import Filter

SEARCHING = "Enter lists. Esc lists all again"


class Moves(Working):
    """Which gates are listed, and which of them is looked at; the screen shows it."""

    filter = Filter()
    room = ROOM

    @on(GateList.Ended)
    async def _make_room(self) -> None:
        self.room += ROOM
        await self.refresh_list()
        self.gates.step(1)

    def action_next(self) -> None:
        if not self.gates.step(1):
            self.say("this is the last gate")

    def action_previous(self) -> None:
        if not self.gates.step(-1):
            self.say("this is the first gate")

    def action_page_down(self) -> None:
        self.page.scroll_page_down(animate=False)

    def action_page_up(self) -> None:
        self.page.scroll_page_up(animate=False)

    def action_line_down(self) -> None:
        self.page.scroll_down(animate=False)

    def action_line_up(self) -> None:
        self.page.scroll_up(animate=False)

    def action_widen(self) -> None:
        parts = self.query_one("#parts")
        parts.toggle_class("whole")
        (self.page if parts.has_class("whole") else self.gates).focus()

    async def action_filter(self) -> None:
        self.filter = self.filter.next()
        await self.refresh_list(keep=False)

    async def action_zone(self) -> None:
        line = self.gates.line(self.gates.gate)
        zone = line.zones[0] if line is not None and line.zones and self.filter.zone is None else None
        self.filter = Filter(self.filter.name, zone, self.filter.search)
        await self.refresh_list(keep=False)

    @alone
    async def action_search(self) -> None:
        question = "List only gates with this text in id, zone, title, level or run"
        words = await self.app.push_screen_wait(Words(question, hint="Esc lists all again", ending=SEARCHING))
        self.filter = Filter(self.filter.name, self.filter.zone, (words or "").strip())
        await self.refresh_list(keep=False)

    def action_help(self) -> None:
        self.app.push_screen(Reading("karkas queue: the keys", morning.helping()))

    @alone
    async def action_morning(self) -> None:
        found = await asyncio.to_thread(morning.look, self.project)
        await self.app.push_screen_wait(Reading("karkas queue: the morning", morning.page(found)))

    def action_mark(self) -> None:
        self.gates.toggle_mark()
        self.banner()

    async def show_gate(self, gate: str) -> None:
        await self.refresh_list(also=gate)
        self.gates.go_to(gate)
