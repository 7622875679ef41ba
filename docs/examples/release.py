"""Parallel branches, each with its own gate; then a join, a question to a person, and a branch on the answer.

karkas run release.py:release --input '{"version": "1.2.0", "changes": ["faster start", "a quieter log"]}'
"""

from karkas import END, START, Scope, ToolCall, Workflow, WorkflowState, Zone, answer, call, committed

releases = Zone(name="releases", understanding=4, critical=True, scope=Scope(paths=("release",)))


class State(WorkflowState):
    version: str
    changes: list[str]


def notes(state: State) -> ToolCall:
    lines = "".join(f"- {change}\n" for change in state["changes"])
    return call(
        "write_file",
        why="for those who upgrade",
        path=f"release/{state['version']}.md",
        content=f"# {state['version']}\n\n{lines}",
    )


def teaser(state: State) -> list[ToolCall]:
    """Two variants: the person at the gate chooses one."""
    path, first = f"release/{state['version']}.teaser.txt", state["changes"][0]
    return [
        call("write_file", why="short", path=path, content=f"{state['version']} is out: {first}\n"),
        call("write_file", why="dry", path=path, content=f"Released {state['version']}.\n"),
    ]


def question(state: State) -> str:
    kept = [name for name in ("notes", "teaser") if committed(state, name)]
    return f"{state['version']}: {' and '.join(kept) or 'nothing'} written. Make it the current release?"


def answered(state: State) -> str:
    return answer(state, "ask")


def current(state: State) -> ToolCall:
    return call("write_file", why="you said yes", path="release/current.txt", content=f"{state['version']}\n")


release = Workflow(State, zones=("releases",))
release.add_action("notes", notes)
release.add_action("teaser", teaser)
release.add_question("ask", question, choices=("yes", "no"))
release.add_action("current", current)
release.add_edge(START, "notes")
release.add_edge(START, "teaser")
release.add_edge(["notes", "teaser"], "ask")
release.add_conditional_edges("ask", answered, {"yes": "current", "no": END})
release.add_edge("current", END)
