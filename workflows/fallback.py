"""What the offline engine does where a language model may not, or cannot, go on: a night never ends with nothing."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from karkas.policies.errors import AnswerError, BudgetReachedError, ContextTooLongError
from karkas.server.offline import OfflineEngine
from karkas.server.protocol import Engine
from karkas.workflows.context import Context

T = TypeVar("T")


async def or_offline(
    context: Context, ask: Callable[[Engine], Awaitable[T]], *, what: str
) -> tuple[T, str | None]:
    """What `ask` gets of the run's engine; else of the offline engine, with the reason, which is noted too.

    A server that does not answer, or another engine than the run's, still parks the run.
    """
    try:
        return await ask(context.engine), None
    except (BudgetReachedError, AnswerError, ContextTooLongError) as error:
        await context.caller.note(f"{what} was left to the offline engine: {error}")
        return await ask(OfflineEngine()), str(error)
