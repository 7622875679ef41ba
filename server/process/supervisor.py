"""The supervisor of one server: starts it, waits until it answers, watches it, and starts it again when it dies."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
)

from karkas.policies.errors import KarkasError
from karkas.server.process.command import Launch, ServeError, check_disk
from karkas.server.process.group import Group, bound_to_parent
from karkas.server.process.log import ServeLog
from karkas.server.process.probe import Probe
from karkas.server.process.record import Record, State, Watchbook

_log = structlog.get_logger(__name__)

Tell = Callable[[Record], None]


@dataclass(frozen=True)
class Patience:
    """Seconds."""

    poll: float = 1.0
    """Between questions while it starts."""
    watch: float = 5.0
    """Between questions while it serves. That its process ended is known at once."""
    hung: float = 120.0
    """Without a sign of health, until it counts as dead although its process lives."""
    ask: float = 10.0
    """For one answer about its health."""
    stop: float = 20.0
    """For an orderly end, before it is killed; a quarter of it where it answers nobody yet."""
    settled: float = 600.0
    """Of service, after which earlier deaths are forgotten."""
    first_wait: float = 2.0
    longest_wait: float = 60.0


class _DiedError(Exception):
    """It had answered before, so it is worth another start."""


class Supervisor:
    """Looks after the server of `launch`; what becomes of it goes to `tell`, and into `folder` (`.karkas`)."""

    def __init__(self, launch: Launch, folder: Path, tell: Tell, *, patience: Patience | None = None) -> None:
        self._launch = launch
        self._patience = patience or Patience()
        self._book = Watchbook(folder)
        self._output = ServeLog(self._book.log(launch.name))
        self._tell_caller = tell
        self._was_ready = False
        self._record = Record(
            name=launch.name,
            model=launch.model,
            base_url=launch.base_url,
            log=self._output.path,
            state=State.STARTING,
            since=datetime.now().astimezone(),
            supervisor=os.getpid(),
        )

    async def run(self) -> None:
        """Serves until it is cancelled, and then stops what it started. `ServeError` says why it gave up.

        A server that answers at the address with the right model is used as it is; when it goes, one is started.
        """
        with self._book.held(self._launch.name):
            self._probe = Probe(self._launch.base_url, key=self._launch.key, ask_s=self._patience.ask)
            try:
                await self._clear()
                while True:
                    await self._serve_in_spite_of_deaths()
            except asyncio.CancelledError:
                found = self._record.state is State.FOUND
                self._tell(State.STOPPED, "left running" if found else "", pid=None, started=None)
                raise
            except (KarkasError, OSError) as error:
                self._tell(State.FAILED, str(error), pid=None, started=None)
                raise
            finally:
                await self._probe.close()

    async def _clear(self) -> None:
        """Ends what an earlier karkas, killed with no time to do so, has left behind."""
        left = self._book.last(self._launch.name)
        if left is not None and left.group is not None and left.group.members():
            self._tell(State.STARTING, f"ending what a killed karkas has left behind (pid {left.pid})")
            await left.group.stop(self._patience.stop)

    async def _serve_in_spite_of_deaths(self) -> None:
        """Returns when it died after a long time of service; then it is as if it had never died before."""
        tries = AsyncRetrying(
            retry=retry_if_exception_type(_DiedError),
            stop=stop_after_attempt(self._launch.restarts + 1),
            wait=wait_exponential(multiplier=self._patience.first_wait, max=self._patience.longest_wait),
            before_sleep=self._tell_restart,
            reraise=True,
        )
        try:
            async for attempt in tries:
                with attempt:
                    await self._use_what_runs()
                    await self._serve()
        except _DiedError as error:
            raise ServeError(
                f"{self._launch.name} died {self._launch.restarts + 1} times in a row, the last time: {error}"
                f"{self._output.why()}"
            ) from error

    async def _use_what_runs(self) -> None:
        """Returns when nobody listens at the address."""
        launch, found = self._launch, await self._probe.look()
        if found is None:
            return
        mend = f"stop that, or choose another port for {launch.name}"
        if found.fault:
            raise ServeError(f"{launch.base_url} is taken: {found.fault}; {mend}")
        missing = [one for one in (launch.model, *launch.adapters) if one not in found.models]
        if missing:
            raise ServeError(
                f"{launch.base_url} is taken by a server that does not serve {', '.join(missing)} but"
                f" {', '.join(found.models) or 'nothing'}; {mend}"
            )
        self._was_ready = True
        self._tell(State.FOUND, "it ran already; karkas uses it and does not stop it")
        # A busy one may be slow to list its models; only one that is gone is replaced.
        while await self._probe.look() is not None:  # noqa: ASYNC110 - a foreign process sends no event
            await asyncio.sleep(self._patience.watch)

    async def _serve(self) -> None:
        check_disk(self._book.folder)
        began, ready_at = time.monotonic(), None
        self._tell(State.STARTING)
        with self._output.open() as log:
            process = await asyncio.create_subprocess_exec(
                *bound_to_parent(self._launch.command),
                env=self._launch.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        group = Group.led_by(process.pid)
        self._tell(State.STARTING, "loading vLLM", pid=group.pgid, started=group.started)
        try:
            await self._until_ready(process, began)
            ready_at = time.monotonic()
            self._was_ready = True
            self._tell(State.READY, f"after {ready_at - began:.0f} s")
            await self._until_dead(process)
        except _DiedError as error:
            if not self._was_ready:
                raise ServeError(
                    f"{self._launch.name} could not be started: {error}{self._output.why()}"
                ) from error
            if ready_at is None or time.monotonic() - ready_at < self._patience.settled:
                raise
            self._tell(State.RESTARTING, str(error), restarts=self._record.restarts + 1)
        finally:
            await self._end(
                group, process, orderly_s=self._patience.stop if ready_at else self._patience.stop / 4
            )

    async def _until_ready(self, process: asyncio.subprocess.Process, began: float) -> None:
        while time.monotonic() - began < self._launch.ready_s:
            await self._pause(process, self._patience.poll)
            if await self._probe.healthy() and await self._probe.answers(self._launch.model):
                return
            doing = self._output.read()
            if doing is not None and doing != self._record.detail:
                self._tell(State.STARTING, doing)
        raise _DiedError(f"it gave no answer within {self._launch.ready_s:.0f} s (ready_s)")

    async def _until_dead(self, process: asyncio.subprocess.Process) -> None:
        seen = time.monotonic()
        while True:
            await self._pause(process, self._patience.watch)
            self._output.rotate()
            if await self._probe.healthy():
                seen = time.monotonic()
            elif time.monotonic() - seen > self._patience.hung:
                raise _DiedError(f"it showed no sign of health for {self._patience.hung:.0f} s")

    async def _pause(self, process: asyncio.subprocess.Process, seconds: float) -> None:
        """Raises `_DiedError` when the process has ended."""
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), seconds)
        if process.returncode is not None:
            raise _DiedError(f"it {_how(process.returncode)}")

    async def _end(self, group: Group, process: asyncio.subprocess.Process, *, orderly_s: float) -> None:
        """Whatever happened, nothing of the group lives on: a killed API server leaves its engine behind."""
        if process.returncode is None:
            self._tell(State.STOPPING)
        try:
            await (group.stop(orderly_s) if process.returncode is None else group.kill())
        finally:
            group.signal(signal.SIGKILL)
        await process.wait()

    def _tell_restart(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = state.next_action.sleep if state.next_action else 0
        self._tell(
            State.RESTARTING,
            f"{error}; again in {wait:.0f} s ({state.attempt_number} of {self._launch.restarts})",
            restarts=self._record.restarts + 1,
            pid=None,
            started=None,
        )

    def _tell(self, state: State, detail: str = "", **changes: int | None) -> None:
        if state is not self._record.state:
            _log.info("server_state_changed", server=self._launch.name, state=state.value, detail=detail)
        self._record = self._record.model_copy(
            update={"state": state, "detail": detail, "since": datetime.now().astimezone(), **changes}
        )
        self._book.write(self._record)
        self._tell_caller(self._record)


def _how(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
