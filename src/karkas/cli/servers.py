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
from karkas.server.protocol import Role, Wire
from karkas.server.schemas import response_format
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
    client, served = None, None
    try:
        client = Client(address, key=environ[variable] if variable else None, timeout_s=ANSWER_S)
        listed = {one.id: one for one in await client.models()}
        model = _named(settings, listed)
        if isinstance(model, Finding):
            return Examined(name, address, (model,))
        served = model.id
        found = await _well(config, name, client, model, listed)
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
    return Examined(name, address, tuple(found), served)


def _told(error: KarkasError) -> Finding:
    text, _, mend = str(error).partition("; ")
    return Finding(text, mend or "correct it in karkas.toml", stops=True)


async def _well(
    config: ModelsConfig,
    name: str,
    client: Client,
    model: ServedModel,
    listed: Mapping[str, ServedModel],
) -> list[Finding]:
    settings = config.models[name]
    adapters = [one.id for one in listed.values() if one.parent == model.id]
    also = f", adapters {', '.join(adapters)}" if adapters else ""
    findings = [_context(settings, model, f"{client.base_url} serves {model.id}{also}")]
    for role, body in config.roles.items():
        if body.adapter is not None and config.name_for(role) == name and body.adapter not in listed:
            found = f"it serves no adapter {body.adapter!r}, which [roles.{role}] names"
            findings.append(Finding(found, f"served there: {', '.join(adapters) or 'none'}", stops=True))
    metrics = await client.metrics()
    vllm = metrics is not None and "vllm:" in metrics
    findings.append(await _structured(client, model.id, vllm=vllm, thinking=settings.thinking))
    if vllm and (caching := CACHING.search(metrics or "")) and caching[1] != "True":
        findings.append(
            Finding(
                "prefix caching is off, so that every prompt is computed anew",
                "start vLLM with --enable-prefix-caching",
            )
        )
    if await client.tokenize(model.id, "how many") is None:
        findings.append(Finding("it has no /tokenize, so prompts are measured roughly and hold less"))
    return findings


def _named(settings: ModelSettings, listed: Mapping[str, ServedModel]) -> ServedModel | Finding:
    """The model that is asked there: the one that is named, or the only one that is no adapter."""
    own = [one for one in listed.values() if one.parent is None]
    if settings.model is not None:
        if settings.model in listed:
            return listed[settings.model]
        return Finding(
            f"it does not serve {settings.model!r}", f"set model to one of: {', '.join(listed)}", stops=True
        )
    if len(own) == 1:
        return own[0]
    found = f"it serves {len(own)} models, and karkas.toml does not say which to ask"
    return Finding(found, f"set model to one of: {', '.join(one.id for one in own)}", stops=True)


def _context(settings: ModelSettings, model: ServedModel, text: str) -> Finding:
    context = settings.context or model.max_model_len
    if context is None:
        return Finding(f"{text}; it does not say how many tokens it holds", "say it: context = 16384")
    if context < LEAST_CONTEXT:
        return Finding(
            f"{text}, {context:,} tokens, which is little", "serve it with a longer --max-model-len"
        )
    return Finding(f"{text}, {context:,} tokens")


async def _structured(client: Client, model: str, *, vllm: bool, thinking: bool) -> Finding:
    """Whether an answer keeps to its schema, asked as all calls are: with a priority where the server is vLLM."""
    request = ChatRequest(
        model=model,
        messages=(Message(role="user", content="Does this work? Answer in JSON."),),
        max_tokens=512 if thinking else 32,
        response_format=response_format(Sound),
        priority=10 if vllm else None,
        chat_template_kwargs={"enable_thinking": False} if vllm and not thinking else None,
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
