"""What can be seen of effects: snapshots of a folder, and what Python itself reports of files, programs and sockets.

Python tells its audit hooks (PEP 578) of every file that is opened to write, and of every program and connection that
is begun, in this process. What a started program does, what code in C does without telling, and what a server does with
what it is sent is not seen.
"""

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

State: TypeAlias = tuple[str, int, bytes]
"""Kind, permission bits, and the bytes or where a link leads."""
Snapshot: TypeAlias = dict[str, State]

OWN = {".karkas", ".git", "zones", "karkas.toml"}
"""At the root of a project: what karkas itself writes, and no tool may."""


def snapshot(root: Path) -> Snapshot:
    """Every file, folder and link below `root` but karkas's own, by relative path."""
    found: Snapshot = {}
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        if here == root:
            folders[:] = [name for name in folders if name not in OWN]
            files = [name for name in files if name not in OWN]  # noqa: PLW2901
        for name in (*folders, *files):
            path = here / name
            found[path.relative_to(root).as_posix()] = _state(path)
    return found


def _state(path: Path) -> State:
    mode = path.lstat().st_mode
    bits = stat.S_IMODE(mode)
    if stat.S_ISLNK(mode):
        return "link", bits, os.fsencode(path.readlink())
    if stat.S_ISREG(mode):
        return "file", bits, path.read_bytes()
    return ("folder" if stat.S_ISDIR(mode) else "other"), bits, b""


def changed(before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    """The paths that are not as they were."""
    return tuple(path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path))


@dataclass
class Seen:
    """What was seen while it was watched, in the order in which it began."""

    written: dict[str, bool] = field(default_factory=dict)
    """Absolute paths outside the watched root that were opened to write, made, moved or removed; whether they were
    there before."""
    programs: list[str] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)

    @property
    def files(self) -> tuple[str, ...]:
        """What was written outside; not a temporary file that came and went."""
        return tuple(path for path, was in self.written.items() if was or os.path.lexists(path))


@contextmanager
def watching(root: Path) -> Iterator[Seen]:
    """Collects what this process does outside `root`."""
    seen, inside = Seen(), os.fspath(root)

    def note(event: str, args: tuple[Any, ...]) -> None:
        match event:
            case "subprocess.Popen" | "os.system" | "os.posix_spawn" | "os.exec":
                seen.programs.append(_text(args[0]))
            case "socket.connect" | "socket.sendto":
                seen.connections.append(repr(args[-1]))
            case _:
                for path in _written(event, args):
                    if not (path == inside or path.startswith(f"{inside}{os.sep}") or _is_noise(path)):
                        seen.written.setdefault(path, os.path.lexists(path))

    _listen(note)
    try:
        yield seen
    finally:
        _listeners.remove(note)


_listeners: list[Callable[[str, tuple[Any, ...]], None]] = []
_installed = False


def _listen(note: Callable[[str, tuple[Any, ...]], None]) -> None:
    global _installed  # noqa: PLW0603  a hook cannot be taken away again, so there is one for the whole process
    _listeners.append(note)
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True


def _hook(event: str, args: tuple[Any, ...]) -> None:
    for note in tuple(_listeners):
        note(event, args)


WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ONE_PATH = {
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "os.utime",
    "os.setxattr",
}
TWO_PATHS = {"os.rename", "os.link", "os.symlink"}
DESCRIPTORS: dict[str, tuple[int, ...]] = {
    "os.remove": (1,),
    "os.rmdir": (1,),
    "os.mkdir": (2,),
    "os.chmod": (2,),
    "os.chown": (3,),
    "os.utime": (3,),
    "os.rename": (2, 3),
    "os.link": (2, 3),
    "os.symlink": (2,),
}
"""Where in an event's arguments the descriptors of folders stand that its paths are relative to."""


def _written(event: str, args: tuple[Any, ...]) -> Iterable[str]:
    """The absolute paths that an event is about to change. By descriptor, as the workspace works, there is none."""
    if event == "open":
        path, mode, flags = args
        # `os.open` does not tell the folder that a relative path is meant from.
        absolute = isinstance(path, str | bytes) and os.fsdecode(path).startswith(os.sep)
        known = mode is not None or absolute
        return _paths(path) if known and isinstance(flags, int) and flags & WRITING else ()
    if event in ONE_PATH and not _by_descriptor(event, args):
        return _paths(args[0])
    if event in TWO_PATHS and not _by_descriptor(event, args):
        return _paths(*args[:2])
    return ()


def _by_descriptor(event: str, args: tuple[Any, ...]) -> bool:
    """Whether a folder's descriptor stands among the arguments: the path is then relative to it."""
    positions = DESCRIPTORS.get(event, ())
    return any(isinstance(args[at], int) and args[at] >= 0 for at in positions if at < len(args))


def _paths(*paths: object) -> Iterable[str]:
    return [
        os.path.abspath(os.fsdecode(path))  # noqa: PTH100  a hook must not follow links or raise
        for path in paths
        if isinstance(path, str | bytes | os.PathLike)
    ]


def _is_noise(path: str) -> bool:
    """Byte code, devices and what the interpreter keeps."""
    return "__pycache__" in path or path.startswith(("/dev/", "/proc/")) or path == tempfile.gettempdir()


def _text(value: object) -> str:
    return os.fsdecode(value) if isinstance(value, str | bytes | os.PathLike) else repr(value)
