"""What runs spent in a time, and what their cycles brought."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from karkas.policies.budgets import Spent
from karkas.project import Project
from karkas.storage import Run, RunStatus
from karkas.storage.happened import CYCLE
from karkas.storage.waiting import Worked

POINTS = 200
"""Of a line in a plot."""


class Cycle(BaseModel):
    """One cycle of an exploration, as it ended."""

    model_config = ConfigDict(frozen=True)

    run: str
    zone: str
    at: datetime
    cycle: int
    sources: int
    claims: int
    new_claims: int
    conflicts: int
    novelty: float
    tokens: int


def spent_between(
    project: Project, runs: Sequence[Run], since: datetime, until: datetime | None = None
) -> dict[str, Spent]:
    """What each run spent in that time, or up to now. All of it where the run was begun in it; of others what the
    journal, the cycles and the times at work say.
    """
    found: dict[str, Spent] = {run.id: run.spent for run in runs}
    earlier = [run for run in runs if run.created_at < since or until is not None]
    if not earlier:
        return found
    until = until or project.store.clock()
    asked = project.store.happened.asked(since=since, until=until, runs=[run.id for run in earlier])
    ended = list(cycles_of(project, earlier))
    worked_s = _worked_s(project, earlier, since, until)
    for run in earlier:
        its = [one for one in asked if one.run == run.id]
        cycles = [one for one in ended if one.run == run.id and one.at < until]
        before = max((one.sources for one in cycles if one.at < since), default=0)
        found[run.id] = Spent(
            wall_s=worked_s[run.id],
            tokens=sum(one.tokens for one in its),
            cached_tokens=sum(one.cached_tokens for one in its),
            model_calls=sum(one.calls for one in its),
            sources=max((one.sources for one in cycles), default=0) - before if cycles else 0,
            cycles=sum(one.at >= since for one in cycles),
        )
    return found


def worked_since(project: Project, since: datetime) -> list[Worked]:
    """The runs that were at work since then by zone, workflow and status, with what they spent since, by the same count
    as `spent_between`; the database adds up all that can be.
    """
    store = project.store
    works = {(work.zone, work.workflow, work.status): work for work in store.waiting.worked(since)}
    earlier = [store.runs.get(name) for name in store.waiting.begun_before(since)]
    spent = spent_between(project, earlier, since)
    for run in earlier:
        kind = run.zone or "", run.workflow, run.status
        if kind in works:
            works[kind] = works[kind]._replace(spent=works[kind].spent + spent[run.id])
    return list(works.values())


def _worked_s(project: Project, runs: Sequence[Run], since: datetime, until: datetime) -> dict[str, float]:
    subjects: dict[str, str] = {f"run:{run.id}": run.id for run in runs}
    begun: dict[str, datetime] = {}
    total = dict.fromkeys(subjects.values(), 0.0)
    moves = project.store.happened.events("run_moved", until=until, subjects=set(subjects))
    for entry in moves:
        name, at = subjects[entry.subject], max(entry.at, since)
        if name in begun:
            total[name] += (at - begun.pop(name)).total_seconds()
        if isinstance(entry.data, dict) and entry.data.get("after") == RunStatus.RUNNING.value:
            begun[name] = at
    for name, at in begun.items():
        total[name] += (until - at).total_seconds()
    return total


def points(project: Project, since: datetime, until: datetime) -> Iterator[tuple[datetime, int]]:
    """The tokens of all runs together, as they added up; so many points as can be told apart."""
    answers = project.store.journal.figures(since=since, until=until)
    every = max(len(answers) // POINTS, 1)
    total = 0
    for number, one in enumerate(answers, start=1):
        total += one.tokens
        if number % every == 0 or number == len(answers):
            yield one.at, total


def cycles_of(project: Project, runs: Sequence[Run]) -> list[Cycle]:
    """All cycles of these runs, in the order of time; of one that was done again after a crash the last."""
    zones = {f"run:{run.id}": run for run in runs}
    last: dict[tuple[str, int], Cycle] = {}
    for entry in project.store.happened.events(CYCLE, subjects=set(zones)):
        run = zones.get(entry.subject)
        if run is not None and isinstance(entry.data, dict):
            found = Cycle.model_validate(
                {**entry.data, "run": run.id, "zone": run.zone or "", "at": entry.at}
            )
            last[run.id, found.cycle] = found
    return sorted(last.values(), key=lambda one: (one.at, one.run))
