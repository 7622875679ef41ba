"""Schedules of `karkas.toml`: what is due by them is queued, once, whoever looks first."""

from datetime import datetime

import structlog
from pydantic import JsonValue

from karkas.policies.errors import KarkasError
from karkas.project import Project
from karkas.runner import begin
from karkas.settings import ScheduleSettings
from karkas.storage import Run
from karkas.storage.records import SYSTEM

log = structlog.get_logger("karkas.work")


def fire(project: Project, now: datetime) -> list[Run]:
    """Queues a run for each schedule that had a time since it was last looked at; of several missed ones, the last."""
    begun = []
    schedules = project.settings.schedules
    project.store.schedules.keep(set(schedules))
    for name, schedule in schedules.items():
        since = project.store.schedules.since(name, schedule.cron)
        at = last_time(schedule.cron, now)
        if at <= since:
            continue
        try:
            # Its time is part of its key, so that a second worker, or this one after a crash, queues it no second time.
            begun.append(_begin(project, schedule, key=f"{name}@{at.isoformat()}", due_at=now))
        except KarkasError as error:
            log.error("schedule_not_queued", schedule=name, error=str(error))  # noqa: TRY400
        project.store.schedules.seen_to(name, at)
    return begun


def last_time(cron: str, now: datetime) -> datetime:
    """The last time of a schedule up to `now`, in the machine's time zone."""
    from croniter import croniter

    local = now.astimezone()
    if croniter.match(cron, local.replace(second=0, microsecond=0)):
        return local.replace(second=0, microsecond=0)
    found: datetime = croniter(cron, local).get_prev(datetime)
    return found


def next_time(cron: str, now: datetime) -> datetime:
    from croniter import croniter

    found: datetime = croniter(cron, now.astimezone()).get_next(datetime)
    return found


def _begin(project: Project, schedule: ScheduleSettings, *, key: str, due_at: datetime) -> Run:
    given: dict[str, JsonValue]
    if schedule.explore is not None:
        project.declare_uncharted(schedule.explore)
        given = {"zone": schedule.explore, "sources": list(schedule.sources)}
        workflow, zone = "explore", schedule.explore
    elif schedule.act is not None:
        given = {"zone": schedule.act, "task": schedule.task}
        workflow, zone = "act", project.zone(schedule.act).zone.name
    else:
        given, workflow, zone = dict(schedule.input), str(schedule.run), None
    budget = project.settings.budgets.run if workflow == "explore" else None
    return begin(project, workflow, given, zone=zone, budget=budget, due_at=due_at, key=key, by=SYSTEM)
