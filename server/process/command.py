"""What is started for a model: the command with its flags and its environment, and whether it can be started at all."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from karkas.policies.errors import EngineError
from karkas.server.config import ModelSettings, ServeSettings

FREE_BYTES = 200_000_000
"""Below this on the disk of the logs nothing is started: it would stop in the middle of the night."""
KEEP_ALIVE = {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "60"}
"""Seconds that vLLM keeps an idle connection, 5 by default: one that is busy for longer closes it under a request."""


class ServeError(EngineError):
    """The model server could not be started; `karkas serve --help` says what it needs."""


@dataclass(frozen=True)
class Launch:
    """One server to start: `name` is the model's name in karkas.toml, `model` the one that requests use."""

    name: str
    model: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    base_url: str
    adapters: tuple[str, ...] = ()
    key: str | None = field(default=None, repr=False)
    ready_s: float = 900.0
    restarts: int = 5

    @classmethod
    def of(
        cls, name: str, settings: ModelSettings, *, root: Path, environ: Mapping[str, str] = os.environ
    ) -> "Launch":
        """The launch that `settings.serve` describes; `ServeError` where something that it names is not there."""
        serve = settings.serve
        if serve is None:
            raise ServeError(_how_to_configure(name))
        path = _model(serve.path, root)
        model = settings.model or Path(path).name
        env = KEEP_ALIVE | dict(environ) | serve.env
        key = environ.get(settings.api_key_env) if settings.api_key_env else None
        if key:
            env["VLLM_API_KEY"] = key  # never as a flag, which every user of the machine could read
        return cls(
            name=name,
            model=model,
            command=(
                _executable(serve.command, root, env),
                *serve.command[1:],
                *_flags(serve, path, model, root),
            ),
            env=env,
            base_url=serve.base_url,
            adapters=tuple(serve.adapters),
            key=key,
            ready_s=serve.ready_s,
            restarts=serve.restarts,
        )


def _flags(serve: ServeSettings, path: str, model: str, root: Path) -> Iterator[str]:
    """Source: https://docs.vllm.ai/en/stable/cli/serve"""
    yield from ("serve", path, "--served-model-name", model)
    yield from ("--host", serve.host, "--port", str(serve.port))
    numbers = {
        "--max-model-len": serve.max_model_len,
        "--max-num-seqs": serve.max_num_seqs,
        "--gpu-memory-utilization": serve.gpu_memory_utilization,
        "--tensor-parallel-size": serve.tensor_parallel_size,
    }
    for flag, number in numbers.items():
        if number is not None:
            yield from (flag, str(number))
    yield "--enable-prefix-caching" if serve.prefix_caching else "--no-enable-prefix-caching"
    # Usage then says how many tokens of a prompt came from the cache.
    yield "--enable-prompt-tokens-details"
    # They are asked every few seconds, all night.
    yield from ("--disable-access-log-for-endpoints", "/health,/metrics")
    if serve.priority:
        yield from ("--scheduling-policy", "priority")
    yield from ("--structured-outputs-config", json.dumps(_structured(serve.structured_outputs)))
    if serve.adapters:
        yield from ("--enable-lora", "--max-loras", str(len(serve.adapters)))
        yield from ("--max-lora-rank", str(serve.max_lora_rank), "--lora-modules")
        for name, folder in serve.adapters.items():
            yield f"{name}={_model(folder, root)}"
    yield from serve.args


def _structured(backend: str) -> dict[str, object]:
    """White space is unbounded otherwise, and a weak model pads with it to the last token. Some backends cannot."""
    bounds: dict[str, object] = {"backend": backend}
    if backend in {"guidance", "xgrammar"}:
        bounds["disable_any_whitespace"] = True
    if backend == "guidance":
        bounds["disable_additional_properties"] = True
    return bounds


def _model(named: str, root: Path) -> str:
    """The folder where there is one, else the name on a hub. What looks like a folder must be one."""
    path = root / Path(named).expanduser()
    if path.is_dir() and not any((path / one).exists() for one in _DESCRIPTIONS):
        raise ServeError(
            f"{path} holds no config.json, so it is no model's folder; correct its path in karkas.toml"
        )
    if path.exists():
        return str(path)
    first, *rest = Path(named).parts
    if first in {"/", ".", "..", "~"} or len(rest) != 1 or (root / first).is_dir():
        raise ServeError(
            f"{path} is not there; correct its path in karkas.toml, or name a model of a hub as ORG/NAME"
        )
    return named


_DESCRIPTIONS = ("config.json", "params.json", "adapter_config.json")


def _executable(command: tuple[str, ...], root: Path, env: Mapping[str, str]) -> str:
    program = str(Path(command[0]).expanduser())
    found = shutil.which(str(root / program) if "/" in program else program, path=env.get("PATH"))
    if found is None:
        raise ServeError(
            f'{command[0]} is not found; on a machine with a GPU: pip install "karkas[vllm]", or set command under'
            ' [model.serve] to where it is, such as command = ["/opt/vllm/bin/vllm"]'
        )
    return found


def check_disk(folder: Path) -> None:
    """Raises `ServeError` where the disk of `folder` is as good as full."""
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES:
        raise ServeError(
            f"{folder} has {free // 1_000_000} MB left on its disk, too little for a night's logs; free some"
        )


def _how_to_configure(name: str) -> str:
    table = "[model.serve]" if name == "default" else f"[models.{name}.serve]"
    return (
        f"nothing says how to start {name}; add to karkas.toml:\n\n{table}\n"
        'path = "models/NAME"   # its folder, or ORG/NAME on a hub'
    )
