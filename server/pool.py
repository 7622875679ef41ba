"""The models of all roles, for all runs of a process: each request to a server that has room, until it is answered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from types import TracebackType
from typing import Any, Generic, Self

from karkas.policies.distillates import EngineInfo
from karkas.policies.errors import ContextTooLongError, ModelUnavailableError
from karkas.server.answers import ask_typed
from karkas.server.asking import Asked, Models, Prompt
from karkas.server.call import Call, ServedOtherwiseError
from karkas.server.config import DEFAULT, ModelsConfig, RoleSettings
from karkas.server.counting import Counting, fitting, hash_of
from karkas.server.endpoints import Endpoints, Patience
from karkas.server.protocol import AnswerT, Caller, Request, Role
from karkas.server.schemas import response_format
from karkas.server.served import Served
from karkas.server.slots import Turnstiles
from karkas.server.wire import ChatRequest, Message

TEMPLATE = 128
"""Tokens that a chat template may add to a prompt of two messages."""
MORE_ROOM = 4
"""A truncated answer may be asked again with up to so many times the tokens."""
LEAST_ROOM = 4
"""A prompt that leaves less than this part of the answer's tokens is too long: the answer could only be cut."""
WAITING, UNATTENDED = 0, 10
"""Priorities: vLLM takes the lower first where it runs with `--scheduling-policy priority`, and ignores it elsewhere
(0.32: entrypoints/generate/base/serving.py, v1/core/sched/request_queue.py)."""


class ModelPool:
    """Implements `Models` over OpenAI-compatible servers. One for all runs of a process and project.

    Entered by each run (`async with`), in one event loop at a time; the last one out closes all connections. Whoever
    asks without having entered connects for that one question.
    """

    def __init__(
        self,
        config: ModelsConfig,
        *,
        environ: Mapping[str, str],
        version: str = "1",
        patience: Patience | None = None,
        clock: Callable[[], float] = monotonic,
        slots: Turnstiles | None = None,
    ) -> None:
        """Opens nothing. `version` is the language-model engine's; `patience` takes the place of the usual one; `slots`
        are shared with other processes, where a model has `max_in_flight`.
        """
        self._config = config
        self._names = {role: config.name_for(role) for role in Role}
        self._settings = {role: config.roles.get(role) or RoleSettings() for role in Role}
        self._configured = {
            role: self._settings[role].adapter or config.models[name].model
            for role, name in self._names.items()
        }
        self._environ = environ
        self._version = version
        self._patience = patience or Patience()
        self._clock = clock
        self._slots = slots
        self._entered = 0
        self._open: dict[str, Endpoints] = {}
        self._counting = Counting()

    async def __aenter__(self) -> Self:
        self._entered += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered -= 1
        if not self._entered:
            closing, self._open = self._open, {}
            for endpoints in closing.values():
                await endpoints.aclose()

    def asked_by(self, caller: Caller) -> Models:
        """The same models; what they wait for is told to `caller`, and only as long as it has patience."""
        return _AskedBy(self, caller)

    async def info(self, caller: Caller | None = None) -> EngineInfo:
        """See `Models`."""
        async with self:
            return await self._info(caller or Caller())

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
        """See `Models`."""
        async with self:
            asking = _Asking(prompt, answer, request, max_tokens, n)
            while True:
                try:
                    return await self._ask(asking, await self._served(request.role, caller), caller)
                except ServedOtherwiseError:
                    await self._learn_served(request.role, caller)

    async def count(self, role: Role, text: str, caller: Caller | None = None) -> int:
        """See `Models`."""
        async with self:
            return await self._count(role, text, caller or Caller())

    async def context(self, role: Role, caller: Caller | None = None) -> int:
        """See `Models`."""
        async with self:
            return (await self._served(role, caller or Caller())).context

    async def _ask(self, asking: "_Asking[AnswerT]", served: Served, caller: Caller) -> Asked[AnswerT]:
        role, prompt = asking.request.role, asking.prompt
        settings = self._settings[role]
        room = await self._room(asking, served, caller)
        thinking = self._config.models[self._names[role]].thinking
        chat = ChatRequest(
            model=settings.adapter or served.model,
            messages=(
                Message(role="system", content=prompt.system),
                Message(role="user", content=prompt.user),
            ),
            max_tokens=min(asking.max_tokens, room),
            n=asking.n,
            temperature=settings.temperature,
            top_p=settings.top_p,
            response_format=response_format(asking.answer),
            priority=(WAITING if caller.waiting else UNATTENDED) if served.vllm else None,
            chat_template_kwargs={"enable_thinking": thinking} if served.vllm else None,
        )
        call = Call(
            endpoints=self._endpoints(role),
            caller=caller,
            request=asking.request,
            info=await self._info(caller),
            served=served,
            prefix=prompt.system + prompt.documents if prompt.documents else "",
            patience=self._patience,
            clock=self._clock,
        )
        values = await ask_typed(call.send, chat, asking.answer, room=room, note=caller.note)
        return Asked(values, call.usage)

    async def _served(self, role: Role, caller: Caller) -> Served:
        """As the caller was told before, if it was: a run that goes on makes the same requests, also while no server
        answers. What it still has to ask is held against what is served then.
        """
        match await caller.recall(f"served:{self._names[role]}"):
            case [str(model), int(context), bool(vllm)]:
                return Served(model, context, vllm)
            case _:
                return await self._learn_served(role, caller)

    async def _learn_served(self, role: Role, caller: Caller) -> Served:
        served = await self._endpoints(role).served(caller)
        caller.learn(f"served:{self._names[role]}", [served.model, served.context, served.vllm])
        return served

    async def _count(self, role: Role, text: str, caller: Caller) -> int:
        if not text:
            return 0
        served = await self._served(role, caller)
        key = f"tokens:{served.model}:{hash_of(text)}"
        if isinstance(told := await caller.recall(key), int):
            return told
        tokens = await self._counting.count(self._endpoints(role).best.client, served.model, text)
        caller.learn(key, tokens)
        return tokens

    async def _room(self, asking: "_Asking[AnswerT]", served: Served, caller: Caller) -> int:
        """Tokens that an answer may take at most. vLLM clamps `max_tokens` without a word; the caller should know."""
        prompt, max_tokens = asking.prompt, asking.max_tokens
        parts = (prompt.system, prompt.documents, prompt.task, prompt.question)
        free = served.context - TEMPLATE
        wished = MORE_ROOM * max_tokens
        counted = await fitting(
            lambda text: self._count(asking.request.role, text, caller), parts, at_most=free - wished
        )
        if free - counted < max_tokens // LEAST_ROOM:
            raise ContextTooLongError(
                f"the prompt takes about {counted} tokens and its answer up to {max_tokens}, and {served.model} holds"
                f" {served.context}; ask with fewer or shorter documents"
            )
        return min(wished, free - counted)

    async def _info(self, caller: Caller) -> EngineInfo:
        names = [name or (await self._served(role, caller)).model for role, name in self._configured.items()]
        return _engine(self._version, tuple(names))

    def _endpoints(self, role: Role) -> Endpoints:
        name = self._names[role]
        if name not in self._open:
            endpoints = Endpoints(
                self._config.models[name],
                adapters=self._config.adapters_of(name),
                key=self._key(name),
                patience=self._patience,
                clock=self._clock,
                slots=self._slots,
            )
            endpoints.start()
            self._open[name] = endpoints
        return self._open[name]

    def _key(self, name: str) -> str | None:
        variable = self._config.models[name].api_key_env
        if variable is None:
            return None
        if not self._environ.get(variable):
            section = "[model]" if name == DEFAULT else f"[models.{name}]"
            raise ModelUnavailableError(
                f"{section} in karkas.toml takes its key from the variable {variable}, which is not set; export"
                f" {variable}=..., then `karkas runs resume RUN`"
            )
        return self._environ[variable]


@lru_cache(maxsize=64)
def _engine(version: str, names: tuple[str, ...]) -> EngineInfo:
    """With the models of all roles, in their order."""
    usual = max(names, key=names.count)
    others = (f"{role}: {name}" for role, name in zip(Role, names, strict=True) if name != usual)
    model = "; ".join((usual, *others))
    return EngineInfo(kind="llm", name="language-model", version=version, model=model)


@dataclass(frozen=True)
class _Asking(Generic[AnswerT]):
    prompt: Prompt
    answer: type[AnswerT]
    request: Request[Any]
    max_tokens: int
    n: int


@dataclass(frozen=True)
class _AskedBy:
    """The pool as one caller asks it."""

    pool: ModelPool
    caller: Caller

    async def info(self) -> EngineInfo:
        return await self.pool.info(self.caller)

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
        return await self.pool.ask(prompt, answer, request=request, caller=caller, max_tokens=max_tokens, n=n)

    async def count(self, role: Role, text: str) -> int:
        return await self.pool.count(role, text, self.caller)

    async def context(self, role: Role) -> int:
        return await self.pool.context(role, self.caller)
