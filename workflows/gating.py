"""Opening gates: the ruling, the critic, the exact text to be shown, and what a permit would bind."""

import asyncio
from dataclasses import dataclass

from karkas.agents.critic import judge_action
from karkas.agents.tools import Tool
from karkas.policies.actions import Action, Digest, Proposal, digest_of_bytes
from karkas.policies.errors import KarkasError, StorageError
from karkas.policies.gates import CriticReport, GateKind, GateStatus, PolicyVerdict
from karkas.policies.judging import critic_releases
from karkas.policies.permits import Binding
from karkas.server.questions import JudgeAction
from karkas.storage import Gate, NewGate, ShownVariant
from karkas.workflows.context import Context
from karkas.workflows.ruling import Ruling, recalled, rule_on


@dataclass(frozen=True)
class Denied:
    """Policy lets nothing of the proposal happen; no gate opens."""

    why: str


async def open_action_gate(
    context: Context, *, lane: str, turn: int, digest: Digest, proposal: Proposal, alone: bool = True
) -> Gate | Denied:
    """Rules on the proposal, lets the critic judge it, and opens its gate; a critic's release passes it at once, or a
    standing grant, where they may do so `alone`.

    Asking twice for the same run, lane, turn and proposal gives the same gate.
    """
    ruling = await rule_on(context, proposal)
    if ruling.decision.verdict is PolicyVerdict.DENY:
        why = "; ".join(ruling.decision.reasons)
        await context.stored(
            context.store.note,
            "proposal_denied",
            f"run:{context.run}",
            actor="policy",
            data={"lane": lane, "proposal": digest, "why": why},
        )
        return Denied(why)
    variants, shown = [], []
    for variant in proposal.variants:
        tool = context.tools[variant.action.tool]
        try:
            text, binding = await asyncio.to_thread(_bound, context, tool, variant.action, ruling, keep=True)
        except StorageError:
            raise
        except KarkasError as error:
            return Denied(f"{variant.action.tool} cannot do this: {error}")
        variants.append(ShownVariant(digest=binding.action, shown=binding.shown, binding=binding))
        shown.append(text)
    digests = tuple(variant.digest for variant in variants)
    report = await _critic_report(context, proposal, ruling, shown, digests)
    new = NewGate(
        key=f"{context.run}:{lane}:{turn}:{digest}",
        run=context.run,
        lane=lane,
        kind=GateKind.ACTION,
        zones=ruling.route.zones,
        level=ruling.route.level,
        level_why=ruling.route.why,
        policy=ruling.decision,
        proposal=digest,
        variants=tuple(variants),
        critic=report,
        title=proposal.title,
        effect=proposal.effect,
        expires_at=context.expiry(),
    )

    def opened() -> Gate:
        gate = context.store.gates.open(new)
        # The gate's own report: a critic that objected before a crash is not asked until it passes.
        released = critic_releases(gate.policy, proposal.variants, gate.critic, proposer=proposal.proposer)
        if alone and gate.status is GateStatus.OPEN and gate.critic is not None and released:
            return context.store.gates.pass_by_critic(gate.id, gate.critic)
        if alone and gate.status is GateStatus.OPEN:
            return context.store.grants.release(gate.id) or gate
        return gate

    return await context.at_once(opened)


async def bind(context: Context, tool: Tool, action: Action, ruling: Ruling) -> tuple[str, Binding]:
    """The exact text to show of an action, and everything that a permit for it binds, as of now."""
    return await asyncio.to_thread(_bound, context, tool, action, ruling)


def _bound(
    context: Context, tool: Tool, action: Action, ruling: Ruling, *, keep: bool = False
) -> tuple[str, Binding]:
    text, preconditions = tool.look(action, context.workspace)
    shown = text.encode("utf-8", "surrogatepass")
    return text, Binding(
        action=action.digest,
        shown=context.store.artifacts.put(shown) if keep else digest_of_bytes(shown),
        tool_version=tool.version,
        preconditions=preconditions,
        policy_version=ruling.version,
    )


async def _critic_report(
    context: Context, proposal: Proposal, ruling: Ruling, shown: list[str], digests: tuple[Digest, ...]
) -> CriticReport | None:
    """The critic sees the task, the frame and the shown text; never who proposed it."""
    if not context.critic:
        return None
    if context.engine.answers(JudgeAction):
        context.progress("the critic judges the proposal")
    return await judge_action(
        context.engine,
        zone=", ".join(ruling.route.zones),
        task=proposal.task,
        frame=recalled(ruling.frames),
        shown="\n\n".join(shown),
        digests=digests,
    )
