"""Slots of a server that all processes of a project share: what `Endpoints` wants of whoever keeps them."""

from collections.abc import Callable
from typing import Protocol, TypeAlias


class Slot(Protocol):
    """The right to one call; it ends with the process that has it."""

    def free(self) -> None: ...


class Turnstile(Protocol):
    """Before one server, for one line of a process. Blocks for the time of a question to a database, no longer."""

    def take(self, *, first: bool) -> Slot | None:
        """None where no slot is free, or others go first. Until `leave`, whoever asked counts as waiting; where a
        person waits for it (`first`), those whom nobody waits for get nothing in any process.
        """
        ...

    def leave(self) -> None:
        """Nobody here waits any longer."""
        ...


Turnstiles: TypeAlias = Callable[[str, int], Turnstile]
"""The turnstile of a server's address and the calls that it may have in flight."""
