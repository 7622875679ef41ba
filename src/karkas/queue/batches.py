"""Several gates that are approved at once: what is shown of each, and the list that is signed."""

from collections.abc import Iterator, Sequence

from karkas.cli.screen import counted
from karkas.policies.actions import Digest
from karkas.policies.gates import CriticStatus
from karkas.project import Project
from karkas.queue import grounds
from karkas.queue.blocks import Block, Heading, Line, Quote
from karkas.queue.standing import exact, proposal_of
from karkas.storage import Gate


def shown(gates: Sequence[Gate]) -> list[tuple[str, Digest]]:
    """The pairs that `Gates.decide_batch` signs."""
    return [(gate.id, gate.variants[0].digest) for gate in gates]


def blocks(project: Project, gate: Gate) -> Iterator[Block]:
    """One gate of a batch: what would be done, exactly, and what speaks against it."""
    (variant,), proposal = gate.variants, proposal_of(project, gate)
    yield Heading(f"{gate.id}: {gate.title}")
    yield Line(
        f"zone {', '.join(gate.zones) or 'none'}, {gate.level}, run {gate.run}, digest {variant.digest}"
    )
    if proposal is None:
        return
    yield exact(project, proposal.variants[0], variant)
    for origin in proposal.variants[0].origins:
        if not origin.grounded:
            yield from grounds.argument(origin)
    if gate.critic is not None and gate.critic.status is CriticStatus.OBJECTED:
        yield Line("the critic objected:")
        yield Quote(gate.critic.reason)


def page(project: Project, gates: Sequence[Gate]) -> Iterator[Block]:
    """The list first, then each of them whole."""
    yield Heading(f"Approve {counted(len(gates), 'gate')} at once: all of them, or none")
    for number, gate in enumerate(gates, start=1):
        yield Line(f"{number:>3}  {gate.id}  {gate.title}")
    for gate in gates:
        yield from blocks(project, gate)
