"""The workspace: the one folder that tools may touch, and the walk that nothing can lead out of it.

Every file is reached by descriptor, one component at a time and without following links (openat, O_NOFOLLOW),
so a link that is swapped in between check and use is refused as well.
"""

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Protocol, TypeAlias

from karkas.agents.tools.paths import covered, relative
from karkas.policies.actions import Digest
from karkas.policies.errors import ConfinementError, InDoubtError, KarkasError, ToolError
from karkas.policies.rendering import visible_line

PROTECTED = (".karkas", ".git", "/karkas.toml", "/zones")
"""A bare name is protected at any depth, one with a leading slash at the root; both with all below."""

ABSENT = "absent"
MAX_FILE_BYTES = 8 * 1024 * 1024


class Artifacts(Protocol):
    """Where what is overwritten is kept; `karkas.storage.artifacts` is one."""

    def put(self, data: bytes, /) -> Digest: ...

    def get(self, digest: Digest, /) -> bytes: ...


Found: TypeAlias = tuple[bytes, os.stat_result]
"""A file's bytes, and what the system says of the file that they were read from."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a write replaced (None where there was nothing), and the folders that it had to make."""

    before: bytes | None
    made: tuple[str, ...]


def state_of(data: bytes | None) -> str:
    """`sha256:<hex>` of a file's bytes, or `absent`."""
    return ABSENT if data is None else f"sha256:{sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Workspace:
    """The folder `root` with its protected places. Nothing protected is read, written or removed here.

    With `artifacts`, what a write replaces is stored there first, under the hash that the permit names, so
    that it is found even after a crash.
    """

    root: Path
    protected: tuple[str, ...] = PROTECTED
    artifacts: Artifacts | None = None
    _places: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """Where the protected places would lie."""
    _read: dict[str, Found | None] | None = field(default=None, init=False, repr=False, compare=False)
    """What one look has seen already."""

    def __post_init__(self) -> None:
        root = self.root.resolve()
        if not root.is_dir() or root == Path(root.anchor):
            raise ConfinementError(
                f"{root} cannot be a workspace; it must be a folder, and not the root folder"
            )
        if visible_line(str(root)) != str(root):
            raise ConfinementError(
                f"{visible_line(str(root))} cannot be a workspace; rename it to what can be seen"
            )
        object.__setattr__(self, "root", root)
        places = tuple(str(root / rule.strip("/")) for rule in self.protected)
        object.__setattr__(self, "_places", places)

    def look(self) -> "Workspace":
        """For what is said of files at one moment: each is read once, and all that is said of it is of what was read
        then. What changes a file looks again.
        """
        one = object.__new__(type(self))
        vars(one).update(vars(self), _read={})
        return one

    def resolve(self, path: str) -> Path:
        """The absolute path, after every rule was checked on what exists of it. Raises `ConfinementError`."""
        plain = relative(path)
        if plain != ".":
            self.check(plain)
        return self.root / plain

    def check(self, path: str) -> None:
        """Raises `ConfinementError` where `path` leaves the workspace or is anything but a file or folder."""
        with _told(path), suppress(FileNotFoundError), self._folder_of(path) as (fd, name):
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                self._check_file(path, found)
            elif _identity(found) in {*self._protected_ids(), *_own_ids()}:
                raise ConfinementError(
                    f"{path} is a protected place by another name; only a person changes it"
                )

    def state(self, path: str) -> str:
        """What a permit binds of a file: `sha256:<hex>`, or `absent`."""
        return state_of(self.read(path))

    def read(self, path: str) -> bytes | None:
        """A regular file's bytes, or None where there is none."""
        found = self._found(path)
        return None if found is None else found[0]

    def text(self, path: str) -> str | None:
        """A file's text as UTF-8, or None where there is none. Raises `ToolError` for anything else."""
        data = self.read(path)
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError as error:
            raise ToolError(
                f"{path} is not UTF-8 text (byte {error.start}); tools change only text that can be shown"
            ) from error

    def mode(self, path: str) -> int | None:
        """The permission bits of a file, or None where there is none."""
        if self._read is not None and (seen := self._read.get(path)) is not None:
            return stat.S_IMODE(seen[1].st_mode)
        with _told(path), suppress(FileNotFoundError), self._folder_of(path) as (fd, name):
            return stat.S_IMODE(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
        return None

    def write(self, path: str, data: bytes, *, expected: str | None = None) -> Written:
        """Replaces or makes a file in one step that either happened wholly or not at all; keeps mode and owner.

        `expected` is the state that was approved. `ToolError` means that nothing was changed, `InDoubtError`
        that it was, and may not outlive a power cut.
        """
        if len(data) > MAX_FILE_BYTES:
            raise ToolError(f"{path} would have {len(data):,} bytes; at most {MAX_FILE_BYTES:,} are written")
        made: list[str] = []
        try:
            with _told(path), self._folder_of(path, made=made) as (fd, name):
                try:
                    before, like = self._read_at(fd, name, path)
                except FileNotFoundError:
                    before, like = None, None
                self._keep(before, like, path)
                wanted = state_of(before) if expected is None else expected
                self._replace(fd, name, path, data, like=like, wanted=wanted)
        except ToolError:
            self._remove_empty(made)
            raise
        return Written(before, tuple(made))

    def remove(self, path: str, *, expected: str, folders: tuple[str, ...] = ()) -> None:
        """Removes a file that is in the state `expected`, and then those of `folders` that are empty."""
        with _told(path), self._folder_of(path) as (fd, name):
            if state_of(self._read_at(fd, name, path)[0]) != expected:
                raise ToolError(f"{path} changed meanwhile; it was left as it is")
            os.unlink(name, dir_fd=fd)
            os.fsync(fd)
        self._remove_empty(folders)

    def _found(self, path: str) -> Found | None:
        if self._read is not None and path in self._read:
            return self._read[path]
        found = None
        with _told(path), suppress(FileNotFoundError), self._folder_of(path) as (fd, name):
            found = self._read_at(fd, name, path)
        if self._read is not None:
            self._read[path] = found
        return found

    def _keep(self, before: bytes | None, like: os.stat_result | None, path: str) -> None:
        if like is not None and not like.st_mode & stat.S_IWUSR:
            raise ToolError(f"{path} is read-only; nothing was changed")
        if before is not None and self.artifacts is not None:
            try:
                self.artifacts.put(before)
            except KarkasError as error:
                raise ToolError(f"{path} cannot be backed up, so nothing was changed: {error}") from error

    def _remove_empty(self, folders: Sequence[str]) -> None:
        for folder in reversed(folders):
            with suppress(OSError), self._folder_of(folder) as (fd, name):
                os.rmdir(name, dir_fd=fd)

    def _replace(
        self, fd: int, name: str, path: str, data: bytes, *, like: os.stat_result | None, wanted: str
    ) -> None:
        with _unnamed(fd, data, like) as give_name:
            try:
                now = state_of(self._read_at(fd, name, path)[0])
            except FileNotFoundError:
                now = ABSENT
            if now != wanted:
                raise ToolError(
                    f"{path} is not as it was approved ({wanted}, now {now}); nothing was changed"
                )
            if wanted == ABSENT:
                try:
                    give_name(name)
                except FileExistsError as error:
                    raise ToolError(f"{path} appeared meanwhile; nothing was changed") from error
            else:
                passing = _passing_name()
                give_name(passing)
                try:
                    os.rename(passing, name, src_dir_fd=fd, dst_dir_fd=fd)
                except OSError:
                    os.unlink(passing, dir_fd=fd)
                    raise
        try:
            os.fsync(fd)
        except OSError as error:
            raise InDoubtError(f"{path} was written, but its folder could not be synced: {error}") from error

    @contextmanager
    def _folder_of(self, path: str, *, made: list[str] | None = None) -> Iterator[tuple[int, str]]:
        """The open folder that holds `path`, and the last name; makes missing folders if `made` is given."""
        plain = relative(path)
        if plain == ".":
            raise ConfinementError("'.' is the workspace itself, not a file in it")
        if covered(plain, self.protected):
            raise ConfinementError(f"{plain} is in a protected place; only a person changes it")
        *folders, name = plain.split("/")
        owned = self._protected_ids() | _own_ids()
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for depth, folder in enumerate(folders, 1):
                here = "/".join(folders[:depth])
                if made is not None:
                    with suppress(FileExistsError):
                        os.mkdir(folder, dir_fd=fd)
                        made.append(here)
                outer, fd = fd, _enter(fd, folder, here)
                os.close(outer)
                if _identity(os.fstat(fd)) in owned:
                    raise ConfinementError(
                        f"{here} is a protected place by another name; only a person changes it"
                    )
            yield fd, name
        finally:
            os.close(fd)

    def _read_at(self, fd: int, name: str, path: str) -> Found:
        # Looking first keeps devices and pipes from being opened at all; looking again is what counts.
        self._check_file(path, os.stat(name, dir_fd=fd, follow_symlinks=False))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            file = os.open(name, flags, dir_fd=fd)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ConfinementError(f"{path} is a symbolic link; links are not followed") from error
            raise
        with os.fdopen(file, "rb") as stream:
            found = os.fstat(file)
            self._check_file(path, found)
            data = stream.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ToolError(
                f"{path} has more than {MAX_FILE_BYTES:,} bytes; it is too large to be shown whole"
            )
        return data, found

    def _check_file(self, path: str, found: os.stat_result) -> None:
        if stat.S_ISLNK(found.st_mode):
            raise ConfinementError(f"{path} is a symbolic link; links are not followed")
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, socket or device"
            raise ConfinementError(f"{path} is {kind}, not a regular file")
        if found.st_nlink > 1:
            raise ConfinementError(
                f"{path} has {found.st_nlink} hard links, so it may be a file outside; copy it first"
            )
        if _identity(found) in self._protected_ids():
            raise ConfinementError(f"{path} is a protected file by another name; only a person changes it")

    def _protected_ids(self) -> set[tuple[int, int]]:
        """Device and inode of what is protected: a file system may know more spellings of a name than we."""
        return {found for place in self._places if (found := _identity_at(place)) is not None}


def own_folders() -> tuple[Path, ...]:
    """The folders whose code this process runs as karkas: its environment and its package."""
    import karkas

    package = [Path(folder) for folder in karkas.__path__]
    rooms = [room for folder in package for room in folder.iterdir() if room.is_dir()]
    return tuple(dict.fromkeys(folder.resolve() for folder in (Path(sys.prefix), *package, *rooms)))


@cache
def _own_ids() -> frozenset[tuple[int, int]]:
    return frozenset(_identity(folder.stat()) for folder in own_folders())


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _identity_at(place: str) -> tuple[int, int] | None:
    try:
        return _identity(os.lstat(place))
    except OSError:
        return None


def _enter(fd: int, folder: str, path: str) -> int:
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise ConfinementError(
                f"{path} is a symbolic link or no folder; links are not followed"
            ) from error
        raise


def _passing_name() -> str:
    return f".karkas-{token_hex(8)}.tmp"


@contextmanager
def _unnamed(fd: int, data: bytes, like: os.stat_result | None) -> Iterator[Callable[[str], None]]:
    """A whole and synced file in the folder `fd`, and what gives it a name that is free.

    It has none before (O_TMPFILE), so that a kill leaves nothing behind; a passing one where that is not known.
    """
    flags, spare = os.O_WRONLY | os.O_CLOEXEC, None
    try:
        file = os.open(".", flags | os.O_TMPFILE, 0o666, dir_fd=fd)
    except (OSError, AttributeError):
        spare = _passing_name()
        file = os.open(spare, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=fd)

    def give_name(name: str) -> None:
        if spare is None:
            os.link(f"/proc/self/fd/{file}", name, dst_dir_fd=fd, follow_symlinks=True)
            return
        try:
            os.link(spare, name, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}:
                raise
            os.rename(spare, name, src_dir_fd=fd, dst_dir_fd=fd)

    try:
        if like is not None:
            with suppress(PermissionError):
                os.fchown(file, like.st_uid, like.st_gid)
            os.fchmod(file, like.st_mode & 0o777)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
        yield give_name
    finally:
        os.close(file)
        if spare is not None:
            with suppress(FileNotFoundError):
                os.unlink(spare, dir_fd=fd)


@contextmanager
def _told(path: str) -> Iterator[None]:
    """An operating-system error becomes a `ToolError` that names the file."""
    try:
        yield
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}; nothing was changed") from error
