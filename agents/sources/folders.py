"""Files and folders of this machine. No link is followed."""

import os
from collections.abc import Iterator
from pathlib import Path

from karkas.agents.sources.found import Found, Limits
from karkas.agents.sources.survey import Entry, Surveyed, rank_of, reason_to_skip, survey, title_of
from karkas.policies.errors import SourceError

_TIRED_FOLDERS = {
    "__pycache__": "cache",
    "node_modules": "installed packages",
    "site-packages": "installed packages",
    "venv": "virtual environment",
    "env": "virtual environment",
}
_TELLING_PARTS = 2
"""How many of a folder's last names say what it is: `peft/docs`, but not all of `/home/docs/...`."""


def discover_path(spec: str, *, root: Path, limits: Limits) -> Iterator[Found]:
    path = Path(os.path.abspath(root / Path(spec).expanduser()))  # noqa: PTH100 - keeps links, drops `..`
    if not path.exists():
        raise SourceError(
            f"there is no file or folder {spec!r} (looked at {path}); a source is a file, a folder, pkg:NAME,"
            " git:PATH@REV or a URL"
        )
    path = path.resolve()
    if path.is_dir():
        above = "/".join(path.parts[-_TELLING_PARTS:])
        for one in survey(list(_walk(path)), name=path.name, above=above, limits=limits):
            yield _found(path / one.path, one, root=root, shown=f"{path.name}/{one.path}")
    elif path.is_file():
        size = path.stat().st_size
        skip = reason_to_skip(path.name, size, limits, alone=True)
        yield _found(
            path, Surveyed(path.name, size, skip, rank_of(path.name), {}), root=root, shown=path.name
        )
    else:
        raise SourceError(f"{spec!r} is neither a file nor a folder; name one that can be read")


def _walk(folder: Path) -> Iterator[Entry]:
    """Files before folders, each in the order of its names; no link is followed, so there are no loops."""
    waiting = [""]
    while waiting:
        place = waiting.pop()
        deeper: list[str] = []
        try:
            entries = sorted(os.scandir(folder / place), key=lambda entry: entry.name)
        except OSError as error:
            yield Entry(place or ".", None, f"cannot be listed: {error.strerror}")
            continue
        for entry in entries:
            relative = f"{place}/{entry.name}" if place else entry.name
            try:
                relative.encode("utf-8")
                if entry.is_symlink():
                    yield Entry(relative, None, _link(folder, Path(entry.path)))
                elif entry.is_dir():
                    if tired := _tired(Path(entry.path)):
                        yield Entry(relative, None, tired)
                    else:
                        deeper.append(relative)
                elif entry.is_file():
                    yield Entry(relative, entry.stat().st_size, None)
                else:
                    yield Entry(relative, None, "neither a file nor a folder")
            except UnicodeEncodeError:
                yield Entry(os.fsencode(relative).decode("utf-8", "replace"), None, "its name is not UTF-8")
            except OSError as error:
                yield Entry(relative, None, f"cannot be read: {error.strerror}")
        waiting.extend(reversed(deeper))


def _tired(folder: Path) -> str | None:
    if folder.name.startswith("."):
        return "hidden folder"
    if (folder / "pyvenv.cfg").exists():
        return "virtual environment"
    return _TIRED_FOLDERS.get(folder.name)


def _link(folder: Path, link: Path) -> str:
    try:
        inside = link.resolve().is_relative_to(folder)
    except (OSError, RuntimeError):
        inside = False
    return "a link to what is listed itself" if inside else "a link out of the folder"


def _found(path: Path, one: Surveyed, *, root: Path, shown: str) -> Found:
    inside = path.is_relative_to(root)
    located = path.relative_to(root).as_posix() if inside else path.as_posix()
    return Found(
        key=f"file:{located}",
        kind="file",
        path=located if inside else shown,
        title=title_of(shown),
        rank=one.rank,
        locator={"path": located},
        size=one.size,
        skip=one.skip,
        at=str(path),
        meta=one.meta,
    )
