"""The full-screen queue: left what waits, right one decision, below what can be done with it.

A key decides about the gate whose sheet stands on the right, by its id and exactly as it was shown; never about
whatever is under the cursor by the time that the key arrives.
"""

import asyncio
from typing import ClassVar

from textual import events, on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.message import Message
from textual.widgets import Static
from textual.worker import Worker

from karkas.policies.errors import KarkasError
from karkas.policies.gates import GateKind
from karkas.policies.rendering import visible_line
from karkas.project import Project, person
from karkas.queue import keys, morning, outcome
from karkas.queue.asking import Reading
from karkas.queue.bar import Bar
from karkas.queue.deciding import changed
from karkas.queue.gatelist import GateList
from karkas.queue.lifetime import while_it_stands
from karkas.queue.listed import Listed, listed
from karkas.queue.moves import Moves
from karkas.queue.page import Page
from karkas.queue.standing import Reader, Sheet
from karkas.queue.verdicts import Verdicts
from karkas.queue.works import Ended, Works
from karkas.report import figures
from karkas.storage import RunStatus

POLL_S = 1.0
WAKE_EVERY = 5
"""Looks between two at what is due; a look at the time itself costs a transaction."""
AGE_EVERY = 30
"""Looks after which the same list is drawn anew though nothing happened: waiting times grow."""
WIDE, SMALLEST = 100, (60, 16)


class Told(Message):
    """Something came from the runs at work."""

    def __init__(self, ended: Ended | None) -> None:
        super().__init__()
        self.ended = ended


class QueueScreen(Moves, Verdicts):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key.key, key.action, key.label, show=False) for key in keys.KEYS
    ]
    DEFAULT_CSS = """
    QueueScreen { layout: vertical; background: $background; }
    QueueScreen Bar { height: 1; width: 1fr; }
    #head { text-style: bold; }
    #banner { text-style: reverse; }
    #keys { text-style: bold; }
    QueueScreen #said, QueueScreen #keys { height: auto; min-height: 1; max-height: 3; }
    #parts { height: 1fr; layout: vertical; }
    #parts GateList { height: 30%; min-height: 4; }
    #parts #decision { height: 1fr; }
    #parts.wide { layout: horizontal; }
    #parts.wide GateList { width: 40; height: 100%; }
    #parts.wide #decision { width: 1fr; height: 100%; border-left: solid $foreground; }
    #parts.whole GateList { display: none; }
    #parts.whole #decision { border: none; }
    #small { display: none; height: 1fr; }
    QueueScreen.small #small { display: block; }
    QueueScreen.small #parts, QueueScreen.small Bar { display: none; }
    """

    def __init__(self, project: Project) -> None:
        super().__init__()
        self.project = project
        self.works = Works(project, self._tell)
        self.sheet: Sheet | None = None
        self.reader = Reader(project)
        self._listed = Listed([], 0, 0, 0)
        self._pulse = -1
        self._looks = 0
        self._looking: Worker[None] | None = None
        self._said = self._came = ""

    def _tell(self, ended: Ended | None) -> None:
        """Called in the runs' own thread."""
        self.post_message(Told(ended))

    def compose(self) -> ComposeResult:
        yield Bar(id="head", markup=False)
        with Container(id="parts"):
            yield GateList("gates")
            with Container(id="decision"):
                yield Bar(id="banner", markup=False)
                yield Page("page")
        yield Bar(id="said", markup=False)
        yield Bar(id="keys", markup=False)
        yield Static(id="small", markup=False)

    @property
    def gates(self) -> GateList:
        return self.query_one(GateList)

    @property
    def page(self) -> Page:
        return self.query_one("#page", Page)

    def on_mount(self) -> None:
        self.gates.focus()
        self._poll()
        self.set_interval(POLL_S, self._poll)

    def on_resize(self, event: events.Resize) -> None:
        width, height = event.size
        small = width < SMALLEST[0] or height < SMALLEST[1]
        self.set_class(small, "small")
        self.query_one("#small", Static).update(
            f"karkas queue needs {SMALLEST[0]} columns and {SMALLEST[1]} lines; this terminal has {width} and"
            f" {height}. Make it larger, or press q: karkas queue list and karkas queue show work in any."
        )
        self.query_one("#parts").set_class(width >= WIDE, "wide")
        self.banner()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """On a terminal that shows nothing, nothing can be decided; nor while another key is being answered."""
        return not self.busy and (action == "quit" or not self.has_class("small"))

    # What is shown

    def _poll(self) -> None:
        """Begins another look once the last is over; where each cut off the one before, none that is slow would end."""
        if self._looking is None or self._looking.is_finished:
            self._looking = self._look()

    @work(group="look")
    @while_it_stands
    async def _look(self) -> None:
        """Looks whether anything happened, and shows it where it did."""
        self._looks += 1
        store = self.project.store
        try:
            if self._looks % WAKE_EVERY == 1:
                await self._wake()
            pulse = await asyncio.to_thread(store.waiting.pulse)
            if pulse == self._pulse:
                if self._looks % AGE_EVERY == 0:
                    self.gates.grow_older(store.clock())
                    await self._head()
                return
            await self.refresh_list()
            first, self._pulse = self._pulse < 0, pulse
            if first:
                self._news()
        except KarkasError as error:
            self.say(str(error))

    async def _wake(self) -> None:
        """Brings back what was put off until now, and says what expired."""
        for gate in await asyncio.to_thread(self.project.store.gates.wake_due):
            if not gate.status.waits:
                self.say(f"gate {gate.id} expired; its run goes on by: karkas runs resume {gate.run}")

    @work(group="news")
    @while_it_stands
    async def _news(self) -> None:
        """What happened while nobody looked is told first, once the list stands."""
        found = await asyncio.to_thread(morning.news, self.project)
        if found is not None:
            await self.app.push_screen_wait(Reading("karkas queue: the morning", morning.page(found)))

    async def refresh_list(self, *, keep: bool = True, also: str | None = None) -> None:
        """Lists anew. With `keep` a gate that is looked at stays in its line, though it waits no more; `also` is listed
        whatever the filter.
        """
        self._listed = await asyncio.to_thread(
            listed, self.project.store.waiting, self.filter, self.room, also=also
        )
        await self._recheck()
        self._fill(keep=keep)
        await self._head()

    def _fill(self, *, keep: bool) -> None:
        looked_at = self.gates.line(self.gates.gate) if keep else None
        if looked_at is not None and self.sheet is not None and self.sheet.gate.id == looked_at.id:
            looked_at = looked_at._replace(status=self.sheet.gate.status)
        found = self._listed
        self.gates.fill(found.groups, self.project.store.clock(), more=found.more, keep=looked_at)
        if not self.gates.ids:
            self._empty()

    async def _head(self) -> None:
        running = await asyncio.to_thread(self.project.store.runs.list, status=RunStatus.RUNNING)
        parts = [f"karkas queue  {self.project.root.name}", f"{self._listed.waits:,} wait"]
        if self._listed.irreversible:
            parts.append(f"{self._listed.irreversible:,} irreversible")
        if running:
            parts.append(f"{len(running)} at work")
        if told := self.filter.told:
            parts.append(f"only: {told}")
        self.query_one("#head", Bar).say(visible_line("  ".join(parts)))

    @property
    def is_empty(self) -> bool:
        return self._pulse >= 0 and not self.gates.ids

    def _empty(self) -> None:
        self.sheet = None
        self.page.show(morning.nothing(filtered=self.filter.told))
        self.banner()

    @on(GateList.Chosen)
    def _chosen(self) -> None:
        self.sheet = None
        self._undoable = False
        self.banner()
        if self.gates.gate is not None:
            self._read(self.gates.gate)

    @work(exclusive=True, group="read")
    @while_it_stands
    async def _read(self, gate: str) -> None:
        """Reads the gate under the cursor, whole and proven. Until it is shown no key decides anything."""
        try:
            sheet = await asyncio.to_thread(self.reader.read, gate)
        except KarkasError as error:
            self.say(str(error))
            return
        if self.gates.gate == gate:
            self.page.show(sheet.blocks)
            self.show_sheet(sheet)

    def show_sheet(self, sheet: Sheet) -> None:
        """The sheet that keys decide about from here on."""
        if self.sheet is None or self.sheet.gate.id != sheet.gate.id:
            self._undoable, self._came = False, ""
        self.sheet = sheet
        self.banner()
        if not sheet.gate.status.waits:
            self._look_back(sheet)

    @work(exclusive=True, group="back")
    @while_it_stands
    async def _look_back(self, sheet: Sheet) -> None:
        """What came of a gate that was decided, above the text that one was reading."""
        came = await asyncio.to_thread(outcome.became, self.project, sheet.gate)
        undoable = await asyncio.to_thread(outcome.can_take_back, self.project, sheet.gate)
        if self.sheet is sheet:
            self._undoable = undoable
            self._came = came[-1] if came and came[-1].startswith("taken back") else ": ".join(came)
            self.banner()

    async def _recheck(self) -> None:
        """Whether the gate that is shown still is as it was shown; the text stays where it is either way."""
        sheet = self.sheet
        if sheet is None:
            return
        now = await asyncio.to_thread(self.project.store.gates.get, sheet.gate.id)
        if self.sheet is not sheet:
            return
        if now != sheet.gate and now.status.waits:
            self.sheet = None
            self.appeared(now.id)
            self._read(now.id)
            self.say(f"{now.id} changed ({changed(now)}) and is shown anew")
            return
        if now != sheet.gate and now.decided_by != person():
            self.say(f"{now.id} is {changed(now)}; n: the next gate")
        self.show_sheet(Sheet(now, sheet.run, sheet.proposal, sheet.blocks))

    def banner(self) -> None:
        """Above the decision: which gate it is, how it stands, and how much of it can be seen."""
        first, last, rows = self.page.seen
        if self.sheet is None:
            text = "reading ..." if self.gates.gate is not None else ""
        else:
            gate = self.sheet.gate
            if gate.status.waits:
                text = f"{gate.id} {gate.kind}, {gate.status}, {gate.level}"
            else:
                text = f"{gate.id} {f'{gate.status}: {self._came}' if self._came else changed(gate)}"
        seen = f"{first}-{last} of {rows}{', more below' if last < rows else ''}"
        self.query_one("#banner", Bar).say(text, seen if self.sheet is not None else "")
        possible = self.sheet.possible if self.sheet is not None else ()
        offered = keys.offered(
            possible,
            undo=self._undoable,
            marked=len(self.gates.marked),
            frame=self.sheet is not None and self.sheet.gate.kind is GateKind.FRAME,
        )
        self.query_one("#keys", Bar).say(offered)

    @on(Page.Moved)
    def _moved(self) -> None:
        if self.is_mounted:
            self.banner()

    def say(self, text: str) -> None:
        """The last thing that happened; it stays until the next."""
        self._said = text
        self._tell_works()

    def _tell_works(self) -> None:
        doing = [f"{run}: {what}" for run, what in self.works.doing.items()]
        at_work = f"at work: {'; '.join(doing)}" if doing else ""
        self.query_one("#said", Bar).say("  |  ".join(one for one in (self._said, at_work) if one))

    @on(Told)
    @while_it_stands
    async def _told(self, message: Told) -> None:
        if (ended := message.ended) is None:
            self._tell_works()
            return
        if ended.run is None:
            self.say(f"run {ended.id}: {ended.why}")
        else:
            self.say(figures.of_run(ended.run))
        await self.refresh_list()
        await self.follow(ended.id)


class QueueApp(App[None]):
    """Opens on what happened meanwhile, where there is news, else on the queue."""

    TITLE = "karkas queue"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, project: Project) -> None:
        super().__init__(ansi_color=False)
        self.project = project
        self.queue = QueueScreen(project)
        self.left: list[str] = []

    def on_mount(self) -> None:
        self.push_screen(self.queue)

    async def on_unmount(self) -> None:
        self.left = await asyncio.to_thread(self.queue.works.close)


def run(project: Project) -> None:
    app = QueueApp(project)
    app.run()
    for name in app.left:
        print(f"run {name} was still acting; what became of it is asked at a gate: karkas runs resume {name}")  # noqa: T201
