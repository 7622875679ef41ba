"""For whom the agents of a run ask: the run's budget, its pinned engine, and the record of both."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from karkas.policies.budgets import Budget, Spent, StopReason, must_stop
from karkas.policies.distillates import EngineInfo
from karkas.server.protocol import Caller, Instructions, Request, Usage
from karkas.storage import Run, RunId, Store
from karkas.workflows.progress import Progress

PROMPT = "prompt_used"
"""The event that says which text a role was first asked with."""

NOTHING = Spent()


class RunCaller(Caller):
    """Bounds and records what the engine of one run does. Made anew, or begun anew, whenever the run is taken up."""

    def __init__(self, store: Store, run: RunId, *, progress: Progress, waiting: bool = False) -> None:
        self.run = run
        self.waiting = waiting
        self._store = store
        self._progress = progress
        self.begin()

    def begin(self) -> None:
        """The run is taken up now; what is remembered of it is looked up again."""
        self.began = time.monotonic()
        self.engine: EngineInfo | None = None
        """Who was asked last."""
        self.cut: StopReason | None = None
        """Why a language model was refused a call, so that its answer is not all that it could be."""
        self._taken_up: Run | None = None
        self._spent = Spent()
        self._under_way: list[int] = []
        self._ended = asyncio.Event()
        self._pinned: str | None = None
        self._prompts: set[tuple[str, str]] = set()

    @property
    def alone(self) -> bool:
        return len(self._under_way) <= 1

    async def before(self, engine: EngineInfo, request: Request[Any]) -> bool:
        run = self._taken_up or await self._take_up()
        self.engine, name = engine, str(engine)
        if self._pinned != name:
            await self._store.aside(self._store.runs.set_engine, self.run, name)
            self._pinned = name
        if engine.kind != "llm":
            return self._limit(run) is None
        await self._note_prompt(request, name)
        while self._limit(run) is None and self._limit(run, self._reserved()) is not None:
            self._ended.clear()
            await self._ended.wait()
        self.cut = self._limit(run) or self.cut
        return self.cut is None

    @contextmanager
    def under_way(self, tokens: int) -> Iterator[None]:
        """What is in flight counts as spent, so that many calls at the same time exceed a budget by one at most: the
        next one waits until it is known what they cost.
        """
        self._under_way.append(tokens)
        try:
            yield
        finally:
            self._under_way.remove(tokens)
            self._ended.set()

    def _reserved(self) -> Spent:
        return Spent(tokens=sum(self._under_way), model_calls=len(self._under_way))

    async def after(self, usage: Usage) -> None:
        spent = Spent(tokens=usage.tokens, cached_tokens=usage.cached_tokens, model_calls=usage.calls)
        self._spent += spent
        await self._store.aside(self._store.runs.add_spent, self.run, spent)

    async def note(self, text: str) -> None:
        actor = str(self.engine) if self.engine is not None else "karkas"
        await self._store.aside(
            self._store.note, "engine_noted", f"run:{self.run}", actor=actor, data={"text": text}
        )
        self._progress(text)

    def progress(self, doing: str, /, *, done: int = 0, total: int | None = None) -> None:
        self._progress(doing, done=done, total=total)

    async def _take_up(self) -> Run:
        run, noted = await asyncio.to_thread(self._look_up)
        if self._taken_up is None:
            self._taken_up, self._prompts = run, noted
            self._spent += run.spent
        return self._taken_up

    def _look_up(self) -> tuple[Run, set[tuple[str, str]]]:
        events = self._store.audit.log(subject=f"run:{self.run}")
        noted = [one.data for one in events if one.event == PROMPT and isinstance(one.data, dict)]
        return self._store.runs.get(self.run), {(str(one["role"]), str(one["version"])) for one in noted}

    def _limit(self, run: Run, reserved: Spent = NOTHING) -> StopReason | None:
        """Sources and cycles are counted where they are read; here counts what every call may spend."""
        budget = Budget.model_validate(run.budget.model_copy(update={"sources": None, "cycles": None}))
        spent = self._spent + Spent(wall_s=time.monotonic() - self.began) + reserved
        return must_stop(budget, spent, deadline=run.deadline, now=self._store.clock())

    async def _note_prompt(self, request: Request[Any], engine: str) -> None:
        known = (request.role.value, request.instructions.version)
        if known in self._prompts:
            return
        self._prompts.add(known)
        role, version = known
        text = await self._store.aside(self._store.artifacts.put_text, prompt_text(request.instructions))
        await self._store.aside(
            self._store.note,
            PROMPT,
            f"run:{self.run}",
            actor=engine,
            data={"role": role, "version": version, "text": text},
        )


def prompt_text(instructions: Instructions) -> str:
    """The instructions as one text that a person reads."""
    tasks = [f"# {name}\n\n{text}" for name, text in instructions.tasks.items()]
    return "\n\n".join(part for part in (instructions.shared, instructions.role, *tasks) if part) + "\n"
