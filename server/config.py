"""Which models answer which roles, where they are served, and how `karkas serve` starts them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from karkas.server.protocol import Role

DEFAULT = "default"
"""The name of the model that `[model]` describes."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _server_root(url: str) -> str:
    if re.match(r"https?://[^/]*@", url):
        raise ValueError("must hold no user or password; name the variable that holds the key in api_key_env")
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", url) or not _leads_somewhere(url):
        raise ValueError('must be a URL such as "http://127.0.0.1:8000"')
    return url.rstrip("/").removesuffix("/v1")


def _leads_somewhere(url: str) -> bool:
    """Whether host and port can be any: else each call would fail anew, as if the server were away."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        known = (parts.hostname or "").encode("idna")
    except ValueError:
        return False
    return bool(known)


ServerRoot = Annotated[str, AfterValidator(_server_root)]
"""The root of an OpenAI-compatible server; a trailing `/v1` is dropped."""


class ServeSettings(_Section):
    """How `karkas serve` starts a vLLM server for this model."""

    path: str = Field(min_length=1)
    """The model's folder, relative to the project, or its name on a hub."""
    command: tuple[str, ...] = Field(default=("vllm",), min_length=1)
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    adapters: dict[str, str] = {}
    """LoRA adapters: the name that requests use, and the folder."""
    max_lora_rank: int = Field(default=16, ge=1)
    max_model_len: int | None = Field(default=None, ge=1)
    max_num_seqs: int | None = Field(default=None, ge=1)
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    tensor_parallel_size: int | None = Field(default=None, ge=1)
    prefix_caching: bool = True
    priority: bool = True
    """Requests that a person waits for go first."""
    structured_outputs: Literal["guidance", "xgrammar", "auto"] = "guidance"
    ready_s: float = Field(default=900.0, gt=0)
    """Seconds until it must answer; loading a large model takes minutes."""
    restarts: int = Field(default=5, ge=0)
    """How often in a row it is started again when it dies."""
    env: dict[str, str] = {}
    args: tuple[str, ...] = ()
    """Further flags of `vllm serve`, as they are."""

    @property
    def base_url(self) -> str:
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


class ModelSettings(_Section):
    """One model, on one server or on several that serve the same."""

    base_url: ServerRoot | tuple[ServerRoot, ...] | None = None
    model: str | None = None
    """The name that the server lists; where it lists one alone, that one."""
    api_key_env: str | None = None
    """The variable that holds the key."""
    context: int | None = Field(default=None, ge=256)
    """Tokens that it holds, where the server does not say."""
    thinking: bool = False
    """Whether a reasoning model may reason before it answers."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Seconds without a word from the server until a call counts as lost."""
    max_in_flight: int | None = Field(default=None, ge=1, le=4096)
    """Calls that each server may have in flight, of all processes and hosts of the project together."""
    price_per_mtok: float | None = Field(default=None, ge=0)
    """What a million tokens cost, prompts and answers together, in whatever currency."""
    serve: ServeSettings | None = None

    @property
    def base_urls(self) -> tuple[str, ...]:
        """Where it is served; empty where no server is configured."""
        if isinstance(self.base_url, str):
            return (self.base_url,)
        if self.base_url:
            return self.base_url
        return (self.serve.base_url,) if self.serve is not None else ()

    def as_started(self) -> "ModelSettings":
        """With the name by which `karkas serve` makes the server list the model, so that no other one is asked that
        happens to answer there.
        """
        if self.model or self.base_url or self.serve is None:
            return self
        return self.model_copy(update={"model": PurePath(self.serve.path).name or None})


class RoleSettings(_Section):
    """What a role asks, and how; what is not said comes from the model's server."""

    model: str | None = None
    """A name under `[models]`; `default` is the one of `[model]`."""
    adapter: str | None = None
    """A LoRA adapter that the server lists, in place of the model itself."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)


@dataclass(frozen=True)
class ModelsConfig:
    """All of it: the models by name (`default` first, where a server is configured for it), and the roles."""

    models: Mapping[str, ModelSettings] = field(default_factory=dict)
    roles: Mapping[Role, RoleSettings] = field(default_factory=dict)

    def name_for(self, role: Role) -> str:
        """The model of a role: the one that it names, else the first. A critic that names none gets the first that is
        not the executor's, so that nobody judges its own words where there are two models.
        """
        named = self.roles.get(role, RoleSettings()).model
        if named is not None:
            return named
        first = next(iter(self.models))
        if role is not Role.CRITIC:
            return first
        executors = self.name_for(Role.EXECUTOR)
        return next((name for name in self.models if name != executors), first)

    def adapters_of(self, name: str) -> frozenset[str]:
        """The adapters that roles ask of a model."""
        asked = (of.adapter for role, of in self.roles.items() if self.name_for(role) == name)
        return frozenset(filter(None, asked))
