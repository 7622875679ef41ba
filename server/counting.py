"""How many tokens a text has: asked of the server as seldom as can be, estimated upwards where it has no such way."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import structlog

from karkas.policies.errors import EngineError

if TYPE_CHECKING:
    from karkas.server.client import Client

REMEMBERED = 4096
_DIGITS = b"0123456789"

log = structlog.get_logger("karkas.models")


def bytes_of(text: str) -> int:
    """No tokenizer in use makes more tokens than bytes: what it has no word for it spells byte by byte, at worst."""
    return len(text.encode("utf-8", "replace"))


def estimated(text: str) -> int:
    """More than tokenizers of 30,000 words and above make of prose in any language and of code (2.5 to 6 bytes a
    token); digits, which many take one by one, count as such. Random characters can exceed it.
    """
    data = text.encode("utf-8", "replace")
    digits = len(data) - len(data.translate(None, _DIGITS))
    return (len(data) + digits + 1) // 2


def hash_of(text: str) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


class Counting:
    """Remembers what was counted, by model and the text's hash: prompts share their stable parts."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._uncounting: set[str] = set()
        """Servers that have no `/tokenize`."""

    async def count(self, client: "Client", model: str, text: str) -> int:
        if not text or client.base_url in self._uncounting:
            return estimated(text)
        key = (model, hash_of(text))
        if (known := self._known.get(key)) is not None:
            self._known.move_to_end(key)
            return known
        try:
            told = await client.tokenize(model, text)
        except EngineError as error:  # the request itself will meet what is wrong with the server
            log.debug("tokens_not_counted", address=client.base_url, reason=str(error))
            return estimated(text)
        if told is None:
            self._uncounting.add(client.base_url)
            return estimated(text)
        self._known[key] = told
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return told


async def fitting(count: Callable[[str], Awaitable[int]], parts: Sequence[str], *, at_most: int) -> int:
    """Tokens of all parts, or any upper bound within `at_most`: the longest parts are counted first, and the rest only
    where need be. Parts joined never have many more tokens than parts alone.
    """
    bounds = [bytes_of(part) for part in parts]
    for index in sorted(range(len(parts)), key=bounds.__getitem__, reverse=True):
        if sum(bounds) <= at_most:
            break
        bounds[index] = await count(parts[index])
    return sum(bounds)
