"""What answers at a server's address: nobody, the model that is expected, or somebody else."""

from dataclasses import dataclass

import httpx

ASK_S = 10.0
"""For questions that a healthy server answers at once."""

TOKEN_S = 120.0
"""For the first token, which may find a cold or a busy server."""


@dataclass(frozen=True)
class Found:
    """What listens: the models that it serves, or why it is of no use."""

    models: tuple[str, ...] = ()
    fault: str = ""


class Probe:
    """Asks one server, and believes nothing that it does not say itself."""

    def __init__(self, base_url: str, *, key: str | None, ask_s: float = ASK_S) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # Of this machine, so no proxy stands between.
        self._http = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=ask_s, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def look(self) -> Found | None:
        """`None` where nobody listens."""
        try:
            answer = await self._http.get("/v1/models")
        except httpx.ConnectError:
            return None
        except httpx.HTTPError as error:
            return Found(fault=f"something else answers there ({type(error).__name__})")
        if answer.status_code in {401, 403}:
            return Found(
                fault="the server there asks for another key (api_key_env names the variable that holds it)"
            )
        try:
            return Found(models=tuple(str(one["id"]) for one in answer.raise_for_status().json()["data"]))
        except (httpx.HTTPStatusError, ValueError, KeyError, TypeError):
            return Found(fault=f"something else answers there ({answer.status_code}, no list of models)")

    async def healthy(self) -> bool:
        try:
            return (await self._http.get("/health")).is_success
        except httpx.HTTPError:
            return False

    async def answers(self, model: str) -> bool:
        """Whether it gives one token; `/health` is 200 also while it is draining or asleep."""
        question = {"model": model, "prompt": "1", "max_tokens": 1}
        try:
            return (await self._http.post("/v1/completions", json=question, timeout=TOKEN_S)).is_success
        except httpx.HTTPError:
            return False
