"""run_command: one program with its arguments, never a shell string, in a sandbox."""

import asyncio
import json
import os
import shutil
import stat
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue

from karkas.agents.tools import paths, process, sandbox
from karkas.agents.tools import workspace as workspace_code
from karkas.agents.tools.paths import covered, relative
from karkas.agents.tools.process import Ran, run_process
from karkas.agents.tools.sandbox import (
    ENVIRONMENT,
    PATH,
    Bubblewrap,
    bubblewrap,
    confined,
    protected_in,
    visible_roots,
)
from karkas.agents.tools.tool import Done, Tool, tool
from karkas.agents.tools.workspace import Workspace
from karkas.policies.actions import Effect
from karkas.policies.errors import ConfinementError, KarkasError, ToolError
from karkas.policies.rendering import visible_line
from karkas.policies.routing import EVERYWHERE
from karkas.policies.sandbox import Sandbox

INLINE_CHARS = 20_000
"""How much of each output's end stands in the result itself; all that was kept is an artifact."""
HASHED_BYTES = 256 * 1024 * 1024

Argument = Annotated[str, Field(max_length=100_000, pattern=r"^[^\x00]*$")]
Argv = Annotated[list[Argument], Field(min_length=1, max_length=1000)]
Folder = Annotated[str, Field(max_length=paths.MAX_PATH_BYTES), paths.CANONICAL]


@cache
def run_command_tool(policy: Sandbox = Sandbox.BUBBLEWRAP, readable: tuple[str, ...] = ()) -> Tool:
    """`run_command` under this policy; `readable` are further folders of the host that commands may read."""

    def show(argv: list[str], cwd: str, timeout_s: int, workspace: Workspace) -> str:
        return _shown(argv, cwd, timeout_s, workspace, policy=policy, readable=readable)

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
        code=(process, sandbox, paths, workspace_code),
    )
    async def run_command(
        argv: Argv,
        workspace: Workspace,
        cwd: Folder = ".",
        timeout_s: Annotated[int, Field(ge=1, le=3600)] = 60,
    ) -> Done:
        """Runs one program with these arguments in the workspace's folder `cwd`. No shell: no pipes, no globs."""
        return await _run(argv, workspace, cwd, timeout_s, policy=policy, readable=readable)

    return run_command


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
    """The absolute path of what will run; unresolved, since a virtual environment's Python goes by its link."""
    found = folder / name if "/" in name else Path(shutil.which(name, path=PATH) or "")
    # Path.is_file raises where a name is too long for the file system.
    if not os.path.isfile(found) or not os.access(found, os.X_OK):  # noqa: PTH113
        raise ToolError(
            f"there is no program {visible_line(name)}; give a path from the folder it runs in, or one of {PATH}"
        )
    program, real = Path(os.path.normpath(found)), found.resolve()
    seen = () if readable is None else (*visible_roots(readable), workspace.root)
    if seen and not any(real.is_relative_to(root) for root in seen):
        raise ToolError(f"{real} is not visible in the sandbox; list its folder under `readable` in [act]")
    if real.is_relative_to(workspace.root) and covered(
        real.relative_to(workspace.root).as_posix(), workspace.protected
    ):
        raise ConfinementError(f"{visible_line(name)} is in a protected place")
    return program


def _state(path: Path) -> str:
    found = path.stat()
    if found.st_size > HASHED_BYTES:
        return f"size:{found.st_size} changed:{found.st_mtime_ns}"
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
    """What the arguments may name in the workspace; and everything, since the sandbox lets it write anywhere."""
    touched = [EVERYWHERE, cwd]
    for argument in argv[1:]:
        for text in (argument, argument.partition("=")[2]):
            plain = os.path.normpath(f"{cwd}/{text}") if text else ""
            with suppress(ConfinementError):
                touched.append(relative(plain))
    return tuple(dict.fromkeys(touched))


def _shown(
    argv: list[str],
    cwd: str,
    timeout_s: int,
    workspace: Workspace,
    *,
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
        hidden, readonly = (map(quoted, places) for places in protected_in(workspace))
        lines += [
            f"sandbox: bubblewrap {wrap.version}; no network; all of {workspace.root} is writable but this:",
            f"  hidden: {', '.join(hidden) or 'nothing in the workspace'}; and all of your other folders",
            f"  read-only: {', '.join(readonly) or 'nothing in the workspace'}",
            f"  readable outside: {', '.join(quoted(str(root)) for root in visible_roots(readable))}",
        ]
        home = ENVIRONMENT["HOME"]
    lines += [
        f"folder: {cwd} in {workspace.root}",
        f"time-out: {timeout_s} s",
        f"environment: PATH={PATH} HOME={home} LANG={ENVIRONMENT['LANG']}, nothing else",
        f"program: {quoted(str(program))} {_state(program)}",
        *(f"file: {quoted(path)} {state}" for path, state in _named_files(argv, cwd, workspace).items()),
        "arguments, one a line, the program first:",
        *(f"  {json.dumps(argument, ensure_ascii=False)}" for argument in argv),
    ]
    return "\n".join(lines)


def quoted(path: str) -> str:
    """A path on one line; one that could be taken for something else stands in quotes."""
    return path if path.isprintable() and '"' not in path else json.dumps(path, ensure_ascii=False)


async def _run(
    argv: list[str],
    workspace: Workspace,
    cwd: str,
    timeout_s: int,
    *,
    policy: Sandbox,
    readable: tuple[str, ...],
) -> Done:
    wrap = await asyncio.to_thread(_sandbox, policy)
    folder = _folder(cwd, workspace)
    program = _program(argv[0], folder, workspace, readable if wrap else None)
    before = await asyncio.to_thread(_protected_names, workspace)
    call = [str(program), *argv[1:]]
    if wrap is not None:
        call = await asyncio.to_thread(
            confined, wrap, call, workspace=workspace, cwd=folder, readable=readable
        )
    ran = await run_process(call, folder, timeout_s=timeout_s, sandboxed=wrap is not None)
    made = sorted(await asyncio.to_thread(_protected_names, workspace) - before)
    return await asyncio.to_thread(_done, ran, timeout_s, made, workspace)


def _protected_names(workspace: Workspace) -> set[str]:
    with suppress(ToolError):
        hidden, readonly = protected_in(workspace)
        return {*hidden, *readonly}
    return set()


def _done(ran: Ran, timeout_s: int, made: list[str], workspace: Workspace) -> Done:
    result: dict[str, JsonValue] = {
        "ok": ran.code == 0 and not made,
        "exit_code": ran.code,
        "timed_out": ran.code is None,
        "wall_s": round(ran.wall_s, 3),
    }
    end = f"killed after {timeout_s} s" if ran.code is None else f"exit code {ran.code}"
    lines = [f"{end}, {ran.wall_s:.1f} s"]
    if made:
        result["made_protected"] = list(made)
        lines.append(
            f"it made {', '.join(map(quoted, made))}, which only a person should; look before you use it"
        )
    for name, output in (("stdout", ran.stdout), ("stderr", ran.stderr)):
        text, total = output.kept.decode(errors="replace"), output.total
        result |= {name: text[-INLINE_CHARS:], f"{name}_bytes": total}
        if len(text) > INLINE_CHARS and workspace.artifacts is not None:
            # The command has run: an output that cannot be stored is no reason to say otherwise.
            with suppress(KarkasError):
                result[f"{name}_artifact"] = workspace.artifacts.put(bytes(output.kept))
        if total:
            rest = total - len(output.kept)
            lines += [f"{name}, {total:,} bytes{f', the last {rest:,} not kept' if rest else ''}:", text]
    return Done(result, "\n".join(lines))
