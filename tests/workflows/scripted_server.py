"""A model server in a thread of the test: it answers every schema with the least that is valid, and counts its calls."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from karkas.server.wire import ChatRequest

MODEL = {"id": "tiny", "max_model_len": 8192}


class ScriptedServer:
    def __init__(self, *, delay_s: float = 0.0, tokens: int = 30, at_once: int = 100) -> None:
        self.delay_s = delay_s
        self.asked: Counter[str] = Counter()
        """By the digest of what the model saw."""
        self.now = self.most = 0
        """Calls under way, and the most that were."""
        self.fail_after: int | None = None
        """It answers so many, and then nothing more."""
        self.said: dict[str, Any] = {}
        """In place of the least that is valid, by the name of the field."""
        self.garbage: list[str] = []
        """What is said first, whatever is asked."""
        self._lock = threading.Lock()
        outer, room = self, threading.Semaphore(at_once)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer({"object": "list", "data": [MODEL]}, 200 if self.path == "/v1/models" else 404)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/tokenize":
                    self.answer({"count": len(body["prompt"]) // 3})
                    return
                names = {name for name in ChatRequest.model_fields if name in body}
                digest = ChatRequest.model_validate({name: body[name] for name in names}).digest
                with outer._lock:
                    outer.asked[digest] += body["max_tokens"] > 1
                    total = outer.asked.total()
                    outer.now += 1
                    outer.most = max(outer.most, outer.now)
                with room:
                    time.sleep(outer.delay_s)
                if outer.fail_after is not None and total > outer.fail_after:
                    self.answer({"error": {"message": "not now"}}, 503)
                else:
                    self.answer(outer.reply(body, tokens))
                with outer._lock:
                    outer.now -= 1

            def answer(self, value: object, code: int = 200) -> None:
                data = json.dumps(value).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._handler = Handler
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply(self, body: dict[str, Any], tokens: int) -> dict[str, Any]:
        asked = (body.get("response_format") or {}).get("json_schema", {})
        schema = asked.get("schema", {})
        if asked.get("name") == "PageClaims":
            said: Any = {"claims": list(claims(body["messages"][-1]["content"]))}
        else:
            said = self._least(schema, schema.get("$defs", {}))
        text = self.garbage.pop() if self.garbage else json.dumps(said)
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": tokens - 10, "completion_tokens": 10, "total_tokens": tokens}
        choices = [
            {"index": at, "message": message, "finish_reason": "stop"} for at in range(body.get("n") or 1)
        ]
        return {"model": body["model"], "choices": choices, "usage": usage}

    def _least(  # noqa: PLR0911
        self, schema: dict[str, Any], named: dict[str, Any]
    ) -> Any:
        if "$ref" in schema:
            return self._least(named[schema["$ref"].rpartition("/")[2]], named)
        if "enum" in schema:
            return schema["enum"][0]
        if "const" in schema:
            return schema["const"]
        if "anyOf" in schema:
            return self._least(schema["anyOf"][0], named)
        match schema.get("type"):
            case "object":
                return {
                    name: self.said[name] if name in self.said else self._least(part, named)
                    for name, part in schema.get("properties", {}).items()
                }
            case "array":
                return [self._least(schema["items"], named) for _ in range(schema.get("minItems", 0))]
            case "integer":
                return schema.get("minimum", 0)
            case "boolean":
                return False
            case _:
                return "x" * schema.get("minLength", 0)


def claims(prompt: str) -> Iterator[dict[str, Any]]:
    """A claim for each of the first passages, that its first line proves."""
    for number, line in re.findall(r"^passage (\d+)\n\| (\w.{10,200})$", prompt, re.MULTILINE)[:3]:
        yield {
            "facet": "definition",
            "subject": f"the {line[:20]}",
            "scope": [],
            "text": f"It says: {line}",
            "cites": [{"passage": int(number), "quote": line}],
            "importance": 5,
        }
