"""The OpenAI-compatible chat API as vLLM speaks it: what is sent, and what is made of what comes back.

Source: https://platform.openai.com/docs/api-reference/chat, https://docs.vllm.ai/en/stable/serving/openai_compatible_server
"""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from karkas.server.protocol import Usage, Wire

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
"""Answers are kept by what it gives, so it stays as it is."""


class Message(Wire):
    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(Wire):
    """One chat completion. `None` is not sent. `priority` is vLLM's: the lower goes first."""

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    n: int = 1
    temperature: float | None = None
    top_p: float | None = None
    response_format: dict[str, Any] | None = None
    priority: int | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of what the model sees of it."""
        told = {name: value for name, value in self if name != "priority"}
        told["messages"] = [{"role": one.role, "content": one.content} for one in self.messages]
        return sha256(_CANONICAL.encode(told).encode()).hexdigest()


@dataclass(frozen=True)
class Choice:
    """One of the answers: its text without reasoning, why it ended (`stop`, `length`, ...), or a refusal."""

    text: str
    finish: str
    reasoning: str = ""
    refusal: str = ""


@dataclass(frozen=True)
class ChatAnswer:
    choices: tuple[Choice, ...]
    usage: Usage
    model: str

    @property
    def kept(self) -> str:
        """As JSON, without what it cost."""
        return json.dumps({"model": self.model, "choices": [vars(choice) for choice in self.choices]})


def from_kept(text: str) -> ChatAnswer:
    """A kept answer; it costs nothing a second time."""
    value = json.loads(text)
    choices = tuple(Choice(**choice) for choice in value["choices"])
    return ChatAnswer(choices, Usage(calls=0), value["model"])


@dataclass(frozen=True)
class ServedModel:
    """A line of `/v1/models`: an adapter's `parent` is the model that it adapts."""

    id: str
    max_model_len: int | None = None
    parent: str | None = None
