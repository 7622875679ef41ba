"""A process group: a server with its engine and its workers, which live on where only their parent was killed."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
POLL_S = 0.1
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Group:
    """`started` is the leader's start in ticks since boot: a pid alone may be somebody else's by now."""

    pgid: int
    started: int | None = None

    @classmethod
    def led_by(cls, pid: int) -> "Group":
        return cls(pid, _start(pid))

    def members(self) -> list[int]:
        """The pids of what lives of it. Dead ones that nobody has waited for do not count."""
        leader = _start(self.pgid)
        if leader is not None and leader != self.started:
            return []
        return [pid for pid, group, state in _processes() if group == self.pgid and state not in "ZX"]

    def signal(self, number: signal.Signals) -> None:
        if self.members():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pgid, number)

    async def stop(self, patience_s: float) -> None:
        """SIGTERM, so that memory is given back properly; SIGKILL for what is left after `patience_s`."""
        self.signal(signal.SIGTERM)
        if not await self._gone(patience_s):
            await self.kill()

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self._gone(patience_s=30)

    async def _gone(self, patience_s: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self.members():  # noqa: ASYNC110 - the kernel tells nobody when a group is gone
                    await asyncio.sleep(POLL_S)
        return not self.members()


def bound_to_parent(command: Sequence[str]) -> list[str]:
    """The same command, which gets SIGTERM when its parent is gone, even by kill -9. Linux only.

    A small Python asks for that and becomes the command; doing it between fork and exec is unsafe beside threads.
    """
    if not sys.platform.startswith("linux"):
        return list(command)
    ask = f"import ctypes, os, sys; ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, {signal.SIGTERM.value}); "
    return [sys.executable, "-IS", "-c", f"{ask}os.execv(sys.argv[1], sys.argv[1:])", *command]


def _start(pid: int) -> int | None:
    found = _stat(pid)
    return int(found[19]) if found and found[0] not in "ZX" else None


def _processes() -> Iterator[tuple[int, int, str]]:
    """Pid, process group and state of all."""
    for entry in PROC.iterdir():
        if entry.name.isdecimal() and (found := _stat(int(entry.name))):
            yield int(entry.name), int(found[2]), found[0]


def _stat(pid: int) -> list[str]:
    """The fields from the third on; the second is a name that may hold anything. Source: proc_pid_stat(5)."""
    try:
        return (PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return []
