"""A checkpointer that writes only for whoever holds the lease, not for one that was thought dead and comes back."""

import copy
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from langgraph.checkpoint.base import BaseCheckpointSaver

P = ParamSpec("P")
T = TypeVar("T")


def fenced(saver: BaseCheckpointSaver[Any], check: Callable[[], None]) -> BaseCheckpointSaver[Any]:
    """The saver; `check` raises where nothing must be written any more."""
    guarded = copy.copy(saver)
    for name in ("aput", "aput_writes"):
        setattr(guarded, name, _behind(check, getattr(saver, name)))
    return guarded


def _behind(check: Callable[[], None], write: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    @wraps(write)  # LangGraph looks at its signature
    async def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        check()
        return await write(*args, **kwargs)

    return checked
