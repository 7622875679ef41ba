"""The morning: what happened since a person last decided something, what waits, and which decisions free the most."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from karkas.policies.budgets import Spent
from karkas.policies.errors import KarkasError
from karkas.policies.gates import GateKind, GateStatus
from karkas.project import Project, person
from karkas.queue import keys, order
from karkas.queue.blocks import Block, Facts, Heading, Line
from karkas.queue.outcome import since
from karkas.storage import Run, RunStatus, WaitingLine

ABSENT = timedelta(hours=1)
"""Who decided something more lately than this has not been away."""
LONGEST = timedelta(hours=16)
"""How far back it looks where a person never decided anything."""
FEW = 5


class ZoneNight(BaseModel):
    """What happened in one zone. `claims` and `conflicts` are those of its distillate as it stands now."""

    model_config = ConfigDict(frozen=True)

    zone: str
    runs: dict[str, int]
    spent: Spent
    claims: int | None = None
    conflicts: int | None = None


class Choice(BaseModel):
    """Alike gates: one look at them frees `runs` runs. `gate` is the one that waits longest."""

    model_config = ConfigDict(frozen=True)

    what: str
    why: str
    gates: int
    runs: int
    gate: str


class Morning(BaseModel):
    model_config = ConfigDict(frozen=True)

    since: datetime
    now: datetime
    is_news: bool
    zones: tuple[ZoneNight, ...]
    troubles: tuple[str, ...]
    performed: int
    """Actions that were performed, whoever let them pass."""
    waits: int
    put_off: int
    choices: tuple[Choice, ...]


def look(project: Project, *, begin: datetime | None = None) -> Morning:
    """What happened since then, by default since this person's last word on the record."""
    store = project.store
    now = store.clock()
    begin = begin or store.waiting.last_word(person()) or now - LONGEST
    runs = [run for run in store.runs.list(changed_since=begin) if run.segment]
    lines = store.waiting.lines()
    moved = [run for run in runs if run.status is not RunStatus.RUNNING]
    return Morning(
        since=begin,
        now=now,
        is_news=bool(moved) and now - begin >= ABSENT,
        zones=tuple(_zones(project, runs)),
        troubles=tuple(
            of_run(run) for run in runs if run.error or (run.reason and run.status is RunStatus.PARKED)
        ),
        performed=store.waiting.performed(begin),
        waits=sum(line.status is GateStatus.OPEN for line in lines),
        put_off=sum(line.status is GateStatus.DEFERRED for line in lines),
        choices=tuple(choices(lines))[:FEW],
    )


def _zones(project: Project, runs: Sequence[Run]) -> Iterator[ZoneNight]:
    for zone in sorted({run.zone or "" for run in runs}):
        its = [run for run in runs if (run.zone or "") == zone]
        claims, conflicts = (
            _found(project, zone) if any(run.workflow == "explore" for run in its) else (None, None)
        )
        yield ZoneNight(
            zone=zone,
            runs=dict(Counter(run.status.value for run in its)),
            spent=sum((run.spent for run in its), Spent()),
            claims=claims,
            conflicts=conflicts,
        )


def _found(project: Project, zone: str) -> tuple[int | None, int | None]:
    artifact = project.store.zones.ground(zone).distillate_artifact if zone else None
    if artifact is None:
        return None, None
    from karkas.agents.distillate import load

    try:
        distillate = load(project.store.artifacts.text(artifact))
    except KarkasError:
        return None, None
    return len(distillate.claims), len(distillate.conflicts)


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


def page(found: Morning) -> tuple[Block, ...]:
    """The morning as it is read, on the screen and printed."""
    return tuple(_page(found))


def _page(found: Morning) -> Iterator[Block]:
    yield Line(f"since {found.since.astimezone():%Y-%m-%d %H:%M}, {since(found.now - found.since)} ago")
    yield Heading("Decide first")
    if not found.choices:
        yield Line("nothing waits for you")
    for number, choice in enumerate(found.choices, start=1):
        yield Line(f"{number}. {choice.what}: {choice.why}")
        yield Line(f"   {choice.gate}{' and those like it' if choice.gates > 1 else ''}")
    later = f", {found.put_off:,} put off" if found.put_off else ""
    yield Line(f"{found.waits:,} {'gate waits' if found.waits == 1 else 'gates wait'} in all{later}")
    yield Heading("What happened")
    if not found.zones:
        yield Line("no run was at work")
    yield Facts(tuple((night.zone or "no zone", _night(night)) for night in found.zones))
    yield Line(f"{found.performed:,} {'action was' if found.performed == 1 else 'actions were'} performed")
    if found.troubles:
        yield Heading("What needs a look")
        yield from (Line(f"- {one}") for one in found.troubles)


def _night(night: ZoneNight) -> tuple[str, ...]:
    spent = night.spent
    runs = ", ".join(f"{number} {status}" for status, number in sorted(night.runs.items()))
    lines = [f"runs: {runs}; {spent.wall_s:.0f} s, {spent.tokens:,} tokens in {spent.model_calls:,} calls"]
    if night.claims is not None:
        lines.append(f"the map: {night.claims:,} claims, {night.conflicts:,} conflicts to decide")
    return tuple(lines)


def of_run(run: Run) -> str:
    """How a run stands, in one line."""
    outcomes = (run.result or {}).get("outcomes")
    said = [f"run {run.id}: {run.status}"]
    if run.error or run.reason:
        said.append(str(run.error or run.reason).split("\n", 1)[0])
    if isinstance(outcomes, dict):
        for name, outcome in outcomes.items():
            if isinstance(outcome, dict):
                result = outcome.get("result")
                told = (result.get("shown") if isinstance(result, dict) else None) or outcome.get("why") or ""
                first = str(told).split("\n", 1)[0]
                said.append(f"{name} {outcome['status']}{f': {first}' if first else ''}")
    return ", ".join(said)


def nothing(*, filtered: str) -> tuple[Block, ...]:
    """What stands in place of a decision where there is none."""
    if filtered:
        return (
            Heading(f"no gate is listed by: {filtered}"),
            Line("f, z and / change what is listed"),
        )
    return (
        Heading("nothing waits for you"),
        Line("What agents propose appears here by itself. To give them something to do:"),
        Line("  karkas explore ZONE --source ...    maps what you do not know"),
        Line('  karkas act ZONE "task"              proposes an action in a framed zone'),
        Line("  karkas runs list                    what ran, and what can be resumed"),
        Line("m shows what happened, f what was decided, q leaves."),
    )


def helping() -> tuple[Block, ...]:
    return (
        Facts(tuple((keys.shown(key.key), (key.help,)) for key in keys.KEYS)),
        Heading("What it never does"),
        Line("Enter alone decides nothing. Esc, the end of input and a closed terminal decide nothing."),
        Line("A key decides about the gate whose text is shown, exactly as it is shown, or not at all."),
        Line("What cannot be taken back asks for one more letter."),
        Line("(!) marks what no trusted text says. Lines behind | and > are the words of others."),
    )
