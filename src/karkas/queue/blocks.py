"""What is said of a gate, as blocks: printed plainly by the commands, laid out by the screen, the same in both."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Tone(StrEnum):
    """How a line is meant. The words say it too; colour only repeats it."""

    PLAIN = ""
    WARNING = "yellow"
    DIM = "dim"


@dataclass(frozen=True)
class Facts:
    """Names and what belongs to them, one line each item."""

    pairs: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Line:
    """One line, whatever is in it."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True)
class Quote:
    """Somebody's words, each of their lines marked as such."""

    text: str
    mark: str = "  | "


@dataclass(frozen=True)
class Context:
    """A piece of a text between what stands before and after it; the marks say which is which."""

    before: str
    text: str
    after: str
    mark: str = "  > "
    around: str = "  . "


@dataclass(frozen=True)
class Shown:
    """A text that is decided on, or read, line by line, whole; made visible when it was rendered."""

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Command:
    """A command that can be copied."""

    text: str
    why: str = ""


@dataclass(frozen=True)
class Beside:
    """What is compared: side by side where there is room, else one after the other."""

    columns: tuple[tuple["Block", ...], ...]


Block: TypeAlias = Facts | Heading | Line | Quote | Context | Shown | Command | Beside
