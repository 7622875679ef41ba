"""Paths in the workspace as text: one spelling each, and nothing that leads elsewhere or hides in a name."""

import unicodedata
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, Field

from karkas.policies.errors import ConfinementError
from karkas.policies.rendering import visible_line

MAX_PATH_BYTES, MAX_NAME_BYTES = 2048, 255


@lru_cache(maxsize=1024)
def relative(path: str) -> str:
    """The one spelling of a workspace-relative path (`./a//b/` gives `a/b`), or `ConfinementError`."""
    shown = visible_line(path)
    if not path:
        raise ConfinementError("the path is empty; give one relative to the workspace")
    if shown != path:
        raise ConfinementError(f"path {shown} holds characters that cannot be seen; spell it plainly")
    if path.startswith(("/", "~/")) or path == "~":
        raise ConfinementError(f"path {shown} is absolute; give it relative to the workspace")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise ConfinementError(f"the path is longer than {MAX_PATH_BYTES} bytes: {shown}")
    parts = [part for part in path.split("/") if part not in {"", "."}]
    for part in parts:
        plain = unicodedata.normalize("NFKC", part)
        if plain == "..":
            raise ConfinementError(f"path {shown} contains '..'; give it without")
        if "/" in plain or "\\" in plain:
            raise ConfinementError(f"path {shown} contains a separator in disguise or a backslash; use '/'")
        if plain != plain.strip(" ").rstrip("."):
            raise ConfinementError(f"path {shown}: {part!r} begins or ends with a space or ends with a dot")
        if len(part.encode()) > MAX_NAME_BYTES:
            raise ConfinementError(f"path {shown}: a name is longer than {MAX_NAME_BYTES} bytes")
    return "/".join(parts) or "."


class PathArgument:
    """Marks an argument that names a path in the workspace, by which its action is routed."""


CANONICAL = AfterValidator(relative)

WorkspacePath = Annotated[str, Field(max_length=MAX_PATH_BYTES), CANONICAL, PathArgument()]
"""A path relative to the workspace, as an argument of a tool. `PathArgument` makes it count for routing."""


def folded(name: str) -> str:
    """What two names share when a file system may take them for the same."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def covered(path: str, rules: tuple[str, ...]) -> bool:
    """Whether `path` is one of `rules` or below it. A rule without a leading slash counts at any depth."""
    parts = _names(path)
    for rule in rules:
        names = _ruled(rule)
        if parts[: len(names)] == names or (not rule.startswith("/") and names[0] in parts):
            return True
    return False


def _names(path: str) -> tuple[str, ...]:
    return tuple(map(folded, path.split("/")))


@lru_cache(maxsize=256)
def _ruled(rule: str) -> tuple[str, ...]:
    """The names of a rule, which every path is held against."""
    return _names(rule.strip("/"))
