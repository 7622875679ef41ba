"""The durable queue of runs that workers take up. The only module that knows that DBOS does it.

A run is a sequence of segments: each time that it is taken up it goes on until it is done or parked, and the run's own
row says how it stands. So what is queued is an id and no more, and queueing it twice does nothing.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import URL, Engine, create_engine, event

from karkas.policies.errors import AuditError
from karkas.storage.database import BUSY_SECONDS, enter_wal

NAME = "karkas"
ALL = "runs"
"""The queue whose turns are the places of the workers."""
SCHEMA = "karkas_queue"
FORMAT = "1"
"""Of what is queued. It does not follow the code's version, or an upgrade would strand what is queued."""
POLL_S = 0.5
LIVE = ["ENQUEUED", "PENDING", "DELAYED"]

Advance = Callable[[str], Awaitable[None]]


class Turn(NamedTuple):
    """A run that is to be taken up for the `segment`th time; the lower its priority (from 1), the earlier."""

    run: str
    segment: int
    zone: str | None
    priority: int


class RunQueue:
    """One in a process: DBOS is global. Its runs advance in one event loop, in a thread of its own."""

    def __init__(
        self,
        folder: Path,
        url: URL,
        *,
        worker: str,
        places: int,
        zones: Mapping[str, int],
        advance: Advance,
    ) -> None:
        """Takes up to `places` runs at once in each worker, of a zone in `zones` at most so many over all workers."""
        from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer

        _read_no_pickles()
        self._zones = zones
        config: DBOSConfig = {
            "name": NAME,
            "executor_id": worker,
            "application_version": FORMAT,
            "system_database_engine": _engine(folder, url),
            "dbos_system_schema": SCHEMA,
            "use_listen_notify": False,
            "log_level": "ERROR",
            "serializer": DBOSPortableJSONSerializer(),
        }
        self._dbos, self._worker = DBOS, worker
        self._here: Any = DBOS(config=config)
        self._stranded: set[str] = set()
        _log_with_the_rest()
        _register(advance)
        DBOS.listen_queues([ALL, *(_zone(name) for name in zones)])
        DBOS.launch()
        _wait_for_no_database(self._here)
        DBOS.register_queue(
            ALL, worker_concurrency=places, polling_interval_sec=POLL_S, on_conflict="always_update"
        )
        for name, limit in zones.items():
            DBOS.register_queue(
                _zone(name),
                global_concurrency=limit,
                polling_interval_sec=POLL_S,
                on_conflict="always_update",
            )

    def put(self, turns: Collection[Turn]) -> None:
        """Queues every run that is neither queued nor at work."""
        from dbos import SetEnqueueOptions, SetWorkflowID

        live, before = self.live(), Counter[str]()
        wanted = [turn for turn in turns if turn.run not in live]
        for past in self._list(workflow_id_prefix=[f"{turn.run}:{turn.segment}:" for turn in wanted]):
            before[_run(past.workflow_id)] += past.workflow_id.count(":") == ID_PARTS
        for turn in wanted:
            # Ended without the run having been taken up, its id would do nothing a second time.
            name = f"{turn.run}:{turn.segment}:{before[turn.run]}"
            with SetWorkflowID(name), SetEnqueueOptions(priority=turn.priority):
                if turn.zone in self._zones:
                    self._dbos.enqueue_workflow(_zone(turn.zone), _work["in_zone"], turn.run, turn.priority)
                else:
                    self._dbos.enqueue_workflow(ALL, _work["anywhere"], turn.run)

    def live(self) -> set[str]:
        """Runs that are queued or at work, of any worker."""
        return {_run(one.workflow_id) for one in self._list(status=LIVE)}

    def take_over(self, alive: Callable[[], Collection[str]]) -> list[str]:
        """Queues again what workers are at work on that do not live any more, and what this one is said to be at work
        on and is not, since its end could not be written; gives the runs.
        """
        pending = self._list(status=["PENDING"])
        if not pending:
            return []
        living = alive()  # asked afterwards, since a worker joins before it takes anything up
        here = set(self._here._active_workflows_set.activeList())  # noqa: SLF001
        mine = {one.workflow_id for one in pending if one.executor_id == self._worker}
        before, self._stranded = self._stranded, mine - here
        stranded = before & self._stranded  # at the first look it may be about to begin
        left = [one for one in pending if one.executor_id not in living or one.workflow_id in stranded]
        if left:
            self._dbos.resume_workflows([one.workflow_id for one in left])
        return sorted({_run(one.workflow_id) for one in left})

    def forget(self, runs: Collection[str]) -> None:
        """Drops what is kept of runs that have ended."""
        past = self._list(workflow_id_prefix=[f"{run}:" for run in runs]) if runs else []
        if past:
            self._dbos.delete_workflows([one.workflow_id for one in past])

    def close(self, *, patience_s: int) -> None:
        """Takes up nothing more, and waits so long for what is at work."""
        self._dbos.destroy(destroy_registry=True, workflow_completion_timeout_sec=patience_s)

    def _list(self, **which: Any) -> list[Any]:
        return self._dbos.list_workflows(load_input=False, load_output=False, **which)


ID_PARTS = 2
_work: dict[str, Any] = {}


def _register(advance: Advance) -> None:
    """DBOS finds workflows by name, so they are made anew for each queue of this process."""
    from dbos import DBOS, SetEnqueueOptions, SetWorkflowID

    async def go_on(run: str) -> None:
        await advance(run)

    async def anywhere(run: str) -> None:
        # A step, since the result of one that was taken over meanwhile is refused.
        await DBOS.run_step_async({"name": "advance"}, go_on, run)

    async def in_zone(run: str, priority: int) -> None:
        """Holds the zone's place while the run waits for a worker's, and until it ends."""
        with SetWorkflowID(f"{DBOS.workflow_id}:in"), SetEnqueueOptions(priority=priority):
            handle = await DBOS.enqueue_workflow_async(ALL, _work["anywhere"], run)
        await handle.get_result()

    _work["anywhere"] = DBOS.workflow(name="anywhere")(anywhere)
    _work["in_zone"] = DBOS.workflow(name="in_zone")(in_zone)


def _read_no_pickles() -> None:
    """DBOS rebuilds any object where a row says that it is pickled, whichever serializer is set. Whoever writes to its
    tables would run code here, beside the signing key.
    """
    from dbos._serialization import DefaultSerializer

    def refused(_: DefaultSerializer, _text: str) -> Any:
        raise AuditError("a row of the queue was changed outside karkas, so it is not read")

    vars(DefaultSerializer)["deserialize"]  # a KeyError where another version of DBOS does it elsewhere
    DefaultSerializer.deserialize = refused  # type: ignore[assignment, method-assign]


def _log_with_the_rest() -> None:
    """DBOS prints on the terminal, also with tracebacks, what is of use in the log and of none to a person."""
    logger = logging.getLogger("dbos")
    logger.handlers[:], logger.propagate = [], True


def _wait_for_no_database(dbos: Any) -> None:
    """DBOS would stand still and try again, up to a minute apart, while the database is away: who is told nothing can
    say nothing, and cannot be ended.
    """
    database = dbos._sys_db  # noqa: SLF001
    vars(database)["_retry_connection_errors"]  # a KeyError where another version of DBOS does it elsewhere
    database._retry_connection_errors = False  # noqa: SLF001


def _zone(name: str | None) -> str:
    return f"zone:{name}"


def _run(workflow_id: str) -> str:
    return workflow_id.partition(":")[0]


def _engine(folder: Path, url: URL) -> Engine:
    """A file of its own beside the domain's, or a schema of its own in its PostgreSQL database."""
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=5)
    # Who writes waits its turn from the start: one that read first could not, and would fail at once.
    engine = create_engine(
        URL.create("sqlite", database=str(folder / "queue.db")),
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": "IMMEDIATE"},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _entry: object) -> None:
        cursor = connection.cursor()
        enter_wal(cursor.execute)
        cursor.execute("PRAGMA synchronous = NORMAL")  # a power cut loses places in the queue, and no run
        cursor.close()

    return engine
