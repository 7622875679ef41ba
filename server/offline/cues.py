"""Reads `cues.toml`, the word lists that rules go by, so that they can be read and corrected without code."""

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from karkas.policies.distillates import Facet

Cues = tuple[tuple[float, re.Pattern[str]], ...]


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(files("karkas.server.offline").joinpath("cues.toml").read_text(encoding="utf-8"))


def _compiled(words: str) -> re.Pattern[str]:
    for name, part in _table()["parts"].items():
        words = words.replace("{" + name + "}", part)
    return re.compile(words, re.IGNORECASE)


_CYRILLIC = re.compile("[а-яё]", re.IGNORECASE)
_LATIN_WORD = re.compile(r"(?<![\\{\w])[a-z]{3,}")


@cache
def facet_cues(*, russian: bool = True) -> dict[Facet, Cues]:
    """For each facet its weighted patterns, without those that only Russian words can match where there are none."""
    return {
        Facet(name): tuple(
            (float(weight), _compiled(one))
            for weight, one in facet["cues"]
            if russian or not _CYRILLIC.search(one) or _LATIN_WORD.search(one)
        )
        for name, facet in _table()["facets"].items()
    }


def is_russian(text: str) -> bool:
    """Whether any letter of it is Cyrillic."""
    return not text.isascii() and _CYRILLIC.search(text) is not None


@cache
def heading_cues() -> dict[Facet, re.Pattern[str]]:
    return {Facet(name): _compiled(facet["heading"]) for name, facet in _table()["facets"].items()}


@cache
def column_cues() -> dict[Facet, re.Pattern[str]]:
    """What a table's header says that its rows speak to, in order of precedence."""
    return {Facet(name): _compiled(one) for name, one in _table()["columns"].items()}


@cache
def tagline() -> re.Pattern[str]:
    """A noun phrase that says what a project is, as README files begin: a definition without a verb."""
    return _compiled("{tagline}")


@cache
def pattern(name: str) -> re.Pattern[str]:
    """One of the single patterns."""
    return _compiled(_table()["patterns"][name])


@cache
def role_cues(value: str, unit: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Name of a role and a pattern of it; `value` and `unit` are what stands for those words."""
    return tuple(
        (role, _compiled(one.replace("{value}", value) + unit))
        for role, patterns in _table()["roles"].items()
        for one in patterns
    )


@cache
def contribution_cues() -> Cues:
    return tuple((float(weight), _compiled(one)) for weight, one in _table()["contribution"]["cues"])


def stopwords() -> frozenset[str]:
    return frozenset(_table()["words"]["stop"].split())


@cache
def choice_cue(name: str) -> re.Pattern[str]:
    """`helps` or `boasts`."""
    return _compiled(_table()["choice"][name])


@cache
def filler_cue(name: str) -> re.Pattern[str]:
    return _compiled(_table()["filler"][name])
