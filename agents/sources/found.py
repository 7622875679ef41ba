"""What discovery finds and what reading gives."""

from dataclasses import dataclass, field
from typing import NamedTuple

from karkas.policies.distillates import SourceRank, SourceRecord
from karkas.server.documents import Document


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what is read: bytes of a source, sources of a spec, hosts for URLs, seconds for one source.

    An allowed host is an exact name (`docs.example.org`, `localhost:8000`) or `*.example.org`. A host on a
    private or link-local address counts only where it is listed exactly.
    """

    max_bytes: int = 20_000_000
    max_files: int = 5_000
    allowed_hosts: tuple[str, ...] = ()
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate that could be read. With `skip` it is not, but stands on the record with that reason."""

    key: str
    """Stable, unique and sortable."""
    kind: str
    """file, package, code, git, url"""
    path: str
    """Where it is from, in words that a person recognises."""
    title: str
    rank: SourceRank
    locator: dict[str, str]
    """How the record names it; the same on every machine where that is possible."""
    size: int | None = None
    skip: str | None = None
    at: str = ""
    """Where its bytes are on this machine: an absolute path, a repository, a URL."""
    meta: dict[str, str] = field(default_factory=dict)
    """Scope that holds for the whole document: framework, package, version, module."""
    license: str | None = None

    @property
    def identity(self) -> str:
        """What the source's id derives from, next to its content: the name without machine or version."""
        match self.kind:
            case "git":
                return f"{self.locator['commit']}:{self.locator['path']}"
            case "url":
                return self.locator["url"]
            case "package" | "code" if "package" in self.locator:
                return f"{self.locator['package']}/{self.locator['path']}"
            case _:
                return self.locator["path"]


class Reading(NamedTuple):
    """A record always; the document and its text where it could be read."""

    record: SourceRecord
    document: Document | None
    text: str | None


class Payload(NamedTuple):
    """The bytes of a source, and the suffix that says which reader takes them."""

    raw: bytes
    suffix: str
    charset: str | None = None
    modified: str | None = None
