"""karkas: first the frame, then the agent. Everything that a script or a notebook needs; docs/workflows.md teaches it.

Names are imported when they are first used, so `import karkas` itself costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langgraph.graph import END as END
    from langgraph.graph import START as START

    from karkas.agents.distillate import load as load_distillate
    from karkas.agents.executor import Plan as Plan
    from karkas.agents.executor import call as call
    from karkas.agents.frame import load_frame as load_frame
    from karkas.agents.tools import Done as Done
    from karkas.agents.tools import Example as Example
    from karkas.agents.tools import Tool as Tool
    from karkas.agents.tools import Workspace as Workspace
    from karkas.agents.tools import WorkspacePath as WorkspacePath
    from karkas.agents.tools.tool import tool as tool
    from karkas.policies.actions import Action as Action
    from karkas.policies.actions import Effect as Effect
    from karkas.policies.budgets import Budget as Budget
    from karkas.policies.distillates import Distillate as Distillate
    from karkas.policies.errors import KarkasError as KarkasError
    from karkas.policies.frames import Frame as Frame
    from karkas.policies.gates import GateKind as GateKind
    from karkas.policies.gates import GateStatus as GateStatus
    from karkas.policies.verdicts import Adopt as Adopt
    from karkas.policies.verdicts import Answer as Answer
    from karkas.policies.verdicts import Approve as Approve
    from karkas.policies.verdicts import Choose as Choose
    from karkas.policies.verdicts import Defer as Defer
    from karkas.policies.verdicts import Edit as Edit
    from karkas.policies.verdicts import Reject as Reject
    from karkas.policies.verdicts import Retry as Retry
    from karkas.policies.verdicts import Stop as Stop
    from karkas.policies.zones import ControlLevel as ControlLevel
    from karkas.policies.zones import Scope as Scope
    from karkas.policies.zones import Stage as Stage
    from karkas.policies.zones import Zone as Zone
    from karkas.project import Project as Project
    from karkas.project import person as person
    from karkas.runner import advance as advance
    from karkas.runner import begin as begin
    from karkas.runner import snapshot as snapshot
    from karkas.server.questions import ToolCall as ToolCall
    from karkas.storage import Gate as Gate
    from karkas.storage import Run as Run
    from karkas.storage import RunStatus as RunStatus
    from karkas.workflows.context import Context as Context
    from karkas.workflows.cycle import ExploreState as ExploreState
    from karkas.workflows.define import Workflow as Workflow
    from karkas.workflows.explore import explore_workflow as explore_workflow
    from karkas.workflows.framing import accept as accept_frame
    from karkas.workflows.framing import starting_frame as starting_frame
    from karkas.workflows.lanes import Outcome as Outcome
    from karkas.workflows.lanes import OutcomeStatus as OutcomeStatus
    from karkas.workflows.lanes import WorkflowState as WorkflowState
    from karkas.workflows.lanes import answer as answer
    from karkas.workflows.lanes import committed as committed
    from karkas.workflows.lanes import feedback as feedback
    from karkas.workflows.lanes import outcome as outcome

_NAMES = {
    "karkas.agents.executor": ("Plan", "call"),
    "karkas.agents.frame": ("load_frame",),
    "karkas.agents.tools": ("Done", "Example", "Tool", "Workspace", "WorkspacePath", "tool"),
    "karkas.policies.actions": ("Action", "Effect"),
    "karkas.policies.budgets": ("Budget",),
    "karkas.policies.distillates": ("Distillate",),
    "karkas.policies.errors": ("KarkasError",),
    "karkas.policies.frames": ("Frame",),
    "karkas.policies.gates": ("GateKind", "GateStatus"),
    "karkas.policies.verdicts": (
        *("Adopt", "Answer", "Approve", "Choose", "Defer"),
        *("Edit", "Reject", "Retry", "Stop"),
    ),
    "karkas.policies.zones": ("ControlLevel", "Scope", "Stage", "Zone"),
    "karkas.project": ("Project", "person"),
    "karkas.runner": ("advance", "begin", "snapshot"),
    "karkas.server.questions": ("ToolCall",),
    "karkas.storage": ("Gate", "Run", "RunStatus"),
    "karkas.workflows.context": ("Context",),
    "karkas.workflows.cycle": ("ExploreState",),
    "karkas.workflows.define": ("Workflow",),
    "karkas.workflows.explore": ("explore_workflow",),
    "karkas.workflows.framing": ("starting_frame",),
    "karkas.workflows.lanes": (
        *("Outcome", "OutcomeStatus", "WorkflowState"),
        *("answer", "committed", "feedback", "outcome"),
    ),
    "langgraph.graph": ("END", "START"),
}
_HOMES = {name: (module, name) for module, names in _NAMES.items() for name in names} | {
    "accept_frame": ("karkas.workflows.framing", "accept"),
    "load_distillate": ("karkas.agents.distillate", "load"),
}

__all__ = [
    "END",
    "START",
    "Action",
    "Adopt",
    "Answer",
    "Approve",
    "Budget",
    "Choose",
    "Context",
    "ControlLevel",
    "Defer",
    "Distillate",
    "Done",
    "Edit",
    "Effect",
    "Example",
    "ExploreState",
    "Frame",
    "Gate",
    "GateKind",
    "GateStatus",
    "KarkasError",
    "Outcome",
    "OutcomeStatus",
    "Plan",
    "Project",
    "Reject",
    "Retry",
    "Run",
    "RunStatus",
    "Scope",
    "Stage",
    "Stop",
    "Tool",
    "ToolCall",
    "Workflow",
    "WorkflowState",
    "Workspace",
    "WorkspacePath",
    "Zone",
    "accept_frame",
    "advance",
    "answer",
    "begin",
    "call",
    "committed",
    "explore_workflow",
    "feedback",
    "load_distillate",
    "load_frame",
    "outcome",
    "person",
    "snapshot",
    "starting_frame",
    "tool",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, own_name = _HOMES[name]
        value = getattr(import_module(module), own_name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
