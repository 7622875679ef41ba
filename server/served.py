"""What a server says that it serves, held against what `karkas.toml` asks of it."""

from collections.abc import Collection
from dataclasses import dataclass

from karkas.policies.errors import RequestRejectedError
from karkas.server.config import ModelSettings
from karkas.server.wire import ServedModel

_NAMED, _LONGEST = 20, 100
"""Models that a message names, and characters of each: gateways list hundreds, and the message goes on the record."""


@dataclass(frozen=True)
class Served:
    """What the servers of a model say about it. `vllm`: they know vLLM's own fields `priority` and
    `chat_template_kwargs`, or at least ignore them (SGLang); other servers may reject what they do not know.
    """

    model: str
    context: int
    vllm: bool


def served_by(
    lines: tuple[ServedModel, ...],
    *,
    address: str,
    settings: ModelSettings,
    adapters: Collection[str],
    before: Served | None,
) -> Served:
    """`before` is what another server of the same model said: they must agree, and the smallest context counts.

    Raises `RequestRejectedError` where it does not serve what is configured.
    """
    listed = {line.id: line for line in lines}
    names = [name[:_LONGEST] for name in sorted(listed)]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    there = f"{', '.join(names[:_NAMED]) or 'none'}{more}"
    model = settings.model or (before.model if before else None)
    if model is None:
        alone = [line.id for line in lines if line.parent is None]
        if len(alone) != 1:
            raise RequestRejectedError(
                f"the model server at {address} lists {len(alone)} models; name one of them as `model` in"
                f" karkas.toml: {there}"
            )
        model = alone[0]
    if missing := sorted({model, *adapters} - listed.keys()):
        raise RequestRejectedError(
            f"the model server at {address} does not list {', '.join(map(repr, missing))}; it lists: {there}."
            " Correct `model` or `adapter` in karkas.toml, or load it there"
        )
    line = listed[model]
    parent = listed.get(line.parent or "")
    said = line.max_model_len or (parent.max_model_len if parent else None)
    known = [tokens for tokens in (settings.context, said, before.context if before else None) if tokens]
    if not known:
        raise RequestRejectedError(
            f"the model server at {address} does not say how many tokens {model!r} holds; say it as `context` in"
            " karkas.toml"
        )
    return Served(model, min(known), vllm=said is not None)
