"""What answers at a server's address: nobody, the model that is expected, or somebody else."""

import asyncio
from dataclasses import dataclass

import httpx
from pydantic_core import from_json

ASK_S = 10.0
"""For questions that a healthy server answers at once."""

TOKEN_S = 120.0
"""For the first token, which may find a cold or a busy server."""

LARGEST = 1 << 20
"""Bytes of a list of models."""


@dataclass(frozen=True)
class Found:
    """What listens: the models that it serves, or why it is of no use."""

    models: tuple[str, ...] = ()
    fault: str = ""


class Probe:
    """Asks one server, and believes nothing that it does not say itself."""

    def __init__(self, base_url: str, *, key: str | None, ask_s: float = ASK_S) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._ask_s = ask_s
        # Of this machine, so no proxy stands between.
        self._http = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=ask_s, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def look(self) -> Found | None:
        """`None` where nobody listens."""
        body = bytearray()
        try:
            async with (
                asyncio.timeout(2 * self._ask_s),
                self._http.stream("GET", "/v1/models", headers={"Accept-Encoding": "identity"}) as answer,
            ):
                async for data in answer.aiter_raw():
                    body += data
                    if len(body) > LARGEST:
                        return Found(fault=f"something else answers there (more than {LARGEST} bytes)")
        except httpx.ConnectError:
            return None
        except (httpx.HTTPError, TimeoutError) as error:
            return Found(fault=f"something else answers there ({type(error).__name__})")
        if answer.status_code in {401, 403}:
            return Found(
                fault="the server there asks for another key (api_key_env names the variable that holds it)"
            )
        try:
            answer.raise_for_status()
            return Found(models=tuple(str(one["id"]) for one in from_json(bytes(body))["data"]))
        except (httpx.HTTPStatusError, ValueError, KeyError, TypeError):
            return Found(fault=f"something else answers there ({answer.status_code}, no list of models)")

    async def healthy(self) -> bool:
        try:
            async with self._http.stream("GET", "/health") as answer:
                return answer.is_success
        except httpx.HTTPError:
            return False

    async def answers(self, model: str) -> bool:
        """Whether it gives one token; `/health` is 200 also while it is draining or asleep."""
        question = {"model": model, "prompt": "1", "max_tokens": 1}
        try:
            async with self._http.stream("POST", "/v1/completions", json=question, timeout=TOKEN_S) as answer:
                return answer.is_success
        except httpx.HTTPError:
            return False
