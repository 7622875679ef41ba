"""The agents' stable instructions, one readable file a role."""

from functools import cache
from importlib.resources import files

from karkas.server.protocol import Role


@cache
def instructions(role: Role) -> str:
    """The instructions of a role, as its file has them."""
    return files(__name__).joinpath(f"{role}.md").read_text("utf-8")
