"""One action behind a gate: a note is written once a person has approved exactly that note.

karkas run note.py:keep --input '{"title": "Raise r before lr", "text": "Half the runs diverged."}'
"""

from typing import NotRequired

from karkas import END, START, Scope, ToolCall, Workflow, WorkflowState, Zone, call, feedback, outcome

# Well understood, so agents may act without a frame; critical, so they only propose.
notes = Zone(name="notes", understanding=4, critical=True, scope=Scope(paths=("notes",)))


class State(WorkflowState):
    title: str
    text: str
    told: NotRequired[str]


def propose(state: State) -> ToolCall:
    """Computes the action. It runs before the gate opens, so it has no effects of its own."""
    name = "-".join(state["title"].lower().split())
    wish = feedback(state, "write")
    text = f"# {state['title']}\n\n{state['text']}\n"
    return call(
        "write_file",
        why=f"revised, since {wish!r}" if wish else "keeps what was learned",
        path=f"notes/{name}.md",
        content=text.upper() if "louder" in wish else text,
    )


def tell(state: State) -> dict[str, str]:
    became = outcome(state, "write")
    assert became is not None
    return {"told": f"{became['status']}: {state['title']}"}


keep = Workflow(State, zones=("notes",))
keep.add_action("write", propose)
keep.add_node("tell", tell)
keep.add_edge(START, "write")
keep.add_edge("write", "tell")
keep.add_edge("tell", END)
