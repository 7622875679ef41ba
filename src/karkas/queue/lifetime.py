"""What goes on in the background: one key at a time, and nothing that outlasts its screen."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from textual.css.query import NoMatches
from textual.screen import Screen

from karkas.project import Project

if TYPE_CHECKING:
    from karkas.queue.gatelist import GateList
    from karkas.queue.page import Page

P = ParamSpec("P")
ScreenT = TypeVar("ScreenT", bound=Screen[Any])
WorkingT = TypeVar("WorkingT", bound="Working")


class Working(Screen[None]):
    """A screen whose keys may take a while, and what they find there."""

    project: Project
    busy = False
    """Whether a key is still being answered."""

    @property
    def gates(self) -> "GateList":
        raise NotImplementedError

    @property
    def page(self) -> "Page":
        raise NotImplementedError

    def say(self, text: str) -> None:
        raise NotImplementedError

    def banner(self) -> None:
        raise NotImplementedError

    async def refresh_list(self, *, keep: bool = True, also: str | None = None) -> None:
        raise NotImplementedError


PARTS = ("#head", "#page", "#keys")
"""Of the screen; where one is gone, the others follow."""


def while_it_stands(
    method: Callable[Concatenate[ScreenT, P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[ScreenT, P], Coroutine[Any, Any, None]]:
    """Something that waits, then shows what it found: on a screen that was left meanwhile there is nobody to tell.

    Textual takes the parts of a screen away, one after the other, before it cancels what the screen has begun.
    """

    @wraps(method)
    async def act(screen: ScreenT, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            await method(screen, *args, **kwargs)
        except NoMatches:
            if all(map(screen.query, PARTS)):
                raise

    return act


def alone(
    method: Callable[Concatenate[WorkingT, P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[WorkingT, P], None]:
    """An action that takes a while: until it is over no other key begins anything.

    So a letter that is typed ahead of the question that it answers is lost; it never becomes a verdict.
    """

    def begin(screen: WorkingT, /, *args: P.args, **kwargs: P.kwargs) -> None:
        async def act() -> None:
            try:
                await while_it_stands(method)(screen, *args, **kwargs)
            finally:
                screen.busy = False

        screen.busy = True
        screen.run_worker(act())

    return begin
