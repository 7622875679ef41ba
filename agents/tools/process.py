"""A child process with bounded output, which ends when its time is over, and all that it started with it."""

import asyncio
import os
import signal
import tempfile
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from karkas.agents.tools.sandbox import ENVIRONMENT
from karkas.policies.errors import ToolError

OUTPUT_BYTES = 1_000_000
"""What is kept of each of the two outputs; the rest is counted."""

DRAIN_S = 2.0
"""How long outputs are still read after the end: unsandboxed, what escaped the process group may hold them open."""


@dataclass
class Output:
    """The beginning of what was written, and how many bytes it was in all."""

    kept: bytearray = field(default_factory=bytearray)
    total: int = 0

    async def read(self, stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(1 << 16):
            self.total += len(chunk)
            self.kept += chunk[: OUTPUT_BYTES - len(self.kept)]


@dataclass(frozen=True, slots=True)
class Ran:
    """`code` is None where the time was over."""

    code: int | None
    stdout: Output
    stderr: Output
    wall_s: float


async def run_process(argv: list[str], folder: Path, *, timeout_s: float, sandboxed: bool) -> Ran:
    """Runs `argv` without a shell, with no input and a clean environment. `ToolError` means that it never began."""
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="karkas-home-"))
        status = stack.enter_context(_StatusPipe())
        if sandboxed:
            argv = [argv[0], "--json-status-fd", str(status.write), *argv[1:]]
        stdout, stdout_end = await _captured(stack)
        stderr, stderr_end = await _captured(stack)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=folder,
                env=ENVIRONMENT | {"HOME": home},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout_end,
                stderr=stderr_end,
                start_new_session=True,
                pass_fds=(status.write,) if sandboxed else (),
            )
        except OSError as error:
            raise ToolError(
                f"{argv[0]} could not be started: {error.strerror}; nothing was changed"
            ) from error
        finally:
            os.close(stdout_end)
            os.close(stderr_end)
        outputs = Output(), Output()
        readers = [
            asyncio.create_task(output.read(stream))
            for output, stream in zip(outputs, (stdout, stderr), strict=True)
        ]
        try:
            code: int | None = await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            code = None
        finally:
            # After a normal end too: what it left in the background would go on unseen.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
            _, late = await asyncio.wait(readers, timeout=DRAIN_S)
            for reader in late:
                reader.cancel()
        if sandboxed and code is not None and "exit-code" not in status.said():
            said = bytes(outputs[1].kept).decode(errors="replace").strip()
            raise ToolError(f"the sandbox could not start it, so nothing ran: {said}")
    return Ran(code, *outputs, time.monotonic() - began)


async def _captured(stack: AsyncExitStack) -> tuple[asyncio.StreamReader, int]:
    """A stream and the descriptor to write to it. With asyncio's own pipes, waiting for the process would also wait
    for whatever else holds them open (until Python 3.13).
    """
    read, write = os.pipe()
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(read, "rb", 0)
    )
    stack.callback(transport.close)
    return stream, write


class _StatusPipe:
    """Where bubblewrap says whether the command itself ran: its own failures have the same exit codes."""

    def __enter__(self) -> Self:
        self.read, self.write = os.pipe()
        os.set_blocking(self.read, False)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.read)
        os.close(self.write)

    def said(self) -> str:
        with suppress(BlockingIOError):
            return os.read(self.read, 1 << 16).decode()
        return ""
