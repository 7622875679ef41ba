"""One request to a model, repeated over its servers until one of them answers it."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential, wait_random

from karkas.policies.distillates import EngineInfo
from karkas.policies.errors import ModelUnavailableError
from karkas.server import observed
from karkas.server.counting import estimated
from karkas.server.endpoint import Endpoint
from karkas.server.endpoints import Endpoints, Patience, unavailable
from karkas.server.faults import PassingFaultError
from karkas.server.protocol import Answered, Caller, Request, Usage
from karkas.server.served import Served
from karkas.server.wire import ChatAnswer, ChatRequest, from_kept

ATTEMPTS = 4
"""Times that one request may reach a server and get no answer: some requests kill the server, each time anew."""
LONGEST_PAUSE_S = 60.0
"""However long a server asks us to stay away (`Retry-After`), it is asked again after this."""
BACK_OFF = wait_exponential(multiplier=0.5, max=15.0) + wait_random(0.0, 0.5)

log = structlog.get_logger("karkas.models")


class ServedOtherwiseError(Exception):
    """The servers are not what the run was told they were, so the request has to be made anew."""


@dataclass(kw_only=True)
class Call:
    """All requests for one answer: each is repeated over the servers until one answers it."""

    endpoints: Endpoints
    caller: Caller
    request: Request[Any]
    info: EngineInfo
    served: Served
    prefix: str
    patience: Patience
    clock: Callable[[], float]
    usage: Usage = field(default_factory=lambda: Usage(calls=0))
    _failed: set[Endpoint] = field(default_factory=set)
    """Servers that gave no answer to the request that is being sent."""

    @observed.chat
    async def send(self, chat: ChatRequest) -> ChatAnswer:
        """What the run was answered before it was taken up; else what a server answers now.

        Raises `BudgetReachedError`, `ModelUnavailableError`, a lasting fault, or `ServedOtherwiseError`.
        """
        digest = chat.digest
        n = self.caller.asks(digest)
        if (kept := await self.caller.kept(self.info, digest, n)) is not None:
            return from_kept(kept)
        self._failed.clear()
        asked = _Asked(chat, digest, n)
        try:
            return await self._attempt(asked)
        except PassingFaultError as fault:
            return await self._again(asked, fault)
        except ServedOtherwiseError:
            self.caller.takes_back(digest)
            raise

    async def _again(self, asked: "_Asked", first: PassingFaultError) -> ChatAnswer:
        begun = self.clock()
        repeating = False
        reached = 0

        async def attempt() -> ChatAnswer:
            nonlocal reached, repeating
            try:
                if not repeating:
                    raise first
                return await self._attempt(asked)
            except PassingFaultError as fault:
                repeating = True
                reached += fault.reached
                raise

        def over(_: RetryCallState) -> bool:
            silent_s = self.clock() - max(begun, self.endpoints.answered_at)
            return reached >= ATTEMPTS or silent_s >= self.patience.of(self.caller)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(PassingFaultError),
            stop=over,
            wait=self._pause,
            before_sleep=self._told,
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except PassingFaultError as fault:
            if reached >= ATTEMPTS:
                raise ModelUnavailableError(
                    f"{fault}; {reached} attempts at this request failed. See the server's log, then `karkas runs"
                    " resume RUN`"
                ) from fault
            raise unavailable(str(fault), self.patience.of(self.caller)) from fault

    async def _attempt(self, asked: "_Asked") -> ChatAnswer:
        chat = asked.chat
        slot = self.endpoints.slot(self.caller, n=chat.n, prefix=self.prefix, avoid=self._failed)
        async with AsyncExitStack() as ends:
            async with slot as endpoint:
                if self.endpoints.known != self.served:
                    raise ServedOtherwiseError
                if not await self.caller.before(self.info, self.request):
                    raise self.caller.reached()
                hold = await ends.enter_async_context(self.caller.under_way(_most(chat)))
                begun = self.clock()
                try:
                    told = self._progress(chat) if self.caller.waiting else None
                    answer = await endpoint.client.chat(chat, told=told)
                except PassingFaultError as fault:
                    self.endpoints.failed(endpoint, fault)
                    self._failed.add(endpoint)
                    if fault.reached:
                        await self._spent(Usage(wall_s=self.clock() - begun), hold)
                    raise
                self.endpoints.answered(endpoint, answer.usage)
            found = Answered(self.request.role, self.info, answer.model, asked.digest, asked.n, answer.kept)
            await self._spent(answer.usage, hold, found)
        if answer.model != chat.model and self.endpoints.first_from(answer.model, run=self.caller.run):
            await self.caller.note(
                f"{self.request.role}: {chat.model!r} was asked, and {answer.model[:100]!r} says that it answered"
            )
        return answer

    async def _spent(self, usage: Usage, hold: str | None, answer: Answered | None = None) -> None:
        self.usage += usage
        await self.caller.after(usage, hold=hold, answer=answer)

    def _pause(self, state: RetryCallState) -> float:
        """At once where another server may take it, or where only waiting for any server is left."""
        fault = _fault(state)
        if self.endpoints.others(self._failed) or not (fault.busy or fault.reached):
            return 0.0
        if fault.retry_after is not None:
            return min(fault.retry_after, LONGEST_PAUSE_S)
        return BACK_OFF(state)

    def _told(self, state: RetryCallState) -> None:
        fault = _fault(state)
        pause = state.next_action.sleep if state.next_action else 0.0
        log.warning(
            "model_call_retried", reason=str(fault), attempt=state.attempt_number, pause_s=round(pause, 1)
        )
        observed.retried(busy=fault.busy)
        self.caller.progress(f"asks again: {fault}")

    def _progress(self, chat: ChatRequest) -> Callable[[int], None]:
        doing = f"the {self.request.role} writes, in tokens:"

        def told(tokens: int) -> None:
            if self.caller.alone:
                self.caller.progress(doing, done=tokens, total=chat.n * chat.max_tokens)

        return told


@dataclass(frozen=True)
class _Asked:
    chat: ChatRequest
    digest: str
    n: int


def _most(chat: ChatRequest) -> int:
    """Tokens that a call may cost, prompt and answers."""
    return sum(estimated(message.content) for message in chat.messages) + chat.n * chat.max_tokens


def _fault(state: RetryCallState) -> PassingFaultError:
    fault = state.outcome.exception() if state.outcome else None
    assert isinstance(fault, PassingFaultError)
    return fault
