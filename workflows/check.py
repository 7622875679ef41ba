"""The check that no path of a graph reaches an executor around its gate (rule 10 of the safety kernel)."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.pregel import Pregel

from karkas.policies.errors import UngatedPathError

ROLE = "karkas"
"""Metadata key that marks a karkas node: `gate` or `executor`."""
LANE = "lane"
"""Metadata key that names the action a gate or executor belongs to."""


def check(graph: StateGraph[Any, Any, Any, Any]) -> None:
    """Raises `UngatedPathError` naming the first path from the start to an executor that passes no gate of its own.

    Edges are taken as they may be followed: a conditional edge without a path map leads to every node. Subgraphs are
    checked by themselves. What a node does at run time without declaring it (an unannotated `Command(goto=...)`)
    is caught there by the missing permit.
    """
    for name, path in ungated(graph):
        lane = lane_of(graph, name)
        raise UngatedPathError(
            f"{' → '.join(path)}: this path reaches the executor of {lane!r} without passing its gate;"
            f" lead it to {lane!r} instead"
        )
    for name, node in graph.nodes.items():
        inner = getattr(node.runnable, "builder", None) if isinstance(node.runnable, Pregel) else None
        if isinstance(inner, StateGraph):
            try:
                check(inner)
            except UngatedPathError as error:
                raise UngatedPathError(f"in subgraph {name!r}: {error}") from None


def ungated(graph: StateGraph[Any, Any, Any, Any]) -> Iterator[tuple[str, list[str]]]:
    """Every executor that can be reached around its gate, with a shortest such path."""
    arrows = {name: set(targets) for name, targets in _arrows(graph)}
    for name in graph.nodes:
        if role_of(graph, name) == "executor":
            gates = {
                other
                for other in graph.nodes
                if role_of(graph, other) == "gate" and lane_of(graph, other) == lane_of(graph, name)
            }
            path = _shortest(arrows, name, gates)
            if path is not None:
                yield name, path


def role_of(graph: StateGraph[Any, Any, Any, Any], name: str) -> str | None:
    return (graph.nodes[name].metadata or {}).get(ROLE)


def lane_of(graph: StateGraph[Any, Any, Any, Any], name: str) -> str | None:
    return (graph.nodes[name].metadata or {}).get(LANE)


def _arrows(graph: StateGraph[Any, Any, Any, Any]) -> Iterator[tuple[str, Iterable[str]]]:
    everything = [*graph.nodes, END]
    out: dict[str, set[str]] = {name: set() for name in (START, *graph.nodes)}
    for source, target in graph.edges:
        out[source].add(target)
    for sources, target in graph.waiting_edges:
        for source in sources:
            out[source].add(target)
    for source, branches in graph.branches.items():
        for branch in branches.values():
            out[source].update(branch.ends.values() if branch.ends is not None else everything)
    for name, node in graph.nodes.items():
        out[name].update(node.ends or ())
        if node.error_handler_node is not None:
            out[name].add(node.error_handler_node)
    return iter(out.items())


def _shortest(arrows: dict[str, set[str]], goal: str, closed: set[str]) -> list[str] | None:
    """A shortest path from the start to `goal` that passes no node of `closed`."""
    before: dict[str, str] = {}
    queue = deque([START])
    while queue:
        here = queue.popleft()
        for target in sorted(arrows.get(here, ())):
            if target in before or target in closed:
                continue
            before[target] = here
            if target == goal:
                path = [goal]
                while path[0] != START:
                    path.insert(0, before[path[0]])
                return path
            queue.append(target)
    return None
