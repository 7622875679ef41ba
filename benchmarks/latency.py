"""What karkas adds to the time of model calls when many runs go on at once.

    python benchmarks/latency.py [--runs 200] [--rounds 5] [--latency-ms 200] [--profile FILE]

200 runs at once, each four calls in a row of 200 ms, against a server in another process that answers after exactly
that time and does nothing else. The same calls go through

- raw: asyncio streams by hand, the least that Python can do; the floor;
- graph: the same in a LangGraph state machine of four nodes;
- pool: `ModelPool.ask` in that state machine: slots, budgets, retries, validation;
- agent: the critic (`judge_action`) with the language-model engine upon that, prompts included;
- run: that for a run on record, whose budget is looked after, and whose answers are journalled with what they cost.

All in this one process, in turns, so that what else the machine does hits all alike. The table has medians over the
rounds of each round's p50 and p95, and the ratio to the floor's. karkas promises for agents a p95 of at most 1.8 times
the floor's, on a machine that does nothing else: the CPU column tells what is karkas's own.
"""

import argparse
import asyncio
import gc
import json
import re
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

from karkas.agents.critic import judge_action
from karkas.agents.prompts import instructions
from karkas.policies.gates import CriticStatus
from karkas.runner import collect_less
from karkas.server.asking import Prompt
from karkas.server.config import ModelsConfig, ModelSettings
from karkas.server.language.engine import LanguageEngine
from karkas.server.language.judge import Judgement
from karkas.server.pool import ModelPool
from karkas.server.protocol import Caller, Instructions, Question, Request, Role
from karkas.storage import Store
from karkas.workflows.asking import RunCaller

CALLS = 4
SYSTEM = "You judge what others propose. " * 40
ASKED = "Is this action what the task asks for? " * 40
VERDICT = {"findings": [], "reason": "It does what the task asks for, and nothing else.", "verdict": "pass"}

Call = Callable[[str], Awaitable[None]]


class Server(asyncio.Protocol):
    """Answers each chat after the latency. The critic's prompt asks for a code to be repeated."""

    latency_s = 0.0
    lists = json.dumps({"data": [{"id": "fake", "max_model_len": 32768}]}).encode()

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.transport = None

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self.buffer) < whole:
                return
            body, self.buffer = self.buffer[end + 4 : whole], self.buffer[whole:]
            self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        if b"/chat/completions" in head:
            code = re.search(rb"the code is (\w+)", body)
            text = json.dumps({"code": code[1].decode() if code else "", **VERDICT})
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 700, "completion_tokens": 40}
            said = json.dumps({"model": "fake", "choices": [choice], "usage": usage}).encode()
            asyncio.get_running_loop().call_later(self.latency_s, self.send, b"200 OK", said)
        elif b"/models" in head:
            self.send(b"200 OK", self.lists)
        elif b"/tokenize" in head:
            self.send(b"200 OK", json.dumps({"count": len(body) // 4}).encode())
        else:
            self.send(b"404 Not Found", b"{}")

    def send(self, status: bytes, body: bytes) -> None:
        if self.transport is not None:
            head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(head % (status, len(body)) + body)


async def serve(latency_s: float) -> None:
    Server.latency_s = latency_s
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Raw:
    """HTTP/1.1 by hand, with as many connections as there are calls at once."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def call(self, asked: str) -> None:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}]
        body = json.dumps({"model": "fake", "messages": messages, "max_tokens": 400}).encode()
        if self.free:
            reader, writer = self.free.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        headers = await reader.readuntil(b"\r\n\r\n")
        length = int(headers.split(b"content-length:")[1].split(b"\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
        self.free.append((reader, writer))
        assert json.loads(answer["choices"][0]["message"]["content"])["verdict"] == "pass"


class State(TypedDict):
    text: str


def graph_of(call: Call) -> Call:
    """The calls as nodes of a LangGraph state machine, without checkpoints."""

    async def node(state: State) -> State:
        await call(state["text"])
        return state

    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    names = [f"step{number}" for number in range(CALLS)]
    for name, before in zip(names, [START, *names], strict=False):
        graph.add_node(name, node)
        graph.add_edge(before, name)
    graph.add_edge(names[-1], END)
    compiled = graph.compile()

    async def run(text: str) -> None:
        await compiled.ainvoke({"text": text})

    return run


def in_a_row(call: Call) -> Call:
    async def run(text: str) -> None:
        for _ in range(CALLS):
            await call(text)

    return run


def pooled(pool: ModelPool) -> Call:
    async def call(asked: str) -> None:
        request = Request(
            role=Role.CRITIC, instructions=Instructions(), question=Question(), answer=Judgement
        )
        caller = Caller()
        caller.run = asked
        prompt = Prompt(SYSTEM, "", "", asked)
        found = await pool.ask(prompt, Judgement, request=request, caller=caller, max_tokens=400)
        assert found.value.verdict == "pass"

    return call


def criticised(pool: ModelPool) -> Call:
    async def call(asked: str) -> None:
        caller = Caller()
        caller.run = asked
        engine = LanguageEngine(pool, caller)
        report = await judge_action(engine, zone="z", task="a task", frame="", shown=asked, digests=())
        assert report.status is CriticStatus.PASSED, report.reason

    return call


class Runs:
    """Runs on record, taken up and begun before the time is taken: what is measured is what each call adds."""

    def __init__(self, pool: ModelPool, store: Store) -> None:
        self._pool, self._store = pool, store
        self._free: list[RunCaller] = []
        self._callers: dict[str, RunCaller] = {}

    async def begin(self, runs: int) -> None:
        self._callers.clear()
        request = Request(
            role=Role.CRITIC, instructions=instructions(Role.CRITIC), question=Question(), answer=Judgement
        )
        for _ in range(runs):
            run = self._store.runs.take_up(self._store.runs.create("benchmark").id)
            caller = RunCaller(self._store, run.id, progress=lambda *_, **__: None)
            await caller.before(await self._pool.info(caller), request)
            self._free.append(caller)

    async def call(self, asked: str) -> None:
        caller = self._callers.get(asked)
        if caller is None:
            caller = self._callers[asked] = self._free.pop()
        engine = LanguageEngine(self._pool.asked_by(caller), caller)
        report = await judge_action(engine, zone="z", task="a task", frame="", shown=asked, digests=())
        assert report.status is CriticStatus.PASSED, report.reason


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(run: Call, runs: int) -> tuple[float, float, float]:
    """p50 and p95 in ms, and CPU in ms a run. No text is asked twice: nothing is found in a memory of counts."""
    gc.collect()
    times: list[float] = []
    unique = time.monotonic_ns()

    async def timed(number: int) -> None:
        begun = time.perf_counter()
        await run(f"run {unique} {number}. {ASKED}")
        times.append(1000 * (time.perf_counter() - begun))

    before = cpu_s()
    await asyncio.gather(*(timed(number) for number in range(runs)))
    spent = cpu_s() - before
    return statistics.median(times), statistics.quantiles(times, n=20)[-1], 1000 * spent / runs


async def compare(runs: int, rounds: int, latency_ms: float, profile: str | None) -> None:
    command = (sys.executable, __file__, "--serve", "--latency-ms", str(latency_ms))
    server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    port = int(await server.stdout.readline())
    ends = ExitStack()
    config = ModelsConfig({"default": ModelSettings(base_url=f"http://127.0.0.1:{port}")})
    try:
        folder = ends.enter_context(TemporaryDirectory())
        store = ends.enter_context(Store.open(Path(folder) / ".karkas", create=True))
        async with ModelPool(config, environ={}) as pool:
            raw, runs_on_record = Raw(port), Runs(pool, store)
            ways: dict[str, Call] = {
                "raw": in_a_row(raw.call),
                "graph": graph_of(raw.call),
                "pool": graph_of(pooled(pool)),
                "agent": graph_of(criticised(pool)),
                "run": graph_of(runs_on_record.call),
            }
            for name, run in ways.items():
                await runs_on_record.begin(20 if name == "run" else 0)
                await measure(run, 20)
            if profile is not None:
                await runs_on_record.begin(runs)
                await profiled(ways["run"], runs, profile)
                return
            found = {name: [] for name in ways}  # type: dict[str, list[tuple[float, float, float]]]
            for number in range(rounds):
                for name in list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]:
                    await runs_on_record.begin(runs if name == "run" else 0)
                    found[name].append(await measure(ways[name], runs))
    finally:
        ends.close()
        server.terminate()
        await server.wait()
    floor = statistics.median(p95 for _, p95, _ in found["raw"])
    print(f"{runs} runs at once, {CALLS} calls of {latency_ms:.0f} ms each, {rounds} rounds")
    print(f"{'':8}{'p50 ms':>9}{'p95 ms':>9}{'CPU ms/run':>12}{'p95 / raw':>11}")
    for name, measured in found.items():
        p50, p95, cpu = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"{name:8}{p50:9.0f}{p95:9.0f}{cpu:12.2f}{p95 / floor:11.2f}")


async def profiled(run: Call, runs: int, file: str) -> None:
    """The profile of one round, for `python -m pstats FILE`."""
    import cProfile

    profiler = cProfile.Profile()
    profiler.enable()
    await measure(run, runs)
    profiler.disable()
    profiler.dump_stats(file)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latency-ms", type=float, default=200.0)
    parser.add_argument("--profile", metavar="FILE")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve(args.latency_ms / 1000))
    else:
        collect_less()  # as the karkas command does
        asyncio.run(compare(args.runs, args.rounds, args.latency_ms, args.profile))


if __name__ == "__main__":
    main()
