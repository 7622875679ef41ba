"""Files and folders: which are read, how they rank, and why others are not."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from karkas.agents.sources.found import Found, Limits
from karkas.policies.distillates import SourceRank
from karkas.policies.errors import SourceError

SUFFIXES = frozenset(
    [
        *(".md", ".markdown", ".mdx", ".qmd", ".rst", ".rest", ".txt", ".text"),
        *(".html", ".htm", ".xhtml", ".pdf", ".ipynb", ".py"),
    ]
)
"""What there is a reader for."""

_TIRED_FOLDERS = {
    "__pycache__": "cache",
    "node_modules": "installed packages",
    "site-packages": "installed packages",
    "venv": "virtual environment",
    "env": "virtual environment",
}
_LICENCE = re.compile(r"(?:licen[cs]e|copying|unlicen[cs]e|notice)(?:[._-].*)?$", re.IGNORECASE)
_README = re.compile(r"readme(?:[._-].*)?$", re.IGNORECASE)
_ABOUT_REPOSITORY = re.compile(
    r"(?:changes?|change[-_]?log|code[-_]of[-_]conduct|contributing|contributors|authors)(?:[._-].*)?$",
    re.IGNORECASE,
)
_ABOUT_PROJECT = re.compile(
    r"(?:history|news|releases?|security|governance|maintainers|support|funding|todo|roadmap)(?:[._-].*)?$",
    re.IGNORECASE,
)
_PLAIN_NAMES = re.compile(r"(?:readme|changes?|changelog|history|news|authors|todo)$", re.IGNORECASE)
_DOCS_FOLDERS = frozenset({"doc", "docs", "documentation", "manual"})
DOCS_BUILDERS = frozenset(
    {"conf.py", "mkdocs.yml", "mkdocs.yaml", "_quarto.yml", "docusaurus.config.js", "book.toml"}
)
"""The folder of such a file is a tree of documentation."""
_NOTES = frozenset({".md", ".markdown", ".qmd", ".mdx", ".rst", ".rest", ".txt", ".text", ".ipynb", ""})
_SEVERAL = 2


def discover_path(spec: str, *, root: Path, limits: Limits) -> Iterator[Found]:
    path = Path(os.path.abspath(root / Path(spec).expanduser()))  # noqa: PTH100 - keeps links, drops `..`
    if not path.exists():
        raise SourceError(
            f"there is no file or folder {spec!r} (looked at {path}); a source is a file, a folder, pkg:NAME,"
            " git:PATH@REV or a URL"
        )
    path = path.resolve()
    if path.is_dir():
        yield from _folder(path, root=root.resolve(), limits=limits)
    elif path.is_file():
        size = path.stat().st_size
        skip = reason_to_skip(path.name, size, limits, alone=True)
        yield _found(
            path, root=root.resolve(), shown=path.name, rank=rank_of(path.name), size=size, skip=skip
        )
    else:
        raise SourceError(f"{spec!r} is neither a file nor a folder; name one that can be read")


def suffix_of(name: str) -> str:
    """The suffix that chooses the reader; a bare README and its like are text."""
    suffix = PurePosixPath(name).suffix.lower()
    return ".txt" if not suffix and _PLAIN_NAMES.match(name) else suffix


def reason_to_skip(name: str, size: int | None, limits: Limits, *, alone: bool = False) -> str | None:
    """Why a file of that name is not read, or None."""
    suffix = suffix_of(name)
    if suffix != ".py" and _LICENCE.match(name) and not alone:
        return "licence text"
    if suffix not in SUFFIXES:
        return f"no reader for {suffix} files" if suffix else "no reader for files without a suffix"
    if size == 0:
        return "empty"
    if size is not None and size > limits.max_bytes:
        return f"larger than {limits.max_bytes:,} bytes"
    return None


def rank_of(path: str, *, docs_tree: bool = False) -> SourceRank:
    """The rank by name and place; `path` is relative to what was named as the source, with `/`."""
    *folders, name = path.split("/")
    suffix = PurePosixPath(name).suffix.lower()
    in_docs = docs_tree or any(folder.lower() in _DOCS_FOLDERS for folder in folders)
    if suffix == ".py":
        return SourceRank.CODE
    if _ABOUT_REPOSITORY.match(name) or (not in_docs and _ABOUT_PROJECT.match(name)):
        return SourceRank.REPOSITORY
    if in_docs:
        return SourceRank.OFFICIAL_DOCS
    if _README.match(name):
        return SourceRank.README
    return SourceRank.NOTE if suffix in _NOTES else SourceRank.UNKNOWN


def module_of(path: str) -> str:
    """The dotted name of a module by its path, from the folder that is on the import path."""
    parts = list(PurePosixPath(path).with_suffix("").parts)
    for source_folder in ("src", "lib"):
        if source_folder in parts[:-1]:
            parts = parts[parts.index(source_folder) + 1 :]
    return ".".join(part for part in parts if part != "__init__")


def title_of(path: str) -> str:
    return re.sub(r"[-_]+", " ", PurePosixPath(path).stem).strip() or path


def frameworks(paths: list[str], name: str) -> dict[str, str]:
    """First folder → framework, where each such folder is a project of its own: README, licence, docs.

    A folder that is itself one project gives `{"": name}`.
    """
    projects: set[str] = set()
    for path in paths:
        first, _, rest = path.partition("/")
        inner = rest.split("/")[0] if rest else first
        marks = _README.match(inner) or _LICENCE.match(inner) or inner in {"pyproject.toml", "docs"}
        if marks:
            projects.add(first if rest and (inner != "docs" or "/" in rest) else "")
    projects -= _DOCS_FOLDERS
    inner_projects = projects - {""}
    if len(inner_projects) >= _SEVERAL:
        return {project: project for project in inner_projects}
    return {"": name} if "" in projects and name.lower() not in _DOCS_FOLDERS else {}


def _folder(folder: Path, *, root: Path, limits: Limits) -> Iterator[Found]:
    listing = list(_walk(folder))
    named = frameworks([relative for relative, _, _ in listing], folder.name)
    builders = tuple(
        relative.rpartition("/")[0] for relative, _, _ in listing if relative.split("/")[-1] in DOCS_BUILDERS
    )
    above = "/".join(folder.parts[-_SEVERAL:])
    unread: dict[tuple[str, str], list[tuple[str, int | None]]] = defaultdict(list)
    taken = 0
    for relative, size, why in listing:
        skip = why or reason_to_skip(relative.rpartition("/")[2], size, limits)
        if skip and skip.startswith("no reader"):
            unread[relative.rpartition("/")[0], skip].append((relative, size))
            continue
        if skip is None and taken >= limits.max_files:
            skip = f"over the limit of {limits.max_files:,} files; name a narrower folder"
        taken += skip is None
        in_docs = any(relative.startswith(f"{place}/" if place else "") for place in builders)
        framework = named.get(relative.partition("/")[0], named.get("", ""))
        yield _found(
            folder / relative,
            root=root,
            shown=f"{folder.name}/{relative}",
            rank=rank_of(f"{above}/{relative}", docs_tree=in_docs),
            size=size,
            skip=skip,
            meta=_scope(relative, framework),
        )
    for (place, skip), files in sorted(unread.items()):
        relative, size = files[0]
        count = ""
        if len(files) > 1:
            relative, size = (
                f"{place}/*{suffix_of(relative)}".lstrip("/"),
                sum(size or 0 for _, size in files),
            )
            count = f" ({len(files)} files)"
        yield _found(
            folder / relative,
            root=root,
            shown=f"{folder.name}/{relative}",
            rank=SourceRank.UNKNOWN,
            size=size,
            skip=skip + count,
        )


def _scope(path: str, framework: str) -> dict[str, str]:
    scope = {"framework": framework} if framework else {}
    return {**scope, "module": module_of(path)} if suffix_of(path) == ".py" else scope


def _walk(folder: Path) -> Iterator[tuple[str, int | None, str | None]]:
    """Relative path, bytes, and why it is not even looked at. No link is followed, so there are no loops."""
    waiting = [""]
    while waiting:
        place = waiting.pop()
        deeper: list[str] = []
        try:
            entries = sorted(os.scandir(folder / place), key=lambda entry: entry.name)
        except OSError as error:
            yield place or ".", None, f"cannot be listed: {error.strerror}"
            continue
        for entry in entries:
            relative = f"{place}/{entry.name}" if place else entry.name
            try:
                relative.encode("utf-8")
                if entry.is_symlink():
                    yield relative, None, _link(folder, Path(entry.path))
                elif entry.is_dir():
                    if tired := _tired(Path(entry.path)):
                        yield relative, None, tired
                    else:
                        deeper.append(relative)
                elif entry.is_file():
                    yield relative, entry.stat().st_size, None
                else:
                    yield relative, None, "neither a file nor a folder"
            except UnicodeEncodeError:
                yield os.fsencode(relative).decode("utf-8", "replace"), None, "its name is not UTF-8"
            except OSError as error:
                yield relative, None, f"cannot be read: {error.strerror}"
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


def _found(
    path: Path,
    *,
    root: Path,
    shown: str,
    rank: SourceRank,
    size: int | None,
    skip: str | None,
    meta: dict[str, str] | None = None,
) -> Found:
    inside = path.is_relative_to(root)
    located = path.relative_to(root).as_posix() if inside else path.as_posix()
    return Found(
        key=f"file:{located}",
        kind="file",
        path=located if inside else shown,
        title=title_of(shown),
        rank=rank,
        locator={"path": located},
        size=size,
        skip=skip,
        at=str(path),
        meta=meta or {},
    )
