"""From what a person names as a source to the candidates in it."""

import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from karkas.agents.sources.folders import discover_path
from karkas.agents.sources.found import Found, Limits
from karkas.agents.sources.git import discover_git
from karkas.agents.sources.packages import discover_package
from karkas.agents.sources.web import discover_url
from karkas.policies.errors import SourceError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)


def discover(spec: str, *, root: Path, limits: Limits) -> Iterator[Found]:
    """The candidates of `spec`, lazily and in a stable order.

    `spec` is a file or folder (relative to `root`), `pkg:NAME`, `git:PATH@REV`, or an http(s) URL. What will
    not be read is among them, with the reason. Raises `SourceError` at once where `spec` itself is of no use.
    """
    candidates = _candidates(spec, root.resolve(), limits)
    return chain(list(islice(candidates, 1)), candidates)


def _candidates(spec: str, root: Path, limits: Limits) -> Iterator[Found]:
    scheme = _SCHEME.match(spec)
    match scheme[1].lower() if scheme else "":
        case "pkg":
            return discover_package(spec, limits=limits)
        case "git":
            return discover_git(spec, root=root, limits=limits)
        case "http" | "https":
            return discover_url(spec, limits=limits)
        case other if other and "//" in spec:
            raise SourceError(f"{spec!r} is of a kind that karkas does not read; use http or https")
        case _:
            return discover_path(spec, root=root, limits=limits)
