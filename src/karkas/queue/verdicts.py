"""The keys that decide: each about the sheet that is shown when it is pressed, or not at all."""

import asyncio
import subprocess
import sys
from dataclasses import replace

from textual.app import SuspendNotSupported

from karkas.cli import times
from karkas.cli.editing import edited_action
from karkas.policies.actions import Action
from karkas.policies.errors import KarkasError
from karkas.policies.gates import GateKind
from karkas.policies.verdicts import Adopt, Answer, Approve, Choose, Defer, Edit, Reject, Retry, Stop, Verdict
from karkas.project import Project, person
from karkas.queue import batches
from karkas.queue.asking import Consent, Letter, Words
from karkas.queue.deciding import changed, decide
from karkas.queue.lifetime import Working, alone
from karkas.queue.outcome import so_far
from karkas.queue.standing import Sheet
from karkas.queue.works import Works
from karkas.storage import Gate

NOT_SHOWN = "no gate is shown yet, so nothing was decided"
YES = "y"
FRESH_S = 1.0
"""How long a gate that appears by itself takes no verdict."""


class Verdicts(Working):
    """What the deciding keys do; the screen shows what comes of it."""

    works: Works
    sheet: Sheet | None
    _fresh: tuple[str, float] = ("", 0.0)
    _undoable = False
    _edited: str | None = None

    async def show_gate(self, gate: str) -> None:
        raise NotImplementedError

    def at_hand(self, verdict: str) -> Sheet | None:
        """The sheet that is shown, where such a verdict can be given at it; else it is said why not."""
        sheet = self.sheet
        if sheet is None or self.gates.gate != sheet.gate.id:
            self.say(NOT_SHOWN)
            return None
        if sheet.gate.id == self._fresh[0] and asyncio.get_running_loop().time() < self._fresh[1]:
            self.say(f"{sheet.gate.id} has just appeared by itself; read it, then press the key again")
            return None
        if verdict in sheet.possible:
            return sheet
        if not sheet.gate.status.waits:
            self.say(f"{sheet.gate.id} is {changed(sheet.gate)} already; nothing was decided")
        else:
            self.say(f"{verdict} is not possible at this gate; possible: {', '.join(sheet.possible)}")
        return None

    def appeared(self, gate: str) -> None:
        """What is shown is not what the person went to: keys that were meant for the one before decide nothing."""
        self._fresh = (gate, asyncio.get_running_loop().time() + FRESH_S)

    async def ask(self, screen: "Letter | Words") -> str | None:
        answer: str | None = await self.app.push_screen_wait(screen)
        if answer is None:
            self.say("nothing was decided")
        return answer

    async def sure(self, question: str) -> bool:
        return await self.ask(Letter(question, {YES: "yes, do it"})) == YES

    async def decide(self, sheet: Sheet, verdict: Verdict) -> Gate | None:
        """Records a verdict on exactly what the sheet shows, and lets the run go on."""
        try:
            gate = await asyncio.to_thread(
                decide, self.project, sheet.gate.id, sheet.sight, verdict, by=person()
            )
        except KarkasError as error:
            await self.refresh_list()
            self.say(str(error))
            return None
        self.sheet = replace(sheet, gate=gate)
        self.say(f"{gate.id}: {verdict.kind}, {_state(gate)}")
        run = await asyncio.to_thread(self.project.store.runs.get, gate.run)
        if not gate.status.waits and not run.status.ended:
            self.works.go_on(run.id)
        await self.refresh_list()
        return gate

    async def variant_of(self, sheet: Sheet, doing: str) -> int | None:
        """Which variant, by its number; 0 where there is one."""
        if sheet.proposal is None or len(sheet.gate.variants) == 1:
            return 0
        offered = {
            NUMBERS[at]: f"{variant.action.tool}: {variant.why}"
            for at, variant in enumerate(sheet.proposal.variants)
        }
        answer = await self.ask(Letter(f"{doing} which variant of {sheet.gate.id}?", offered))
        return None if answer is None else NUMBERS.index(answer)

    async def meant(self, sheet: Sheet, doing: str, variant: int) -> bool:
        """What cannot be taken back, or was not read to its end, is asked for once more."""
        if sheet.proposal is None:
            return False
        if (unseen := self.page.unseen) and not await self.sure(
            f"{doing} {sheet.gate.id}? {unseen:,} more rows of what would be done were not on the screen yet."
            " PgDn shows them."
        ):
            return False
        action = sheet.proposal.variants[variant].action
        if action.effect.value != "irreversible":
            return True
        return await self.sure(
            f"{doing} {sheet.gate.id}? {sheet.gate.title or action.tool}: this cannot be taken back."
        )

    @alone
    async def action_approve(self) -> None:
        sheet = self.at_hand("approve")
        if sheet is not None and await self.meant(sheet, "Approve", 0):
            await self.decide(sheet, Approve())

    @alone
    async def action_choose(self) -> None:
        sheet = self.at_hand("choose")
        if sheet is None or (variant := await self.variant_of(sheet, "Perform")) is None:
            return
        if await self.meant(sheet, f"Perform variant {variant + 1} of", variant):
            await self.decide(sheet, Choose(variant=variant))

    @alone
    async def action_adopt(self) -> None:
        sheet = self.at_hand("adopt")
        if sheet is None:
            return
        if sheet.gate.kind is GateKind.FRAME:
            self._frame(sheet)
            await self.refresh_list()
            return
        if (variant := await self.variant_of(sheet, "Adopt")) is None:
            return
        if await self.meant(sheet, "Adopt", variant):
            await self.decide(sheet, Adopt(variant=variant))

    @alone
    async def action_answer(self) -> None:
        sheet = self.at_hand("answer")
        if sheet is None:
            return
        text: str | None
        if choices := sheet.gate.choices:
            offered = dict(zip(NUMBERS, choices, strict=False))
            letter = await self.ask(Letter(f"Answer {sheet.gate.id}:", offered))
            text = offered[letter] if letter is not None else None
        else:
            text = await self.ask(Words(f"Answer {sheet.gate.id}. No model interprets it."))
        if text is None:
            return
        if sheet.gate.kind is GateKind.OUTCOME and not await self.sure(
            f"Put on the record that it {text.replace('-', ' ')}? Look first; karkas acts on your word."
        ):
            return
        await self.decide(sheet, Answer(text=text))

    @alone
    async def action_reject(self) -> None:
        sheet = self.at_hand("reject")
        if sheet is None:
            return
        reason = await self.ask(Words(f"Reject {sheet.gate.id}. Why? It goes on the record."))
        if reason is None:
            return
        offered = {"n": "never: it does not happen"}
        if sheet.gate.kind is GateKind.ACTION:
            offered["v"] = "revised: whoever proposed it gets your reason and tries again"
        letter = await self.ask(Letter(f"Reject {sheet.gate.id}: {reason}", offered))
        if letter is not None:
            retry = Retry.REVISED if letter == "v" else Retry.NEVER
            await self.decide(sheet, Reject(reason=reason, retry=retry))

    @alone
    async def action_defer(self) -> None:
        sheet = self.at_hand("defer")
        if sheet is None:
            return
        text = await self.ask(
            Words(f"Put {sheet.gate.id} off until when?", hint="07:00  2h  3d  2026-11-23T07:00")
        )
        if text is None:
            return
        try:
            moment = times.future(text, now=self.project.store.clock().astimezone())
        except KarkasError as error:
            self.say(str(error))
            return
        await self.decide(sheet, Defer(until=moment))

    @alone
    async def action_stop(self) -> None:
        sheet = self.at_hand("stop")
        if sheet is None:
            return
        others = [
            line for line in self.project.store.waiting.lines(run=sheet.run.id) if line.id != sheet.gate.id
        ]
        also = f" Its {len(others)} other gates are cancelled too." if others else ""
        if await self.sure(f"Stop the whole run {sheet.run.id} ({sheet.run.workflow})?{also}"):
            await self.decide(sheet, Stop())

    def action_edit(self) -> None:
        self._edit(whole=False)

    def action_edit_whole(self) -> None:
        self._edit(whole=True)

    @alone
    async def _edit(self, *, whole: bool) -> None:
        sheet = self.at_hand("edit")
        if sheet is None or (variant := await self.variant_of(sheet, "Edit")) is None:
            return
        try:
            with self.app.suspend():
                action, failure = _editing(self.project, sheet.gate, variant, whole=whole)
        except SuspendNotSupported:
            action, failure = (
                None,
                f"this terminal cannot be lent to an editor; karkas queue edit {sheet.gate.id}",
            )
        if action is None:
            self.say(failure)
            return
        self._edited = sheet.gate.id
        await self.decide(sheet, Edit(action=action))

    async def follow(self, run: str) -> None:
        """Once an edit has its own gate, shows that: nothing of it counts before it was read there and decided."""
        if self._edited is None or self._edited != self.gates.gate:
            return
        old = await asyncio.to_thread(self.project.store.gates.get, self._edited)
        if old.run != run:
            return
        self._edited = None
        if old.superseded_by is not None:
            self.say(f"your edit stands at a gate of its own, {old.superseded_by}; read it, then decide")
            self.appeared(old.superseded_by)
            await self.show_gate(old.superseded_by)

    def _frame(self, sheet: Sheet) -> None:
        """The map in the person's editor, as `karkas frame` does it, in a process of its own."""
        zone = sheet.gate.zones[0]
        try:
            with self.app.suspend():
                _framing(self.project, zone)
        except SuspendNotSupported:
            self.say(f"this terminal cannot be lent to an editor; karkas frame {zone}")

    @alone
    async def action_batch(self) -> None:
        """Approves the marked gates: the explicit list that is shown, all of it or nothing."""
        lines = [line for one in sorted(self.gates.marked) if (line := self.gates.line(one)) is not None]
        if not lines:
            self.say("no gate is marked; the space bar marks the one under the cursor")
            return
        try:
            gates = [await asyncio.to_thread(self.project.store.gates.get, line.id) for line in lines]
            await asyncio.to_thread(self.project.store.gates.check_batch, gates)
            page = await asyncio.to_thread(lambda: tuple(batches.page(self.project, gates)))
            yes = f"approve all {len(gates)}, exactly as shown"
            if not await self.app.push_screen_wait(Consent(yes, page)):
                self.say("nothing was decided")
                return
            decided = await asyncio.to_thread(
                self.project.store.gates.decide_batch, batches.shown(gates), by=person()
            )
        except KarkasError as error:
            await self.refresh_list()
            self.say(str(error))
            return
        self.gates.marked.clear()
        self.say(f"{len(decided)} gates: {_state(decided[0])}")
        for run in dict.fromkeys(gate.run for gate in decided if not gate.status.waits):
            self.works.go_on(run)
        await self.refresh_list()

    @alone
    async def action_undo(self) -> None:
        sheet = self.sheet
        if sheet is None or not self._undoable:
            self.say("nothing was performed at this gate that could be taken back; f lists what was decided")
            return
        if not await self.sure(f"Take back what was done under {sheet.gate.id}? {sheet.gate.title}"):
            return
        from karkas.runner import take_back

        try:
            done = await asyncio.to_thread(take_back, self.project, sheet.gate, by=person())
        except KarkasError as error:
            self.say(str(error))
        else:
            self.say(f"taken back: {done}")
        await self.refresh_list()

    @alone
    async def action_quit(self) -> None:
        at_work = list(self.works.doing)
        if at_work:
            named = ", ".join(at_work)
            question = (
                f"{len(at_work)} at work: {named}. Leaving interrupts them; nothing is lost, and"
                " `karkas runs resume RUN` goes on. What has begun to act is waited for."
            )
            if (
                await self.ask(
                    Letter(question, {"l": "leave", "w": "wait here until they are done, then leave"})
                )
                != "l"
            ):
                return
        self.app.exit()


NUMBERS = "123456789abcdefg"


def _state(gate: Gate) -> str:
    """How a gate stands after a verdict; the first of two people hears that another one is needed."""
    return (
        f"{so_far(gate)}; another person decides" if gate.approvals and gate.status.waits else changed(gate)
    )


def _editing(project: Project, gate: Gate, variant: int, *, whole: bool) -> "tuple[Action | None, str]":
    """The edited action, or why there is none; whatever happens here, the screen comes back."""
    try:
        return edited_action(project, gate, variant, None, whole=whole), ""
    except (KarkasError, KeyboardInterrupt) as error:
        return None, str(error) or "interrupted, so nothing was decided"


def _framing(project: Project, zone: str) -> None:
    command = "from karkas.cli.app import main; main()"
    words = [sys.executable, "-c", command, "frame", zone, "--project", str(project.root)]
    subprocess.run(words, check=False)  # noqa: S603
    try:
        input("Enter: back to the queue ")
    except (EOFError, KeyboardInterrupt):
        return
