"""Running workflows in a project: beginning a run, and advancing it until it is done or parked."""

import gc
import os
from contextlib import nullcontext
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from karkas.policies.budgets import Budget
from karkas.policies.errors import KarkasError, ToolError, UsageError
from karkas.project import Project, person
from karkas.settings import Settings
from karkas.storage import Run, RunId, RunStatus
from karkas.workflows.asking import RunCaller
from karkas.workflows.context import Context
from karkas.workflows.progress import Progress, silent

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

    from karkas.agents.sources import Limits
    from karkas.server.protocol import Engine
    from karkas.storage import Gate, NightId
    from karkas.workflows.runs import Checkpointer, Graph, Listener, Unattended
    from karkas.workflows.userfile import UserFile

BUILT_IN = ("explore", "act")

COLLECT_EVERY = (50_000, 20, 20)
"""`gc.set_threshold`: at Python's own, the collector takes a tenth of the time of 200 runs at once."""

FILE_VERSION = "file_version"
"""The option of a run that pins its user's file."""


def begin(
    project: Project,
    workflow: str,
    input: dict[str, JsonValue],  # noqa: A002
    *,
    zone: str | None = None,
    budget: Budget | None = None,
    deadline: datetime | None = None,
    due_at: datetime | None = None,
    key: str | None = None,
    by: str | None = None,
) -> Run:
    """Queues a run of `workflow`: `explore`, `act`, or a user's `FILE.py:NAME`, relative to the project.

    With `due_at` a worker takes it up from then on (`karkas night`, `karkas work`); else whoever calls `advance`. Of
    several with one `key` there is one.
    """
    options: dict[str, JsonValue] = {}
    if workflow not in BUILT_IN:
        workflow, file = _user_workflow(project, workflow)
        options[FILE_VERSION] = file.version
    return project.store.runs.create(
        workflow,
        zone=zone,
        input=input,
        budget=budget,
        deadline=deadline,
        options=options,
        due_at=due_at,
        key=key,
        by=by or person(),
    )


async def advance(
    project: Project,
    run: str,
    *,
    progress: Progress = silent,
    listen: "Listener | None" = None,
    waiting: bool = False,
    unattended: "Unattended | None" = None,
    night: "NightId | None" = None,
) -> Run:
    """Begins or resumes a run and returns it when it is done, parked, failed or stopped.

    It is parked at gates, or where it cannot go on for want of its engine: then `reason` says what to do.
    `progress` is told what is being done; `listen` gets each step's updates as LangGraph streams them. Of a run that
    a person is `waiting` for, a model server answers the calls first. A worker is `unattended`: what passes by itself
    is waited for. In a `night` the run spends out of the night's budget too, and ends with it.
    """
    from karkas.watching import watched
    from karkas.workflows.runs import advance as advance_graph

    found = await project.store.aside(project.store.runs.proven, run)
    async with project.models() or nullcontext():
        with watched(project, found, progress) as seen:
            graph, context = _loaded(project, found, progress=seen.told, waiting=waiting, night=night)
            seen.left = await advance_graph(
                context, graph, _checkpointer(project), listen=listen, unattended=unattended
            )
            return seen.left


async def snapshot(project: Project, run: str) -> "StateSnapshot":
    """LangGraph's snapshot of a run as its last checkpoint has it: values, next nodes, tasks and interrupts."""
    from karkas.workflows.runs import with_checkpointer

    found = project.store.runs.get(run)
    graph, _ = load(project, found)
    async with _checkpointer(project)() as saver:
        compiled = with_checkpointer(graph, saver)
        return await compiled.aget_state({"configurable": {"thread_id": found.id}})


def _checkpointer(project: Project) -> "Checkpointer":
    return project.store.checkpoints


def collect_less() -> None:
    """For a process that now advances runs: what the imports made, and what the runs hold, stays alive, so the garbage
    collector need not walk through it again and again.
    """
    gc.freeze()
    gc.set_threshold(*COLLECT_EVERY)


def is_orphaned(project: Project, run: Run) -> bool:
    """Whether a run is called running, but the process that advanced it is gone."""
    from karkas.storage import LeaseError

    if run.status is not RunStatus.RUNNING:
        return False
    try:
        with project.store.runs.lease(run.id):
            return True
    except LeaseError:
        return False


def reopen(project: Project, run: str, *, reason: str = "resumed", switch_engine: bool = False) -> Run:
    """A failed or stopped run, queued again by a person; any other run as it is.

    A user's workflow goes on with its file as it is now; nothing else lets a changed file run. With `switch_engine`
    the run goes on with the engine that is configured now; nothing else lets another one take over.
    """
    found = project.store.runs.proven(run)
    if switch_engine:
        found = project.store.runs.release_engine(found.id, by=person(), reason="switched by a person")
    if found.workflow not in BUILT_IN:
        found = _with_file_as_it_is(project, found)
    if found.status in {RunStatus.FAILED, RunStatus.STOPPED}:
        return project.store.runs.reopen(found.id, by=person(), reason=reason)
    return found


def _with_file_as_it_is(project: Project, run: Run) -> Run:
    from karkas.workflows.userfile import split_reference, version_of

    path, _ = split_reference(run.workflow)
    version = version_of(project.root / path)
    if version == run.options.get(FILE_VERSION):
        return run
    options = run.options | {FILE_VERSION: version}
    return project.store.runs.set_options(run.id, options, by=person(), reason=f"{path} changed")


def load(
    project: Project,
    run: Run,
    *,
    progress: Progress = silent,
    waiting: bool = False,
    night: "NightId | None" = None,
) -> tuple["Graph", Context]:
    """The run's graph, and the context that its nodes work with."""
    return _loaded(
        project, project.store.runs.proven(run.id), progress=progress, waiting=waiting, night=night
    )


def _loaded(
    project: Project,
    run: Run,
    *,
    progress: Progress = silent,
    waiting: bool = False,
    night: "NightId | None" = None,
) -> tuple["Graph", Context]:
    """As `load`, of a run that is proven."""
    from karkas.workflows.userfile import load_file, split_reference

    of_run = partial(context, project, run, progress=progress, waiting=waiting, night=night)
    if run.workflow in BUILT_IN:
        return _built_in(run.workflow), of_run()
    path, name = split_reference(run.workflow)
    # Never looked for in the current folder, where another file of that name may lie.
    file = load_file(project.root / path, version=str(run.options.get(FILE_VERSION)))
    return file.workflow(name), of_run(file=file)


@cache
def _built_in(name: str) -> "Graph":
    """Made once in a process, since every run would make the same."""
    from karkas.workflows.act import act_workflow
    from karkas.workflows.explore import explore_workflow

    return explore_workflow() if name == "explore" else act_workflow()


def context(
    project: Project,
    run: RunId | Run,
    *,
    file: "UserFile | None" = None,
    progress: Progress = silent,
    waiting: bool = False,
    night: "NightId | None" = None,
) -> Context:
    """What a run's nodes work with; the tools and zones that `file` declares come on top of the project's."""
    tools, protected = project.tools(), []
    if file is not None:
        for tool in file.tools:
            if tools.get(tool.name) is None:
                tools.register(tool)
        project.declare(*file.zones)
        if file.path.is_relative_to(project.root):
            protected.append(f"/{file.path.relative_to(project.root).as_posix()}")
    settings = project.settings
    found = run if isinstance(run, Run) else project.store.runs.get(run)
    caller = RunCaller(
        project.store,
        found.id,
        progress=progress,
        waiting=waiting,
        night=night,
        zones=settings.budgets.zones,
    )
    return Context(
        root=project.root,
        run=found.id,
        store=project.store,
        zones=project.zones,
        declare=project.declare_uncharted,
        tools=tools,
        workspace=project.workspace(*protected),
        engine=_engine(project, found, caller),
        caller=caller,
        critic=settings.act.critic,
        expires_in=settings.act.expires_in,
        limits=limits(settings),
        batch=settings.explore.batch,
        timeout_s=settings.act.timeout_s,
        progress=progress,
    )


def _engine(project: Project, run: Run, caller: RunCaller) -> "Engine":
    """Who answers the agents of a run: the offline engine where it began the run, also if a model was named since."""
    from karkas.server.offline import OfflineEngine

    if run.engine is not None:
        offline = OfflineEngine(caller)
        if run.engine.startswith(f"{offline.info.name} "):
            return offline
    return project.engine(caller)


def take_back(project: Project, gate: "Gate", *, by: str) -> str:
    """Undoes what was performed under a gate, and says what was done. Raises `ToolError` where it cannot."""
    import asyncio

    from karkas.workflows.execution import take_back as undo_it
    from karkas.workflows.failure import told

    _, found = load(project, project.store.runs.get(gate.run))
    try:
        return asyncio.run(undo_it(found, gate, by=by))
    except KarkasError:
        raise
    except Exception as error:
        raise ToolError(
            f"taking it back failed: {told(error)}; nobody knows how far it came, so it is not tried again: look, and"
            " mend by hand what is left"
        ) from error


def limits(settings: Settings) -> "Limits":
    """The bounds that `[explore]` sets on what is read."""
    from karkas.agents.sources import Limits

    explore = settings.explore
    return Limits(max_bytes=int(explore.max_file_mb * 1_000_000), allowed_hosts=explore.allowed_hosts)


def _user_workflow(project: Project, reference: str) -> tuple[str, "UserFile"]:
    """The reference made relative to the project, so that a run can be resumed from anywhere, and its file."""
    from karkas.workflows.userfile import load_file, split_reference

    path, name = split_reference(reference)
    file = load_file(path if path.is_absolute() else _existing(project, path))
    file.workflow(name)
    inside = file.path.is_relative_to(project.root)
    stored = file.path.relative_to(project.root) if inside else file.path
    return f"{stored.as_posix()}:{name}", file


def _existing(project: Project, path: Path) -> Path:
    for folder in (Path.cwd(), project.root):
        if (folder / path).is_file():
            return folder / path
    raise UsageError(f"there is no file {path} here or in {os.fspath(project.root)}")


def input_of(text: str) -> dict[str, Any]:
    """A workflow's input out of a JSON object on the command line."""
    import json

    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the input is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError('the input must be a JSON object, for example \'{"topic": "adapters"}\'')
    return value
