"""The nodes of one question to a person: ask → wait → done."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt

from karkas.policies.actions import digest_of
from karkas.policies.gates import GateKind, GateStatus, PolicyDecision, PolicyVerdict
from karkas.policies.routing import route
from karkas.policies.verdicts import Answer
from karkas.policies.zones import ZoneName
from karkas.storage import NewGate
from karkas.workflows.action import given, with_runtime
from karkas.workflows.context import Context
from karkas.workflows.lanes import GATE, Lane, Outcome, OutcomeStatus, WorkflowState, lane_of

Asker: TypeAlias = Callable[..., str | Awaitable[str]]


class QuestionNodes:
    """The nodes of the question `name`, for `Workflow.add_question` to put into a graph."""

    def __init__(
        self, name: str, asker: Asker, *, zones: tuple[ZoneName, ...], choices: tuple[str, ...]
    ) -> None:
        self.name = name
        self.asker = with_runtime(asker)
        self.zones = zones
        self.choices = choices
        self.onward: Sequence[str] = (f"{name}.done",)
        """Where it goes from here, once there is an answer."""

    async def ask(self, state: Any, runtime: Runtime[Context]) -> dict[str, dict[str, Lane]]:
        context, turn = runtime.context, lane_of(state, self.name).get("turn", 0) + 1
        text = await given(self.asker(state, runtime))
        way = route(context.zones().values(), text=text, named=self.zones)
        reasons = ("a question to a person; no model interprets the answer",)
        gate = await context.stored(
            context.store.gates.open,
            NewGate(
                key=f"{context.run}:{self.name}:{turn}:{digest_of(text)}",
                run=context.run,
                lane=self.name,
                kind=GateKind.QUESTION,
                zones=way.zones,
                level=way.level,
                level_why=way.why,
                policy=PolicyDecision(verdict=PolicyVerdict.PROPOSE, reasons=reasons),
                title=text.strip().split("\n", 1)[0],
                prompt=text,
                choices=self.choices,
                expires_at=context.expiry(),
            ),
        )
        return {"karkas": {self.name: Lane(turn=turn, gate=gate.id, outcome=None)}}

    async def wait(self, state: WorkflowState, runtime: Runtime[Context]) -> Command[str]:
        context = runtime.context
        gate = await context.gate(state["karkas"][self.name]["gate"], self.name)
        if gate.status.waits:
            interrupt({GATE: gate.id})
            gate = await context.stored(context.store.gates.get, gate.id)
        if gate.status.waits:
            return Command(goto=f"{self.name}.wait")
        if gate.status is GateStatus.CANCELLED:
            return Command(goto=self.name)  # its run was stopped, and a person opened it again
        outcome = Outcome(status=OutcomeStatus.of_gate(gate.status).value, gate=gate.id)
        if isinstance(gate.verdict, Answer):
            outcome["answer"] = gate.verdict.text
        return Command(goto=self.onward, update={"karkas": {self.name: Lane(outcome=outcome)}})

    async def done(self, state: WorkflowState) -> None:
        """Where edges leave from, once there is an answer."""
