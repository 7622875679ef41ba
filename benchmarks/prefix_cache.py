"""How much of an exploration's prompts vLLM finds in its prefix cache, against the most that these prompts allow.

    python benchmarks/prefix_cache.py URL SOURCE... [--claims offline] [--json]

URL is the root of a vLLM server that nobody else asks, freshly started (`karkas serve`): its cache must hold nothing
of an earlier run. SOURCE is whatever `karkas explore --source` takes. The exploration runs in a fresh project with that
server's model for every role. Every prompt is recorded as it is sent. The most that is possible is what a cache that
forgets nothing would give: each prompt's leading blocks that any prompt sent before it had too, in the server's own
tokens and block size, but for the last token, which is always computed. What was reached is the growth of
the server's own `vllm:prefix_cache_hits_total`, in tokens. The promise is 0.9 of the most.

A model whose quotes stand in no source (the random one of the tests) ends with no claims, and nobody is asked to
review them. `--claims offline` sends the summarizer's prompts too, but goes on with the offline engine's claims in
place of the model's, so that all agents ask.
"""

import argparse
import asyncio
import json
import re
import tempfile
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx

from karkas import runner
from karkas.policies.distillates import ClaimMode, EngineInfo
from karkas.project import Project
from karkas.server.client import Client
from karkas.server.offline import OfflineEngine
from karkas.server.protocol import AnswerT, Engine, Question, Reply, Request
from karkas.server.questions import Distil, Distilled
from karkas.server.wire import ChatRequest

HITS, QUERIES = "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"
PROMISE = 0.9


class Literate:
    """The language-model engine, but for its claims: those of the offline engine, called the model's own words."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._offline = engine, OfflineEngine()

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    def answers(self, question: type[Question]) -> bool:
        return self._engine.answers(question)

    async def ask(self, request: Request[AnswerT]) -> Reply[AnswerT]:
        reply = await self._engine.ask(request)
        if not isinstance(request.question, Distil):
            return reply
        quoted: Any = (await self._offline.ask(request)).value
        own = [claim.model_copy(update={"mode": ClaimMode.ABSTRACTIVE}) for claim in quoted.claims]
        value: Any = Distilled(claims=tuple(own))
        return Reply(value=value, engine=reply.engine, usage=reply.usage)


@dataclass
class Recorder:
    """The requests of an exploration in the order in which they went out."""

    sent: list[ChatRequest] = field(default_factory=list)

    def listen(self) -> None:
        """Every client of this process is overheard from here on."""
        chat = Client.chat

        async def overheard(client: Client, request: ChatRequest, **more: Any) -> Any:
            self.sent.append(request)
            return await chat(client, request, **more)

        Client.chat = overheard  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("source", nargs="+")
    parser.add_argument("--claims", choices=["model", "offline"], default="model")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    recorder = Recorder()
    recorder.listen()
    if given.claims == "offline":
        make = Project.engine
        Project.engine = lambda *all_: Literate(make(*all_))  # type: ignore[assignment,method-assign]
    with (
        httpx.Client(base_url=given.url.rstrip("/"), timeout=60) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        before = counters(server)
        explored = explore(Path(folder), given.url, [str(absolute(one)) for one in given.source])
        after = counters(server)
        queries, most, block = possible(server, recorder.sent)
    reached = after[HITS] - before[HITS]
    found = explored | {
        "calls": len(recorder.sent),
        "prompt_tokens": int(after[QUERIES] - before[QUERIES]),
        "prompt_tokens_by_tokenizer": queries,
        "block": block,
        "most_cached": most,
        "reached_cached": int(reached),
        "most_rate": round(most / max(queries, 1), 3),
        "reached_rate": round(reached / max(after[QUERIES] - before[QUERIES], 1), 3),
        "reached_of_most": round(reached / max(most, 1), 3),
    }
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        width = max(map(len, found))
        for name, value in found.items():
            print(f"{name:{width}}  {value}")
        verdict = "kept" if found["reached_of_most"] >= PROMISE else "MISSED"
        print(f"the promise of {PROMISE} of the most is {verdict}")


def absolute(source: str) -> str | Path:
    return Path(source).resolve() if Path(source).exists() else source


def explore(root: Path, url: str, sources: list[str]) -> dict[str, Any]:
    (root / "karkas.toml").write_text(f"[model]\nbase_url = {json.dumps(url)}\n")
    with Project.init(root) as project:
        begun = runner.begin(project, "explore", {"zone": "zone", "sources": sources}, zone="zone")
        run = asyncio.run(runner.advance(project, begun.id))
        if run.error:
            raise SystemExit(f"the exploration failed: {run.error}")
        return {
            "run": f"{run.status} {run.reason}".strip(),
            "engine": run.engine,
            "wall_s": round(run.spent.wall_s, 1),
            "tokens": run.spent.tokens,
        }


def counters(server: httpx.Client) -> dict[str, float]:
    page = server.get("/metrics").raise_for_status().text
    return {
        name: sum(
            float(value) for value in re.findall(rf"^{re.escape(name)}{{[^}}]*}} (\S+)$", page, re.MULTILINE)
        )
        for name in (HITS, QUERIES)
    }


def possible(server: httpx.Client, sent: list[ChatRequest]) -> tuple[int, int, int]:
    """Tokens of all prompts, how many of them a cache that forgets nothing would hold, and the tokens of a block."""
    page = server.get("/metrics").raise_for_status().text
    found = re.search(r'^vllm:cache_config_info{[^}]*\bblock_size="(\d+)"', page, re.MULTILINE)
    assert found, "the server does not tell its block size"
    block = int(found[1])
    seen: set[bytes] = set()
    queries = most = 0
    for request in sent:
        tokens = tokens_of(server, request)
        chain = list(blocks(request.model, tokens, block))
        for _ in range(request.n):
            queries += len(tokens)
            common = next((at for at, one in enumerate(chain) if one not in seen), len(chain))
            most += min(common, (len(tokens) - 1) // block) * block
            seen.update(chain)
    return queries, most, block


def tokens_of(server: httpx.Client, request: ChatRequest) -> list[int]:
    messages = [message.model_dump() for message in request.messages]
    body = {"model": request.model, "messages": messages, "add_generation_prompt": True}
    body["chat_template_kwargs"] = request.chat_template_kwargs or {}
    answer = server.post("/tokenize", json=body).raise_for_status().json()
    return [int(token) for token in answer["tokens"]]


def blocks(model: str, tokens: list[int], size: int) -> Any:
    """A hash for each full block that covers everything before it too."""
    before = model.encode()
    for start in range(0, len(tokens) - size + 1, size):
        before = sha256(before + json.dumps(tokens[start : start + size]).encode()).digest()
        yield before


if __name__ == "__main__":
    main()
