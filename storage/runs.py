"""Runs: executions of workflows, with their status, budget and lease."""

import json
import re
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, NamedTuple, NewType

from pydantic import BaseModel, ConfigDict, JsonValue
from sqlalchemy import bindparam
from sqlmodel import Session, col, func, or_, select

from karkas.policies.actions import digest_of_bytes
from karkas.policies.budgets import Budget, Spent
from karkas.policies.errors import AuditError, EngineChangedError, KernelError
from karkas.policies.runs import RunStatus as RunStatus  # noqa: PLC0414  it is told from here too
from karkas.storage.audit import newest
from karkas.storage.endings import WAITING, end_run, wake
from karkas.storage.journal import drop_answers
from karkas.storage.leases import Lease, LeaseLostError, lease
from karkas.storage.prepared import Prepared
from karkas.storage.records import SYSTEM, Change, Records, amend, look, made, put
from karkas.storage.tables import UNATTENDED, WAITED_FOR, GateRow, RunRow, WorkerRow, storable

RunId = NewType("RunId", str)


NEXT: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.FAILED, RunStatus.STOPPED}),
    # A run that a dead process left `running` is taken up as it is.
    RunStatus.RUNNING: frozenset(RunStatus),
    RunStatus.PARKED: frozenset(RunStatus) - {RunStatus.DONE},
    RunStatus.DONE: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.STOPPED: frozenset(),
}


REOPENED = {RunStatus.FAILED, RunStatus.STOPPED}
"""What goes on only when a person opens it again."""

NOT_ENDED = [status.value for status in RunStatus if not status.ended]


class RunStatusError(KernelError):
    """The run has ended, or its status does not allow this; `karkas runs show RUN` says how it stands."""


class Run(BaseModel):
    """One execution of a workflow. Times are aware, in UTC."""

    model_config = ConfigDict(frozen=True)

    id: RunId
    workflow: str
    zone: str | None
    input: dict[str, JsonValue]
    options: dict[str, JsonValue]
    budget: Budget
    spent: Spent
    deadline: datetime | None
    status: RunStatus
    reason: str
    error: str | None
    result: dict[str, JsonValue] | None
    engine: str | None
    segment: int
    created_at: datetime
    changed_at: datetime
    finished_at: datetime | None
    due_at: datetime | None
    """From when on a worker takes it up; None: only a person does."""
    priority: int
    """The lower goes first."""
    tries: int
    """Times in a row that a worker had to put it back."""


_GONE = Prepared(
    select(WorkerRow.id).where(
        col(WorkerRow.id) == bindparam("worker"),
        or_(col(WorkerRow.left_at).is_not(None), col(WorkerRow.buried_at).is_not(None)),
    )
)


class Due(NamedTuple):
    """A run that is due, as far as a queue asks: workers look every second, at a thousand of them."""

    id: RunId
    segment: int
    zone: str | None
    priority: int


_STOPPED = select(RunRow.id).where(
    col(RunRow.id).in_(bindparam("runs", expanding=True)), RunRow.status == RunStatus.STOPPED.value
)

_WHOLE = re.compile(r"r-[0-9a-f]{12}")

RELEASED = "reason"
"""Why a run was let go of by its engine; a pinning has none."""


class Runs:
    def __init__(self, records: Records) -> None:
        self._records = records

    def create(
        self,
        workflow: str,
        *,
        zone: str | None = None,
        input: dict[str, JsonValue] | None = None,  # noqa: A002
        budget: Budget | None = None,
        deadline: datetime | None = None,
        options: dict[str, JsonValue] | None = None,
        due_at: datetime | None = None,
        key: str | None = None,
        by: str = SYSTEM,
    ) -> Run:
        """Queues a run. `input` and `options` are small; documents go to the artifact store and stand here by hash.

        From `due_at` on a worker takes it up. Of several with one `key` there is one: the first.
        """
        with self._records.change() as change:
            if key is not None:
                queued = change.session.exec(select(RunRow).where(RunRow.key == key)).first()
                if queued is not None:
                    return _run(queued)
            row = made(
                RunRow,
                workflow=workflow,
                zone=zone,
                input=input or {},
                options=options or {},
                budget=(budget or Budget()).model_dump(mode="json"),
                spent=Spent().model_dump(mode="json"),
                deadline=deadline,
                status=RunStatus.QUEUED.value,
                created_at=change.now,
                changed_at=change.now,
                due_at=due_at,
                key=key,
            )
            put(change.session, row)
            change.note("run_created", f"run:{row.id}", actor=by, data=_begun_with(row))
            return _run(row)

    def get(self, name: str) -> Run:
        """By id, or by the beginning of one."""
        with self._records.database.read() as session:
            return _run(look(session, RunRow, name))

    def stopped(self, runs: Collection[RunId]) -> frozenset[RunId]:
        """Which of these are stopped."""
        with self._records.database.read() as session:
            found = session.connection().execute(_STOPPED, {"runs": list(runs)})
            return frozenset(RunId(run) for (run,) in found)

    def proven(self, name: str) -> Run:
        """As `get`, where workflow, input and options are as a person gave them, the engine is the one that is
        pinned on the record, and one that was stopped there was opened again; else `AuditError`.

        They say which code runs, what counts as the person's own words, and whose answers the run is made of.
        """
        with self._records.database.read() as session:
            row = look(session, RunRow, name)
            anew = self._records.audit.proven(session, f"run:{row.id}", "run_begun_anew")
            created = self._records.audit.proven(session, f"run:{row.id}", "run_created")
            last = self._records.audit.proven(session, f"run:{row.id}", "run_engine_")
            pinned = last["engine"] if isinstance(last, dict) and RELEASED not in last else None
            begun = anew["begun"] if isinstance(anew, dict) else created
            if begun != _begun_with(row) or row.engine != pinned or self._revived(session, row):
                raise AuditError(
                    f"run {row.id} is not as it was begun: its row was changed outside karkas, so it does not go on."
                    " Begin a new one; `karkas audit verify`"
                )
            return _run(row)

    def _revived(self, session: Session, row: RunRow) -> bool:
        """Whether it was stopped or failed on the record, and its row says otherwise without a person's `reopen`."""
        last = newest(session, f"run:{row.id}", "run_moved")
        if last is None or RunStatus(row.status).ended:
            return False
        return not self._records.audit.wrote(last) or json.loads(last.data)["after"] in REOPENED

    def list(
        self,
        *,
        status: RunStatus | None = None,
        zone: str | None = None,
        changed_since: datetime | None = None,
        limit: int | None = None,
    ) -> list[Run]:
        """The newest first."""
        query = select(RunRow).order_by(col(RunRow.created_at).desc(), col(RunRow.id)).limit(limit)
        if status is not None:
            query = query.where(RunRow.status == status)
        if zone is not None:
            query = query.where(RunRow.zone == zone)
        if changed_since is not None:
            query = query.where(col(RunRow.changed_at) >= changed_since)
        with self._records.database.read() as session:
            return [_run(row) for row in session.exec(query)]

    def due(self, at: datetime, *, limit: int | None = None) -> tuple[Due, ...]:
        """What workers may be at work on, or take up: what goes first, first."""
        columns = [col(getattr(RunRow, name)) for name in Due._fields]
        query = select(*columns).where(col(RunRow.due_at) <= at, col(RunRow.status).in_(NOT_ENDED))
        order = (col(RunRow.priority), col(RunRow.due_at), col(RunRow.created_at))
        with self._records.database.read() as session:
            found = session.connection().execute(query.order_by(*order).limit(limit))
            return tuple(map(Due._make, found))

    def next_due(self, after: datetime) -> datetime | None:
        """When the next run is due that is not yet."""
        query = select(func.min(RunRow.due_at)).where(
            col(RunRow.due_at) > after, col(RunRow.status).in_(NOT_ENDED)
        )
        with self._records.database.read() as session:
            return session.exec(query).one()

    def hand_over(self, run: str, *, at: datetime | None = None) -> Run:
        """Lets workers take up a run that has not ended, now or from `at` on."""
        with self._records.change() as change:
            row = look(change.session, RunRow, run)
            _check_step(row, RunStatus.RUNNING)
            amend(change.session, row, due_at=at or change.now, tries=0)
            return _run(row)

    def take_up(self, run: str, *, worker: str | None = None) -> Run:
        """Whoever holds the lease goes on with the run now: a `worker`, else a person who looks on.

        A worker that was stopped for a while finds in its hands what it was about to take up then. Raises
        `LeaseLostError` where it was declared dead meanwhile, or others have parked the run since: nobody would go on
        with that after it.
        """
        with self._records.change() as change:
            row = look(change.session, RunRow, run)
            _check_step(row, RunStatus.RUNNING)
            if worker is not None and _GONE.first(change.session, worker=worker) is not None:
                raise LeaseLostError(
                    f"worker {worker} was declared dead, or has left; it takes up run {row.id} no more"
                )
            if worker is not None and row.status == RunStatus.PARKED and row.due_at is None:
                raise LeaseLostError(f"run {row.id} waits for a person, so no worker takes it up")
            segment, due_at = row.segment + 1, row.due_at if worker else None
            note: dict[str, JsonValue] = {"segment": segment}
            change.note("run_taken_up", f"run:{row.id}", actor=worker or SYSTEM, data=note)
            move(
                change,
                row,
                RunStatus.RUNNING,
                reason="",
                actor=SYSTEM,
                segment=segment,
                due_at=due_at,
                error=None,
            )
            return _run(row)

    def put_back(
        self, run: str, status: RunStatus, *, reason: str, error: str | None, due_at: datetime
    ) -> Run:
        """A worker goes on later with what it cannot go on with now."""
        with self._records.change() as change:
            row = look(change.session, RunRow, run)
            _check_step(row, status)
            tries = row.tries + 1
            move(change, row, status, reason=reason, actor=SYSTEM, tries=tries, due_at=due_at, error=error)
            return _run(row)

    def count_crash(self, run: str, checkpoint: str | None) -> int:
        """Counts that whoever was at work on the run died; gives how often in a row that was at this checkpoint."""
        with self._records.change() as change:
            row = look(change.session, RunRow, run)
            crashes = row.crashes + 1 if row.crashed_at == checkpoint else 1
            amend(change.session, row, crashes=crashes, crashed_at=checkpoint)
            change.note("run_broken_off", f"run:{row.id}", actor=SYSTEM, data={"times": row.crashes})
            return row.crashes

    def set_status(
        self,
        run: str,
        status: RunStatus,
        *,
        reason: str | None = None,
        error: str | None = None,
        result: dict[str, JsonValue] | None = None,
        due_at: datetime | None = None,
        gates: Collection[str] = (),
        by: str = SYSTEM,
    ) -> Run:
        """Moves a run on. Stopping it cancels its waiting gates and voids its unused permits; failing keeps them for
        when it is resumed.

        From `due_at` on a worker takes it up; at once where it is parked at `gates` of which one waits no longer.
        Raises `RunStatusError` where the step does not exist; a run that was stopped meanwhile stays stopped.
        """
        with self._records.change() as change:
            row = look(change.session, RunRow, run)
            _check_step(row, status)
            also: dict[str, Any] = {"error": error} | ({} if result is None else {"result": result})
            if status is not RunStatus.RUNNING:
                also |= {"due_at": due_at, "priority": UNATTENDED, "tries": 0}
            move(change, row, status, reason=reason or "", actor=by, **also)
            if gates and _one_decided(change, gates):
                wake(change, row.id, priority=WAITED_FOR)
                row = look(change.session, RunRow, row.id)
            return _run(row)

    def reopen(self, run: str, *, by: str, reason: str = "") -> Run:
        """Queues a failed or stopped run again; the explicit act without which an ended run stays ended."""
        with self._records.change() as change:
            row = look(change.session, RunRow, run)
            if row.status not in REOPENED:
                raise RunStatusError(
                    f"run {row.id} is {row.status}; only a failed or stopped one is opened again"
                )
            move(change, row, RunStatus.QUEUED, reason=reason, actor=by, error=None)
            return _run(row)

    def set_options(self, run: str, options: dict[str, JsonValue], *, by: str, reason: str) -> Run:
        """A person's act: what the run goes on with from here."""
        with self._records.change() as change:
            row = look(change.session, RunRow, run)
            amend(change.session, row, options=options)
            change.note(
                "run_begun_anew",
                f"run:{row.id}",
                actor=by,
                data={"reason": reason, "begun": _begun_with(row)},
            )
            return _run(row)

    def breaks(self) -> Iterator[str]:
        """Names every run that is not as it was begun."""
        for run in self.list():
            try:
                self.proven(run.id)
            except AuditError as error:
                yield str(error)

    def set_engine(self, run: str, engine: str) -> Run:
        """Pins the engine of a run, so that a resumed run does not mix two; `EngineChangedError` where another one is
        pinned.
        """
        with self._records.change() as change:
            row = look(change.session, RunRow, run)
            if row.engine not in {None, engine}:
                raise EngineChangedError(
                    f"run {row.id} was begun with {row.engine} and does not go on with {engine} by itself; configure"
                    f" the first one again, or let the other one go on: `karkas runs resume {row.id} --switch-engine`"
                )
            if row.engine is None:
                amend(change.session, row, engine=engine, changed_at=change.now)
                change.note("run_engine_pinned", f"run:{row.id}", actor=SYSTEM, data={"engine": engine})
            return _run(row)

    def release_engine(self, run: str, *, by: str, reason: str) -> Run:
        """Lets a run go on with whatever engine it asks next."""
        with self._records.change() as change:
            row = look(change.session, RunRow, run)
            if row.engine is not None:
                data: dict[str, JsonValue] = {"engine": row.engine, RELEASED: reason}
                change.note("run_engine_released", f"run:{row.id}", actor=by, data=data)
                amend(change.session, row, engine=None, changed_at=change.now)
            return _run(row)

    def lease(self, run: str) -> AbstractContextManager[Lease]:
        """Held by whoever advances the run; `LeaseError` names the process that holds it. Ends with the process."""
        return lease(self._records.locks, run if _WHOLE.fullmatch(run) else self.get(run).id)


def _check_step(row: RunRow, status: RunStatus) -> None:
    before = RunStatus(row.status)
    if status in NEXT[before]:
        return
    reopening = before in {RunStatus.FAILED, RunStatus.STOPPED}
    raise RunStatusError(
        f"run {row.id} is {before}{f' ({row.reason})' if row.reason else ''} and cannot become {status}"
        + ("; `karkas runs resume` may open it again" if reopening else "")
    )


def _one_decided(change: Change, gates: Collection[str]) -> bool:
    decided = select(GateRow.id).where(col(GateRow.id).in_(gates), col(GateRow.status).not_in(WAITING))
    return change.session.exec(decided).first() is not None


def _begun_with(row: RunRow) -> dict[str, JsonValue]:
    return {
        "workflow": storable(row.workflow),
        "zone": row.zone,
        "input": _hash(row.input),
        "options": _hash(row.options),
    }


def _hash(value: JsonValue) -> str:
    """Not RFC 8785, which does not take every number; the same before and after a database kept it."""
    return digest_of_bytes(json.dumps(value, sort_keys=True).encode())


def move(change: Change, row: RunRow, status: RunStatus, *, reason: str, actor: str, **also: Any) -> None:
    """Sets a run's status within a transaction, and `also` other columns, with all that follows from it."""
    before, finished_at = row.status, change.now if status.ended else None
    also |= {"status": status.value, "reason": reason, "changed_at": change.now, "finished_at": finished_at}
    if not amend(change.session, row, "status", **also):
        raise RunStatusError(f"run {row.id} became {row.status} meanwhile")
    data: dict[str, JsonValue] = {"before": before, "after": status.value, "reason": reason}
    change.note("run_moved", f"run:{row.id}", actor=actor, data=data)
    if status is RunStatus.DONE:
        drop_answers(change, row.id)
    if status is RunStatus.STOPPED:
        end_run(change, row.id, reason=reason or "the run was stopped", actor=actor)


def _run(row: RunRow) -> Run:
    return Run.model_validate(row, from_attributes=True)
