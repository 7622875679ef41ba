"""An own tool, and a workflow that explores first, waits for the person's frame, and only then acts.

karkas run announce.py:study --input '{"zone": "retries", "sources": ["pkg:tenacity"], "channel": "team"}'
"""

import json

from langgraph.runtime import Runtime

from karkas import (
    END,
    START,
    Context,
    Done,
    Effect,
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


def members(channel: str, workspace: Workspace) -> str:
    return workspace.text(f"channels/{channel}.txt") or "(nobody)\n"


def preview(channel: str, text: str, workspace: Workspace) -> str:
    """All that a person needs to decide, and nothing that the effect itself changes."""
    return f"to {channel}, where {members(channel, workspace).split()} listen:\n{text}"


def listeners(channel: str, workspace: Workspace) -> dict[str, str]:
    """The permit binds who listens: if somebody joins after the approval, the gate asks again."""
    path = f"channels/{channel}.txt"
    return {path: workspace.state(path)}


def unsend(record: dict[str, str], workspace: Workspace) -> str:
    path = record["path"]
    lines = (workspace.text(path) or "").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["key"] != record["key"]]
    workspace.write(path, "".join(kept).encode())
    return f"took the message back from {path}"


@tool(Effect.REVERSIBLE, preview=preview, preconditions=listeners, undo=unsend, idempotent=True)
def announce(channel: str, text: str, workspace: Workspace, idempotency_key: str) -> Done:
    """Puts a message into a channel's outbox, once for each permit."""
    path = f"outbox/{channel}.jsonl"
    sent = workspace.text(path) or ""
    if not any(json.loads(line)["key"] == idempotency_key for line in sent.splitlines()):
        line = json.dumps({"key": idempotency_key, "text": text}, ensure_ascii=False)
        workspace.write(path, f"{sent}{line}\n".encode())
    return Done({"path": path}, shown=f"sent to {channel}", undo={"path": path, "key": idempotency_key})


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
