"""A server that answers as a test's `router` says, over a real connection."""

from collections.abc import AsyncIterator

import httpx
import pytest
import respx
from aiohttp import web


@pytest.fixture
def router() -> respx.MockRouter:
    return respx.MockRouter(base_url="http://model")


@pytest.fixture
async def routed(router: respx.MockRouter) -> AsyncIterator[str]:
    """Its address."""

    async def answer(asked: web.BaseRequest) -> web.Response:
        request = httpx.Request(
            asked.method,
            f"http://model{asked.path_qs}",
            headers=list(asked.headers.items()),
            content=await asked.read(),
        )
        told = await router.async_handler(request)
        return web.Response(status=told.status_code, headers=dict(told.headers), body=told.content)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()
