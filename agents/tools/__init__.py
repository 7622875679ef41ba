"""Tools: typed functions with an effect class, their workspace, and the gateway that runs them."""

from karkas.agents.tools.gateway import Performed, perform, undo
from karkas.agents.tools.paths import WorkspacePath
from karkas.agents.tools.sandbox import Bubblewrap, bubblewrap
from karkas.agents.tools.tool import Done, Example, Tool, tool
from karkas.agents.tools.toolbox import ToolBox
from karkas.agents.tools.workspace import PROTECTED, Artifacts, Workspace

__all__ = [
    "PROTECTED",
    "Artifacts",
    "Bubblewrap",
    "Done",
    "Example",
    "Performed",
    "Tool",
    "ToolBox",
    "Workspace",
    "WorkspacePath",
    "bubblewrap",
    "perform",
    "tool",
    "undo",
]
