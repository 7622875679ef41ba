"""Routing: which zones a task or an action touches, and the strictest level that follows."""

import posixpath
import re
import unicodedata
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache

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
    hearsay: str = "",
) -> Route:
    """Routes by topics in `text`, workspace-relative `paths`, `tools` and zones `named` outright.

    The strictest zone wins; a zone that was named and that nobody declared is draft-only. Topics in `hearsay`, which
    are not a person's words, touch zones too, but where they alone do it is draft-only: they only tighten.
    """
    paths, tools, states = tuple(paths), tuple(tools), tuple(states)
    named = frozenset(named)
    touches, grounded = [], False
    for state in states:
        because = [f"zone {state.zone.name} was named"] if state.zone.name in named else []
        because += matches(state.scope, text=text, paths=paths, tools=tools)
        grounded |= bool(because)
        because += matches(state.scope, text=hearsay, paths=(), tools=())
        if because:
            touches.append(Touch(zone=state.zone.name, level=state.level, because=tuple(because)))
    if not touches:
        return Route(
            touches=(), level=ControlLevel.DRAFT_ONLY, why="it touches no declared zone, so draft-only"
        )
    if not grounded:
        why = "draft-only because nothing but its proposer's own words touches a zone"
        return Route(touches=tuple(touches), level=ControlLevel.DRAFT_ONLY, why=why)
    unknown = sorted(named - {state.zone.name for state in states})
    if unknown:
        why = f"draft-only because nobody declared {', '.join(unknown)}"
        return Route(touches=tuple(touches), level=ControlLevel.DRAFT_ONLY, why=why)
    level = strictest(touch.level for touch in touches)
    decisive = ", ".join(touch.zone for touch in touches if touch.level is level)
    rest = " (the strictest of the zones touched wins)" if len(touches) > 1 else ""
    return Route(touches=tuple(touches), level=level, why=f"{level} because of {decisive}{rest}")


def matches(scope: Scope, *, text: str, paths: Iterable[str], tools: Iterable[str]) -> list[str]:
    """What of a scope is touched, in words."""
    found = [f"topic {topic!r}" for topic in scope.topics if topic_in(topic, text)]
    found += [f"path {path}" for path in paths if any(path_touches(path, glob) for glob in scope.paths)]
    found += [
        f"tool {tool}"
        for tool in tools
        if any(fnmatchcase(tool.casefold(), glob.casefold()) for glob in scope.tools)
    ]
    return found


def topic_in(topic: str, text: str) -> bool:
    """Whether the words of `topic` stand in `text` in order; case, endings and the way of joining do not count.

    Endings are open so that `adapter` finds "adapters" and `настройка` finds «настройки». Hyphens, underscores
    and camel case join words: `lora config` finds "LoraConfig" and `learning rate` finds "learning_rate".
    """
    pattern = _topic_pattern(topic)
    return pattern is not None and any(pattern.search(_plain(form)) for form in (text, _HUMP.sub(" ", text)))


@lru_cache(maxsize=1024)
def _topic_pattern(topic: str) -> re.Pattern[str] | None:
    words = [word for word in re.split(r"[\s_-]+", _plain(topic)) if word]
    phrase = r"[\s_-]*".join(_with_ending(word) for word in words)
    return re.compile(rf"(?<![^\W_]){phrase}(?![^\W_])") if words else None


EVERYWHERE = "./"
"""The path of an action that may touch any file of the workspace, such as a command."""


def path_touches(path: str, glob: str) -> bool:
    """As `path_matches`, for rules that tighten: `EVERYWHERE`, and a path that leaves the workspace, touch all."""
    return path == EVERYWHERE or _inside(path) is None or path_matches(path, glob)


def path_matches(path: str, glob: str) -> bool:
    """Case-insensitive glob (gitwildmatch) over a POSIX path relative to the workspace.

    `*` matches within a folder, `**` across; a glob without a slash matches at any depth; a folder covers what
    is in it. Case does not count because a file system may ignore it. A path that leaves the workspace matches
    nothing, save that an absolute path may match a glob that begins with a slash.
    """
    inside = _inside(path.lstrip("/") if path.startswith("/") and glob.startswith("/") else path)
    return inside is not None and glob_pattern(_plain(glob)).fullmatch(inside) is not None


@lru_cache(maxsize=1024)
def glob_pattern(glob: str) -> re.Pattern[str]:
    """The glob as a pattern over a normalised path, written in the same case as the glob."""
    body = re.sub(r"/+", "/", glob).removeprefix("./").rstrip("/")
    body = "**" if body == "." else body if "/" in body else f"**/{body}"
    body = body.removesuffix("/**")
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]/]+\])", body.lstrip("/"))
    return re.compile("".join(_glob_part(part) for part in parts) + r"(?:/.*)?", re.DOTALL)


_HUMP = re.compile(r"(?<=[a-zа-яё0-9])(?=[A-ZА-ЯЁ])")
_SILENT = re.compile(r"[\u00ad\u200b-\u200f\u2060\ufeff]")
_OPEN_STEM = 4


def _plain(text: str) -> str:
    """Case, compatibility forms, soft hyphens, zero-width characters and ё do not count."""
    return _SILENT.sub("", unicodedata.normalize("NFKC", text)).casefold().replace("ё", "е")


def _with_ending(word: str) -> str:
    """The word with its ending open; short words only take what English adds."""
    stem = re.sub(r"(?<=\w{3})(?:[аеиоуыэюяйь]{1,2}|i?es|[esy])$", "", word)
    if len(stem) < _OPEN_STEM and stem == word:
        return re.escape(word) + r"(?:s|es)?"
    return re.escape(stem) + r"[^\W_]{0,4}"


def _inside(path: str) -> str | None:
    """The path normalised, or None where it is absolute, climbs out or cannot be a path of the workspace."""
    if not path or path.startswith("/") or "\0" in path:
        return None
    plain = posixpath.normpath(_plain(path.replace("\\", "/")))
    return None if plain == ".." or plain.startswith(("../", "/")) else plain


def _glob_part(part: str) -> str:
    table = {"**/": r"(?:.*/)?", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
    if part.startswith("[") and part.endswith("]") and len(part) > 2:  # noqa: PLR2004
        negated = part[1] in "!^"
        letters = re.escape(part[2:-1] if negated else part[1:-1]).replace("\\-", "-")
        return f"[{'^/' if negated else ''}{letters}]"
    return table.get(part, re.escape(part))
