"""The nodes of one action: propose → gate → (wait) → act → done.

The proposal is computed and checkpointed before its gate opens. The waiting node is deferred, so a parked branch
never holds up the others; all that it holds is the interrupt, and its resume value is only a wake-up. The executor
reads the gate's row and the ledger, never the wake-up, so a checkpoint that is resumed twice acts once.
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, cast

from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt

from karkas.agents.executor import Plan, draft_proposal, edited
from karkas.policies.actions import Digest
from karkas.policies.errors import WorkflowError
from karkas.policies.gates import GateKind, GateStatus
from karkas.policies.permits import PermitStatus
from karkas.policies.provenance import Material, Origin
from karkas.policies.verdicts import Edit, Reject, Retry
from karkas.policies.zones import ZoneName
from karkas.server.questions import ToolCall
from karkas.storage import Gate
from karkas.workflows.context import Context
from karkas.workflows.execution import InDoubt, Stale, execute, settle
from karkas.workflows.gating import Denied, open_action_gate
from karkas.workflows.lanes import GATE, Lane, Outcome, OutcomeStatus, WorkflowState, lane_of

Proposed: TypeAlias = ToolCall | Sequence[ToolCall] | Plan | None
Proposer: TypeAlias = Callable[..., Proposed | Awaitable[Proposed]]
Update: TypeAlias = dict[str, dict[str, Lane]]


RESTLESS = 3
"""After so many approvals in a row that were stale at once, a critic alone passes no more: a person looks why."""


class ActionNodes:
    """The nodes of the action `name`, for `Workflow.add_action` to put into a graph."""

    def __init__(
        self, name: str, proposer: Proposer, *, zones: tuple[ZoneName, ...], task: str | None, revisions: int
    ) -> None:
        self.name = name
        self.proposer = with_runtime(proposer)
        self.zones = zones
        self.task = task
        self.revisions = revisions
        self.onward: Sequence[str] = (f"{name}.done",)
        """Where it goes from here, once there is an outcome."""

    async def propose(self, state: Any, runtime: Runtime[Context]) -> Update:
        context, lane = runtime.context, self._lane(state)
        turn = lane.get("turn", 0) + 1
        plan = as_plan(await given(self.proposer(state, runtime)))
        if not plan.calls:
            return self._update(
                turn=turn,
                proposal="",
                outcome=Outcome(status=OutcomeStatus.NOTHING.value, why=plan.why or "nothing was proposed"),
            )
        run = context.begun
        if run is None:
            run = await context.stored(context.store.runs.proven, context.run)
        task = self.task or str(run.input.get("task") or "")
        asked = Material(
            origin=Origin.TASK, label="the task", text="\n".join((task, *map(str, run.input.values())))
        )
        proposal = draft_proposal(
            plan,
            tools=context.tools,
            zones=plan.zones or self.zones,
            task=task,
            materials=(asked, *plan.materials),
            name=self.name,
        )
        return self._update(turn=turn, proposal=await context.keep(proposal), outcome=None)

    async def gate(self, state: WorkflowState, runtime: Runtime[Context]) -> Command[str]:
        context, lane = runtime.context, self._lane(state)
        if not lane.get("proposal"):
            return Command(goto=self.onward)
        digest = Digest(lane["proposal"])
        proposal = await context.proposal(digest)
        gate = await open_action_gate(
            context,
            lane=self.name,
            turn=lane.get("turn", 0),
            digest=digest,
            proposal=proposal,
            alone=lane.get("stale", 0) < RESTLESS,
        )
        await self._supersede(context, lane, gate)
        if isinstance(gate, Denied):
            denied = Outcome(status=OutcomeStatus.DENIED.value, why=gate.why)
            return Command(goto=self.onward, update=self._update(outcome=denied))
        target = "wait" if gate.status.waits else "act"
        return Command(goto=f"{self.name}.{target}", update=self._update(gate=gate.id))

    async def wait(self, state: WorkflowState, runtime: Runtime[Context]) -> Command[str]:
        context, lane = runtime.context, self._lane(state)
        gate = await context.gate(lane.get("gate"), self.name)
        if gate.status.waits:
            interrupt({GATE: gate.id, "digest": gate.proposal})
            gate = await context.gate(lane.get("gate"), self.name)
        if gate.status.waits:
            return Command(goto=f"{self.name}.wait")
        match gate.verdict:
            case Edit(action=action):
                proposal = await context.proposal(Digest(lane["proposal"]))
                changed = edited(proposal, action, by=gate.decided_by or "")
                update = self._update(proposal=await context.keep(changed), turn=lane.get("turn", 0) + 1)
                return Command(goto=f"{self.name}.gate", update=update)
            case Reject(retry=Retry.REVISED, reason=reason) if lane.get("revisions", 0) < self.revisions:
                update = self._update(feedback=reason, revisions=lane.get("revisions", 0) + 1)
                return Command(goto=self.name, update=update)
            case _ if gate.kind is GateKind.ACTION and gate.status is GateStatus.CANCELLED:
                return self._ask_again(lane)  # its run was stopped, and a person opened it again
            case _ if gate.kind is GateKind.OUTCOME and gate.status is GateStatus.CANCELLED:
                return Command(goto=f"{self.name}.act", update=self._update(gate=str(gate.detail["gate"])))
            case _:
                return Command(goto=f"{self.name}.act")

    async def act(self, state: WorkflowState, runtime: Runtime[Context]) -> Command[str]:
        context, lane = runtime.context, self._lane(state)
        gate, permit = await context.permitted(lane.get("gate"), self.name)
        if gate.kind is GateKind.OUTCOME:
            return self._end(await settle(context, gate))
        if gate.status is GateStatus.STALE and permit is not None and permit.status is PermitStatus.VOID:
            return self._asks_again(context, lane, gate.reason)  # who closed it died before it could say so
        if gate.status is not GateStatus.PASSED:
            return self._end(
                Outcome(status=OutcomeStatus.of_gate(gate.status).value, why=gate.reason or "", gate=gate.id)
            )
        match await execute(context, gate, permit):
            case Stale(why=why):
                return self._asks_again(context, lane, why)
            case InDoubt(gate=doubt):
                return Command(goto=f"{self.name}.wait", update=self._update(gate=doubt.id))
            case outcome:
                return self._end(outcome)

    async def done(self, state: WorkflowState) -> None:
        """Where edges leave from, once there is an outcome."""

    async def _supersede(self, context: Context, lane: Lane, gate: Gate | Denied) -> None:
        """Links the gate that an edit or a revision left behind to the one that took its place."""
        if isinstance(gate, Denied) or "gate" not in lane or lane["gate"] == gate.id:
            return
        old = await context.gate(lane.get("gate"), self.name)
        if old.status is GateStatus.SUPERSEDED and old.superseded_by is None:
            await context.stored(context.store.gates.supersede_by, old.id, gate.id)

    def _asks_again(self, context: Context, lane: Lane, why: str) -> Command[str]:
        """What was approved is not what would run now."""
        context.progress(f"{self.name}: {why}; its gate asks again")
        return self._ask_again(lane, stale=lane.get("stale", 0) + 1)

    def _ask_again(self, lane: Lane, **more: int) -> Command[str]:
        return Command(goto=f"{self.name}.gate", update=self._update(turn=lane.get("turn", 0) + 1, **more))

    def _end(self, outcome: Outcome) -> Command[str]:
        update = self._update(outcome=outcome, feedback="", revisions=0, stale=0)
        return Command(goto=self.onward, update=update)

    def _lane(self, state: Any) -> Lane:
        return lane_of(state, self.name)

    def _update(self, **lane: Any) -> Update:
        return {"karkas": {self.name: cast("Lane", lane)}}


def as_plan(proposed: Proposed) -> Plan:
    match proposed:
        case None:
            return Plan(calls=(), why="")
        case Plan():
            return proposed
        case ToolCall():
            return Plan(calls=(proposed,), why=proposed.why)
        case [*calls] if all(isinstance(one, ToolCall) for one in calls):
            return Plan(calls=tuple(calls), why="; ".join(one.why for one in calls if one.why))
        case _:
            raise WorkflowError(
                f"a proposer must return call(...), several of them, a Plan or None, not {type(proposed).__name__}"
            )


def with_runtime(function: Callable[..., Any]) -> Callable[[Any, Runtime[Context]], Any]:
    """A user's function, to be called with the state and, where it has a parameter `runtime`, the runtime."""
    if "runtime" in inspect.signature(function).parameters:
        return lambda state, runtime: function(state, runtime=runtime)
    return lambda state, _: function(state)


async def given(value: Any) -> Any:
    """What a user's function gives, async or not."""
    return await value if inspect.isawaitable(value) else value
