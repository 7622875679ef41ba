"""What waits, by what it holds up: the decisions that free the most, those first."""

from collections.abc import Iterable, Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from karkas.policies.gates import GateKind, GateStatus
from karkas.queue import order
from karkas.queue.blocks import Block, Heading, Line
from karkas.storage import WaitingLine


class Choice(BaseModel):
    """Alike gates: one look at them frees `runs` runs. `gate` is the one that waits longest."""

    model_config = ConfigDict(frozen=True)

    what: str
    why: str
    gates: int
    runs: int
    gate: str


def choices(lines: Iterable[WaitingLine]) -> list[Choice]:
    """The decisions that free the most: whole zones, then what is in doubt, then as many runs as alike gates hold."""
    alike: dict[tuple[object, ...], list[WaitingLine]] = {}
    for line in lines:
        if line.status is not GateStatus.DEFERRED:
            key = (
                line.kind,
                line.zones,
                line.effect,
                line.title if line.kind is not GateKind.ACTION else _tool(line),
            )
            alike.setdefault(key, []).append(line)
    found = []
    for its in alike.values():
        first = min(its, key=lambda line: (line.opened_at, line.id))
        frees = len({line.run for line in its})
        found.append((min(map(order.blocks, its)), -frees, first.opened_at, _choice(first, its, frees)))
    return [choice for *_, choice in sorted(found, key=lambda one: one[:3])]


def _tool(line: WaitingLine) -> str:
    return line.title.split(" ", 1)[0]


def _choice(first: WaitingLine, its: Sequence[WaitingLine], frees: int) -> Choice:
    zone = ", ".join(first.zones) or "no zone"
    many = len(its) > 1
    what = (
        f"{len(its):,} x {_tool(first)} ({order.effect_of(first)})"
        if many
        else first.title or first.kind.value
    )
    match order.blocks(first):
        case order.Blocks.ZONE:
            why = "nothing acts in the zone before"
        case order.Blocks.DOUBT:
            why = "nobody knows whether it took effect"
        case _:
            why = f"{frees:,} {'run waits' if frees == 1 else 'runs wait'} for it"
    return Choice(what=f"{zone}: {what}", why=why, gates=len(its), runs=frees, gate=first.id)


def decide_first(found: Sequence[Choice], *, waits: int, put_off: int) -> Iterator[Block]:
    """The decisions as they are read, in the morning and in a report."""
    yield Heading("Decide first")
    if not found:
        yield Line("nothing waits for you")
    for number, choice in enumerate(found, start=1):
        yield Line(f"{number}. {choice.what}: {choice.why}")
        yield Line(f"   {choice.gate}{' and those like it' if choice.gates > 1 else ''}")
    later = f", {put_off:,} put off" if put_off else ""
    yield Line(f"{waits:,} {'gate waits' if waits == 1 else 'gates wait'} in all{later}")
