"""What goes on in the background while a screen is being taken down."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from textual.css.query import NoMatches
from textual.screen import Screen

P = ParamSpec("P")
ScreenT = TypeVar("ScreenT", bound=Screen[Any])


def while_it_stands(
    method: Callable[Concatenate[ScreenT, P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[ScreenT, P], Coroutine[Any, Any, None]]:
    """Something that waits, then shows what it found: on a screen that was left meanwhile there is nobody to tell.

    Textual takes the parts of a screen away before it cancels what the screen has begun.
    """

    @wraps(method)
    async def act(screen: ScreenT, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            await method(screen, *args, **kwargs)
        except NoMatches:
            if screen.query("#page"):
                raise

    return act
