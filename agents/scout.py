"""The scout: chooses which sources to read next, and reads them."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import count

from karkas.agents.prompts import instructions
from karkas.agents.sources import Found, Limits, Reading, excerpt, read
from karkas.server.protocol import Engine, Reply, Request, Role
from karkas.server.questions import Candidate, ReadNext, WhatNext

READERS = 8
"""Sources read at the same time; extraction is CPU work, so more would only wait."""


async def choose(
    engine: Engine, *, zone: str, queries: Sequence[str], found: Sequence[Found], at_most: int
) -> tuple[list[Found], Reply[ReadNext] | None]:
    """The candidates to read next, best first. Where all of them fit, nobody is asked."""
    if len(found) <= at_most:
        return list(found), None
    candidates = tuple(
        Candidate(key=one.key, title=one.title, path=one.path, rank=one.rank, excerpt=excerpt(one))
        for one in found
    )
    reply = await engine.ask(
        Request(
            role=Role.SCOUT,
            instructions=instructions(Role.SCOUT),
            question=WhatNext(zone=zone, queries=tuple(queries), candidates=candidates, at_most=at_most),
            answer=ReadNext,
        )
    )
    by_key = {one.key: one for one in found}
    chosen = dict.fromkeys(choice.key for choice in reply.value.choices if choice.key in by_key)
    return [by_key[key] for key in list(chosen)[:at_most]], reply


async def read_all(
    found: Iterable[Found],
    *,
    limits: Limits,
    done: Callable[[Reading], None],
    enough: Callable[[], bool] = lambda: False,
) -> list[tuple[Found, Reading]]:
    """Reads all of `found`, in their order; where it is `enough`, some of the first. `done` is called as each ends."""
    slots = asyncio.Semaphore(READERS)

    async def one(number: int, item: Found) -> tuple[Found, Reading] | None:
        async with slots:
            if number >= READERS and enough():
                return None
            reading = await read(item, limits=limits)
        done(reading)
        return item, reading

    return [one for one in await asyncio.gather(*map(one, count(), found)) if one is not None]
