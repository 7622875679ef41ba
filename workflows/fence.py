"""A checkpointer that writes only for whoever holds the lease, not for one that was thought dead and comes back."""

import copy
from collections.abc import Awaitable, Callable
from functools import cache
from inspect import Signature, signature
from typing import Any, ParamSpec, TypeVar

from langgraph.checkpoint.base import BaseCheckpointSaver

P = ParamSpec("P")
T = TypeVar("T")


def fenced(saver: BaseCheckpointSaver[Any], check: Callable[[], None]) -> BaseCheckpointSaver[Any]:
    """The saver; `check` raises where nothing must be written any more."""
    guarded = copy.copy(saver)
    for name in ("aput", "aput_writes"):
        write = _behind(check, getattr(saver, name))
        vars(write)["__signature__"] = _signature(getattr(type(saver), name))
        setattr(guarded, name, write)
    return guarded


def _behind(check: Callable[[], None], write: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    async def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        check()
        return await write(*args, **kwargs)

    return checked


@cache
def _signature(write: Callable[..., Any]) -> Signature:
    """LangGraph looks at it for every run."""
    return signature(write)
