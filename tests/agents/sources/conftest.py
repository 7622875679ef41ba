"""A folder to put sources in, and one call from a spec to what was read."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from karkas.agents.sources import Limits, Reading, discover, read

Reader = Callable[..., Awaitable[dict[str, Reading]]]
Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return written


@pytest.fixture
def read_all(tmp_path: Path) -> Reader:
    """Everything that `spec` gives, by its path."""

    async def readings(spec: str = ".", limits: Limits | None = None) -> dict[str, Reading]:
        limits = limits or Limits()
        found = list(discover(spec, root=tmp_path, limits=limits))
        return {one.path: await read(one, limits=limits) for one in found}

    return readings
