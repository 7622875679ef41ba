"""The report as it is read on a terminal."""

from collections.abc import Iterator, Mapping, Sequence

from karkas.queue.blocks import Block, Facts, Heading, Line
from karkas.queue.outcome import since
from karkas.report.choices import decide_first
from karkas.report.figures import Figures, GateCounts, ZoneFigures
from karkas.report.prices import money


def first_line(failed: Sequence[str], stuck: Sequence[str]) -> str | None:
    """What is read first in the morning: how many runs failed or cannot go on, and what to do."""
    said = [f"{many(len(failed), 'run')} failed"] if failed else []
    if stuck:
        said.append(f"{many(len(stuck), 'run')} cannot go on without you")
    if not said:
        return None
    first, *more = *failed, *stuck
    rest = f", and {len(more):,} more: karkas report" if more else ""
    return f"{', '.join(said)}: karkas runs show {first}{rest}"


def lines(found: Figures) -> Iterator[Block]:
    begun, ended = (f"{at.astimezone():%Y-%m-%d %H:%M}" for at in (found.since, found.until))
    if first := first_line(found.failed, found.stuck):
        yield Line(first)
    yield Line(f"from {begun} to {ended}, {since(found.until - found.since)}")
    yield from decide_first(found.choices, waits=found.waits, put_off=found.put_off)
    yield Heading("What happened")
    if not found.runs:
        yield Line("no run was at work in this time")
        yield Line("  karkas explore ZONE --source ... --until 07:00   maps a zone overnight")
        yield Line("  karkas report --since 3d                         looks further back")
    yield Facts(tuple((zone.zone or "no zone", tuple(_zone(zone))) for zone in found.zones))
    if found.runs:
        cost = "" if found.cost is None else f", cost {money(found.cost)}"
        yield Line(
            f"in all {many(len(found.runs), 'run')}, {many(found.performed, 'action')} performed,"
            f" {found.spent.tokens:,} tokens in {many(found.spent.model_calls, 'call')}{cost}"
        )
    if found.by_person:
        yield Line(f"decided by {_counts(found.by_person)}")
    if found.resumed:
        yield Heading("Taken up more than once")
        yield from (Line(f"- {one}") for one in found.resumed)
    if found.troubles:
        yield Heading("What needs a look")
        yield from (Line(f"- {one}") for one in found.troubles)


def _zone(zone: ZoneFigures) -> Iterator[str]:
    if zone.runs:
        stops = f" ({_times(zone.stops)})" if zone.stops else ""
        yield f"runs: {_counts(zone.runs)}{stops}"
        spent = zone.spent
        cost = "" if zone.cost is None else f", cost {money(zone.cost)}"
        yield (
            f"{many(spent.cycles, 'cycle')}, {many(spent.sources, 'source')}, {spent.wall_s:.0f} s,"
            f" {spent.tokens:,} tokens in {many(spent.model_calls, 'call')}{cost}"
        )
    if zone.new_claims or zone.claims is not None:
        now = (
            f"; the map holds {zone.claims:,}, {many(zone.conflicts or 0, 'conflict')} to decide"
            if zone.claims is not None
            else ""
        )
        yield f"{many(zone.new_claims, 'new claim')}{now}"
    if told := list(_gates(zone.gates)):
        share = zone.gates.acceptance
        yield f"gates: {', '.join(told)}{'' if share is None else f'; {share:.0%} accepted as proposed'}"


def _gates(gates: GateCounts) -> Iterator[str]:
    for name, number in gates:
        if number:
            yield f"{number:,} {name.replace('_', ' ') if name != 'ended' else 'ended by themselves'}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())


def _times(counts: Mapping[str, int]) -> str:
    return ", ".join(name if number == 1 else f"{name} x {number:,}" for name, number in counts.items())


def many(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
