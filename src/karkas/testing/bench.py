"""The throw-away project: a real one, in a temporary folder that vanishes, with a clock and a script of its own."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any

from karkas import runner, settings
from karkas.agents.tools import Tool, ToolBox
from karkas.logs import no_run_logs
from karkas.policies.actions import Action, Proposal
from karkas.policies.errors import NotFoundError, UsageError
from karkas.policies.permits import PermitStatus
from karkas.policies.verdicts import Verdict
from karkas.policies.zones import ControlLevel, Zone
from karkas.project import FOLDER, Project
from karkas.server.protocol import Caller, Engine
from karkas.settings import Settings
from karkas.storage import Gate, Run, Store
from karkas.testing.charting import chart
from karkas.testing.clock import BEGAN, Clock
from karkas.testing.script import Script

if TYPE_CHECKING:
    from karkas.workflows.context import Context
    from karkas.workflows.runs import Graph

PERSON = "ada"
"""Who decides where a test names nobody."""


@dataclass(frozen=True)
class Effected:
    """A permit that was begun, and what became of it."""

    action: Action
    lane: str
    gate: str
    status: PermitStatus
    by: str
    result: Mapping[str, Any]


class Bench(Project):
    """A project like any other: the same store, gates, permits, ledger, audit log and workspace.

    Made by `throwaway()`, or by the pytest fixture `project`. Without a script for a question, the offline engine
    answers. Runs are advanced until they end or park; nothing is decided by itself.
    """

    def __init__(self, root: Path, config: Settings, store: Store, clock: Clock) -> None:
        super().__init__(root, config, store)
        self.clock = clock
        self.script: Script | None = None
        self._graphs: dict[str, Graph] = {}
        self._tools: dict[tuple[str, str], Tool] = {}

    def tools(self) -> ToolBox:
        """As the project's, but the same objects each time, so that their calls can be followed."""
        return ToolBox(
            self._tools.setdefault((one.name, one.version), one) for one in super().tools().values()
        )

    def engine(self, caller: Caller | None = None) -> Engine:
        return super().engine(caller) if self.script is None else self.script.engine(caller)

    def scripted(self) -> Script:
        """From now on the script answers in place of a language model; runs keep to the engine that began them."""
        self.script = self.script or Script()
        return self.script

    def use(self, *modules: ModuleType) -> None:
        """Registers the tools and declares the zones that stand at the top level of these modules."""
        for module in modules:
            values = vars(module).values()
            self.register(*dict.fromkeys(one for one in values if isinstance(one, Tool)))
            self.declare(*(one for one in values if isinstance(one, Zone)))

    def chart(self, zone: str, *, level: ControlLevel | None = None) -> None:
        """Frames a declared zone as its owner would, without exploring it, so that agents may act there."""
        chart(self, zone, level=level)

    def write(self, path: str, text: str) -> Path:
        """Puts a file into the project's folder."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="")
        return file

    def read(self, path: str) -> str | None:
        """A file's text, or None where there is none."""
        file = self.root / path
        return file.read_bytes().decode() if file.is_file() else None

    def run(self, workflow: "Graph | str", /, **input_: Any) -> Run:
        """Begins a run of a graph, of `FILE.py:NAME`, or of a built-in workflow, and advances it."""
        return self.go_on(self.begin(workflow, input_))

    def begin(self, workflow: "Graph | str", input_: Mapping[str, Any]) -> Run:
        """Queues a run without advancing it."""
        if isinstance(workflow, str):
            return runner.begin(self, workflow, dict(input_))
        run = self.store.runs.create("testing", input=dict(input_), by=PERSON)
        self._graphs[run.id] = workflow
        return run

    def go_on(self, run: Run | str) -> Run:
        """Advances a run until it is done, parked, failed or stopped."""
        if _in_event_loop():
            raise UsageError("an event loop runs here; `await project.advance(run)` instead")
        return asyncio.run(self.advance(run))

    async def advance(self, run: Run | str) -> Run:
        """As `go_on`, where an event loop runs already."""
        from karkas.workflows.runs import advance

        found = self.store.runs.get(run if isinstance(run, str) else run.id)
        graph, context = self.loaded(found)
        return await advance(context, graph, self.store.checkpoints)

    def loaded(self, run: Run) -> tuple["Graph", "Context"]:
        """A run's graph, and what its nodes work with."""
        if run.id in self._graphs:
            return self._graphs[run.id], runner.context(self, run.id)
        return runner.load(self, run)

    def waiting(self, run: Run | None = None) -> dict[str, Gate]:
        """The gates that wait, by the name of their action or question."""
        gates = self.store.gates.list(run=run.id if run else None)
        return {gate.lane: gate for gate in gates if gate.status.waits}

    def gate(self, name: str) -> Gate:
        """The gate that waits for the action or question `name`."""
        waiting = self.waiting()
        if name not in waiting:
            raise NotFoundError(f"nothing waits at {name!r}; there wait: {', '.join(waiting) or 'no gates'}")
        return waiting[name]

    def shown(self, name: str, variant: int = 0) -> str:
        """The exact text that the person at this gate decides on."""
        gate = self.gate(name)
        return self.store.artifacts.text(gate.variants[variant].shown) if gate.variants else gate.prompt

    def decide(self, name: str, verdict: Verdict, *, by: str = PERSON) -> Run:
        """Gives a verdict at the gate that waits for `name`, and advances its run."""
        gate = self.store.gates.decide(self.gate(name).id, verdict, by=by)
        return self.go_on(gate.run)

    def effects(self) -> tuple[Effected, ...]:
        """Every action that was begun, in the order of the gates, read off the ledger."""
        found = []
        for gate in self.store.gates.list():
            permit = self.store.ledger.for_gate(gate.id)
            begun = permit is not None and permit.status not in UNBEGUN
            if permit is None or gate.proposal is None or not begun:
                continue
            proposal = Proposal.model_validate(self.store.artifacts.json(gate.proposal))
            found.append(
                Effected(
                    action=proposal.variants[permit.variant].action,
                    lane=gate.lane,
                    gate=gate.id,
                    status=permit.status,
                    by=gate.decided_by or "",
                    result=permit.result or {},
                )
            )
        return tuple(found)

    def undo(self, gate: str, *, by: str = PERSON) -> str:
        """Takes back what was performed under a gate, and says what was done."""
        from karkas.workflows.execution import take_back

        found = self.store.gates.get(gate)
        _, context = self.loaded(self.store.runs.get(found.run))
        return asyncio.run(take_back(context, found, by=by))


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


UNBEGUN = {PermitStatus.APPROVED, PermitStatus.CLAIMED, PermitStatus.VOID}


@contextmanager
def throwaway(
    *,
    files: Mapping[str, str] | None = None,
    zones: Iterable[Zone] = (),
    tools: Iterable[Tool] = (),
    config: str = "",
    now: datetime = BEGAN,
) -> Iterator[Bench]:
    """A project in a temporary folder that is gone afterwards. `config` is the text of its `karkas.toml`.

    The records are kept in a SQLite file of that folder, since leases, locks and crashes are not the same without one.
    It names no model server and no other database: `[storage]`, `[model]` and `[models]` are refused.
    """
    read = settings.parse(config, Path(settings.FILE))
    if read.storage.url is not None or read.language_models is not None:
        raise UsageError(
            "a throw-away project has a database of its own and asks no model server; leave [storage] and [model]"
            " out, and say by `project.scripted()` what a model would answer"
        )
    with TemporaryDirectory(prefix="karkas-testing-") as folder, no_run_logs():
        root = Path(folder, "project").resolve()
        root.mkdir()
        (root / settings.FILE).write_text(config, encoding="utf-8")
        Project.init(root, force=True).close()
        clock = Clock(now)
        with Bench(root, read, Store.open(root / FOLDER, clock=clock), clock) as bench:
            bench.declare(*zones)
            bench.register(*tools)
            for path, text in (files or {}).items():
                bench.write(path, text)
            yield bench
