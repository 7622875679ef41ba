"""For whom the agents of a run ask: its budgets, its journal, its pinned engine, and the record of all that."""

import asyncio
import hmac
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

from pydantic import JsonValue

from karkas.policies.budgets import (
    NIGHT,
    Bound,
    Budget,
    Owner,
    SharedBudget,
    Spent,
    StopReason,
    Whose,
    day_of,
    must_stop,
    reached,
)
from karkas.policies.distillates import EngineInfo
from karkas.policies.errors import BudgetReachedError, NightOverError
from karkas.server.protocol import Answered, Caller, Request, Usage
from karkas.storage import Lease, Night, NightId, Run, RunId, Store
from karkas.storage.journal import Entry, Kept
from karkas.storage.meter import METER, Meter
from karkas.storage.purses import BYTES, Hold, Share, night_purse, zone_purse
from karkas.storage.records import Note
from karkas.workflows.progress import Progress

PROMPT = "prompt_used"
"""The event that says which text a role was first asked with."""

T = TypeVar("T")

POLL_S = 0.5
"""Between two looks whether calls of other processes have left something of a shared budget."""


@dataclass(frozen=True)
class _TakenUp:
    """What is looked up once when a run is taken up."""

    run: Run
    night: Night | None
    prompts: set[tuple[str, str]]
    kept: Kept = field(default_factory=Kept)

    @cached_property
    def budget(self) -> Budget:
        """What every call may spend; sources and cycles are counted where they are read."""
        return self.run.budget.model_copy(update={"sources": None, "cycles": None})


class RunCaller(Caller):
    """Bounds and records what the engine of one run does. Made anew, or begun anew, whenever the run is taken up."""

    def __init__(
        self,
        store: Store,
        run: RunId,
        *,
        progress: Progress,
        waiting: bool = False,
        night: NightId | None = None,
        zones: Mapping[str, SharedBudget] | None = None,
    ) -> None:
        """`night` is the one that the run is advanced in; `zones` are the budgets of zones' days."""
        self.run = run
        self.waiting = waiting
        self._store = store
        self._progress = progress
        self._night = night
        self._zones = zones or {}
        self._secret = store.key.derived(b"karkas codes")
        self.begin()

    def begin(self, lease: Lease | None = None, run: Run | None = None) -> None:
        """The run is taken up now, as `run`, and what is remembered of it looked up again. Who loses its `lease` asks
        nothing.
        """
        self._lease = lease
        self.began = time.monotonic()
        """From when on its time at work is not counted yet. It does not run while the machine sleeps."""
        self.engine: EngineInfo | None = None
        """Who was asked last."""
        self.bound: Bound | None = None
        """Why a language model was refused a call, so that its answer is not all that it could be."""
        self._taking = asyncio.Lock()
        fresh = run is not None and run.segment <= 1 and self._night is None
        self._taken = _TakenUp(run, None, set()) if run is not None and fresh else None
        self._spent = run.spent if run is not None and fresh else Spent()
        self._notes: list[Note] = []
        self._under_way: list[int] = []
        self._holds: set[str] = set()
        self._ended = asyncio.Event()
        self._pinned: str | None = None
        self._asked: Counter[str] = Counter()
        self._learnt: dict[str, JsonValue] = {}
        self._meter = Meter()
        METER.set(self._meter)

    @property
    def alone(self) -> bool:
        return len(self._under_way) <= 1

    @property
    def cut(self) -> StopReason | None:
        return self.bound.reason if self.bound else None

    async def before(self, engine: EngineInfo, request: Request[Any]) -> bool:
        if self._lease is not None:
            self._lease.check()
        taken = await self.take_up()
        self.engine, name = engine, str(engine)
        if self._pinned != name:
            await self._store.aside(self._store.runs.set_engine, self.run, name)
            self._pinned = name
        if engine.kind != "llm":
            return self.limit() is None
        await self._note_prompt(request, name, taken.prompts)
        while (bound := self.limit()) is None and self._under_way:
            if self.limit(reserved=True) is None:
                break
            self._ended.clear()
            await self._ended.wait()
        self.bound = bound or self.bound
        return self.bound is None

    def reached(self) -> BudgetReachedError:
        if self.bound is None:
            return BudgetReachedError()
        if self.bound.shared:
            told = f"reached: {self.bound.what}; the run goes on when there is more to spend"
            return NightOverError(told, self.bound.whose)
        return BudgetReachedError(
            f"reached: {self.bound.what}; begin it anew with more (`[budgets]` in karkas.toml)"
        )

    @asynccontextmanager
    async def under_way(self, tokens: int) -> AsyncIterator[str | None]:
        """What is in flight counts as spent, so that many calls at the same time exceed a budget by one at most: the
        next one waits until it is known what they cost. So it is with what many processes share.
        """
        self._under_way.append(tokens)
        hold = secrets.token_hex(8)
        try:
            yield await self._reserve(hold, tokens)
        finally:
            self._under_way.remove(tokens)
            self._ended.set()
            if hold in self._holds:
                self._holds.remove(hold)
                await asyncio.shield(asyncio.to_thread(self._store.purses.release, hold))

    async def after(self, usage: Usage, *, hold: str | None = None, answer: Answered | None = None) -> None:
        llm = self.engine is not None and self.engine.kind == "llm"
        spent = Spent(
            tokens=usage.tokens,
            cached_tokens=usage.cached_tokens,
            model_calls=usage.calls if llm else 0,
        )
        entry, learnt = None, self._learnt
        if answer is not None:
            entry, self._learnt = self._entry(usage, answer, learnt), {}
            self._meter.written += len(answer.text)
        try:
            await self.spend(spent, hold=hold, answer=entry)
        except BaseException:
            self._learnt = learnt | self._learnt
            raise
        self._holds.discard(hold or "")

    async def spend(self, spent: Spent, *, hold: str | None = None, answer: Entry | None = None) -> None:
        """Writes down what was spent, with the time at work and the bytes written since the last time."""
        write = await self.spending(spent, hold=hold, answer=answer)
        try:
            await self._store.at_once(write)
        except Exception:
            self._notes = write.keywords["notes"] + self._notes
            raise

    async def spending(
        self, spent: Spent, *, hold: str | None = None, answer: Entry | None = None
    ) -> "partial[None]":
        """As `spend`, for whoever writes more than that in one transaction. It has to be called."""
        await self.take_up()
        now, began, written = time.monotonic(), self.began, self._meter.written
        self.began, self._meter.written = now, 0
        spent += Spent(wall_s=now - began, disk_mb=written / BYTES)
        self._spent += spent
        notes, self._notes = self._notes, []
        purses = [share.purse for share in self._shares()]
        return partial(
            self._store.purses.spend, self.run, spent, purses=purses, hold=hold, answer=answer, notes=notes
        )

    async def note(self, text: str) -> None:
        actor = str(self.engine) if self.engine is not None else "karkas"
        await self._store.aside(
            self._store.note, "engine_noted", f"run:{self.run}", actor=actor, data={"text": text}
        )
        self._progress(text)

    def progress(self, doing: str, /, *, done: int = 0, total: int | None = None) -> None:
        self._progress(doing, done=done, total=total)

    def asks(self, digest: str) -> int:
        self._asked[digest] += 1
        return self._asked[digest] - 1

    def takes_back(self, digest: str) -> None:
        self._asked[digest] -= 1

    async def kept(self, engine: EngineInfo, digest: str, n: int) -> str | None:
        taken = await self.take_up()
        if not taken.kept.answers or str(engine) != taken.run.engine:
            return None
        return taken.kept.answers.pop((digest, n), None)

    async def recall(self, key: str) -> JsonValue:
        return (await self.take_up()).kept.learnt.get(key)

    def learn(self, key: str, value: JsonValue) -> None:
        self._learnt[key] = value
        if self._taken is not None:
            self._taken.kept.learnt[key] = value

    async def code(self, text: str, size: int) -> str:
        """The same for the same text, so that a run that is taken up again asks the same."""
        return hmac.digest(self._secret, f"{self.run}\0{text}".encode("utf-8", "replace"), "sha256")[
            :size
        ].hex()

    async def take_up(self) -> _TakenUp:
        """What is known of the run, looked up the first time."""
        if self._taken is None:
            async with self._taking:
                if self._taken is None:
                    taken = await asyncio.to_thread(self._look_up)
                    self._spent += taken.run.spent
                    self._taken = taken
        return self._taken

    def limit(self, *, reserved: bool = False) -> Bound | None:
        """What the run has reached, once it is taken up; or would have, if what is under way cost all that is reserved
        for it.
        """
        assert self._taken is not None
        run, night = self._taken.run, self._taken.night
        lately = Spent(
            tokens=sum(self._under_way) if reserved else 0,
            model_calls=len(self._under_way) if reserved else 0,
            wall_s=time.monotonic() - self.began,
            disk_mb=self._meter.written / BYTES,
        )
        return must_stop(
            self._taken.budget,
            self._spent + lately,
            deadline=run.deadline,
            until=night.until if night else None,
            now=self._store.clock(),
        )

    async def shared_limit(self) -> Bound | None:
        """What the run shares with others and is used up, as far as it concerns also who makes no calls: the disk."""
        await self.take_up()
        for share in self._shares():
            if share.budget.disk_mb is not None:
                spent = await asyncio.to_thread(self._store.purses.spent, share.purse)
                disk = SharedBudget(disk_mb=share.budget.disk_mb)
                if (bound := reached(disk, spent, owner=share.owner)) is not None:
                    return bound
        return None

    def _look_up(self) -> _TakenUp:
        store, subject = self._store, f"run:{self.run}"
        noted = [one.data for one in store.audit.log(subject=subject) if one.event == PROMPT]
        prompts = {(str(one["role"]), str(one["version"])) for one in noted if isinstance(one, dict)}
        run = store.runs.get(self.run)
        night = store.nights.get(self._night) if self._night is not None else None
        if run.segment <= 1:
            return _TakenUp(run, night, prompts)
        store.purses.drop(run.id, run.segment)
        kept = store.journal.kept(run.id, run.engine) if run.engine else Kept()
        if kept.refused:
            store.note("journal_refused", subject, actor="karkas", data={"answers": kept.refused})
        return _TakenUp(run, night, prompts, kept)

    def _entry(self, usage: Usage, answer: Answered, learnt: dict[str, JsonValue]) -> Entry:
        assert self._taken is not None
        return Entry(
            run=self.run,
            segment=self._taken.run.segment,
            night=self._night,
            digest=answer.digest,
            n=answer.n,
            engine=str(answer.engine),
            role=answer.role.value,
            model=answer.model,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            wall_s=usage.wall_s,
            answer=answer.text,
            learnt=learnt,
        )

    def _shares(self) -> list[Share]:
        """The purses that the run spends out of: its night's, and its zone's of today."""
        assert self._taken is not None
        zone, night = self._taken.run.zone, self._taken.night
        shares = [Share(night_purse(night.id), night.budget, NIGHT)] if night is not None else []
        if zone is not None and (budget := self._zones.get(zone)) is not None:
            day = day_of(self._store.clock().astimezone())
            shares.append(Share(zone_purse(zone, day), budget, Owner(Whose.ZONE, f"the day of zone {zone}")))
        return shares

    async def _reserve(self, name: str, tokens: int) -> str | None:
        """Waits until what others have under way leaves something; raises where it is used up."""
        taken = await self.take_up()
        hold = Hold(name, self.run, taken.run.segment, tokens)
        while shares := [share for share in self._shares() if share.bounded]:
            self._holds.add(name)
            told = await _to_the_end(asyncio.to_thread(self._store.purses.reserve, hold, shares))
            if told is True:
                return name
            self._holds.discard(name)
            self.bound = (told or None) or self.limit() or self.bound
            if self.bound is not None:
                raise self.reached()
            await asyncio.sleep(POLL_S)
        return None

    async def _note_prompt(self, request: Request[Any], engine: str, noted: set[tuple[str, str]]) -> None:
        """It goes on the record with the answer."""
        known = (request.role.value, request.instructions.version)
        if known in noted:
            return
        noted.add(known)
        texts, text = self._store.prompts, request.instructions.text
        if text not in texts:
            texts[text] = await self._store.aside(self._store.artifacts.put_text, text)
        said: JsonValue = {"role": known[0], "version": known[1], "text": texts[text]}
        self._notes.append(Note(PROMPT, f"run:{self.run}", engine, said))


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; whoever is cancelled meanwhile waits for it all the same, since a thread cannot be stopped."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
