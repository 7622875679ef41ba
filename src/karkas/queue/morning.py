"""The morning: what happened since a person last decided something, what waits, and which decisions free the most."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from karkas.cli.screen import counted
from karkas.policies.budgets import Spent
from karkas.policies.gates import GateStatus
from karkas.project import Project, person
from karkas.queue import keys
from karkas.queue.blocks import Block, Facts, Heading, Line, Tone
from karkas.queue.outcome import since
from karkas.report.choices import Choice, choices, decide_first
from karkas.report.figures import ZoneWork, counted_under, map_counts, of_run
from karkas.report.spending import worked_since
from karkas.storage import RunStatus
from karkas.storage.waiting import Worked

ABSENT = timedelta(hours=1)
"""Who decided something more lately than this has not been away."""
LONGEST = timedelta(hours=16)
"""How far back it looks where a person never decided anything."""
FEW = 5
TROUBLES = 20


class Morning(BaseModel):
    model_config = ConfigDict(frozen=True)

    since: datetime
    now: datetime
    is_news: bool
    zones: tuple[ZoneWork, ...]
    troubles: tuple[str, ...]
    """The newest of them."""
    more_troubles: int
    performed: int
    """Actions that were performed, whoever let them pass."""
    waits: int
    put_off: int
    choices: tuple[Choice, ...]


def news(project: Project) -> Morning | None:
    """What happened while nobody looked; None where somebody was here lately, or no run has moved since."""
    begin = _last_here(project)
    absent = project.store.clock() - begin >= ABSENT
    return look(project, begin=begin) if absent and _moved(project.store.waiting.worked(begin)) else None


def look(project: Project, *, begin: datetime | None = None) -> Morning:
    """What happened since then, by default since this person's last word on the record."""
    store = project.store
    now = store.clock()
    begin = begin or _last_here(project)
    works = worked_since(project, begin)
    troubled, troubles = store.waiting.troubled(begin, limit=TROUBLES)
    lines = store.waiting.lines()
    return Morning(
        since=begin,
        now=now,
        is_news=now - begin >= ABSENT and _moved(works),
        zones=tuple(_zones(project, works)),
        troubles=tuple(of_run(store.runs.get(run)) for run in troubled),
        more_troubles=troubles - len(troubled),
        performed=store.waiting.performed(begin),
        waits=sum(line.status is GateStatus.OPEN for line in lines),
        put_off=sum(line.status is GateStatus.DEFERRED for line in lines),
        choices=tuple(choices(lines))[:FEW],
    )


def _last_here(project: Project) -> datetime:
    """When this person last said anything that is on the record."""
    return project.store.waiting.last_word(person()) or project.store.clock() - LONGEST


def _moved(works: Sequence[Worked]) -> bool:
    return any(work.status is not RunStatus.RUNNING for work in works)


def _zones(project: Project, works: Sequence[Worked]) -> Iterator[ZoneWork]:
    for zone in sorted({counted_under(work.zone, work.workflow) for work in works}):
        its = [work for work in works if counted_under(work.zone, work.workflow) == zone]
        explored = any(work.workflow == "explore" for work in its)
        claims, conflicts = map_counts(project, zone) if explored else (None, None)
        runs = Counter[str]()
        for work in its:
            runs[work.status.value] += work.runs
        yield ZoneWork(
            zone=zone,
            runs=dict(runs),
            spent=sum((work.spent for work in its), Spent()),
            claims=claims,
            conflicts=conflicts,
        )


def page(found: Morning) -> tuple[Block, ...]:
    """The morning as it is read, on the screen and printed."""
    return tuple(_page(found))


def _page(found: Morning) -> Iterator[Block]:
    yield Line(f"since {found.since.astimezone():%Y-%m-%d %H:%M}, {since(found.now - found.since)} ago")
    if failed := sum(night.runs.get(RunStatus.FAILED, 0) for night in found.zones):
        yield Line(
            f"{counted(failed, 'run')} failed; why stands below, and in karkas runs list", Tone.WARNING
        )
    yield from decide_first(found.choices, waits=found.waits, put_off=found.put_off)
    yield Heading("What happened")
    if not found.zones:
        yield Line("no run was at work")
    yield Facts(tuple((night.zone, _night(night)) for night in found.zones))
    yield Line(f"{found.performed:,} {'action was' if found.performed == 1 else 'actions were'} performed")
    if found.troubles:
        yield Heading("What needs a look")
        yield from (Line(f"- {one}") for one in found.troubles)
    if found.more_troubles:
        yield Line(f"and {found.more_troubles:,} more: karkas runs list")


def _night(night: ZoneWork) -> tuple[str, ...]:
    spent = night.spent
    runs = ", ".join(f"{number} {status}" for status, number in sorted(night.runs.items()))
    lines = [f"runs: {runs}; {spent.wall_s:.0f} s, {spent.tokens:,} tokens in {spent.model_calls:,} calls"]
    if night.claims is not None:
        lines.append(f"the map: {night.claims:,} claims, {night.conflicts:,} conflicts to decide")
    return tuple(lines)


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
