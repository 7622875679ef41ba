"""How commands run, as a project's settings and the tool that runs them both say it."""

from enum import StrEnum


class Sandbox(StrEnum):
    """In bubblewrap or not at all, unsandboxed where a person agrees to that, or never."""

    BUBBLEWRAP = "bubblewrap"
    ASK = "ask"
    REFUSE = "refuse"
