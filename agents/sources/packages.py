"""Installed Python distributions: the README out of the metadata and the public modules, found without an import."""

import ast
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from karkas.agents.sources.found import Found, Limits, Payload
from karkas.agents.sources.python import parsed
from karkas.agents.sources.survey import module_of, reason_to_skip
from karkas.policies.distillates import SourceRank
from karkas.policies.errors import SourceError

_TESTS = frozenset({"test", "tests", "testing", "conftest.py", "benchmarks"})
_FOREIGN = frozenset({"vendor", "vendored", "third_party", "thirdparty", "extern", "externals"})
_SUFFIX_OF_TYPE = {"text/markdown": ".md", "text/x-rst": ".rst", "text/plain": ".txt"}
_SHORT_LICENCE = 60


def discover_package(spec: str, *, limits: Limits) -> Iterator[Found]:
    """`pkg:NAME`: its README, then its public modules; what is left out is counted in one last candidate."""
    name = spec.removeprefix("pkg:").strip()
    dist = _distribution(name)
    named, version = dist.metadata["Name"] or name, dist.version
    licence, meta = _licence(dist), {"package": named, "version": version}
    readme = readme_of(named)
    yield Found(
        key=f"pkg:{named}/README",
        kind="package",
        path=f"pkg:{named}/README",
        title=f"{named} README",
        rank=SourceRank.PACKAGE_DOCS,
        locator={"package": named, "version": version, "path": "README"},
        size=len(readme.raw),
        skip=None if readme.raw.strip() else "its metadata has no description",
        meta=meta,
        license=licence,
    )
    left_out: Counter[str] = Counter()
    shown = _shown(dist)
    taken = 0
    for file in sorted(dist.files or (), key=str):
        path = PurePosixPath(file.as_posix())
        if why := _left_out(path, shown):
            left_out[why] += why != "no source"
            continue
        located = Path(str(dist.locate_file(file)))
        size = located.stat().st_size if located.is_file() else None
        skip = "its file is missing" if size is None else reason_to_skip(path.name, size, limits)
        if skip == "empty":
            left_out["empty"] += 1
            continue
        if skip is None and taken >= limits.max_files:
            skip = f"over the limit of {limits.max_files:,} files"
        taken += skip is None
        module = module_of(path.as_posix())
        yield Found(
            key=f"pkg:{named}/{path}",
            kind="code",
            path=f"pkg:{named}/{path}",
            title=module,
            rank=SourceRank.CODE,
            locator={"package": named, "version": version, "path": path.as_posix()},
            size=size,
            skip=skip,
            at=str(located),
            meta={**meta, "module": module},
            license=licence,
        )
    counted = ", ".join(f"{count} {why}" for why, count in sorted(left_out.items()) if count)
    editable = '"editable": true' in (dist.read_text("direct_url.json") or "")
    if editable and not taken:
        counted = "it is installed in editable mode: name its source folder to read its code"
    if counted:
        yield Found(
            key=f"pkg:{named}/~left-out",
            kind="code",
            path=f"pkg:{named}/ (the rest)",
            title=f"{named}: what is left out",
            rank=SourceRank.CODE,
            locator={"package": named, "version": version, "path": "~left-out"},
            skip=counted if editable and not taken else f"modules left out: {counted}",
            meta=meta,
            license=licence,
        )


def readme_of(package: str) -> Payload:
    """The long description as the metadata has it; core metadata reads it as reStructuredText by default."""
    metadata = _distribution(package).metadata
    said = metadata.json.get("description")
    body = said if isinstance(said, str) else ""
    declared = str(metadata.json.get("description_content_type") or "").partition(";")[0].strip().lower()
    return Payload(body.encode("utf-8", "replace"), _SUFFIX_OF_TYPE.get(declared, ".rst"), charset="utf-8")


def _distribution(name: str) -> Distribution:
    try:
        return distribution(name)
    except (PackageNotFoundError, ValueError):
        raise SourceError(
            f"no package {name!r} is installed where karkas runs; `pip install {name or 'NAME'}` there, or name"
            " the folder of its sources"
        ) from None


def _left_out(path: PurePosixPath, shown: frozenset[str]) -> str | None:
    """Why a file of a distribution is no public module, or None."""
    if path.suffix in {".so", ".pyd"}:
        return "compiled"
    if path.suffix != ".py" or ".." in path.parts or path.parts[0].endswith((".dist-info", ".data")):
        return "no source"
    if any(part.lower() in _TESTS or part.startswith("test_") for part in path.parts):
        return "tests"
    if any(part.lower().strip("_") in _FOREIGN for part in path.parts[:-1]):
        return "vendored"
    private = any(part.startswith("_") and part != "__init__.py" for part in path.parts)
    return "private" if private and module_of(path.as_posix()) not in shown else None


def _shown(dist: Distribution) -> frozenset[str]:
    """Private modules out of which a public `__init__` exports names: they are the package's face."""
    shown: set[str] = set()
    for file in dist.files or ():
        path = PurePosixPath(file.as_posix())
        if path.name == "__init__.py" and not _left_out(path, frozenset()):
            try:
                tree = parsed(Path(str(dist.locate_file(file))).read_text("utf-8"))
            except (OSError, UnicodeError, SourceError):
                continue
            shown.update(_exporting(tree, module_of(path.as_posix())))
    return frozenset(shown)


def _exporting(tree: ast.Module, package: str) -> Iterator[str]:
    listed = {
        item.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign)
        and "__all__" in ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        for item in ast.walk(node)
        if isinstance(item, ast.Constant)
    }
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level <= 1 and node.module:
            names = {alias.asname or alias.name for alias in node.names}
            if "*" in names or (
                names & listed if listed else any(not name.startswith("_") for name in names)
            ):
                yield f"{package}.{node.module}" if node.level else node.module


def _licence(dist: Distribution) -> str | None:
    """The SPDX expression where there is one, else the short form that the package gives."""
    metadata = dist.metadata
    stated = str(metadata.json.get("license_expression") or metadata.json.get("license") or "")
    if stated and "\n" not in stated and len(stated) <= _SHORT_LICENCE:
        return stated
    classified = [
        line.rpartition("::")[2].strip()
        for line in metadata.get_all("Classifier") or ()
        if line.startswith("License ::")
    ]
    return ", ".join(classified) or None
