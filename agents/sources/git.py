"""Local git repositories at a commit: files are read out of the object store, never checked out.

No hook, filter, text conversion or file-system monitor of the repository is run, and nothing is fetched.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from karkas.agents.sources.found import Found, Limits, Payload
from karkas.agents.sources.survey import Entry, suffix_of, survey, title_of
from karkas.policies.errors import SourceError

_LINK, _SUBMODULE = "120000", "160000"
_SHORT = 12


def discover_git(spec: str, *, root: Path, limits: Limits) -> Iterator[Found]:
    """`git:PATH@REV`; PATH is a repository or a folder in one, relative to `root`. REV is HEAD where it is missing."""
    named, folder, revision = _parts(spec, root)
    if not folder.is_dir():
        raise SourceError(f"there is no folder {named!r} (looked at {folder}); git: takes a local repository")
    try:
        inside = _git(folder, "rev-parse", "--show-prefix", limits=limits).decode().strip()
    except SourceError as error:
        raise SourceError(f"{named!r} is not a git repository that can be read ({error})") from None
    try:
        asked = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        commit = _git(folder, *asked, limits=limits).decode().strip()
    except SourceError:
        raise SourceError(
            f"{named!r} has no commit {revision!r}; `git log` there shows what it has"
        ) from None
    tree = _git(
        folder, "ls-tree", "-r", "-z", "-l", "--full-tree", commit, "--", f":/{inside}", limits=limits
    )
    blobs = {
        path.removeprefix(inside): (mode, blob, size) for path, mode, blob, size in sorted(_entries(tree))
    }
    entries = {}
    for path, (mode, _, size) in blobs.items():
        hidden = _hidden(path)
        skip = {_LINK: "a symbolic link", _SUBMODULE: "a submodule"}.get(mode)
        entries[hidden or path] = Entry(hidden, None, "hidden folder") if hidden else Entry(path, size, skip)
    shown = folder.name.removesuffix(".git")
    located = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else folder.as_posix()
    at = f"{commit[:_SHORT]}/{inside}"
    for one in survey(
        list(entries.values()), name=shown, above=f"{shown}/{inside}".rstrip("/"), limits=limits
    ):
        blob = blobs[one.path][1] if one.path in blobs else ""
        yield Found(
            key=f"git:{located}@{at}{one.path}",
            kind="git",
            path=f"{shown}@{at}{one.path}",
            title=title_of(one.path),
            rank=one.rank,
            locator={"repository": located, "commit": commit, "path": f"{inside}{one.path}", "blob": blob},
            size=one.size,
            skip=one.skip,
            at=str(folder),
            meta=one.meta,
        )


def read_blob(found: Found, limits: Limits) -> Payload:
    raw = _git(Path(found.at), "cat-file", "blob", found.locator["blob"], limits=limits)
    return Payload(raw, suffix_of(found.locator["path"].rpartition("/")[2]))


def _parts(spec: str, root: Path) -> tuple[str, Path, str]:
    named, revision = spec.removeprefix("git:"), "HEAD"
    if "@" in named and not (root / named).exists():
        named, _, revision = named.rpartition("@")
    return named or ".", (root / Path(named).expanduser()).resolve(), revision or "HEAD"


def _entries(tree: bytes) -> Iterator[tuple[str, str, str, int | None]]:
    """Path, mode, object and bytes of each entry of `git ls-tree -l -z`."""
    for line in tree.split(b"\0"):
        about, _, path = line.partition(b"\t")
        if path:
            mode, _, blob, size = about.decode("ascii").split()
            yield path.decode("utf-8", "replace"), mode, blob, int(size) if size.isdigit() else None


def _hidden(path: str) -> str:
    """The outermost hidden folder that the file lies in, or nothing."""
    folders = path.split("/")[:-1]
    for number, folder in enumerate(folders, 1):
        if folder.startswith("."):
            return "/".join(folders[:number])
    return ""


def _git(folder: Path, *arguments: str, limits: Limits) -> bytes:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "LC_ALL": "C",
    }
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C", str(folder)]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, arguments that cannot be options
            [*command, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=limits.timeout_s,
        )
    except FileNotFoundError:
        raise SourceError("git is not installed; install it, or name a folder") from None
    except subprocess.TimeoutExpired:
        raise SourceError(f"git took longer than {limits.timeout_s:g} s") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().splitlines()
        raise SourceError(said[-1] if said else f"git ended with {error.returncode}") from None
    return done.stdout
