"""What a workflow's nodes work with. LangGraph hands it to them as the run's context."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from karkas.agents.sources import Limits
from karkas.agents.tools import ToolBox, Workspace
from karkas.policies.actions import Digest, Proposal, canonical
from karkas.policies.errors import PermitError
from karkas.policies.zones import ZoneState
from karkas.server.documents import Document
from karkas.server.protocol import Engine
from karkas.storage import Gate, Lease, Permit, Run, RunId, Store
from karkas.workflows.asking import RunCaller
from karkas.workflows.progress import Progress, silent

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """A run's surroundings: the project's folder, store, zones, tools and engine."""

    root: Path
    run: RunId
    store: Store
    zones: Callable[[], Mapping[str, ZoneState]]
    declare: Callable[[str], None]
    """Declares an uncharted zone that nobody declared."""
    tools: ToolBox
    workspace: Workspace
    engine: Engine
    caller: RunCaller
    """For whom the engine asks: it bounds and records every call."""
    critic: bool = True
    """Whether a critic may be asked; without one every action waits for a person."""
    expires_in: timedelta | None = None
    """How long an action or a question waits for a person; None: as long as it takes."""
    limits: Limits = field(default_factory=Limits)
    batch: int = 64
    """Sources read in one cycle of an exploration."""
    timeout_s: float = 600.0
    """Of one tool's execution."""
    progress: Progress = silent
    lease: Lease | None = None
    """Held while the run is advanced; what a dead worker claimed can be taken over only under it."""
    begun: Run | None = None
    """The run as it was proven when this process took it up: a row that is changed by hand since changes nothing."""
    acting: set[str] = field(default_factory=set)
    """Permits whose tool is at work, which is never interrupted because the run was stopped elsewhere."""
    documents: dict[str, Document] = field(default_factory=dict)
    """Documents of this run that are in memory already, by source id."""
    proposals: dict[Digest, Proposal] = field(default_factory=dict)
    """Proposals of this run that are in memory already; the ledger reads the stored ones for itself."""

    def stored(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """Calls a method of the store so that other branches and runs go on while it waits (`Store.aside`)."""
        return self.store.aside(call, *args, **kwargs)

    def at_once(self, call: Callable[[], T], *, lapses: bool = False) -> Coroutine[Any, Any, T]:
        """As `stored`, for a function that asks the store several times in a row (`Store.at_once`)."""
        return self.store.at_once(call, lapses=lapses)

    def expiry(self) -> datetime | None:
        """When a gate that opens now expires."""
        return None if self.expires_in is None else self.store.clock() + self.expires_in

    async def proposal(self, digest: Digest) -> Proposal:
        if digest not in self.proposals:
            kept = await self.at_once(partial(self.store.artifacts.json, digest))
            self.proposals[digest] = Proposal.model_validate(kept)
        return self.proposals[digest]

    async def keep(self, proposal: Proposal) -> Digest:
        """Stores a proposal. What is gone on with is what was stored: there 1.0 is 1."""
        stored = canonical(proposal.model_dump(mode="json"))
        digest = await self.stored(self.store.artifacts.put, stored)
        self.proposals[digest] = Proposal.model_validate_json(stored)
        return digest

    async def gate(self, name: str | None, lane: str) -> Gate:
        """The gate that a branch of this run waits at. A checkpoint that names another branch's, or another run's,
        gets nothing out of it: `PermitError`.
        """
        return await self.at_once(partial(self._gate, name, lane))

    async def permitted(self, name: str | None, lane: str) -> tuple[Gate, Permit | None]:
        """As `gate`, with the permit that it issued."""

        def look() -> tuple[Gate, Permit | None]:
            gate = self._gate(name, lane)
            return gate, self.store.ledger.for_gate(gate.id)

        return await self.at_once(look)

    def _gate(self, name: str | None, lane: str) -> Gate:
        if name is None:
            raise PermitError(
                f"{lane!r} was reached around its gate, so nothing passes there; lead to {lane!r} itself"
            )
        gate = self.store.gates.get(name)
        if gate.run != self.run or gate.lane != lane:
            raise PermitError(
                f"gate {gate.id} is of {gate.lane!r} in run {gate.run}, not of {lane!r} in run {self.run}; nothing"
                " passes at it here. Begin the run anew"
            )
        return gate
