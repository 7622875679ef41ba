"""What `karkas doctor` asks the model servers. Each is asked for itself, so that one that is down hides no other."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from karkas.policies.errors import ContextTooLongError, EngineError, KarkasError, RequestRejectedError
from karkas.server.client import Client
from karkas.server.config import DEFAULT, ModelsConfig, ModelSettings
from karkas.server.faults import PassingFaultError
from karkas.server.pool import UNATTENDED
from karkas.server.protocol import Role, Wire
from karkas.server.schemas import response_format
from karkas.server.served import Served, served_by
from karkas.server.wire import ChatRequest, Message, ServedModel

ANSWER_S = 30.0
"""Seconds without a word after which a server is not well, however large its model is."""
LEAST_CONTEXT = 8192
"""Tokens below which a prompt holds so little that little comes of it."""
CACHING = re.compile(r'^vllm:cache_config_info\{.*enable_prefix_caching="(\w+)"', re.MULTILINE)
FLAGS = (
    '--structured-outputs-config \'{"backend":"guidance","disable_any_whitespace":true}\''
    " makes vLLM keep answers to their schema (`karkas serve` sets it)"
)


class Sound(Wire):
    """The smallest answer that a schema can be tried with."""

    works: Literal["yes", "no"]


@dataclass(frozen=True)
class Finding:
    """What was found at one server; `mend` is empty where nothing needs mending, and `stops` tells how bad it is."""

    text: str
    mend: str = ""
    stops: bool = False


@dataclass(frozen=True)
class Examined:
    """A configured model at one address, and what was found there."""

    model: str
    address: str
    findings: tuple[Finding, ...]
    served: str | None = None
    """The name of the model that answers there."""

    @property
    def works(self) -> bool:
        return not any(one.stops for one in self.findings)


async def examine(config: ModelsConfig, environ: Mapping[str, str]) -> list[Examined]:
    """Asks every server of every configured model, all at once."""
    return await asyncio.gather(
        *(
            _server(config, name, settings, address, environ)
            for name, settings in config.models.items()
            for address in settings.base_urls
        )
    )


def roles(config: ModelsConfig, examined: Sequence[Examined]) -> Finding:
    """Which role asks which model. The critic should not be the executor, also not under another name."""
    served = {one.model: one.served for one in examined if one.served is not None}
    asked: dict[str, list[str]] = {}
    for role in Role:
        asked.setdefault(" with adapter ".join(filter(None, _asked(config, role))), []).append(role.value)
    text = "; ".join(f"{name}: {', '.join(names)}" for name, names in asked.items())
    same = []
    for role in (Role.EXECUTOR, Role.CRITIC):
        name, adapter = _asked(config, role)
        same.append(adapter or served.get(name, name))
    if same[0] != same[1]:
        return Finding(text)
    return Finding(
        f"{text}\nthe executor and the critic are the same model, so it judges its own words",
        "name another one under [models], or an adapter under [roles.critic]",
    )


def _asked(config: ModelsConfig, role: Role) -> tuple[str, str | None]:
    return config.name_for(role), config.roles[role].adapter if role in config.roles else None


async def _server(
    config: ModelsConfig, name: str, settings: ModelSettings, address: str, environ: Mapping[str, str]
) -> Examined:
    variable = settings.api_key_env
    if variable and not environ.get(variable):
        missing = Finding(
            f"the variable {variable} is not set",
            f"export {variable}=..., or correct api_key_env",
            stops=True,
        )
        return Examined(name, address, (missing,))
    client, model = None, None
    try:
        client = Client(address, key=environ[variable] if variable else None, timeout_s=ANSWER_S)
        lines = await client.models()
        adapters = config.adapters_of(name)
        served = served_by(lines, address=address, settings=settings, adapters=adapters, before=None)
        model = served.model
        found = await _well(client, settings, served, lines)
    except PassingFaultError as error:
        table = "[model.serve]" if name == DEFAULT else f"[models.{name}.serve]"
        start = (
            "`karkas serve`"
            if settings.serve
            else f"the server, or describe it in {table} for `karkas serve`"
        )
        found = [
            Finding(str(error), f"start {start}; without base_url the offline engine answers", stops=True)
        ]
    except KarkasError as error:
        found = [_told(error)]
    finally:
        if client is not None:
            await client.aclose()
    return Examined(name, address, tuple(found), model)


def _told(error: KarkasError) -> Finding:
    text, _, mend = str(error).partition("; ")
    return Finding(text, mend or "correct it in karkas.toml", stops=True)


async def _well(
    client: Client, settings: ModelSettings, served: Served, lines: Sequence[ServedModel]
) -> list[Finding]:
    findings = [
        _context(client.base_url, served, lines),
        await _structured(client, served, thinking=settings.thinking),
    ]
    metrics = await client.metrics() or ""
    if (caching := CACHING.search(metrics)) and caching[1] != "True":
        findings.append(
            Finding(
                "prefix caching is off, so that every prompt is computed anew",
                "start vLLM with --enable-prefix-caching",
            )
        )
    if await client.tokenize(served.model, "how many") is None:
        findings.append(Finding("it has no /tokenize, so prompts are measured roughly and hold less"))
    return findings


def _context(address: str, served: Served, lines: Sequence[ServedModel]) -> Finding:
    adapters = [one.id for one in lines if one.parent == served.model]
    also = f", adapters {', '.join(adapters)}" if adapters else ""
    text = f"{address} serves {served.model}{also}, {served.context:,} tokens"
    if served.context < LEAST_CONTEXT:
        return Finding(f"{text}, which is little", "serve it with a longer --max-model-len")
    return Finding(text)


async def _structured(client: Client, served: Served, *, thinking: bool) -> Finding:
    """Whether an answer keeps to its schema, asked as all calls are: with a priority where the server is vLLM."""
    request = ChatRequest(
        model=served.model,
        messages=(Message(role="user", content="Does this work? Answer in JSON."),),
        max_tokens=512 if thinking else 32,
        response_format=response_format(Sound),
        priority=UNATTENDED if served.vllm else None,
        chat_template_kwargs={"enable_thinking": False} if served.vllm and not thinking else None,
    )
    try:
        text = (await client.chat(request)).choices[0].text
        Sound.model_validate_json(text)
    except (ValidationError, IndexError):
        return Finding("its answers do not keep to the schema that is asked for", FLAGS, stops=True)
    except (RequestRejectedError, ContextTooLongError) as error:
        return Finding(f"it takes no request with a JSON schema: {error}", FLAGS, stops=True)
    except EngineError as error:
        return Finding(str(error), "look into the server's log", stops=True)
    return Finding("answers keep to their schema")
