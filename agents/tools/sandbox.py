"""The sandbox for commands: bubblewrap, where it is present and really works."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from karkas.agents.tools.paths import covered
from karkas.agents.tools.workspace import Workspace, own_folders
from karkas.policies.errors import ToolError, UsageError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/tmp", "LANG": "C.UTF-8"}  # noqa: S108  # the sandbox's own

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix")
"""All that a command sees of the host, read-only. Not /run, /tmp and /var: sockets in there start programs
outside (D-Bus, Docker), and a read-only mount does not keep anybody from talking to a socket."""

SECRETS = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers", "/etc/sudoers.d",
           "/etc/ssh", "/etc/ssl/private")  # fmt: skip

_BASE = (
    "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL",
    "--hostname", "sandbox", "--proc", "/proc", "--dev", "/dev",
)  # fmt: skip
SCRATCH_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """A working bubblewrap."""

    program: str
    version: str
    flags: tuple[str, ...]


@cache
def bubblewrap() -> Bubblewrap | str:
    """The installed bubblewrap after a trial run, or why there is none that works."""
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap (bwrap) is not installed; install the package `bubblewrap`"
    try:
        known = _output(program, "--help")
        version = _output(program, "--version").removeprefix("bubblewrap").strip()
        flags = (
            *_BASE,
            *(("--unshare-user", "--disable-userns") if "--disable-userns" in known else ()),
            *(("--size", str(SCRATCH_BYTES)) if "--size" in known else ()),
            "--tmpfs",
            ENVIRONMENT["HOME"],
        )
        _output(program, *flags, *_system(), "--", "/bin/true")
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return f"bubblewrap is installed ({program}) but does not work here: {said.strip()}"
    return Bubblewrap(program, version, flags)


def protected_in(workspace: Workspace) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What exists of the protected places, at any depth, and of karkas's own code: (hidden, read-only).

    What starts with `.karkas` is hidden, since the signing key lies there; the rest can be read.
    """
    hidden: list[str] = []
    readonly: list[str] = []
    for folder, folders, files in os.walk(workspace.root):
        here = os.path.relpath(folder, workspace.root)
        for name in sorted((*folders, *files)):
            path = name if here == "." else f"{here}/{name}"
            if not covered(path, workspace.protected):
                continue
            if (workspace.root / path).is_symlink():
                raise ToolError(
                    f"{path} is a symbolic link, which a sandbox cannot protect; replace it by what it names"
                )
            (hidden if covered(path, (".karkas",)) else readonly).append(path)
        folders[:] = [
            name
            for name in folders
            if (name if here == "." else f"{here}/{name}") not in {*hidden, *readonly}
        ]
    own = [
        folder.relative_to(workspace.root)
        for folder in own_folders()
        if folder.is_relative_to(workspace.root)
    ]
    return tuple(hidden), (*readonly, *(path.as_posix() for path in own if path != Path()))


def visible_roots(readable: tuple[str, ...]) -> tuple[Path, ...]:
    """The host's folders that a command may read: the system, this Python, and `readable`."""
    python = {Path(sys.prefix), Path(sys.base_prefix)}
    return (
        *(Path(folder) for folder in SYSTEM if Path(folder).exists()),
        *sorted(folder for folder in python if not any(folder.is_relative_to(one) for one in SYSTEM)),
        *(Path(folder) for folder in readable),
    )


def checked_readable(folders: Iterable[str]) -> tuple[str, ...]:
    """These folders as absolute paths; `UsageError` for one that would lay the whole system open."""
    found = []
    for name in folders:
        folder = Path(name).expanduser()
        if not folder.is_absolute() or folder.resolve() == Path("/"):
            raise UsageError(f"`readable` lists {name!r}; list absolute folders, and not the root folder")
        found.append(str(folder.resolve()))
    return tuple(found)


def confined(
    wrap: Bubblewrap, argv: list[str], *, workspace: Workspace, cwd: Path, readable: tuple[str, ...]
) -> list[str]:
    """`argv` as bubblewrap runs it. Later mounts lie over earlier ones, so what protects comes last."""
    root = workspace.root
    hidden, readonly = protected_in(workspace)
    call = [wrap.program, *wrap.flags, *_system()]
    for folder in visible_roots(readable):
        if str(folder) not in SYSTEM and not folder.is_relative_to(root):
            call += ["--ro-bind", str(folder), str(folder)]
    call += ["--bind", str(root), str(root)]
    for path in readonly:
        call += ["--ro-bind", str(root / path), str(root / path)]
    for path in hidden:
        call += _masked(root / path)
    for name, value in ENVIRONMENT.items():
        call += ["--setenv", name, value]
    return [*call, "--remount-ro", "/", "--chdir", str(cwd), "--", *argv]


def _system() -> list[str]:
    call: list[str] = []
    for name in SYSTEM:
        folder = Path(name)
        if folder.is_symlink():
            call += ["--symlink", str(folder.readlink()), name]
        elif folder.exists():
            call += ["--ro-bind", name, name]
    for name in SECRETS:
        if Path(name).exists():
            call += _masked(Path(name))
    return call


def _masked(path: Path) -> list[str]:
    return ["--tmpfs", str(path)] if path.is_dir() else ["--ro-bind", "/dev/null", str(path)]


def _output(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    return done.stdout
