"""How the language-model engine asks a model: a prompt in three parts, and a typed answer.

The engine knows nothing of servers, limits and retries; whoever stands behind `Models` knows nothing of questions.
"""

from dataclasses import dataclass
from typing import Any, Generic, Protocol

from karkas.policies.distillates import EngineInfo
from karkas.server.protocol import AnswerT, Caller, Request, Role, Usage


@dataclass(frozen=True)
class Prompt:
    """Stable and shared text first, so that servers find it in their prefix caches.

    `system` is the same for all requests of all roles, `documents` for all who are shown the same passages, `task`
    for one role and task; `question` varies.
    """

    system: str
    documents: str
    task: str
    question: str

    @property
    def user(self) -> str:
        """All but `system`, as the one user's message: many chat templates take no second system message."""
        return "\n\n".join(part for part in (self.documents, self.task, self.question) if part)


@dataclass(frozen=True)
class Asked(Generic[AnswerT]):
    """At least one valid answer, at most the `n` that were asked for, and what all calls for them cost."""

    values: tuple[AnswerT, ...]
    usage: Usage

    @property
    def value(self) -> AnswerT:
        return self.values[0]


class Models(Protocol):
    """The models of all roles."""

    async def info(self) -> EngineInfo:
        """Which models answer. Raises `ModelUnavailableError` where a name is still to be asked of a server."""
        ...

    async def ask(
        self,
        prompt: Prompt,
        answer: type[AnswerT],
        *,
        request: Request[Any],
        caller: Caller,
        max_tokens: int,
        n: int = 1,
    ) -> Asked[AnswerT]:
        """Asks the model of `request.role` for `answer`, whose strings and arrays are bounded; each of the `n` answers
        may take `max_tokens`.

        Raises `ModelUnavailableError`, `BudgetReachedError`, `ContextTooLongError`, `RequestRejectedError`, or an
        `AnswerError`.
        """
        ...

    async def count(self, role: Role, text: str) -> int:
        """Tokens of `text` by the tokenizer of the role's model; an upper estimate where the server has no such way."""
        ...

    async def context(self, role: Role) -> int:
        """Tokens that the role's model holds, prompt and answer together."""
        ...
