"""From what a person names as a source to the candidates in it."""

from collections.abc import Iterator
from pathlib import Path

from karkas.agents.sources.folders import discover_path
from karkas.agents.sources.found import Found, Limits


def discover(spec: str, *, root: Path, limits: Limits) -> Iterator[Found]:
    """The candidates of `spec`, lazily and in a stable order.

    `spec` is a file or folder (relative to `root`), `pkg:NAME`, `git:PATH@REV`, or an http(s) URL. What will not be
    read is among them, with the reason. Raises `SourceError` where `spec` itself is of no use.
    """
    yield from discover_path(spec, root=root, limits=limits)
