"""The recorder: which tools were called, under which permit, and what was changed besides."""

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from typing import Any

from karkas.agents.tools import Tool
from karkas.policies.actions import Proposal
from karkas.policies.permits import PermitStatus
from karkas.testing.bench import Bench
from karkas.testing.watch import Seen, changed, snapshot, watching


class Killed(BaseException):
    """Stands for a worker that dies here: nothing catches it, and nothing more goes on the record."""


@dataclass(frozen=True)
class Called:
    """One call of a tool's function. Without a permit, nobody had allowed it."""

    tool: str
    permit: str | None
    changes: tuple[str, ...]
    """Workspace paths that were not as before when it ended."""
    seen: Seen


@dataclass
class Recorder:
    """What was called and changed while it recorded; tools that run at the same time would share their changes."""

    bench: Bench
    seen: Seen
    calls: list[Called] = field(default_factory=list)
    kill: bool = False
    """Whether the worker dies once, as soon as a tool has taken effect."""

    def __post_init__(self) -> None:
        self._last = snapshot(self.bench.root)
        self._own: set[str] = set()

    @property
    def unpermitted(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.tool for one in self.calls if one.permit is None))

    @property
    def own(self) -> tuple[str, ...]:
        """What changed while no tool was at work: files of the workspace, and files elsewhere."""
        self._settle()
        theirs = {path for one in self.calls for path in one.seen.written}
        return (*sorted(self._own), *(path for path in self.seen.files if path not in theirs))

    def times(self) -> Counter[str]:
        """How often something was called under each permit."""
        return Counter(one.permit for one in self.calls if one.permit is not None)

    def wrapped(self, tool: Tool) -> Callable[..., Any]:
        function = tool.function
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def called_async(*args: Any, **kwargs: Any) -> Any:
                with self._call(tool):
                    return await function(*args, **kwargs)

            return called_async

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with self._call(tool):
                return function(*args, **kwargs)

        return called

    @contextmanager
    def _call(self, tool: Tool) -> Iterator[None]:
        self._settle()
        before, permit = self._last, self._permit(tool)
        with watching(self.bench.root) as seen:
            try:
                yield
            finally:
                self._last = snapshot(self.bench.root)
                self.calls.append(Called(tool.name, permit, changed(before, self._last), seen))
        if self.kill:
            self.kill = False
            raise Killed

    def _settle(self) -> None:
        now = snapshot(self.bench.root)
        self._own.update(changed(self._last, now))
        self._last = now

    def _permit(self, tool: Tool) -> str | None:
        """The permit under which this tool was started now."""
        store = self.bench.store
        for permit in store.ledger.in_flight():
            gate = store.gates.get(permit.gate)
            if permit.status is PermitStatus.STARTED and gate.proposal is not None:
                proposal = Proposal.model_validate(store.artifacts.json(gate.proposal))
                if proposal.variants[permit.variant].action.tool == tool.name:
                    return permit.id
        return None


@contextmanager
def recording(bench: Bench, tools: Iterable[Tool] = ()) -> Iterator[Recorder]:
    """Records the calls of the project's tools and of `tools`, in the project's folder.

    A function that a `Tool` wraps is replaced in the tool for that time, also for code that calls it around the
    gateway.
    """
    known = list(dict.fromkeys((*bench.tools().values(), *tools)))
    functions = [one.function for one in known]
    with chdir(bench.root), watching(bench.root) as seen:
        recorder = Recorder(bench, seen)
        try:
            for one in known:
                object.__setattr__(one, "function", recorder.wrapped(one))
            yield recorder
        finally:
            for one, function in zip(known, functions, strict=True):
                object.__setattr__(one, "function", function)


def survives(bench: Bench, run: str) -> bool:
    """Advances a run; False where its worker was killed on the way."""
    try:
        bench.go_on(run)
    except Killed:
        return False
    return True


@contextmanager
def killed_before_start(bench: Bench) -> Iterator[None]:
    """The next worker dies once it has claimed a permit, before it says that the effect begins."""

    def die(*_: object) -> None:
        raise Killed

    ledger: Any = bench.store.ledger
    ledger.start = die
    try:
        yield
    finally:
        del ledger.start
