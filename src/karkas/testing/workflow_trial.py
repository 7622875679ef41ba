"""A trial of one workflow: a run in a throw-away project, and the people who decide at its gates."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from karkas.agents.tools import ToolBox
from karkas.policies.gates import GateKind, GateStatus
from karkas.policies.verdicts import Reject
from karkas.settings import Settings
from karkas.storage import Gate, Run, RunStatus
from karkas.testing.bench import PERSON, Bench, throwaway
from karkas.testing.recorder import Recorder, recording
from karkas.testing.suite import Setup
from karkas.testing.trial import passing

if TYPE_CHECKING:
    from karkas.workflows.runs import Graph

ACTING = {GateKind.ACTION, GateKind.FRAME}
PEOPLE = (PERSON, "grace")
EXPIRES = "7d"
GATES = 64
"""Gates of one trial; a workflow that opens more goes round in circles."""


@dataclass
class Trial:
    """A run of the workflow in a throw-away project, and the person who decides in it."""

    bench: Bench
    workflow: "Graph"
    setup: Setup
    recorder: Recorder
    run: Run
    opened: list[Gate] = field(default_factory=list)

    @property
    def waiting(self) -> list[Gate]:
        return list(self.bench.waiting(self.run).values())

    def go_on(self) -> None:
        self.run = self.bench.go_on(self.run)

    def walk(self, refuse: Callable[[Gate], None] | None = None) -> None:
        """Decides one gate after the other until none waits: actions and frames are refused, or all are approved."""
        self.go_on()
        while self.waiting and len(self.opened) < GATES:
            gate = self.waiting[0]
            self.opened.append(gate)
            if refuse is not None and gate.kind in ACTING:
                refuse(gate)
            else:
                self.approve(gate)
            if self.run.status is RunStatus.PARKED:
                self.go_on()

    def reach(self) -> None:
        """Answers questions until an action or a frame waits; all gates that wait then are opened ones."""
        self.go_on()
        while self.waiting and not self.acting and len(self.opened) < GATES:
            self.opened.append(self.waiting[0])
            self.approve(self.waiting[0])
            self.go_on()
        self.opened += self.waiting

    @property
    def acting(self) -> bool:
        """Whether an action or a frame waits, or was decided."""
        return any(gate.kind in ACTING for gate in (*self.waiting, *self.opened))

    def approve(self, gate: Gate, *, people: Sequence[str] = PEOPLE) -> None:
        """Has as many people as it needs say yes, or these alone."""
        store = self.bench.store
        for person in people:
            if not store.gates.get(gate.id).status.waits:
                break
            if gate.kind is GateKind.FRAME:
                self._frame(gate, person)
            else:
                store.gates.decide(gate.id, passing(gate, self.setup.answers.get(gate.lane)), by=person)

    def _frame(self, gate: Gate, person: str) -> None:
        from karkas.workflows.framing import accept, starting_frame

        store, zone = self.bench.store, gate.zones[0]
        text = starting_frame(store, zone, author=PERSON, level=self.bench.zone(zone).level)
        accept(store, zone, text, by=person)

    def reject(self, gate: Gate) -> None:
        self.bench.store.gates.decide(gate.id, Reject(reason="the conformance suite refuses it"), by=PERSON)

    def expire(self, gate: Gate) -> None:
        """Lets the gate's own time pass; a frame has none, and is closed as if it had."""
        store, clock = self.bench.store, self.bench.clock
        if gate.expires_at is None:
            store.gates.close(gate.id, GateStatus.EXPIRED, "nobody decided")
        else:
            clock.advance(seconds=max((gate.expires_at - clock()).total_seconds(), 0))
            store.gates.wake_due()

    def again(self) -> None:
        """Another run of the same workflow, up to its first action that nobody has decided."""
        self.run = self.bench.begin(self.workflow, self.setup.input or {})
        self.reach_action()

    def reach_action(self) -> Gate | None:
        """Approves frames and answers questions until an action waits."""
        self.go_on()
        while self.waiting and len(self.opened) < GATES:
            gate = next((one for one in self.waiting if one.kind is GateKind.ACTION), self.waiting[0])
            self.opened.append(gate)
            if gate.kind is GateKind.ACTION:
                return gate
            self.approve(gate)
            self.go_on()
        return None

    def bypass(self) -> str | None:
        """What took place that no permit allowed."""
        if self.recorder.unpermitted:
            return (
                f"{', '.join(self.recorder.unpermitted)} was called without a permit; propose it by `add_action`, and"
                " let no node call a tool's function"
            )
        if self.recorder.own:
            return (
                f"{', '.join(self.recorder.own)} changed while no tool was at work; a node computes, and a tool"
                " behind a gate acts"
            )
        return None

    def performed(self) -> str | None:
        """What took place, permitted or not."""
        called = ", ".join(dict.fromkeys(one.tool for one in self.recorder.calls))
        return self.bypass() or (f"{called} was performed" if called else None)

    def twice(self) -> str | None:
        """A permit that was used more often than it may be."""
        tools, store = self.bench.tools(), self.bench.store
        for called in self.recorder.calls:
            times = self.recorder.times()[called.permit or ""]
            repeatable = called.tool in tools and tools[called.tool].idempotent
            if called.permit is not None and times > 1 + repeatable:
                return f"{called.tool} was performed {times} times under {store.ledger.get(called.permit).id}"
        return None


@contextmanager
def trying(workflow: "Graph", setup: Setup) -> Iterator[Trial]:
    """A throw-away project in which every zone that is declared may be acted in, and a run that has not begun yet."""
    box = ToolBox.builtin()
    tools = [one for one in setup.tools if one.name not in box]
    with throwaway(files=setup.files, zones=setup.zones, tools=tools, config=setup.config) as bench:
        bench.settings = _expiring(bench.settings)
        for name, state in bench.zones().items():
            if not state.may_act:
                bench.chart(name)
        with recording(bench, setup.tools) as recorder:
            begun = bench.begin(workflow, setup.input or {})
            yield Trial(bench, workflow, setup, recorder, begun)


def _expiring(settings: Settings) -> Settings:
    """With a time for every action and question, so that gates expire by their own and not by our word."""
    act = settings.act
    return settings.model_copy(update={"act": act.model_copy(update={"expires": act.expires or EXPIRES})})
