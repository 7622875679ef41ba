"""Tokens a second of a model server through `ModelPool.ask`, against a bare load generator on the same server.

    python benchmarks/throughput.py URL [--requests 300] [--rounds 5]

The generator is aiohttp and a semaphore: no budgets, turns, retries or validation. Its number of requests in flight is
the best of several tried, as somebody would who tunes it by hand for this server; the pool finds its own. Both send the
same prompts, schema and max_tokens, one after the other in each round, so that whatever else the machine does hits both
alike. The ratio is the median of the rounds' ratios; karkas promises at least 0.95. The first round of the pool, in
which it learns, stands apart.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import aiohttp
from pydantic import BaseModel, Field

from karkas.server.asking import Prompt
from karkas.server.config import ModelsConfig, ModelSettings
from karkas.server.pool import ModelPool
from karkas.server.protocol import Caller, Instructions, Question, Request, Role
from karkas.server.schemas import response_format
from karkas.server.wire import ChatRequest, Message

TRIED = (8, 16, 24, 32, 64, 128)
RUNS = 4
MAX_TOKENS = 600
SYSTEM = "You say what a passage is about. " * 10


class Said(BaseModel):
    text: str = Field(min_length=150, max_length=300)


def prompts(number: int, requests: int) -> list[Prompt]:
    """Others in each round, or the server would find their end in its cache too."""
    return [
        Prompt(SYSTEM, f"Passage {number}.{each}. " * 10, "", "What is it about?") for each in range(requests)
    ]


async def through_pool(pool: ModelPool, asked: list[Prompt]) -> int:
    callers = [Caller() for _ in range(RUNS)]
    for number, caller in enumerate(callers):
        caller.run = str(number)
    request = Request(role=Role.SCOUT, instructions=Instructions(), question=Question(), answer=Said)

    async def ask(number: int, prompt: Prompt) -> int:
        caller = callers[number % RUNS]
        found = await pool.ask(prompt, Said, request=request, caller=caller, max_tokens=MAX_TOKENS)
        return found.usage.completion_tokens

    return sum(await asyncio.gather(*(ask(number, prompt) for number, prompt in enumerate(asked))))


async def bare(
    session: aiohttp.ClientSession, url: str, model: str, asked: list[Prompt], in_flight: int
) -> int:
    slots = asyncio.Semaphore(in_flight)

    async def ask(prompt: Prompt) -> int:
        request = ChatRequest(
            model=model,
            messages=(
                Message(role="system", content=prompt.system),
                Message(role="user", content=prompt.user),
            ),
            max_tokens=MAX_TOKENS,
            response_format=response_format(Said),
            chat_template_kwargs={"enable_thinking": False},
            priority=10,
        )
        body = request.model_dump(exclude_none=True)
        async with slots, session.post(f"{url}/v1/chat/completions", json=body) as response:
            response.raise_for_status()
            return int((await response.json())["usage"]["completion_tokens"])

    return sum(await asyncio.gather(*(ask(prompt) for prompt in asked)))


async def rate(work: Callable[[], Awaitable[int]]) -> float:
    begun = time.perf_counter()
    tokens = await work()
    return tokens / (time.perf_counter() - begun)


async def compare(url: str, requests: int, rounds: int) -> None:
    config = ModelsConfig({"default": ModelSettings(base_url=url)})
    async with (
        ModelPool(config, environ={}) as pool,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3)) as session,
    ):
        model = (await pool.info()).model or ""
        asked = prompts(-1, requests)
        await bare(session, url, model, asked[:32], 16)
        tried = {many: await rate(lambda many=many: bare(session, url, model, asked, many)) for many in TRIED}
        best = max(tried, key=tried.__getitem__)
        print("in flight, tokens/s: ", ", ".join(f"{many}: {found:.0f}" for many, found in tried.items()))
        first = await rate(lambda: through_pool(pool, prompts(-2, requests)))
        pooled, fixed = [], []
        for number in range(rounds):
            asked = prompts(number, requests)
            turns = [
                (pooled, lambda asked=asked: through_pool(pool, asked)),
                (fixed, lambda asked=asked: bare(session, url, model, asked, best)),
            ]
            for found, work in turns if number % 2 else reversed(turns):
                found.append(await rate(work))
    print(f"{requests} requests a round, {rounds} rounds, median tokens/s")
    print(
        f"bare, {best} in flight  {statistics.median(fixed):8.0f}   {' '.join(f'{each:.0f}' for each in fixed)}"
    )
    print(
        f"pool                {statistics.median(pooled):8.0f}   {' '.join(f'{each:.0f}' for each in pooled)}"
    )
    print(f"pool, first round   {first:8.0f}")
    ratios = [ours / theirs for ours, theirs in zip(pooled, fixed, strict=True)]
    print(
        f"ratio               {statistics.median(ratios):8.2f}   {' '.join(f'{each:.2f}' for each in ratios)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    asyncio.run(compare(args.url, args.requests, args.rounds))


if __name__ == "__main__":
    main()
