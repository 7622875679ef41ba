"""The built-in workflow `act`: recall the frame → executor proposes → critic → gate → permit → tool → record."""

from dataclasses import replace
from typing import Any

from langgraph.graph import END, START
from langgraph.runtime import Runtime

from karkas.agents.distillate import load
from karkas.agents.executor import Plan, doable, named_call, propose
from karkas.policies.distillates import Distillate
from karkas.policies.errors import FrameError, WorkflowError
from karkas.policies.zones import ControlLevel, Stage
from karkas.workflows.context import Context
from karkas.workflows.define import Workflow
from karkas.workflows.lanes import WorkflowState, feedback
from karkas.workflows.ruling import frames_of

VARIANTS = 3
"""Variants asked for where a person chooses."""


class ActState(WorkflowState, total=False):
    """The input of an act: the zone, the task, and the call where the person named one."""

    zone: str
    task: str
    tool: str
    args: dict[str, Any]
    by: str


def act_workflow() -> Workflow:
    workflow = Workflow(ActState)
    workflow.add_action("act", propose_action)
    workflow.add_edge(START, "act")
    workflow.add_edge("act", END)
    return workflow


async def propose_action(state: ActState, runtime: Runtime[Context]) -> Plan:
    """Recalls the zone's frame and proposes: what the person named, else what the executor finds."""
    context, zone, task = runtime.context, state["zone"], state["task"]
    zone_state = context.zones().get(zone)
    if zone_state is None:
        raise WorkflowError(f"there is no zone {zone!r}; `karkas zone list` shows them")
    if not zone_state.may_act:
        unexplored = zone_state.stage is Stage.UNCHARTED
        raise FrameError(
            f"zone {zone} is {zone_state.stage} and understood at {zone_state.zone.understanding}: nothing acts"
            f" there before it is framed. {f'`karkas explore {zone} --source ...`, then ' if unexplored else ''}"
            f"`karkas frame {zone}`"
        )
    if state.get("tool"):
        plan = named_call(state["tool"], state.get("args", {}), task=task, by=state.get("by", ""))
        return with_zone(plan, zone)
    frames, _ = await frames_of(context, (zone,))
    context.progress("the executor proposes")
    plan = await propose(
        context.engine,
        zone=zone,
        task=task,
        frame=frames.get(zone),
        distillate=await distillate_of(context, zone),
        tools=context.tools,
        trusted=zone_state.zone.trusted,
        at_most=1 if zone_state.level is ControlLevel.AUTONOMOUS else VARIANTS,
        feedback=feedback(state, "act"),
    )
    if plan.by_model:
        plan = await context.stored(doable, plan, context.tools, context.workspace)
    for why in plan.unfit:
        await context.caller.note(f"executor: a call that cannot be made was left out: {why}")
    return with_zone(plan, zone)


def with_zone(plan: Plan, zone: str) -> Plan:
    return replace(plan, zones=(zone, *plan.zones))


async def distillate_of(context: Context, zone: str) -> Distillate | None:
    """The zone's distillate as it is on record."""
    ground = await context.stored(context.store.zones.ground, zone)
    if ground.distillate_artifact is None:
        return None
    return load(await context.stored(context.store.artifacts.text, ground.distillate_artifact))
