"""What happens next if a gate is passed, and what its run waits for."""

from collections.abc import Iterator

from karkas.policies.actions import Proposal
from karkas.policies.errors import KarkasError
from karkas.policies.gates import GateKind, PolicyVerdict
from karkas.project import Project
from karkas.queue.blocks import Block, Heading, Line
from karkas.storage import Gate, Run

NOTHING_MORE = "then nothing of the workflow is left to do on this way"
NAMED = 5
"""Other gates of the run that are named; of more there is the number."""


def blocks(project: Project, gate: Gate, run: Run, proposal: Proposal | None) -> Iterator[Block]:
    if not gate.status.waits:
        return
    yield Heading("What happens next")
    yield from (Line(f"- {one}") for one in _now(gate, proposal))
    yield from (Line(f"- {one}") for one in _then(project, gate, run))


def _now(gate: Gate, proposal: Proposal | None) -> Iterator[str]:
    match gate.kind:
        case GateKind.FRAME:
            yield f"the frame that you draw is in force in zone {gate.zones[0]}; agents may act there at its level"
        case GateKind.QUESTION:
            yield "your answer goes to the workflow as it is; no model interprets it"
        case GateKind.OUTCOME:
            yield "your answer settles what is on the record; nothing is performed again"
        case GateKind.ACTION:
            said = (
                "if you adopt it, you are its author and"
                if gate.policy.verdict is PolicyVerdict.DRAFT
                else ("if you choose one," if len(gate.variants) > 1 else "if you approve,")
            )
            effect = proposal.effect if proposal is not None else "unknown"
            yield f"{said} it is performed at once, once, exactly as shown (effect: {effect})"
            held = sorted({name for variant in gate.variants for name in variant.binding.preconditions})
            if held:
                yield f"if any of this is not as it was by then, nothing is done and a new gate asks: {', '.join(held)}"


def _then(project: Project, gate: Gate, run: Run) -> Iterator[str]:
    if after := _after(project, gate, run):
        yield after
    others = [line for line in project.store.waiting.lines(run=run.id) if line.id != gate.id]
    if others:
        named = "; ".join(f"{line.id} {line.title or line.kind}" for line in others[:NAMED])
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        yield f"its run {run.id} also waits at {named}{more}"
    else:
        yield f"its run {run.id} waits for nothing else"
    if run.reason:
        yield f"its run says: {run.reason}"


def _after(project: Project, gate: Gate, run: Run) -> str | None:
    """Where the workflow goes from here, as its graph says; None where the file cannot be loaded any more."""
    if gate.kind is GateKind.FRAME or run.workflow == "act":
        return None if gate.kind is GateKind.FRAME else NOTHING_MORE
    # A user's file, and with it LangGraph, takes a second to import the first time.
    from langgraph.graph import END, StateGraph

    from karkas.runner import load

    try:
        graph, _ = load(project, run)
    except KarkasError as error:
        return f"the run cannot go on as things are: {error}"
    if not isinstance(graph, StateGraph):
        return None
    done = f"{gate.lane}.done"
    ends = sorted(end for start, end in graph.edges if start == done)
    if done in graph.branches:
        return "then the workflow goes on as its outcome says"
    if ends == [END]:
        return NOTHING_MORE
    named = ", ".join("the end" if end == END else end for end in ends)
    return f"then the workflow goes on with {named}" if ends else None
