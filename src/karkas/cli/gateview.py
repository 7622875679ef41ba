"""A gate in plain lines: in one of a list, whole, or as JSON. What stands at it, `karkas.queue.standing` says."""

from itertools import chain
from typing import TYPE_CHECKING, Any

from karkas.cli import screen
from karkas.policies.verdicts import possible
from karkas.queue.outcome import since, so_far, taken_back, until

if TYPE_CHECKING:
    from datetime import datetime

    from karkas.project import Project
    from karkas.queue.blocks import Block
    from karkas.storage import Gate, WaitingLine

COLUMNS = ("gate", "zone", "level", "what", "waits", "run")


def waiting_row(project: "Project", line: "WaitingLine", now: "datetime") -> tuple[str, ...]:
    """A gate that waits, as the list's query gives it."""
    waits = (
        until(line.deferred_until)
        if line.status.value == "deferred" and line.deferred_until is not None
        else since(now - line.opened_at)
    )
    if line.approvals and (said := so_far(project.store.gates.get(line.id))):
        waits = f"{waits}, {said}"
    return (line.id, ", ".join(line.zones) or "none", line.level, what(project, line), waits, line.run)


def decided_row(project: "Project", line: "WaitingLine") -> tuple[str, ...]:
    """A gate that waits no more."""
    back = taken_back(project, line.id)
    state = f"{line.status}, {back}" if back else line.status.value
    return (line.id, ", ".join(line.zones) or "none", line.level, what(project, line), state, line.run)


def what(project: "Project", gate: "Gate | WaitingLine") -> str:
    """What the gate is about, in a few words. One that an older karkas opened does not say so itself."""
    if gate.title:
        return gate.title
    from karkas.queue.standing import proposal_of

    proven = project.store.gates.get(gate.id)
    proposal = proposal_of(project, proven)
    if proposal is not None and proven.kind.value == "action":
        return proposal.title
    return proven.prompt or proven.kind.value


def print_gate(project: "Project", gate: "Gate") -> None:
    """Everything that a person needs to decide, in the order in which it is needed."""
    from karkas.queue.standing import Reader

    for block in Reader(project).read(gate.id).blocks:
        print_block(block)


def print_block(block: "Block") -> None:  # noqa: C901 - one case a kind of block
    from karkas.queue import blocks

    match block:
        case blocks.Facts():
            screen.facts(block.pairs)
        case blocks.Heading():
            screen.heading(block.text)
        case blocks.Line():
            screen.line(block.text, style=block.tone.value or None)
        case blocks.Quote():
            screen.quote(block.text, mark=block.mark)
        case blocks.Context():
            screen.context(block.before, block.text, block.after, mark=block.mark, around=block.around)
        case blocks.Shown():
            screen.diff(block.text, mark=block.mark)
        case blocks.Command():
            screen.say(f"  {block.text}")
            if block.why:
                screen.line(f"    {block.why}")
        case blocks.Beside():
            for each in chain.from_iterable(block.columns):
                print_block(each)


def as_json(project: "Project", gate: "Gate", *, whole: bool = False) -> dict[str, Any]:
    """The gate; `whole` adds the proposal, the exact texts shown, and where its sources are from."""
    from karkas.queue.standing import Reader, proposal_of

    found: dict[str, Any] = gate.model_dump(mode="json")
    found["possible"] = list(possible(gate.facts))
    found["what"] = what(project, gate)
    if whole and (proposal := proposal_of(project, gate)) is not None:
        found["proposed"] = proposal.model_dump(mode="json")
        found["shown"] = [project.store.artifacts.text(variant.shown) for variant in gate.variants]
        found["sources"] = Reader(project).sources(proposal)
    return found
