"""A real vLLM server, with a tiny random model and two LoRA adapters: the wire is real, the prose is noise.

`make test-vllm` installs it and names its executable in KARKAS_TEST_VLLM; KARKAS_TEST_VLLM_URL names a server that runs
already. Without either, all of these tests are skipped.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Protocol

import httpx
import pytest

from karkas.server.process.command import KEEP_ALIVE

HERE = Path(__file__).parent
READY_SECONDS = 300
STOP_SECONDS = 15
MODEL = "tiny"
ADAPTERS = ("adapter-a", "adapter-b")
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # five to ten times faster where cores are few and shared
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    **KEEP_ALIVE,
}
STRUCTURED = {"backend": "guidance", "disable_any_whitespace": True, "disable_additional_properties": True}

Flag = str | float | bool | dict[str, object] | Sequence[str] | None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.vllm)


@dataclass(frozen=True)
class Server:
    """A server that answers. `pid` leads its process group; both are `None` where it was found running."""

    base_url: str
    model: str = MODEL
    adapters: tuple[str, ...] = ()
    pid: int | None = None
    log: Path | None = None

    def metrics(self) -> dict[str, float]:
        """What `/metrics` counts, summed over the labels: `metrics()["vllm:num_requests_running"]`."""
        answer = httpx.get(f"{self.base_url}/metrics", timeout=10, trust_env=False).raise_for_status()
        found: dict[str, float] = defaultdict(float)
        for name, value in re.findall(r"^([\w:]+)(?:\{.*\})? (\S+)$", answer.text, re.MULTILINE):
            found[name] += float(value)
        return dict(found)

    def kill(self) -> None:
        """Ends all of it at once, as a crash or a power cut would."""
        assert self.pid is not None, "only a server that the tests started may be killed"
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class StartServer(Protocol):
    """`start_server(max_num_seqs=2)`: a further server, on a free port unless `port` is given.

    Keywords become flags (`True` and `False` `--flag` and `--no-flag`, a table JSON, `None` leaves one of the usual flags
    out). Each takes 3.2 GB and half a minute, and ends with the test.
    """

    def __call__(self, *, port: int | None = None, adapters: Sequence[str] = (), **flags: Flag) -> Server: ...


@pytest.fixture(scope="session")
def vllm() -> Path:
    """The executable; skips where there is none."""
    named = os.environ.get("KARKAS_TEST_VLLM")
    if not named:
        pytest.skip("no vLLM to start: `make test-vllm` installs one (KARKAS_TEST_VLLM names its executable)")
    found = shutil.which(named)
    if found is None:
        pytest.fail(f"KARKAS_TEST_VLLM names {named}, which is no executable; `make test-vllm` installs one")
    return Path(found).absolute()


@pytest.fixture(scope="session")
def models(vllm: Path, pytestconfig: pytest.Config) -> Path:
    """The folder of the tiny model and its adapters, made once for this version of `tiny_model.py`."""
    script = HERE / "tiny_model.py"
    folder = pytestconfig.cache.mkdir("vllm-models") / sha256(script.read_bytes()).hexdigest()[:12]
    if not folder.exists():
        made = folder.with_name(f"{folder.name}.{os.getpid()}")
        subprocess.run([vllm.with_name("python"), script, made], check=True, env=os.environ | ENVIRONMENT)
        with suppress(OSError):
            made.rename(folder)  # another process may have been first
    return folder


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that all tests share: 16 requests at once, a context of 16384 tokens, both adapters."""
    if url := os.environ.get("KARKAS_TEST_VLLM_URL", "").rstrip("/"):
        listed = httpx.get(f"{url}/v1/models", timeout=10, trust_env=False).raise_for_status().json()["data"]
        names = [one["id"] for one in listed]
        yield Server(url, model=names[0], adapters=tuple(names[1:]))
        return
    if not os.environ.get("KARKAS_TEST_VLLM"):
        pytest.skip("no vLLM: `make test-vllm`, or name a server that runs in KARKAS_TEST_VLLM_URL")
    vllm, models = request.getfixturevalue("vllm"), request.getfixturevalue("models")
    with serving(vllm, models, tmp_path_factory.mktemp("vllm"), adapters=ADAPTERS) as started:
        yield started


@pytest.fixture
def start_server(vllm: Path, models: Path, tmp_path: Path) -> Iterator[StartServer]:
    with ExitStack() as stack:

        def start(*, port: int | None = None, adapters: Sequence[str] = (), **flags: Flag) -> Server:
            return stack.enter_context(serving(vllm, models, tmp_path, port=port, adapters=adapters, **flags))

        yield start


@contextmanager
def serving(
    vllm: Path,
    models: Path,
    logs: Path,
    *,
    port: int | None = None,
    adapters: Sequence[str] = (),
    **flags: Flag,
) -> Iterator[Server]:
    """Starts a server, waits until it answers, and ends its whole process group afterwards, whatever happened."""
    port = port or free_port()
    usual: dict[str, Flag] = {
        "served_model_name": MODEL,
        "host": "127.0.0.1",
        "port": port,
        "enforce_eager": True,
        "max_model_len": 16384,
        "max_num_seqs": 16,
        "enable_prompt_tokens_details": True,
        "scheduling_policy": "priority",
        # A seed and a prompt in chunks together end the CPU build.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": 16384,
        "structured_outputs_config": STRUCTURED,
    }
    if adapters:
        named = [f"{name}={models / name}" for name in adapters]
        usual |= {"enable_lora": True, "max_loras": 2, "max_lora_rank": 16, "lora_modules": named}
    command = [str(vllm), "serve", str(models / MODEL), *words(usual | flags)]
    path = logs / f"vllm-{port}.log"
    with path.open("wb") as log, running(command, log) as process:
        await_ready(process, f"http://127.0.0.1:{port}", path)
        yield Server(f"http://127.0.0.1:{port}", adapters=tuple(adapters), pid=process.pid, log=path)


@contextmanager
def running(command: Sequence[str], log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command,
        env=os.environ | ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):  # a killed API process leaves its engine behind
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def await_ready(process: subprocess.Popen[bytes], base_url: str, log: Path) -> None:
    """Ready means that it has answered one token; `/health` is 200 before that too."""
    question = {"model": MODEL, "messages": [{"role": "user", "content": "?"}], "max_tokens": 1}
    until = time.monotonic() + READY_SECONDS
    with httpx.Client(timeout=READY_SECONDS, trust_env=False) as client:
        while time.monotonic() < until and process.poll() is None:
            with suppress(httpx.HTTPError):
                if client.post(f"{base_url}/v1/chat/completions", json=question).is_success:
                    return
            time.sleep(0.5)
    last = "\n".join(log.read_text("utf-8", "replace").splitlines()[-40:])
    ended = "did not answer in time" if process.poll() is None else f"ended with {process.returncode}"
    pytest.fail(f"vLLM {ended}; the last lines of its log:\n{last}")


def words(flags: dict[str, Flag]) -> list[str]:
    found: list[str] = []
    for name, value in flags.items():
        flag = name.replace("_", "-")
        match value:
            case None:
                continue
            case True:
                found.append(f"--{flag}")
            case False:
                found.append(f"--no-{flag}")
            case dict():
                found += [f"--{flag}", json.dumps(value)]
            case str() | float() | int():
                found += [f"--{flag}", str(value)]
            case _:
                found += [f"--{flag}", *value]
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
