"""Defining workflows: LangGraph's `StateGraph` with actions and questions that cannot be reached around their gates."""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Self, get_type_hints

from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

from karkas.policies.errors import WorkflowError
from karkas.policies.zones import ZoneName
from karkas.workflows.action import ActionNodes, Proposer
from karkas.workflows.check import LANE, ROLE, check
from karkas.workflows.context import Context
from karkas.workflows.lanes import WorkflowState
from karkas.workflows.question import Asker, QuestionNodes


class Workflow(StateGraph[Any, Context, Any, Any]):
    """A LangGraph `StateGraph` whose `add_action` and `add_question` put a gate where one is due.

    Everything of `StateGraph` works as documented there; an action or a question is led to and from by its name, as
    if it were one node. `compile` refuses a graph in which a path reaches an executor around its gate.

    >>> class State(WorkflowState, total=False):
    ...     topic: str
    >>> workflow = Workflow(State, zones=("docs",))
    >>> _ = workflow.add_action("publish", lambda state: call("write_file", path="a.md", content=state["topic"]))
    >>> _ = workflow.add_edge(START, "publish").add_edge("publish", END)
    """

    def __init__(
        self, state_schema: type[Any] = WorkflowState, *, zones: Sequence[ZoneName] = (), **schemas: Any
    ) -> None:
        if "karkas" not in get_type_hints(state_schema):
            raise WorkflowError(
                f"the state {state_schema.__name__} needs karkas's channel:"
                f" `class {state_schema.__name__}(WorkflowState)`"
            )
        super().__init__(state_schema, Context, **schemas)
        self.zones = tuple(zones)
        self._entries: dict[str, str] = {}
        self._exits: dict[str, str] = {}
        self._lanes: dict[str, ActionNodes | QuestionNodes] = {}

    def add_action(
        self,
        name: str,
        propose: Proposer,
        *,
        zones: Sequence[ZoneName] | None = None,
        task: str | None = None,
        revisions: int = 3,
    ) -> Self:
        """Adds an action: `propose` computes it, policy and critic judge it, its gate decides, its executor acts.

        `propose` takes the state (and, where it has a parameter `runtime`, LangGraph's runtime) and returns a tool
        call, several as variants to choose from, a `Plan`, or None where there is nothing to do. It may be async. A
        rejection that asks for a revision calls it again, `revisions` times at most; `feedback(state, name)` gives
        the reason. Later nodes read what became of it by `outcome(state, name)`.
        """
        nodes = ActionNodes(
            name, propose, zones=self.zones if zones is None else tuple(zones), task=task, revisions=revisions
        )
        gate, wait, act, done = (f"{name}.{part}" for part in ("gate", "wait", "act", "done"))
        self._claim(name, nodes, entry=name, exit_=done)
        self._add(name, nodes.propose, role="proposer", lane=name)
        self._add(gate, nodes.gate, role="gate", lane=name, to=(wait, act, done))
        self._add(wait, nodes.wait, role="gate", lane=name, to=(name, gate, wait, act, done), defer=True)
        self._add(act, nodes.act, role="executor", lane=name, to=(gate, wait, done))
        self._add(done, nodes.done, role="outcome", lane=name)
        super().add_edge(name, gate)
        return self

    def add_question(
        self, name: str, ask: Asker, *, zones: Sequence[ZoneName] | None = None, choices: Sequence[str] = ()
    ) -> Self:
        """Adds a question to a person: the run parks until it is answered with one of `choices`, or freely.

        `ask` takes the state and returns the question's text. Later nodes read the answer by
        `outcome(state, name)["answer"]`.
        """
        nodes = QuestionNodes(
            name, ask, zones=self.zones if zones is None else tuple(zones), choices=tuple(choices)
        )
        wait, done = f"{name}.wait", f"{name}.done"
        self._claim(name, nodes, entry=name, exit_=done)
        self._add(name, nodes.ask, role="gate", lane=name)
        self._add(wait, nodes.wait, role="gate", lane=name, to=(name, wait, done), defer=True)
        self._add(done, nodes.done, role="outcome", lane=name)
        super().add_edge(name, wait)
        return self

    def add_edge(self, start_key: str | list[str], end_key: str) -> Self:
        starts = [start_key] if isinstance(start_key, str) else start_key
        exits = [self._exits.get(start, start) for start in starts]
        super().add_edge(
            exits[0] if isinstance(start_key, str) else exits, self._entries.get(end_key, end_key)
        )
        return self

    def add_conditional_edges(
        self,
        source: str,
        path: Callable[..., Hashable | Sequence[Hashable]]
        | Callable[..., Awaitable[Hashable | Sequence[Hashable]]]
        | Any,
        path_map: dict[Hashable, str] | list[str] | None = None,
    ) -> Self:
        super().add_conditional_edges(self._exits.get(source, source), path, path_map)
        return self

    def compile(self, *args: Any, **kwargs: Any) -> CompiledStateGraph[Any, Context, Any, Any]:
        check(self)
        straight = not any(map(self._decides, self._exits.values()))
        for name, nodes in self._lanes.items():
            ends = sorted(end for start, end in self.edges if start == self._exits[name])
            nodes.onward = ends if straight and ends else (self._exits[name],)
        return super().compile(*args, **kwargs)

    def _decides(self, exit_: str) -> bool:
        """Whether at a lane's exit anything is decided or waited for. Where that is so at none, lanes lead straight on,
        which saves a step and its checkpoint. All or none: of lanes that end together none may come first to a node
        that they lead to, or it would run twice.
        """
        return exit_ in self.branches or any(exit_ in starts for starts, _ in self.waiting_edges)

    def _claim(self, name: str, nodes: ActionNodes | QuestionNodes, *, entry: str, exit_: str) -> None:
        if name in self._entries or name in self.nodes:
            raise WorkflowError(f"{name!r} is a node of this workflow already; give the action another name")
        self._entries[name] = entry
        self._exits[name] = exit_
        self._lanes[name] = nodes

    def _add(
        self,
        name: str,
        node: Any,
        *,
        role: str,
        lane: str,
        to: tuple[str, ...] | None = None,
        defer: bool = False,
    ) -> None:
        super().add_node(
            name,
            node,
            defer=defer,
            metadata={ROLE: role, LANE: lane},
            destinations=to,
            input_schema=self.state_schema
            if role == "proposer" or (role == "gate" and name == lane)
            else WorkflowState,
        )
