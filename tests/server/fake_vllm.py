#!/usr/bin/env python3
"""Stands in for `vllm serve` where a fault must come on demand: FAKE says which. It leaves an engine behind when killed."""

import json
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAKE = os.environ.get("FAKE", "")


def flag(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer({"data": [{"id": flag("--served-model-name")}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"choices": [{"text": "1"}]}, 503 if FAKE == "mute" else 200)

    def answer(self, body: object, code: int = 200) -> None:
        if (key := os.environ.get("VLLM_API_KEY")) and self.path.startswith("/v1"):
            code = code if self.headers["Authorization"] == f"Bearer {key}" else 401
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is theirs
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True


if FAKE == "dies":
    sys.exit("vllm: error: unrecognized arguments: --frobnicate")
once = Path(os.environ.get("FAKE_ONCE", os.devnull))
if FAKE == "dies-again" and once.exists():
    sys.exit("RuntimeError: CUDA out of memory")
once.touch()
if FAKE == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
sys.stdout.write("Starting to load model\n")
sys.stdout.flush()
Server(("127.0.0.1", int(flag("--port"))), Handler).serve_forever()
