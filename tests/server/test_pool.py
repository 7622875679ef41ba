"""The pool before small real servers on this machine, which do what a model server does on its bad days.

`tests/vllm/test_pool.py` has the real one.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from pydantic import Field
from structlog.testing import capture_logs

from karkas.policies.distillates import EngineInfo
from karkas.policies.errors import (
    BudgetReachedError,
    ContextTooLongError,
    ModelUnavailableError,
    RequestRejectedError,
)
from karkas.server.asking import Asked, Prompt
from karkas.server.call import ATTEMPTS
from karkas.server.config import ModelsConfig, ModelSettings, RoleSettings
from karkas.server.endpoints import Patience
from karkas.server.pool import ModelPool
from karkas.server.protocol import Caller, Instructions, Question, Request, Role, Usage, Wire

IMPATIENT = Patience(unattended_s=1.0, waiting_s=0.5)
PROMPT = Prompt(system="You judge.", documents="", task="Judge this.", question="Is it so?")


class Said(Wire):
    text: str = Field(max_length=100)


@dataclass
class FakeServer:
    """Speaks the chat API. What it answers and how it fails is set from outside."""

    models: Sequence[dict[str, Any]] = ({"id": "big", "max_model_len": 4096},)
    delay_s: float = 0.0
    faults: list[web.Response] = field(default_factory=list)
    """What the next chats are answered with."""
    metrics: Callable[[], str] | None = None
    tokens: Callable[[str], int] | None = None
    room: asyncio.Semaphore | None = None
    cut: bool = False
    """Connections are cut in the middle of each call."""
    chats: list[dict[str, Any]] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)
    now: int = 0
    most: int = 0
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/tokenize", self._tokenize)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def asked(self, part: str) -> list[str]:
        """What was asked, out of the prompts that hold `part`, without warm-up probes."""
        users = (chat["messages"][-1]["content"] for chat in self.chats)
        return [user for user in users if part in user]

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": list(self.models)})

    async def _metrics(self, _: web.Request) -> web.Response:
        if self.metrics is None:
            raise web.HTTPNotFound
        return web.Response(text=self.metrics())

    async def _tokenize(self, request: web.Request) -> web.Response:
        if self.tokens is None:
            raise web.HTTPNotFound
        text = (await request.json())["prompt"]
        self.counted.append(text)
        return web.json_response({"count": self.tokens(text)})

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.chats.append(body)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.cut:
                assert request.transport is not None
                request.transport.abort()
                await asyncio.sleep(10)
            if self.faults:
                return self.faults.pop(0)
            async with self.room or asyncio.Semaphore():
                await asyncio.sleep(self.delay_s)
            said = json.dumps({"text": f"from {self.port}"})
            message = {"role": "assistant", "content": said}
            choices = [
                {"index": index, "message": message, "finish_reason": "stop"}
                for index in range(body.get("n", 1))
            ]
            usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
            return web.json_response({"model": body["model"], "choices": choices, "usage": usage})
        finally:
            self.now -= 1


@dataclass(eq=False)
class Recording(Caller):
    """Remembers what it was told."""

    run: str = "run"
    waiting: bool = False
    allowed: float = float("inf")
    calls: int = 0
    spent: list[Usage] = field(default_factory=list)
    doing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reserved: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    """What each call was known to have cost when it ended."""

    async def before(self, engine: EngineInfo, request: Request[Any]) -> bool:
        self.calls += 1
        return self.calls <= self.allowed

    @asynccontextmanager
    async def under_way(self, tokens: int) -> AsyncIterator[None]:
        self.reserved.append(tokens)
        spent = len(self.spent)
        try:
            yield
        finally:
            self.ended.append(sum(usage.tokens for usage in self.spent[spent:]))

    async def after(self, usage: Usage, **_: Any) -> None:
        self.spent.append(usage)

    async def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, doing: str, /, *, done: int = 0, total: int | None = None) -> None:
        self.doing.append(doing)


Start = Callable[..., Awaitable[FakeServer]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    servers: list[FakeServer] = []

    async def start(**settings: Any) -> FakeServer:
        server = FakeServer(**settings)
        servers.append(server)
        await server.start()
        return server

    yield start
    for server in servers:
        await server.stop()


def pool_of(
    *servers: FakeServer,
    roles: dict[Role, RoleSettings] | None = None,
    patience: Patience | None = None,
    **settings: Any,
) -> ModelPool:
    model = ModelSettings(base_url=tuple(server.url for server in servers), **settings)
    return ModelPool(ModelsConfig({"default": model}, roles or {}), environ={}, patience=patience)


async def ask(
    pool: ModelPool,
    caller: Caller | None = None,
    *,
    question: str = "Is it so?",
    documents: str = "",
    role: Role = Role.CRITIC,
    max_tokens: int = 100,
    n: int = 1,
) -> Asked[Said]:
    request = Request(role=role, instructions=Instructions(), question=Question(), answer=Said)
    prompt = Prompt("You judge.", documents, "Judge this.", question)
    return await pool.ask(
        prompt, Said, request=request, caller=caller or Recording(), max_tokens=max_tokens, n=n
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  it is about what a server in another task sees
            await asyncio.sleep(0.01)


async def test_an_answer_is_typed_and_what_it_cost_is_told(start: Start) -> None:
    caller = Recording()
    async with pool_of(await start()) as pool:
        asked = await ask(pool, caller, n=3)
    assert len(asked.values) == 3
    assert asked.usage.tokens == 30
    assert asked.usage == caller.spent[0]
    assert caller.calls == 1


async def test_a_reached_budget_sends_nothing(start: Start) -> None:
    server = await start()
    async with pool_of(server) as pool:
        with pytest.raises(BudgetReachedError):
            await ask(pool, Recording(allowed=0))
        await ask(pool)
    assert len(server.chats) == 1


async def test_that_another_model_answered_than_was_asked_is_on_the_record_once_a_run(start: Start) -> None:
    """A proxy may put in whatever is cheap at night."""
    said = {"message": {"content": '{"text": "so"}'}, "finish_reason": "stop"}
    cheap = [web.json_response({"model": "small", "choices": [said]}) for _ in range(3)]
    server, one, other = await start(faults=cheap), Recording(run="one"), Recording(run="other")
    async with pool_of(server) as pool:
        for caller in (one, one, other, other):
            await ask(pool, caller)
    noted = ["critic: 'big' was asked, and 'small' says that it answered"]
    assert (one.notes, other.notes) == (noted, noted)


async def test_what_a_call_may_cost_is_reserved_until_it_is_known_what_it_did_cost(start: Start) -> None:
    server, caller = await start(faults=[web.Response(status=500)]), Recording()
    async with pool_of(server) as pool:
        await ask(pool, caller, n=2)
        assert caller.ended == [0, 30]
        assert all(tokens >= 2 * 100 + 10 for tokens in caller.reserved)
        server.delay_s = 60
        given_up = asyncio.create_task(ask(pool, caller))
        await until(lambda: server.now > 0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
    assert caller.ended == [0, 30, 0]


async def test_an_answer_of_no_use_is_counted_and_asked_again(start: Start) -> None:
    useless = {
        "choices": [{"message": {"content": "{}"}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2},
    }
    server, caller = await start(faults=[web.json_response(useless)]), Recording()
    async with pool_of(server) as pool:
        asked = await ask(pool, caller)
    assert [usage.tokens for usage in caller.spent] == [9, 30]
    assert asked.usage.tokens == 39
    assert asked.usage.calls == caller.calls == 2


async def test_a_fault_that_passes_is_asked_again(start: Start) -> None:
    server = await start(faults=[web.Response(status=500), web.Response(status=502)])
    caller = Recording()
    with capture_logs() as logs:
        async with pool_of(server) as pool:
            await ask(pool, caller)
    assert len(server.chats) == 3
    assert [line["event"] for line in logs].count("model_call_retried") == 2
    assert "You judge" not in str(logs)
    assert len(caller.spent) == 3, "what a failed attempt cost counts as a call"


async def test_a_lasting_fault_is_not_asked_again(start: Start) -> None:
    server = await start(faults=[web.Response(status=422, text="no such field")])
    async with pool_of(server) as pool:
        with pytest.raises(RequestRejectedError, match="no such field"):
            await ask(pool)
    assert len(server.chats) == 1


async def test_a_request_that_kills_its_server_each_time_is_given_up(start: Start) -> None:
    servers = [await start(cut=True) for _ in range(6)]
    async with pool_of(*servers) as pool:
        with pytest.raises(ModelUnavailableError, match="attempts at this request failed"):
            await ask(pool, question="poison")
    assert sum(len(server.asked("poison")) for server in servers) == ATTEMPTS


async def test_a_server_that_asks_for_a_pause_gets_it(start: Start) -> None:
    server = await start(faults=[web.Response(status=429, headers={"Retry-After": "2"})])
    with capture_logs() as logs:
        async with pool_of(server) as pool:
            await ask(pool)
    assert [line["pause_s"] for line in logs if line["event"] == "model_call_retried"] == [2.0]


async def test_a_server_that_is_busy_stays_in_rotation_and_is_not_given_up_while_others_are_answered(
    start: Start,
) -> None:
    server = await start(faults=[web.Response(status=503, headers={"Retry-After": "0"}) for _ in range(8)])
    with capture_logs() as logs:
        async with pool_of(server) as pool:
            await asyncio.gather(*(ask(pool) for _ in range(4)))
    assert "endpoint_left_rotation" not in {line["event"] for line in logs}


async def test_the_calls_of_a_dead_server_go_to_the_others_at_once(start: Start) -> None:
    dying, healthy = await start(delay_s=0.2), await start(delay_s=0.01)
    with capture_logs() as logs:
        async with pool_of(dying, healthy) as pool:
            await ask(pool)
            answers = [asyncio.create_task(ask(pool)) for _ in range(20)]
            await until(lambda: dying.now > 0)
            await dying.stop()
            said = [asked.value.text for asked in await asyncio.gather(*answers)]
            more = [(await ask(pool)).value.text for _ in range(5)]
    assert len(said) == 20
    assert set(more) == {f"from {healthy.port}"}
    left = [line for line in logs if line["event"] == "endpoint_left_rotation"]
    assert [line["address"] for line in left] == [dying.url]


async def test_a_server_that_comes_back_gets_calls_again(start: Start) -> None:
    first, second = await start(), await start()
    with capture_logs() as logs:
        async with pool_of(first, second) as pool:
            await ask(pool)
            await first.stop()
            for _ in range(4):
                await asyncio.gather(*(ask(pool) for _ in range(4)))
            await first.start()
            await until(lambda: any(line["event"] == "endpoint_back" for line in logs))
            said = await asyncio.gather(*(ask(pool) for _ in range(10)))
    assert Counter(asked.value.text for asked in said)[f"from {first.port}"] == 5


async def test_a_server_that_fails_each_call_at_once_does_not_draw_all_of_them(start: Start) -> None:
    broken = await start(faults=[web.Response(status=500) for _ in range(100)])
    healthy = await start(delay_s=0.02)
    caller = Recording()
    async with pool_of(broken, healthy) as pool:
        await asyncio.gather(*(ask(pool, caller) for _ in range(40)))
    assert len(healthy.chats) == 40
    assert len(broken.asked("so")) <= 25


async def test_where_no_server_answers_the_run_waits_says_so_and_goes_on(start: Start) -> None:
    server, caller = await start(), Recording()
    async with pool_of(server) as pool:
        await ask(pool, caller)
        await server.stop()
        asking = asyncio.create_task(ask(pool, caller))
        await until(lambda: any(server.url in doing for doing in caller.doing))
        await server.start()
        assert (await asking).value.text


@pytest.mark.parametrize("waiting", [True, False])
async def test_where_no_server_comes_up_the_run_parks_with_the_address_and_what_to_do(
    start: Start, *, waiting: bool
) -> None:
    server = await start()
    await server.stop()
    async with pool_of(server, patience=IMPATIENT) as pool:
        with pytest.raises(ModelUnavailableError, match=rf"{server.url}.*karkas serve.*karkas runs resume"):
            await ask(pool, Recording(waiting=waiting))


async def test_a_person_who_waits_is_not_made_to_wait_long_before_the_first_question_either(
    start: Start,
) -> None:
    """Names, sizes and counts are asked of a server as well."""
    server, caller = await start(), Recording(waiting=True)
    await server.stop()
    models = pool_of(server, patience=Patience(unattended_s=600.0, waiting_s=0.5)).asked_by(caller)
    asking = (models.info(), models.context(Role.SCOUT), models.count(Role.SCOUT, "words"))
    for error in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(error, ModelUnavailableError)
    assert any(server.url in doing for doing in caller.doing)


async def test_a_gateway_that_lists_thousands_of_models_is_told_in_a_few_lines(start: Start) -> None:
    models = [{"id": f"{number:04}{'x' * 1000}", "max_model_len": 4096} for number in range(2000)]
    async with pool_of(await start(models=models), model="huge") as pool:
        with pytest.raises(RequestRejectedError, match=r"0000x+, .* and 1980 more") as raised:
            await ask(pool)
    assert len(str(raised.value)) < 3000


async def test_a_model_without_a_name_is_the_one_that_the_server_lists(start: Start) -> None:
    adapter = {"id": "sharp", "parent": "big", "max_model_len": None}
    server = await start(models=[{"id": "big", "max_model_len": 4096}, adapter])
    async with pool_of(server, roles={Role.CRITIC: RoleSettings(adapter="sharp")}) as pool:
        await ask(pool, role=Role.CRITIC)
        await ask(pool, role=Role.SCOUT)
        assert (await pool.info()).model == "big; critic: sharp"
        assert await pool.context(Role.CRITIC) == 4096
    assert [chat["model"] for chat in server.chats] == ["sharp", "big"]


async def test_of_several_models_one_must_be_named(start: Start) -> None:
    server = await start(models=[{"id": "big", "max_model_len": 1}, {"id": "small", "max_model_len": 1}])
    async with pool_of(server) as pool:
        with pytest.raises(RequestRejectedError, match="big, small"):
            await ask(pool)


@pytest.mark.parametrize(
    "settings", [{"model": "huge"}, {"roles": {Role.SCOUT: RoleSettings(adapter="huge")}}]
)
async def test_a_model_or_adapter_that_is_not_there_is_told_with_what_is(
    start: Start, settings: dict[str, Any]
) -> None:
    async with pool_of(await start(), **settings) as pool:
        with pytest.raises(RequestRejectedError, match="does not list 'huge'; it lists: big"):
            await ask(pool)


async def test_a_server_with_another_model_gets_no_calls(start: Start) -> None:
    right, wrong = await start(), await start(models=[{"id": "other", "max_model_len": 4096}])
    with capture_logs() as logs:
        async with pool_of(right, wrong, model="big") as pool:
            await asyncio.gather(*(ask(pool) for _ in range(10)))
            await until(lambda: any(line["event"] == "endpoint_rejected" for line in logs))
    assert not wrong.chats
    assert len(right.chats) == 10


async def test_a_missing_key_names_its_variable_and_a_key_is_sent(start: Start) -> None:
    server = await start()
    config = ModelsConfig({"default": ModelSettings(base_url=server.url, api_key_env="BIG_KEY")})
    async with ModelPool(config, environ={}) as pool:
        with pytest.raises(ModelUnavailableError, match="BIG_KEY"):
            await ask(pool)
    async with ModelPool(config, environ={"BIG_KEY": "secret"}) as pool:
        await ask(pool)


async def test_only_vllm_is_sent_fields_of_its_own(start: Start) -> None:
    vllm, other = await start(), await start(models=[{"id": "big"}])
    async with pool_of(vllm) as pool:
        await ask(pool)
        await ask(pool, Recording(waiting=True))
    async with pool_of(other, context=4096) as pool:
        await ask(pool)
    async with pool_of(vllm, thinking=True) as pool:
        await ask(pool)
    assert [chat.get("priority") for chat in vllm.chats] == [10, 0, 10]
    assert vllm.chats[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert vllm.chats[2]["chat_template_kwargs"] == {"enable_thinking": True}
    assert not {"priority", "chat_template_kwargs"} & other.chats[0].keys()


async def test_an_answer_gets_only_the_room_that_the_prompt_leaves(start: Start) -> None:
    server = await start(tokens=lambda text: len(text) // 4)
    async with pool_of(server) as pool:
        await ask(pool, documents="word " * 3000, max_tokens=400)
    assert server.chats[0]["max_tokens"] < 400
    assert 3750 + server.chats[0]["max_tokens"] <= 4096


async def test_a_prompt_that_is_too_long_is_not_sent(start: Start) -> None:
    server = await start(tokens=lambda text: len(text) // 4)
    async with pool_of(server) as pool:
        with pytest.raises(ContextTooLongError, match="4096"):
            await ask(pool, documents="word " * 5000)
    assert not server.chats


async def test_tokens_are_counted_only_where_it_matters_and_stable_parts_once(start: Start) -> None:
    server = await start(tokens=lambda text: len(text) // 4)
    async with pool_of(server) as pool:
        await ask(pool)
        assert server.counted == []
        for number in range(3):
            await ask(pool, documents="word " * 2000, question=str(number))
        assert await pool.count(Role.SCOUT, "word " * 2000) == 2500
    assert server.counted == ["word " * 2000]


@pytest.mark.parametrize(
    "text", ["", "plain English words", "обычные русские слова", "0.123456789", "日本語の文章"]
)
async def test_without_a_tokenizer_the_count_is_an_upper_estimate(start: Start, text: str) -> None:
    async with pool_of(await start()) as pool:
        assert len(text.split()) <= await pool.count(Role.SCOUT, text) <= len(text.encode())


async def test_slots_are_shared_out_over_runs_and_a_waiting_person_goes_first(start: Start) -> None:
    """A server that works on one request at a time and refuses what comes beyond."""
    server = await start(delay_s=0.02)
    async with pool_of(server) as pool:
        await ask(pool)
        endpoints = pool._open["default"]
        endpoints.each[0].limit.refused(1.0, ours=1)
        assert endpoints.each[0].limit.value == 1
        async with asyncio.TaskGroup() as tasks:
            for name, waiting in [("a", False)] * 4 + [("b", False)] * 2 + [("p", True)] * 2:
                tasks.create_task(ask(pool, Recording(run=name, waiting=waiting), question=f"of {name}"))
    order = [user[-1] for user in server.asked("of ")]
    assert order == ["a", "p", "p", "a", "b", "a", "b", "a"]
    assert server.most == 1


async def test_a_call_that_is_cancelled_leaves_no_slot_behind(start: Start) -> None:
    server = await start(delay_s=30.0)
    async with pool_of(server) as pool:
        await pool.context(Role.CRITIC)
        endpoint = pool._open["default"].each[0]
        endpoint.limit.refused(1.0, ours=3)
        held = endpoint.limit.value
        asking = [asyncio.create_task(ask(pool)) for _ in range(held + 5)]
        await until(lambda: server.now == held)
        for task in reversed(asking):
            task.cancel()
        await asyncio.wait(asking)
        assert endpoint.in_flight == 0
        await until(lambda: server.now == 0)
        server.delay_s = 0.0
        assert (await ask(pool)).value.text


async def test_a_slot_that_comes_at_the_moment_of_cancelling_is_given_on(start: Start) -> None:
    server = await start()
    async with pool_of(server) as pool:
        await ask(pool)
        endpoints = pool._open["default"]
        endpoint = endpoints.each[0]
        endpoint.limit.refused(1.0, ours=1)
        slot = endpoints.slot(Recording(), n=1)
        await slot.__aenter__()
        waiting = asyncio.create_task(ask(pool))
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        await slot.__aexit__(None, None, None)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        assert endpoint.in_flight == 0
        assert (await ask(pool)).value.text


async def test_requests_with_the_same_documents_go_to_the_same_server(start: Start) -> None:
    servers = [await start() for _ in range(3)]
    async with pool_of(*servers) as pool:
        await pool.context(Role.CRITIC)
        await until(lambda: all(endpoint.ready for endpoint in pool._open["default"].each))
        homes = {}
        for page in range(12):
            said = {
                (await ask(pool, documents=f"page {page}", question=str(each))).value.text
                for each in range(3)
            }
            assert len(said) == 1
            homes[page] = said.pop()
    assert len(set(homes.values())) > 1


async def test_a_home_that_is_clearly_busier_is_left(start: Start) -> None:
    servers = [await start(delay_s=0.1) for _ in range(2)]
    async with pool_of(*servers) as pool:
        await pool.context(Role.CRITIC)
        await until(lambda: all(endpoint.ready for endpoint in pool._open["default"].each))
        await asyncio.gather(*(ask(pool, documents="the same page") for _ in range(30)))
    assert min(len(server.chats) for server in servers) >= 10


async def test_the_limit_follows_what_the_server_says_of_its_load(start: Start) -> None:
    """Eight at once is all that it does; the rest queues there, until the second look."""
    server = await start(delay_s=0.05, room=asyncio.Semaphore(8))
    server.metrics = lambda: (
        f"vllm:num_requests_running {min(server.now, 8)}\nvllm:num_requests_waiting {max(server.now - 8, 0)}\n"
    )
    async with pool_of(server) as pool:
        await asyncio.gather(*(ask(pool) for _ in range(400)))
        assert server.most > 200
        server.most = 0
        await asyncio.gather(*(ask(pool) for _ in range(100)))
    assert 8 <= server.most <= 14


async def test_the_pool_closes_with_the_last_run_and_opens_again(start: Start) -> None:
    server = await start()
    pool = pool_of(server)
    async with pool:
        async with pool:
            await ask(pool)
        assert pool._open
        await ask(pool)
    assert not pool._open
    async with pool:
        await ask(pool)
    await ask(pool)
    assert not pool._open
