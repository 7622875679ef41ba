"""Where claims come from and where they hold, in words."""

import posixpath
from collections.abc import Mapping, Sequence

from karkas.policies.distillates import SourceRecord

_TOLD_ELSEWHERE = frozenset({"page", "section", "columns", "module", "version", "when"})
"""Parts of a scope that the claim's source or its own words say already."""


def source_path(source: SourceRecord) -> str:
    """Where a source is from, as a person would say it."""
    where = source.locator
    named = where.get("path") or where.get("url") or " ".join(where.values())
    return named or source.title or source.id


class Places:
    """Paths of sources, without the folder that all the absolute ones share (`root`, with its slash)."""

    def __init__(self, sources: Sequence[SourceRecord]) -> None:
        self._paths = {source.id: source_path(source) for source in sources}
        absolute = [posixpath.dirname(path) for path in self._paths.values() if path.startswith("/")]
        shared = posixpath.commonpath(absolute) if absolute else ""
        self.root = f"{shared}/" if shared.strip("/") else ""

    def path(self, source: str) -> str:
        """The path of the source with this id; the id itself where it is not known."""
        return self._paths.get(source, source).removeprefix(self.root)


def limits(scope: Mapping[str, str]) -> list[str]:
    """What limits a claim: its framework or package by name, everything else with its key."""
    return [
        value if key in {"framework", "package"} else f"{key} {value}"
        for key, value in scope.items()
        if key not in _TOLD_ELSEWHERE
    ]
