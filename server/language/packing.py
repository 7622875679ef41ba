"""Filling prompts: consecutive items in as few portions as the room allows, with one or two counts a portion."""

from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

Count = Callable[[str], Awaitable[int]]
"""Tokens of a text by the tokenizer of the model that is asked."""

_RATE = 0.3
"""Tokens that a byte of text is taken for until the first portion was counted."""
_LOW = 0.8
"""A portion that fills less of its room is filled up once."""
_SAFE = 0.95


async def packed(
    sizes: Sequence[int], text: Callable[[int, int], str], room: int, count: Count
) -> list[tuple[int, int]]:
    """Half-open ranges of the items, whose `text(begin, end)` takes at most `room` tokens.

    `sizes` are the items' bytes. An item that alone takes more has a range of its own.
    """
    if sizes and sum(sizes) + len(sizes) - 1 <= room:  # no tokenizer makes more tokens than bytes
        return [(0, len(sizes))]
    ends = [0]
    rate = _RATE
    while (begin := ends[-1]) < len(sizes):
        end = _reach(sizes, begin, room / rate)
        tokens = await count(text(begin, end))
        rate = _rate(tokens, sizes[begin:end])
        if tokens < _LOW * room and end < len(sizes):
            end = max(end, _reach(sizes, begin, _SAFE * room / rate))
            tokens = await count(text(begin, end))
        while tokens > room and end - begin > 1:
            rate = _rate(tokens, sizes[begin:end])
            end = min(end - 1, _reach(sizes, begin, _SAFE * room / rate))
            tokens = await count(text(begin, end))
        rate = _rate(tokens, sizes[begin:end])
        ends.append(end)
    return list(pairwise(ends))


def _reach(sizes: Sequence[int], begin: int, most: float) -> int:
    """The end of the longest range from `begin` on within `most` bytes; at least one item."""
    total, end = sizes[begin], begin + 1
    while end < len(sizes) and total + sizes[end] <= most:
        total += sizes[end]
        end += 1
    return end


def _rate(tokens: int, sizes: Sequence[int]) -> float:
    return max(tokens, 1) / max(sum(sizes), 1)
