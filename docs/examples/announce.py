"""An own tool, and a workflow that explores first, waits for the person's frame, and only then acts.

karkas run announce.py:study --input '{"zone": "retries", "sources": ["pkg:tenacity"], "channel": "team"}'
"""

import json
from typing import Annotated, Any

from langgraph.runtime import Runtime
from pydantic import Field, JsonValue

from karkas import (
    END,
    START,
    Context,
    Done,
    Effect,
    Example,
    ExploreState,
    Plan,
    Workflow,
    Workspace,
    call,
    committed,
    explore_workflow,
    load_distillate,
    tool,
)

Channel = Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9-]+$")]
Text = Annotated[str, Field(max_length=2000)]


def outbox(channel: str) -> tuple[str, ...]:
    """The files that it changes, since no argument of it is a path."""
    return (f"outbox/{channel}.jsonl",)


def members(channel: str, workspace: Workspace) -> str:
    return workspace.text(f"channels/{channel}.txt") or "(nobody)\n"


def preview(channel: str, text: str, workspace: Workspace) -> str:
    """All that a person needs to decide, and nothing that the effect itself changes."""
    return f"to {channel}, where {members(channel, workspace).split()} listen:\n{text}"


def listeners(channel: str, workspace: Workspace) -> dict[str, str]:
    """The permit binds who listens: if somebody joins after the approval, the gate asks again."""
    path = f"channels/{channel}.txt"
    return {path: workspace.state(path)}


def unsend(record: dict[str, Any], workspace: Workspace) -> str:
    """Takes out the line, and file and folder with it where the message made them."""
    path = record["path"]
    lines = (workspace.text(path) or "").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["key"] != record["key"]]
    if kept:
        workspace.write(path, "".join(kept).encode())
    else:
        workspace.remove(path, expected=workspace.state(path), folders=tuple(record["made"]))
    return f"took the message back from {path}"


@tool(
    Effect.REVERSIBLE,
    preview=preview,
    preconditions=listeners,
    undo=unsend,
    paths=outbox,
    idempotent=True,
    examples=[Example({"channel": "team", "text": "We are live."}, files={"channels/team.txt": "ada\n"})],
)
def announce(channel: Channel, text: Text, workspace: Workspace, idempotency_key: str) -> Done:
    """Puts a message into a channel's outbox, once for each permit."""
    (path,) = outbox(channel)
    sent, made = workspace.text(path) or "", tuple[str, ...]()
    if not any(json.loads(line)["key"] == idempotency_key for line in sent.splitlines()):
        line = json.dumps({"key": idempotency_key, "text": text}, ensure_ascii=False)
        made = workspace.write(path, f"{sent}{line}\n".encode()).made
    undo: dict[str, JsonValue] = {"path": path, "key": idempotency_key, "made": [*made]}
    return Done({"path": path}, shown=f"sent to {channel}", undo=undo)


class State(ExploreState):
    channel: str


async def tell_team(state: State, runtime: Runtime[Context]) -> Plan:
    """What was found, with its evidence; `zones` says where it acts, which is known only now."""
    artifacts = runtime.context.store.artifacts
    text = await runtime.context.stored(artifacts.text, artifacts.find(state.get("distillate", "")))
    found = load_distillate(text)
    message = f"{found.zone} is framed: {len(found.claims)} claims, {len(found.conflicts)} disagreements"
    return Plan(
        calls=(call("announce", channel=state["channel"], text=message),),
        why="the team works in this zone",
        evidence=found.claims[0].evidence,
        zones=(found.zone,),
    )


def framed(state: State) -> str:
    return "tell" if committed(state, "frame") else END


study = Workflow(State)
study.add_node("explore", explore_workflow().compile())
study.add_action("tell", tell_team)
study.add_edge(START, "explore")
study.add_conditional_edges("explore", framed, ["tell", END])
study.add_edge("tell", END)
