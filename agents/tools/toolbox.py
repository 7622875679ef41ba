"""The tools of a project, by name."""

from collections.abc import Iterable, Iterator, Mapping

from karkas.agents.tools.command import run_command_tool
from karkas.agents.tools.files import edit_file, write_file
from karkas.agents.tools.sandbox import checked_readable
from karkas.agents.tools.tool import Tool
from karkas.policies.errors import NotFoundError, UsageError
from karkas.policies.sandbox import Sandbox


class ToolBox(Mapping[str, Tool]):
    """Every tool that may be proposed; what is not in here is denied."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        for one in tools:
            self.register(one)

    @classmethod
    def builtin(cls, *, sandbox: Sandbox = Sandbox.BUBBLEWRAP, readable: Iterable[str] = ()) -> "ToolBox":
        """`write_file`, `edit_file`, and `run_command`, which may also read the folders `readable`."""
        box = cls((write_file, edit_file))
        if Sandbox(sandbox) is not Sandbox.REFUSE:
            box.register(run_command_tool(Sandbox(sandbox), checked_readable(readable)))
        return box

    def register(self, tool: Tool) -> Tool:
        """Adds a tool. Raises `UsageError` where it is no `Tool` or its name is taken."""
        if not isinstance(tool, Tool):
            raise UsageError(f"{tool!r} is no tool; decorate its function with `@tool(Effect.REVERSIBLE)`")
        if tool.name in self._tools:
            raise UsageError(f"there is a tool {tool.name} already; give one of them another `name=`")
        self._tools[tool.name] = tool
        return tool

    def __getitem__(self, name: str) -> Tool:
        try:
            return self._tools[name]
        except KeyError:
            raise UnknownToolError(
                f"there is no tool {name!r}; there are: {', '.join(self._tools)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)


class UnknownToolError(NotFoundError, KeyError):
    """There is no tool of that name."""

    __str__ = NotFoundError.__str__
