"""The distillate as ONE YAML file: written, read, hashed and verified."""

import textwrap
from collections.abc import Callable
from typing import Any

from karkas.agents.distillate import notation
from karkas.policies.actions import Digest, digest_of_bytes
from karkas.policies.distillates import Distillate, breaks
from karkas.policies.errors import DistillateError
from karkas.policies.rendering import visible_line

_ABSENT = ("title", "modified", "reason")
"""Fields of a source that are left out where they say nothing."""


def dump(distillate: Distillate) -> str:
    """The file: a comment that says what it is and how to check it, then the data; `load` gives back the same."""
    body = notation.written(_body(distillate))
    return f"{_header(distillate)}{body}"


def load(data: str | bytes) -> Distillate:
    """The distillate in a file's content; `DistillateError` names the line of what is wrong."""
    return notation.read(data, Distillate, DistillateError, what="distillate")


def sha256(data: str | bytes) -> Digest:
    """The hash that a frame pins: of the file's bytes, so of UTF-8 where `data` is a text."""
    return digest_of_bytes(data.encode() if isinstance(data, str) else data)


def verify(distillate: Distillate, text_of: Callable[[str], str | None]) -> list[str]:
    """Names each break of the chain claim → span → stored text; empty when every claim is proved.

    `text_of` gives the stored text of a SHA-256, or None.
    """
    return list(breaks(distillate, text_of))


def _body(distillate: Distillate) -> dict[str, Any]:
    body = distillate.model_dump(mode="json", by_alias=True)
    for source in body["sources"]:
        for name in _ABSENT:
            if not source[name]:
                del source[name]
    return body


def made_by(distillate: Distillate) -> str:
    """One honest sentence or two: which engine spoke, and what nobody judged."""
    engine = visible_line(str(distillate.engine))
    if distillate.engine.kind == "extractive":
        return (
            f"Made by {engine}, an extractive engine: every sentence is copied from a source."
            " No language model wrote, judged or left out anything; rules chose what stands here."
        )
    if distillate.honesty.abstractive:
        return (
            f"Made by {engine}, a language model: claims with `mode: abstractive` are in its own words,"
            " so read their quotes before relying on them."
        )
    return f"Made by {engine}, a language model that chose the sentences; each one is copied from a source."


def _header(distillate: Distillate) -> str:
    zone = distillate.zone
    lines = [
        f"How zone {zone} works, as far as {len(distillate.sources)} sources tell.",
        made_by(distillate),
        "",
        "Read `summary` first: what the zone is, how its parts fit, what to choose when. It names claims by id.",
        "Then `conflicts` and `weak_spots`: where not to rely on it; `open_questions`, `not_covered`: what is missing.",
        "Each claim's `evidence` names a source and the code points [start, end) of the quote in its stored text.",
        "Prove every quote with `karkas distillate verify FILE`; `karkas distillate show FILE` reads more easily.",
        f"A frame pins this file by its SHA-256: after an edit, frame the zone again (`karkas frame {zone}`).",
    ]
    wrapped = [part for line in lines for part in textwrap.wrap(line, notation.WIDTH - 2) or [""]]
    return "".join(f"# {line}".rstrip() + "\n" for line in wrapped) + "\n"
