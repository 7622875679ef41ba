"""One request being answered: its prompts, its portions, what its calls cost, and which of them may fail alone."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import Field

from karkas.policies.errors import AnswerError, BudgetReachedError, ContextTooLongError
from karkas.server.asking import Asked, Models, Prompt
from karkas.server.counting import bytes_of
from karkas.server.documents import Document
from karkas.server.language.packing import packed
from karkas.server.language.passages import Page, pages
from karkas.server.protocol import AnswerT, Caller, Request, Usage

Number = Annotated[int, Field(ge=1, le=9999)]
"""How a model names whatever is shown to it."""

ItemT = TypeVar("ItemT")
FoundT = TypeVar("FoundT")

PAGE = 6_000
"""Tokens of a page. More would fit many models; they overlook things in it, and pages are read at the same time."""
ALIVE = 64
"""Calls of one request that are under way or wait for a slot of the model server."""
_BESIDE, _LEAST = 1_000, 512
"""Tokens that are not shared between a page and what is asked about it: a role's instructions, and a short answer."""
_FRAME = 200
"""Tokens that the chat template, labels and the schema may take."""


@dataclass(frozen=True)
class Asking:
    """What the functions that answer questions ask through."""

    models: Models
    request: Request[Any]
    caller: Caller = field(default_factory=Caller)
    _spent: list[Usage] = field(default_factory=list, init=False)

    @property
    def usage(self) -> Usage:
        """What all answers so far cost."""
        return sum(self._spent, Usage(calls=0))

    async def ask(
        self,
        task: str,
        answer: type[AnswerT],
        *,
        documents: str = "",
        question: str,
        max_tokens: int,
        n: int = 1,
    ) -> Asked[AnswerT]:
        """Asks the role's model to do `task`, a section of its instructions. Raises as `Models.ask` does."""
        told = self.request.instructions
        prompt = Prompt(
            system=told.shared,
            documents=documents,
            task=f"{told.role}\n\n{told.tasks[task]}",
            question=question,
        )
        asked = await self.models.ask(
            prompt, answer, request=self.request, caller=self.caller, max_tokens=max_tokens, n=n
        )
        self._spent.append(asked.usage)
        return asked

    async def count(self, text: str) -> int:
        return await self.models.count(self.request.role, text)

    async def context(self) -> int:
        return await self.models.context(self.request.role)

    async def pages(self, documents: Sequence[Document]) -> tuple[Page, ...]:
        """The documents as every agent is shown them whose model holds as much."""
        room = min(PAGE, max(await self.context() - _BESIDE, _LEAST) // 2)
        return await pages(documents, room, self.count)

    async def room(self, task: str, *, max_tokens: int, beside: str = "", enough: int | None = None) -> int:
        """Tokens that are left for items, beside the instructions, `beside` and the answer; at least a few.

        Where there are `enough` of them by the bytes of the rest alone, nothing is counted.
        """
        told = self.request.instructions
        fixed = [text for text in ("\n\n".join((told.shared, told.role, told.tasks[task])), beside) if text]
        context = await self.context()
        free = context - max_tokens - _FRAME
        left = free - sum(map(bytes_of, fixed))
        if enough is None or left < enough:
            left = free - sum([await self.count(text) for text in fixed])
        return max(left, context // 8)

    async def portions(self, items: Sequence[str], *, room: int, most: int) -> list[range]:
        """The items, by place, in consecutive portions of at most `most` whose lines take at most `room` tokens."""
        sizes = [len(item.encode("utf-8", "replace")) for item in items]
        found = await packed(sizes, lambda begin, end: "\n".join(items[begin:end]), room, self.count)
        return [range(at, min(at + most, end)) for begin, end in found for at in range(begin, end, most)]

    async def each(
        self, items: Sequence[ItemT], work: Callable[[ItemT], Awaitable[FoundT]], *, what: str
    ) -> list[FoundT | None]:
        """`work` done on all items at the same time; `what` names them in the plural.

        `None` where an answer was of no use, the prompt was too long, or the budget ended first; all of it is noted.
        Every other error goes up, and ends the others.
        """
        found: list[FoundT | None] = [None] * len(items)
        waiting = iter(enumerate(items))
        done, ended = 0, False

        async def worker() -> None:
            nonlocal done, ended
            for at, item in waiting:
                if ended:
                    return
                try:
                    found[at] = await work(item)
                except BudgetReachedError:
                    ended = True
                    return
                except (AnswerError, ContextTooLongError) as error:
                    await self.caller.note(
                        f"{self.request.role}: one of {len(items)} {what} was lost: {error}"
                    )
                done += 1
                self.caller.progress(f"{self.request.role}: {what}", done=done, total=len(items))

        if len(items) > 1:
            self.caller.progress(f"{self.request.role}: {what}", total=len(items))
        await _at_once(worker, min(ALIVE, len(items)))
        if ended:
            await self.caller.note(
                f"{self.request.role}: the budget ended after {done} of {len(items)} {what}"
            )
        return found


async def _at_once(worker: Callable[[], Coroutine[Any, Any, None]], many: int) -> None:
    if many == 1:
        await worker()
        return
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(many):
                group.create_task(worker())
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
