"""Routing: which zones a task or an action touches, and the strictest level that follows."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict

from karkas.policies.zones import ControlLevel, Scope, ZoneName, ZoneState, strictest


class Touch(BaseModel):
    """One zone that is touched, and by what."""

    model_config = ConfigDict(frozen=True)

    zone: ZoneName
    level: ControlLevel
    because: tuple[str, ...]


class Route(BaseModel):
    """The zones that a task touches and the level that holds for it."""

    model_config = ConfigDict(frozen=True)

    touches: tuple[Touch, ...]
    level: ControlLevel
    why: str

    @property
    def zones(self) -> tuple[ZoneName, ...]:
        return tuple(touch.zone for touch in self.touches)


def route(
    states: Iterable[ZoneState],
    *,
    text: str = "",
    paths: Iterable[str] = (),
    tools: Iterable[str] = (),
    named: Iterable[ZoneName] = (),
) -> Route:
    """Routes by topics in `text`, workspace-relative `paths`, `tools` and zones `named` outright; strictest wins."""
    paths, tools, named = tuple(paths), tuple(tools), frozenset(named)
    touches = []
    for state in states:
        because = [f"zone {state.zone.name} was named"] if state.zone.name in named else []
        because += matches(state.scope, text=text, paths=paths, tools=tools)
        if because:
            touches.append(Touch(zone=state.zone.name, level=state.level, because=tuple(because)))
    if not touches:
        return Route(touches=(), level=ControlLevel.DRAFT_ONLY, why="it touches no declared zone, so draft-only")
    level = strictest(touch.level for touch in touches)
    decisive = ", ".join(touch.zone for touch in touches if touch.level is level)
    rest = " (the strictest of the zones touched wins)" if len(touches) > 1 else ""
    return Route(touches=tuple(touches), level=level, why=f"{level} because of {decisive}{rest}")


def matches(scope: Scope, *, text: str, paths: Iterable[str], tools: Iterable[str]) -> list[str]:
    """What of a scope is touched, in words."""
    found = [f"topic {topic!r}" for topic in scope.topics if topic_in(topic, text)]
    found += [f"path {path}" for path in paths if any(path_matches(path, glob) for glob in scope.paths)]
    found += [f"tool {tool}" for tool in tools if any(fnmatchcase(tool, glob) for glob in scope.tools)]
    return found


def topic_in(topic: str, text: str) -> bool:
    """Whether the words of `topic` stand in `text` in order, case-insensitively, endings of up to three letters open.

    The open ending lets `adapter` find "adapters" and `адаптер` find «адаптеров».
    """
    words = [rf"{re.escape(word)}\w{{0,3}}" for word in topic.casefold().split()]
    phrase = r"[\s_-]+".join(words)
    return bool(words) and re.search(rf"\b{phrase}\b", text.casefold()) is not None


def path_matches(path: str, glob: str) -> bool:
    """Case-insensitive glob over a POSIX path: `*` within a folder, `**` across, a bare folder covers what is in it.

    Case does not count because a file system may ignore it, and a match can only tighten.
    """
    path, glob = path.casefold().strip("/"), glob.casefold().strip("/")
    return glob_pattern(glob).fullmatch(path) is not None


def glob_pattern(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    table = {"**/": r"(?:.*/)?", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
    return re.compile("".join(table.get(part, re.escape(part)) for part in parts) + r"(?:/.*)?", re.DOTALL)
