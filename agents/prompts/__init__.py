"""The agents' stable instructions: what all are told, and one readable file a role.

A role's file says first what it is, then, under a heading `# TASK`, how it does each of its tasks.
"""

import re
from functools import cache
from hashlib import sha256
from importlib.resources import files

from karkas.server.protocol import Instructions, Role

SHARED = "shared.md"
TASK = re.compile(r"^# (\w+)\n", re.MULTILINE)


@cache
def instructions(role: Role) -> Instructions:
    """The instructions of a role, as its file has them."""
    shared, own = _text(SHARED), _text(f"{role}.md")
    first, *rest = TASK.split(own)
    tasks = {name: text.strip() for name, text in zip(rest[::2], rest[1::2], strict=True)}
    version = sha256(f"{shared}\x1f{own}".encode()).hexdigest()
    return Instructions(shared=shared.strip(), role=first.strip(), tasks=tasks, version=version)


def _text(name: str) -> str:
    return files(__name__).joinpath(name).read_text("utf-8")
