"""The figures of a time: what runs did and cost, what came of gates, what needs a look. Read off the record."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from karkas.policies.budgets import Spent
from karkas.policies.errors import KarkasError
from karkas.policies.gates import GateStatus
from karkas.project import Project
from karkas.report.choices import Choice, choices
from karkas.report.prices import cost_of
from karkas.report.spending import Cycle, cycles_of, points, spent_between
from karkas.storage import Run, RunStatus
from karkas.storage.audit import AuditEntry
from karkas.storage.happened import Asked

FIRST = 10
"""Decisions that are named."""
PERSONS = {"approve": "approved", "choose": "approved", "adopt": "approved", "edit": "edited"} | {
    "reject": "rejected",
    "answer": "answered",
}
"""What a verdict counts as. Putting off and stopping count as none."""


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True)


class ZoneWork(_Figures):
    """What was done in one zone. `claims` and `conflicts` are those of its distillate as it stands now."""

    zone: str
    runs: dict[str, int]
    spent: Spent
    claims: int | None = None
    conflicts: int | None = None


class GateCounts(_Figures):
    """What came of gates. `passed_by_critic` and `passed_by_grant` passed without a person; `ended` are those that
    expired, became stale, were superseded or cancelled.
    """

    opened: int = 0
    approved: int = 0
    edited: int = 0
    rejected: int = 0
    answered: int = 0
    passed_by_critic: int = 0
    passed_by_grant: int = 0
    ended: int = 0

    @property
    def judged(self) -> int:
        """Proposals that a person judged."""
        return self.approved + self.edited + self.rejected

    @property
    def acceptance(self) -> float | None:
        """The share of those that passed as they were."""
        return self.approved / self.judged if self.judged else None


class ZoneFigures(ZoneWork):
    gates: GateCounts = GateCounts()
    new_claims: int = 0
    stops: dict[str, int] = {}
    """What ended its runs, or holds them up."""
    cost: float | None = None


class RunFigures(_Figures):
    """How a run stands. `taken_up` counts how often it was, `broke_off` how often whoever was at work on it died."""

    run: str
    workflow: str
    zone: str
    status: RunStatus
    stop: str
    spent: Spent
    cost: float | None
    taken_up: int
    broke_off: int


class Figures(_Figures):
    """Everything between `since` and `until`. Times are aware."""

    since: datetime
    until: datetime
    now: datetime
    zones: tuple[ZoneFigures, ...]
    runs: tuple[RunFigures, ...]
    cycles: tuple[Cycle, ...]
    gates: GateCounts
    by_person: dict[str, int]
    """Decisions by who made them."""
    failed: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    """Runs that wait for more than a decision."""
    troubles: tuple[str, ...]
    resumed: tuple[str, ...]
    performed: int
    waits: int
    put_off: int
    choices: tuple[Choice, ...]
    spent: Spent
    cost: float | None
    tokens: tuple[tuple[datetime, int], ...] = ()
    """When so many tokens had been spent since the begin."""


def look(project: Project, *, since: datetime, until: datetime | None = None) -> Figures:
    """The figures from `since` until then, or now. What waits, and how runs stand, is always as of now."""
    store = project.store
    now = store.clock()
    past, until = until is not None and until < now, min(until or now, now)
    runs = [run for run in worked(project, since) if run.created_at < until]
    spent = spent_between(project, runs, since, until if past else None)
    happened = store.happened.events("run_taken_up", "run_broken_off", since=since, until=until)
    counted = Counter((entry.event, entry.subject) for entry in happened)
    cycles = [one for one in cycles_of(project, runs) if since <= one.at < until]
    by_zone, by_person = _gates(project, since, until)
    lines = store.waiting.lines()
    asked = store.happened.asked(since=since, until=until)
    told = [_run(project, run, spent[run.id], counted, asked) for run in runs]
    return Figures(
        since=since,
        until=until,
        now=now,
        zones=tuple(_zones(work_by_zone(project, runs, spent), told, cycles, by_zone)),
        runs=tuple(told),
        cycles=tuple(cycles),
        gates=_sum(by_zone.values()),
        by_person=dict(by_person.most_common()),
        failed=tuple(run.id for run in runs if run.status is RunStatus.FAILED),
        stuck=tuple(run.id for run in runs if is_stuck(run)),
        troubles=tuple(troubles(runs)),
        resumed=tuple(_resumed(told)),
        performed=store.waiting.performed(since),
        waits=sum(line.status is GateStatus.OPEN for line in lines),
        put_off=sum(line.status is GateStatus.DEFERRED for line in lines),
        choices=tuple(choices(lines)[:FIRST]),
        spent=sum(spent.values(), Spent()),
        cost=_costs(run.cost for run in told),
        tokens=tuple(points(project, since, until)),
    )


def worked(project: Project, since: datetime) -> list[Run]:
    """The runs that were at work since then, or failed without ever having been: their file was gone, say."""
    moved = project.store.runs.list(changed_since=since)
    return [run for run in moved if run.segment or run.status is RunStatus.FAILED]


def work_by_zone(project: Project, runs: Sequence[Run], spent: Mapping[str, Spent]) -> Iterator[ZoneWork]:
    for zone in sorted({counted_under(run.zone, run.workflow) for run in runs}):
        its = [run for run in runs if counted_under(run.zone, run.workflow) == zone]
        claims, conflicts = (
            map_counts(project, zone) if any(run.workflow == "explore" for run in its) else (None, None)
        )
        yield ZoneWork(
            zone=zone,
            runs=dict(Counter(run.status.value for run in its)),
            spent=sum((spent[run.id] for run in its), Spent()),
            claims=claims,
            conflicts=conflicts,
        )


def troubles(runs: Iterable[Run]) -> Iterator[str]:
    """The runs that need a look, each in a line."""
    for run in runs:
        if run.error or (run.reason and run.status is RunStatus.PARKED):
            yield of_run(run)


def is_stuck(run: Run) -> bool:
    """Whether it neither goes on by itself nor after a decision."""
    return run.status is RunStatus.PARKED and bool(run.reason) and run.due_at is None


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


def stop_of(run: Run) -> str:
    """What ended the run, or holds it up, in a word or a line."""
    values: Any = (run.result or {}).get("values")
    stop = values.get("stop") if isinstance(values, dict) else None
    if run.error:
        return run.error.split("\n", 1)[0]
    if run.status is RunStatus.PARKED and run.reason:
        return run.reason.split("\n", 1)[0]
    return str(stop).replace("_", " ") if stop else run.reason.split("\n", 1)[0]


def counted_under(zone: str | None, workflow: str) -> str:
    """A run's zone; a user's workflow has none before its gates, so its runs are counted under its name."""
    return zone or workflow


def map_counts(project: Project, zone: str) -> tuple[int | None, int | None]:
    artifact = project.store.zones.ground(zone).distillate_artifact if zone else None
    if artifact is None:
        return None, None
    from karkas.agents.distillate import load

    try:
        distillate = load(project.store.artifacts.text(artifact))
    except KarkasError:
        return None, None
    return len(distillate.claims), len(distillate.conflicts)


def _run(
    project: Project, run: Run, spent: Spent, counted: Counter[tuple[str, str]], asked: Sequence[Asked]
) -> RunFigures:
    subject = f"run:{run.id}"
    return RunFigures(
        run=run.id,
        workflow=run.workflow,
        zone=counted_under(run.zone, run.workflow),
        status=run.status,
        stop=stop_of(run),
        spent=spent,
        cost=cost_of(project.settings, [one for one in asked if one.run == run.id], else_tokens=spent.tokens),
        taken_up=counted["run_taken_up", subject],
        broke_off=counted["run_broken_off", subject],
    )


def _resumed(runs: Iterable[RunFigures]) -> Iterator[str]:
    for run in runs:
        said = []
        if run.broke_off:
            said.append(f"broke off {_times(run.broke_off)}")
        if run.taken_up > 1:
            said.append(f"was taken up {_times(run.taken_up)}")
        if said:
            yield f"run {run.run}: {' and '.join(said)}, now {run.status}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _zones(
    zones: Iterable[ZoneWork],
    told: Sequence[RunFigures],
    cycles: Sequence[Cycle],
    gates: dict[str, GateCounts],
) -> Iterator[ZoneFigures]:
    work = {one.zone: one for one in zones}
    for zone in sorted({*work, *gates}):
        its = [run for run in told if run.zone == zone]
        done = work.get(zone) or ZoneWork(zone=zone, runs={}, spent=Spent())
        yield ZoneFigures(
            **dict(done),
            gates=gates.get(zone, GateCounts()),
            new_claims=sum(one.new_claims for one in cycles if one.zone == zone),
            stops=dict(Counter(run.stop for run in its if run.stop).most_common()),
            cost=_costs(run.cost for run in its),
        )


def _costs(costs: Iterable[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known else None


def _sum(counts: Iterable[GateCounts]) -> GateCounts:
    found = list(counts)
    return GateCounts(**{name: sum(getattr(one, name) for one in found) for name in GateCounts.model_fields})


def _gates(project: Project, since: datetime, until: datetime) -> tuple[dict[str, GateCounts], Counter[str]]:
    """What came of gates by zone, and who decided. A gate of several zones counts at the strictest, its first."""
    happened = project.store.happened
    names = ("gate_opened", "gate_decided", "gate_passed_by_critic", "gate_passed_by_grant", "gate_closed")
    entries = happened.events(*names, since=since, until=until)
    elsewhere = {one.subject for one in entries} - {
        one.subject for one in entries if one.event == "gate_opened"
    }
    opened = [one for one in entries if one.event == "gate_opened"]
    before = happened.events("gate_opened", until=since, subjects=elsewhere) if elsewhere else []
    zones = {one.subject: _zone(one) for one in (*before, *opened)}
    counts: dict[str, Counter[str]] = {}
    people: Counter[str] = Counter()
    for entry in entries:
        counted = _counts_as(entry)
        if counted is not None:
            counts.setdefault(zones.get(entry.subject, ""), Counter())[counted] += 1
            people[entry.actor] += entry.event == "gate_decided"
    return {zone: GateCounts(**its) for zone, its in counts.items()}, +people


def _zone(entry: AuditEntry) -> str:
    zones = entry.data.get("zones") if isinstance(entry.data, dict) else None
    return str(zones[0]) if isinstance(zones, list) and zones else ""


def _counts_as(entry: AuditEntry) -> str | None:
    match entry.event:
        case "gate_opened":
            return "opened"
        case "gate_decided":
            verdict = entry.data.get("verdict") if isinstance(entry.data, dict) else None
            return PERSONS.get(str(verdict.get("kind"))) if isinstance(verdict, dict) else None
        case "gate_closed":
            return "ended"
        case event:
            return event.removeprefix("gate_")
