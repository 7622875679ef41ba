"""run_command: one program with its arguments, never a shell string, in a sandbox."""

import asyncio
import json
import os
import shutil
import signal
import stat
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue

from karkas.agents.tools import paths, sandbox, workspace as workspace_code
from karkas.agents.tools.paths import covered, relative
from karkas.agents.tools.sandbox import (
    ENVIRONMENT,
    PATH,
    Bubblewrap,
    Sandbox,
    bubblewrap,
    confined,
    protected_in,
    visible_roots,
)
from karkas.agents.tools.tool import Done, Tool, tool
from karkas.agents.tools.workspace import Workspace
from karkas.policies.actions import Effect
from karkas.policies.errors import ConfinementError, ToolError
from karkas.policies.rendering import visible, visible_line

OUTPUT_BYTES = 1_000_000
"""What is kept of each of the two outputs; the rest is counted."""

Argument = Annotated[str, Field(max_length=100_000, pattern=r"^[^\x00]*$")]
Argv = Annotated[list[Argument], Field(min_length=1, max_length=1000)]
Folder = Annotated[str, Field(max_length=paths.MAX_PATH_BYTES), paths.CANONICAL]


def run_command_tool(policy: Sandbox = Sandbox.BUBBLEWRAP, readable: tuple[str, ...] = ()) -> Tool:
    """`run_command` under this policy; `readable` are further folders of the host that commands may read."""

    def show(argv: list[str], cwd: str, timeout_s: int, workspace: Workspace) -> str:
        return _shown(argv, cwd, timeout_s, workspace, policy, readable)

    def bind(argv: list[str], cwd: str, workspace: Workspace) -> dict[str, str]:
        wrap = _sandbox(policy)
        bound = {"sandbox": f"bubblewrap {wrap.version}" if wrap else "none"}
        program = _program(argv[0], _folder(cwd, workspace), workspace, readable if wrap else None)
        return bound | {f"program {program}": _state(program)} | _named_files(argv, cwd, workspace)

    @tool(
        Effect.IRREVERSIBLE,
        name="run_command",
        preview=show,
        preconditions=bind,
        paths=_paths,
        code=(sandbox, paths, workspace_code),
    )
    async def run_command(
        argv: Argv,
        workspace: Workspace,
        cwd: Folder = ".",
        timeout_s: Annotated[int, Field(ge=1, le=3600)] = 60,
    ) -> Done:
        """Runs one program with these arguments in the folder `cwd` of the workspace. No shell: no pipes, no globs."""
        folder, wrap = _folder(cwd, workspace), _sandbox(policy)
        program = _program(argv[0], folder, workspace, readable if wrap else None)
        before = _protected_names(workspace)
        ran = await _run([str(program), *argv[1:]], folder, timeout_s, workspace, wrap, readable)
        made = sorted(_protected_names(workspace) - before)
        return _done(ran, timeout_s, made)

    return run_command


@dataclass(frozen=True, slots=True)
class _Ran:
    code: int | None
    out: bytes
    out_total: int
    err: bytes
    err_total: int
    wall_s: float


def _sandbox(policy: Sandbox) -> Bubblewrap | None:
    wrap = bubblewrap()
    if isinstance(wrap, Bubblewrap):
        return wrap
    if policy is Sandbox.ASK:
        return None
    raise ToolError(
        f"commands run only in a sandbox, and {wrap}. To be asked for unsandboxed ones instead, set"
        ' `sandbox = "ask"` under [act] in karkas.toml'
    )


def _folder(cwd: str, workspace: Workspace) -> Path:
    folder = workspace.resolve(cwd)
    if not folder.is_dir():
        raise ToolError(f"there is no folder {cwd} in the workspace")
    return folder


def _program(name: str, folder: Path, workspace: Workspace, readable: tuple[str, ...] | None) -> Path:
    """The absolute path of what will run, unresolved, since a virtual environment's Python knows itself by its link."""
    found = os.path.join(folder, name) if "/" in name else shutil.which(name, path=PATH)
    where = f"a path from the folder it runs in, or one of {PATH}"
    if found is None or not os.path.isfile(found) or not os.access(found, os.X_OK):
        raise ToolError(f"there is no program {visible_line(name)}; give {where}")
    program, real = Path(os.path.normpath(found)), Path(found).resolve()
    seen = () if readable is None else (*visible_roots(readable), workspace.root)
    if seen and not any(real.is_relative_to(root) for root in seen):
        raise ToolError(f"{real} is not visible in the sandbox; list its folder under `readable` in [act]")
    if real.is_relative_to(workspace.root) and covered(
        real.relative_to(workspace.root).as_posix(), workspace.protected
    ):
        raise ConfinementError(f"{visible_line(name)} is in a protected place")
    return program


def _state(path: Path) -> str:
    with path.open("rb") as stream:
        digest = sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def _named_files(argv: list[str], cwd: str, workspace: Workspace) -> dict[str, str]:
    """Regular files of the workspace that the arguments name: `python build.py` approved is this build.py."""
    folder, found = workspace.root / cwd, {}
    for argument in argv[1:]:
        for text in (argument, argument.partition("=")[2]):
            with suppress(OSError, ValueError):
                path = Path(os.path.normpath(folder / text)) if text else None
                if path and path.is_relative_to(workspace.root) and stat.S_ISREG(path.stat().st_mode):
                    found[path.relative_to(workspace.root).as_posix()] = _state(path)
    return found


def _paths(argv: list[str], cwd: str) -> tuple[str, ...]:
    """The folder it runs in, and what the arguments may name in the workspace."""
    touched = [cwd]
    for argument in argv[1:]:
        for text in (argument, argument.partition("=")[2]):
            plain = os.path.normpath(os.path.join(cwd, text)) if text else ""
            with suppress(ConfinementError):
                touched.append(relative(plain))
    return tuple(dict.fromkeys(touched))


def _shown(
    argv: list[str],
    cwd: str,
    timeout_s: int,
    workspace: Workspace,
    policy: Sandbox,
    readable: tuple[str, ...],
) -> str:
    wrap = _sandbox(policy)
    folder = _folder(cwd, workspace)
    program = _program(argv[0], folder, workspace, readable if wrap else None)
    lines = ["run_command (irreversible)"]
    if wrap is None:
        lines.insert(
            0, "UNSANDBOXED: it can do all that you can: read and change every file of yours, use the network"
        )
        home = "a fresh temporary folder"
    else:
        hidden, readonly = protected_in(workspace)
        lines += [
            f"sandbox: bubblewrap {wrap.version}; no network; it may change anything in {workspace.root} but what follows",
            f"  hidden from it: {', '.join(hidden) or 'nothing in the workspace'}; all other folders of yours",
            f"  read-only: {', '.join(readonly) or 'nothing in the workspace'}",
            f"  readable outside: {', '.join(map(str, visible_roots(readable)))}",
        ]
        home = ENVIRONMENT["HOME"]
    lines += [
        f"folder: {cwd} in {workspace.root}",
        f"time-out: {timeout_s} s",
        f"environment: PATH={PATH} HOME={home} LANG={ENVIRONMENT['LANG']}, nothing else",
        f"program: {program} {_state(program)}",
        *(f"file: {path} {state}" for path, state in _named_files(argv, cwd, workspace).items()),
        "arguments, one a line, the program first:",
        *(f"  {json.dumps(argument, ensure_ascii=False)}" for argument in argv),
    ]
    return "\n".join(map(visible_line, lines))


def _protected_names(workspace: Workspace) -> set[str]:
    with suppress(ToolError):
        hidden, readonly = protected_in(workspace)
        return {*hidden, *readonly}
    return set()


async def _run(
    argv: list[str],
    folder: Path,
    timeout_s: int,
    workspace: Workspace,
    wrap: Bubblewrap | None,
    readable: tuple[str, ...],
) -> _Ran:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="karkas-home-") as home:
        if wrap is not None:
            argv = await asyncio.to_thread(
                confined, wrap, argv, workspace=workspace, cwd=folder, readable=readable
            )
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=folder,
                env=ENVIRONMENT | {"HOME": home},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ToolError(
                f"{argv[0]} could not be started: {error.strerror}; nothing was changed"
            ) from error
        assert process.stdout is not None
        assert process.stderr is not None
        readers = [asyncio.create_task(_kept(stream)) for stream in (process.stdout, process.stderr)]
        try:
            code: int | None = await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            code = None
        finally:
            # Also after a normal end: what it left running in the background holds the pipes open.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
        (out, out_total), (err, err_total) = await asyncio.gather(*readers)
    return _Ran(code, out, out_total, err, err_total, time.monotonic() - began)


async def _kept(stream: asyncio.StreamReader) -> tuple[bytes, int]:
    kept, total = bytearray(), 0
    while chunk := await stream.read(1 << 16):
        total += len(chunk)
        kept += chunk[: OUTPUT_BYTES - len(kept)]
    return bytes(kept), total


def _done(ran: _Ran, timeout_s: int, made: list[str]) -> Done:
    ok = ran.code == 0 and not made
    result: dict[str, JsonValue] = {
        "ok": ok,
        "exit_code": ran.code,
        "timed_out": ran.code is None,
        "stdout": ran.out.decode(errors="replace"),
        "stdout_bytes": ran.out_total,
        "stderr": ran.err.decode(errors="replace"),
        "stderr_bytes": ran.err_total,
        "wall_s": round(ran.wall_s, 3),
    }
    end = f"killed after {timeout_s} s" if ran.code is None else f"exit code {ran.code}"
    lines = [f"{end}, {ran.wall_s:.1f} s"]
    if made:
        result["made_protected"] = list(made)
        lines.append(f"it made {', '.join(made)}, which only a person should; look at it before you use it")
    for name, kept, total in (("stdout", ran.out, ran.out_total), ("stderr", ran.err, ran.err_total)):
        if total:
            rest = f" ({total - len(kept):,} further bytes were not kept)" if total > len(kept) else ""
            lines += [f"{name}, {total:,} bytes{rest}:", visible(kept.decode(errors="replace"))]
    return Done(result, "\n".join(lines))
