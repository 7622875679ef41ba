"""A tree of files by its names: which are read, how they rank, what scope they have, and why others are not."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from os.path import commonpath
from pathlib import PurePosixPath
from typing import NamedTuple

from karkas.agents.sources.found import Limits
from karkas.policies.distillates import SourceRank

SUFFIXES = frozenset(
    [
        *(".md", ".markdown", ".mdx", ".qmd", ".rst", ".rest", ".txt", ".text"),
        *(".html", ".htm", ".xhtml", ".pdf", ".ipynb", ".py"),
    ]
)
"""What there is a reader for."""

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
_DOCS_BUILDERS = frozenset(
    {"conf.py", "mkdocs.yml", "mkdocs.yaml", "_quarto.yml", "docusaurus.config.js", "book.toml"}
)
"""The folder of such a file is a tree of documentation."""
_NOTES = frozenset({".md", ".markdown", ".qmd", ".mdx", ".rst", ".rest", ".txt", ".text", ".ipynb", ""})
_NO_READER = "no reader for"
_TEST_CODE = "test code"
_TESTS = re.compile(r"(?:^|/)(?:tests?|testing|conftest\.py|test_[^/]*\.py|[^/]*_test\.py)(?:/|$)")
_SEVERAL = 2


class Entry(NamedTuple):
    """A file, relative to its tree with `/`; `skip` says why it is not even looked at."""

    path: str
    size: int | None = None
    skip: str | None = None


class Surveyed(NamedTuple):
    path: str
    size: int | None
    skip: str | None
    rank: SourceRank
    meta: dict[str, str]


def survey(entries: Sequence[Entry], *, name: str, above: str, limits: Limits) -> Iterator[Surveyed]:
    """Every entry, in its order, then one line for each suffix that has no reader and one for
    test code, with the number of files.

    `name` is the tree's own, `above` the path of folders that it stands in, as far as that says what it is.
    """
    projects = frameworks([entry.path for entry in entries], name)
    builders = tuple(
        folder
        for folder, _, file in (entry.path.rpartition("/") for entry in entries)
        if file in _DOCS_BUILDERS
    )
    unread: dict[str, list[Entry]] = defaultdict(list)
    taken = 0
    for path, size, why in entries:
        skip = why or reason_to_skip(path.rpartition("/")[2], size, limits)
        if skip is None and path.endswith(".py") and _TESTS.search(path):
            skip = _TEST_CODE
        if skip and skip.startswith((_NO_READER, _TEST_CODE)):
            unread[skip].append(Entry(path, size))
            continue
        if skip is None and taken >= limits.max_files:
            skip = f"over the limit of {limits.max_files:,} files; name a narrower folder"
        taken += skip is None
        in_docs = any(path.startswith(f"{folder}/" if folder else "") for folder in builders)
        rank = rank_of(f"{above}/{path}".lstrip("/"), docs_tree=in_docs)
        framework = projects.get(path.partition("/")[0], projects.get("", ""))
        meta = {"framework": framework} if framework else {}
        if suffix_of(path.rpartition("/")[2]) == ".py":
            meta["module"] = module_of(path)
        yield Surveyed(path, size, skip, rank, meta)
    for skip, files in sorted(unread.items()):
        path, size = files[0].path, files[0].size
        if len(files) > 1:
            place = commonpath([file.path.rpartition("/")[0] for file in files])
            path = f"{place}/**/*{suffix_of(path.rpartition('/')[2])}".lstrip("/")
            size, skip = sum(file.size or 0 for file in files), f"{skip} ({len(files)} files)"  # noqa: PLW2901
        yield Surveyed(path, size, skip, SourceRank.UNKNOWN, {})


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
        return f"{_NO_READER} {suffix} files" if suffix else f"{_NO_READER} files without a suffix"
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
