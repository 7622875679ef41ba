"""What is going on now: the runs in flight and those that wait, workers, model servers, and what waits for a person."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from time import monotonic

from pydantic import BaseModel, ConfigDict

from karkas.policies.gates import GateStatus
from karkas.project import Project
from karkas.report.bounds import nearest
from karkas.report.choices import Choice, choices
from karkas.report.prices import cost_of
from karkas.runner import is_orphaned
from karkas.settings import Settings
from karkas.storage import Run, RunStatus
from karkas.storage.audit import AuditEntry
from karkas.storage.happened import CYCLE
from karkas.storage.workers import DEAD_S

RATE_S = 60.0
"""Over how long tokens a second are counted."""
SLOW_S = 5.0
"""Between looks at what costs more than a query: servers, and whether a run's process is gone."""
PROBE_S = 1.0
AT_MOST = 50
"""Runs of one status that are listed; all of them are counted."""
FEW = 3


class _Seen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Flight(_Seen):
    """A run that has not ended. `rate` is in tokens a second; `left_s` seconds until `bound` ends it, estimated."""

    run: str
    workflow: str
    zone: str
    status: str
    since: datetime
    cycle: int | None = None
    tokens: int
    cost: float | None
    rate: float | None = None
    novelty: float | None = None
    """The share of new subjects among the claims of the last cycle."""
    claims: int | None = None
    bound: str | None = None
    left_s: float | None = None
    doing: str = ""
    at_work: str = ""
    """`HOST:PID`."""


class Server(_Seen):
    address: str
    up: bool


class WorkerSeen(_Seen):
    name: str
    alive: bool
    silent_s: float
    runs: int


class Live(_Seen):
    at: datetime
    runs: tuple[Flight, ...]
    counts: dict[str, int]
    rate: float | None
    workers: tuple[WorkerSeen, ...]
    servers: tuple[Server, ...]
    waits: int
    choices: tuple[Choice, ...]


class Watcher:
    """Looks again and again at one project; what is counted over time needs the same watcher."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._looked = float("-inf")
        self._servers: tuple[Server, ...] = ()
        self._orphans: frozenset[str] = frozenset()

    def look(self) -> Live:
        project, store = self._project, self._project.store
        now = store.clock()
        runs = [
            run
            for status in (RunStatus.RUNNING, RunStatus.QUEUED, RunStatus.PARKED)
            for run in store.runs.list(status=status, limit=AT_MOST)
        ]
        if monotonic() - self._looked >= SLOW_S:
            self._servers = servers(project.settings)
            self._orphans = frozenset(run.id for run in runs if is_orphaned(project, run))
            self._looked = monotonic()
        lines = [one for one in store.waiting.lines() if one.status is GateStatus.OPEN]
        flights = tuple(self._flights(runs, now))
        rates = [one.rate for one in flights if one.rate is not None]
        return Live(
            at=now,
            runs=flights,
            counts=store.happened.runs_by_status(),
            rate=sum(rates) if rates else None,
            workers=tuple(workers(project)),
            servers=self._servers,
            waits=len(lines),
            choices=tuple(choices(lines)[:FEW]),
        )

    def _flights(self, runs: Sequence[Run], now: datetime) -> Iterator[Flight]:
        store, settings = self._project.store, self._project.settings
        told = store.doings.now()
        subjects = [f"run:{run.id}" for run in runs]
        names = [run.id for run in runs]
        asked = store.happened.asked(runs=names)
        lately: Counter[str] = Counter()
        for one in store.happened.asked(runs=names, since=now - timedelta(seconds=RATE_S)):
            lately[one.run] += one.tokens
        last: dict[tuple[str, str], AuditEntry] = {
            (one.event, one.subject): one
            for one in store.happened.events(CYCLE, "run_taken_up", subjects=subjects)
        }
        for run in runs:
            at_work = run.status is RunStatus.RUNNING and run.id not in self._orphans
            taken_up = last.get(("run_taken_up", f"run:{run.id}"))
            elapsed = now - taken_up.at if at_work and taken_up is not None else timedelta()
            spent = run.spent.model_copy(update={"wall_s": run.spent.wall_s + elapsed.total_seconds()})
            bound = nearest(run.budget, spent, deadline=run.deadline, now=now) if at_work else None
            ended = last.get((CYCLE, f"run:{run.id}"))
            cycle = ended.data if ended is not None and isinstance(ended.data, dict) else {}
            doing = told.get(run.id) if at_work else None
            yield Flight.model_validate(
                {
                    "run": run.id,
                    "workflow": run.workflow,
                    "zone": run.zone or "",
                    "status": "broken off" if run.id in self._orphans else run.status.value,
                    "since": run.changed_at if taken_up is None else taken_up.at,
                    "cycle": run.spent.cycles or None,
                    "tokens": run.spent.tokens,
                    "cost": cost_of(
                        settings, [one for one in asked if one.run == run.id], else_tokens=run.spent.tokens
                    ),
                    "rate": lately[run.id] / min(max(elapsed.total_seconds(), 1.0), RATE_S)
                    if at_work
                    else None,
                    "novelty": cycle.get("novelty"),
                    "claims": cycle.get("claims"),
                    "bound": bound and bound.name,
                    "left_s": bound and bound.left_s,
                    "doing": str(doing) if doing else run.reason.split("\n", 1)[0],
                    "at_work": doing.worker if doing else "",
                }
            )


def workers(project: Project) -> Iterator[WorkerSeen]:
    """The processes that take up runs, on all hosts."""
    for worker in project.store.workers.all():
        yield WorkerSeen(
            name=worker.name,
            alive=worker.silent_s < DEAD_S,
            silent_s=worker.silent_s,
            runs=len(worker.runs),
        )


def servers(settings: Settings) -> tuple[Server, ...]:
    """The model servers that are configured, and whether anything answers there."""
    models = settings.language_models
    addresses = sorted({url for one in models.models.values() for url in one.base_urls}) if models else []
    if not addresses:
        return ()
    with ThreadPoolExecutor(len(addresses)) as pool:
        return tuple(pool.map(_probe, addresses))


def _probe(address: str) -> Server:
    import httpx

    try:
        httpx.get(f"{address}/health", timeout=PROBE_S, trust_env=False)
    except (httpx.HTTPError, OSError):
        return Server(address=address, up=False)
    return Server(address=address, up=True)
