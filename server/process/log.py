"""A server's log file: bounded, and read for what the server is doing and for what ended it."""

import os
import re
import shutil
from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import IO

from karkas.policies.rendering import visible_line

BOUND_BYTES = 16_000_000
READ_BYTES = 1_000_000
KEPT_LINES = 400
ERRORS = 8
LINES = 12

_DOING: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), doing)
    for pattern, doing in (
        (r"non-default args", "reading the model's configuration"),
        (r"initializing a v1 llm engine", "starting the engine"),
        (r"checkpoint shards:\s+(\d+%) completed", "loading weights, {}"),
        (r"starting to load model", "loading weights"),
        (r"fetching \d+ files:\s+(\d+%)", "downloading the model, {}"),
        (r"downloading|snapshot_download", "downloading the model"),
        (r"loading weights took", "weights loaded, measuring memory"),
        (r"starting torch\.compile|dynamo bytecode|compiling a graph", "compiling"),
        (r"capturing cuda graphs.*?(\d+%)", "capturing CUDA graphs, {}"),
        (r"kv cache size", "warming up"),
        (r"starting vllm server|application startup complete", "waiting for a first answer"),
    )
)
"""What vLLM logs (0.32), and what it is doing then. Loading takes minutes, so its user wants to know."""

_ENDED: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), mend)
    for pattern, mend in (
        (r"no space left on device", "the disk is full; free some"),
        (r"address already in use", "its port is taken; choose another port"),
        (r"unrecognized arguments: (.+)", "its vLLM does not know {}; correct args"),
        (
            r"is less than desired gpu memory utilization",
            "the GPU is in use; free it, or lower gpu_memory_utilization",
        ),
        (
            r"cuda out of memory|outofmemoryerror",
            "the GPU's memory is too small; lower max_model_len or max_num_seqs",
        ),
        (
            r"user-specified max_model_len \(\d+\) is greater",
            "the model holds fewer tokens; lower max_model_len",
        ),
        (
            r"no available memory for the cache blocks|larger than the available kv cache",
            "no memory is left for what it reads; raise gpu_memory_utilization or lower max_model_len",
        ),
        (
            r"failed to infer device type|no cuda gpus are available",
            "vLLM finds no GPU; `nvidia-smi` says why",
        ),
        (
            r"gated repo|401 client error",
            "the hub does not give this model to you; accept its terms and set HF_TOKEN",
        ),
        (r"max_lora_rank|lora rank \d+ is greater", "an adapter's rank is larger; raise max_lora_rank"),
        (r"no module named '(\w+)'", "its environment lacks {}; install it there"),
    )
)


_ERROR = re.compile(r"(?:^|\] )(?:\w+\.)*\w*(?:Error|Exception)\b.*:|\berror: ")


class ServeLog:
    """`path` takes what the server says. A server that is started again goes on in the same file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._last: deque[str] = deque(maxlen=KEPT_LINES)

    def open(self) -> IO[bytes]:
        """The file to write to, and the place from which `read` goes on."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = open(self.path, "ab", opener=_private)  # noqa: SIM115 - the caller closes it; the mode counts
        self.rotate()
        self._offset = os.fstat(file.fileno()).st_size
        self._last.clear()
        return file

    def read(self) -> str | None:
        """What the server is doing, by what it has logged since the last call; `None` where that does not say."""
        doing = None
        for line in self._new_lines():
            for pattern, what in _DOING:
                if found := pattern.search(line):
                    doing = what.format(*found.groups())
                    break
        return doing

    def rotate(self) -> None:
        """Bounds the file: its server keeps it open, so it is copied and emptied rather than renamed."""
        if self.path.exists() and self.path.stat().st_size > BOUND_BYTES:
            self.read()
            shutil.copyfile(self.path, self.path.with_name(f"{self.path.name}.1"))
            os.truncate(self.path, 0)
            self._offset = 0

    def why(self) -> str:
        """What to do, where what it said is known, and its own words; it goes on a sentence that says that it ended."""
        self.read()
        mend = _first(_ENDED, self._last)
        quoted = "\n".join(f"  | {visible_line(one)}" for one in _telling(list(self._last)))
        return f"{f'; {mend}' if mend else ''}\nIn {self.path}:\n{quoted or '  | (nothing)'}"

    def _new_lines(self) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read(READ_BYTES)
        # A bar redraws its line with a carriage return; half a line waits for its other half.
        whole = (
            data[: max(data.rfind(b"\n"), data.rfind(b"\r")) + 1]
            or data[: READ_BYTES * (len(data) == READ_BYTES)]
        )
        self._offset += len(whole)
        lines = re.split(r"[\r\n]+", whole.decode("utf-8", "replace"))[:-1]
        self._last.extend(lines)
        return lines


def _telling(lines: list[str]) -> list[str]:
    """The errors with the line after each, without the ways there: an engine's is the cause and comes first, and the
    server's own ends the log. Where there are none, the last lines.
    """
    errors = [
        line
        for before, line in pairwise(["", *lines])
        if _ERROR.search(line) or (_ERROR.search(before) and line.startswith(" "))
    ]
    return errors[-ERRORS:] or [line for line in lines if line.strip()][-LINES:]


def _first(known: tuple[tuple[re.Pattern[str], str], ...], lines: "deque[str]") -> str | None:
    for line in lines:
        for pattern, text in known:
            if found := pattern.search(line):
                return text.format(*found.groups())
    return None


def _private(path: str, flags: int) -> int:
    """No link is followed: a command in the workspace could have planted one."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
