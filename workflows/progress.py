"""How work under way is told to whoever looks on."""

from typing import Protocol


class Progress(Protocol):
    """Told of progress on long work: what is being done, and how far (`done` of `total`, where known)."""

    def __call__(self, doing: str, /, *, done: int = 0, total: int | None = None) -> None: ...


def silent(doing: str, /, *, done: int = 0, total: int | None = None) -> None:
    """No progress."""
