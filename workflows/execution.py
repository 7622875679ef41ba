"""Execution: permit → claim → tool → record, and what a crash in between comes to."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from karkas.agents.tools import perform, undo
from karkas.policies.actions import Proposal
from karkas.policies.errors import InDoubtError, KarkasError, PermitError, StaleError, ToolError
from karkas.policies.gates import GateKind, GateStatus, PolicyDecision, PolicyVerdict
from karkas.policies.permits import PermitStatus, differences
from karkas.policies.verdicts import Answer
from karkas.storage import Claimed, Gate, Lease, NewGate, Permit, worker_name
from karkas.workflows.context import Context
from karkas.workflows.gating import bind
from karkas.workflows.lanes import Outcome, OutcomeStatus
from karkas.workflows.ruling import rule_on

HAPPENED, DID_NOT = "happened", "did-not-happen"
"""The answers that a gate on an action's outcome accepts."""


@dataclass(frozen=True)
class Stale:
    """What was approved is not what would run now; the gate asks again."""

    why: str


@dataclass(frozen=True)
class InDoubt:
    """Nobody knows whether the effect took place; a person says."""

    gate: Gate


async def execute(context: Context, gate: Gate, permit: Permit | None) -> Outcome | Stale | InDoubt:
    """Performs what a passed gate permits, once; asked again, it says what became of it."""
    if permit is None:
        return Outcome(status=OutcomeStatus.DENIED.value, why="the gate issued no permit", gate=gate.id)
    match permit.status:
        case PermitStatus.APPROVED | PermitStatus.CLAIMED:
            return await _perform(context, gate, permit)
        case PermitStatus.STARTED:
            return await _after_crash(context, gate, permit)
        case PermitStatus.UNKNOWN:
            return InDoubt(await _ask_what_happened(context, gate, permit))
        case PermitStatus.COMMITTED | PermitStatus.FAILED | PermitStatus.VOID:
            return outcome_of(gate, permit)


async def settle(context: Context, gate: Gate) -> Outcome:
    """Takes a person's answer to what became of an action in doubt; no answer resolves nothing."""
    asked = str(gate.detail["gate"])
    permit = await context.stored(context.store.ledger.for_gate, asked)
    answer = gate.verdict.text if isinstance(gate.verdict, Answer) else None
    if permit is not None and permit.status is PermitStatus.UNKNOWN and answer is not None:
        permit = await context.stored(
            context.store.ledger.resolve,
            permit.id,
            committed=answer == HAPPENED,
            by=gate.decided_by or "",
            reason=f"answered {answer} at gate {gate.id}",
        )
    action_gate = await context.stored(context.store.gates.get, asked)
    return outcome_of(action_gate, permit)


async def take_back(context: Context, gate: Gate, *, by: str) -> str:
    """Undoes what was performed under a gate, as its tool can; a person's act, on the record. Says what was done."""
    ledger = context.store.ledger
    permit = await context.stored(ledger.for_gate, gate.id)
    if permit is None or permit.status is not PermitStatus.COMMITTED or permit.undo is None:
        raise ToolError(f"there is nothing at gate {gate.id} that can be undone")
    action, record = await context.stored(ledger.begin_undo, permit.id, by=by)
    try:
        done = await undo(context.tools[action.tool], record, context.workspace)
    except KarkasError as error:
        await context.stored(ledger.end_undo, permit.id, by=by, error=str(error))
        raise
    return "; ".join((done, *await context.stored(ledger.end_undo, permit.id, by=by, done=done)))


def outcome_of(gate: Gate, permit: Permit | None) -> Outcome:
    """A permit's final state as an outcome."""
    if permit is None or permit.status is not PermitStatus.COMMITTED:
        doubtful = permit is not None and permit.status is PermitStatus.UNKNOWN
        why = (permit.reason if permit else "") or "it was not executed"
        return Outcome(
            status=(OutcomeStatus.UNKNOWN if doubtful else OutcomeStatus.FAILED).value, why=why, gate=gate.id
        )
    return Outcome(
        status=OutcomeStatus.COMMITTED.value,
        result=permit.result or {},
        gate=gate.id,
        permit=permit.id,
        can_undo=permit.undo is not None,
    )


async def _perform(context: Context, gate: Gate, permit: Permit) -> Outcome | Stale | InDoubt:
    """Claims an approved permit; one that was claimed but not begun by a dead worker is taken over."""
    proposal = await proposal_of(context, gate)
    stale = await _staleness(context, proposal, permit)
    ledger, gates, worker = context.store.ledger, context.store.gates, worker_name()

    def claim() -> Claimed | Stale:
        why = stale or ledger.lapsed(gate)
        if why is not None:
            gates.close(gate.id, GateStatus.STALE, why)
            return Stale(why)
        if permit.status is PermitStatus.CLAIMED:
            return ledger.reclaim(permit.id, worker=worker, lease=_lease(context))
        return ledger.claim(permit.id, worker=worker)

    return await _run(context, gate, permit, claim)


async def _run(
    context: Context, gate: Gate, permit: Permit, claim: Callable[[], Claimed | Stale]
) -> Outcome | Stale | InDoubt:
    context.acting.add(permit.id)
    try:
        return await _act(context, gate, claim)
    finally:
        context.acting.discard(permit.id)


async def _act(
    context: Context, gate: Gate, claim: Callable[[], Claimed | Stale]
) -> Outcome | Stale | InDoubt:
    ledger = context.store.ledger

    def begin() -> Claimed | Stale:
        _lease(context).check()
        claimed = claim()
        if not isinstance(claimed, Stale):
            ledger.start(claimed)
        return claimed

    claimed = await context.at_once(begin, lapses=True)
    if isinstance(claimed, Stale):
        return claimed
    mine = claimed.claim
    tool = context.tools[claimed.action.tool]
    context.progress(f"{tool.name}: acting")
    try:
        performed = await perform(tool, claimed, context.workspace, timeout_s=context.timeout_s)
    except KarkasError as error:
        # That nothing happened this time says nothing of the first time.
        if claimed.again or isinstance(error, InDoubtError):
            doubtful = await context.stored(ledger.doubt, claimed.permit_id, str(error), claim=mine)
            return InDoubt(await _ask_what_happened(context, gate, doubtful))
        if isinstance(error, StaleError):
            await context.stored(ledger.fail, claimed.permit_id, str(error), claim=mine)
            return Stale(str(error))
        return outcome_of(gate, await context.stored(ledger.fail, claimed.permit_id, str(error), claim=mine))
    result = performed.result | ({"shown": performed.shown} if performed.shown else {})
    committed = await context.stored(ledger.commit, claimed.permit_id, result, performed.undo, claim=mine)
    return outcome_of(gate, committed)


async def _after_crash(context: Context, gate: Gate, permit: Permit) -> Outcome | Stale | InDoubt:
    """Started, and no end on the record: an idempotent tool runs again with its key, where all is still as it was
    approved; anything else is in doubt.
    """
    proposal = await proposal_of(context, gate)
    tool = context.tools.get(proposal.variants[permit.variant].action.tool)
    repeatable = tool is not None and tool.idempotent
    stale = await _staleness(context, proposal, permit) if repeatable else None
    if repeatable and stale is None:
        claim = partial(
            context.store.ledger.reclaim,
            permit.id,
            worker=worker_name(),
            lease=_lease(context),
            idempotent=True,
        )
        return await _run(context, gate, permit, claim)
    reason = "karkas was stopped while the tool ran"
    reason += f", and it is not repeated since {stale}" if stale else ""
    _lease(context).check()
    doubtful = await context.stored(context.store.ledger.doubt, permit.id, reason, claim=permit.claims)
    return InDoubt(await _ask_what_happened(context, gate, doubtful))


async def proposal_of(context: Context, gate: Gate) -> Proposal:
    if gate.proposal is None:
        raise PermitError(f"gate {gate.id} has no proposal, so there is nothing to execute")
    return await context.proposal(gate.proposal)


def _lease(context: Context) -> Lease:
    if context.lease is None:
        raise PermitError(f"run {context.run} is not leased; it is advanced by `karkas runs resume`")
    return context.lease


async def _staleness(context: Context, proposal: Proposal, permit: Permit) -> str | None:
    action = proposal.variants[permit.variant].action
    if action.tool not in context.tools:
        return f"tool {action.tool} is not registered any more"
    ruling = await rule_on(context, proposal)
    if ruling.decision.verdict is PolicyVerdict.DENY:
        return "; ".join(ruling.decision.reasons)
    try:
        _, now = await bind(context, context.tools[action.tool], action, ruling)
    except KarkasError as error:
        return str(error)
    return "; ".join(differences(permit.binding, now)) or None


async def _ask_what_happened(context: Context, gate: Gate, permit: Permit) -> Gate:
    """The gate that asks; a new one where a stopped run took the last one with it."""
    asked = [
        one
        for one in await context.stored(context.store.gates.list, run=gate.run)
        if one.kind is GateKind.OUTCOME and one.detail.get("gate") == gate.id
    ]
    if asked and asked[-1].status is not GateStatus.CANCELLED:
        return asked[-1]
    return await context.stored(
        context.store.gates.open,
        NewGate(
            key=f"{gate.key}:outcome:{len(asked)}",
            run=gate.run,
            lane=gate.lane,
            kind=GateKind.OUTCOME,
            zones=gate.zones,
            level=gate.level,
            level_why=gate.level_why,
            policy=PolicyDecision(
                verdict=PolicyVerdict.PROPOSE,
                reasons=("nobody knows whether it took effect, so a person looks and says",),
            ),
            proposal=gate.proposal,
            title=f"did it happen? {gate.title}".strip(),
            effect=gate.effect,
            prompt=(
                f"The action approved at gate {gate.id} was started, but its end was not recorded: {permit.reason}."
                f" Look whether it took effect, then answer {HAPPENED!r} or {DID_NOT!r}. It is never repeated"
                " by itself."
            ),
            choices=(HAPPENED, DID_NOT),
            detail={"gate": gate.id, "permit": permit.id},
        ),
    )
