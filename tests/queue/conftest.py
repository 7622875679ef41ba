"""A real project with workflows that wait at gates of every kind, and the queue's screen on it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from karkas import runner
from karkas.project import Project
from karkas.queue.app import QueueApp, QueueScreen
from karkas.storage import Gate

ZONES = """
[zones.lab]
understanding = 4
critical = true
scope = {paths = ["lab/**"]}

[zones.post]
understanding = 4
critical = true
"""

FLOWS = """
from karkas import END, START, Done, Effect, Workflow, WorkflowState, call, tool

def undo(record, workspace):
    return f"closed {record['title']}"

@tool(Effect.REVERSIBLE, undo=undo)
def ticket(title: str) -> Done:
    return Done({"title": title}, shown=f"made {title}", undo={"title": title})

@tool(Effect.IRREVERSIBLE)
def send(to: str, body: str) -> Done:
    return Done({"to": to}, shown=f"sent to {to}")

class State(WorkflowState):
    title: str

def two(state: State):
    short = "".join(f"step {n} of {state['title']}\\n" for n in range(1, 5))
    long = "".join(f"step {n}: {'look, wait, ' * 4}then go on\\n" for n in range(1, 9))
    return [
        call("write_file", why="every step", path=f"lab/{state['title']}.md", content=long),
        call("write_file", why="the steps alone", path=f"lab/{state['title']}.md", content=short),
    ]

def note(state: State):
    return call("write_file", why="a note", path="lab/note.md", content=f"{state['title']}\\nsecond line\\n")

def one(state: State):
    return call("ticket", why="it was asked for", title=state["title"])

def letter(state: State):
    return call("send", why="they wait for it", to="ada@example.org", body=state["title"])

def big(state: State):
    content = "".join(f"line {n} {'x' * (n % 130)}\\n" for n in range(10_000))
    return call("write_file", path="lab/big.md", content=content)

def flow_of(propose, zone="lab"):
    flow = Workflow(State, zones=(zone,))
    flow.add_action("make", propose)
    flow.add_edge(START, "make")
    flow.add_edge("make", END)
    return flow

choice, single, mail, long, text = flow_of(two), flow_of(one), flow_of(letter, "post"), flow_of(big), flow_of(note)

ask = Workflow(State, zones=("lab",))
ask.add_question("way", lambda state: "Which way?\\n\\nBoth lead there.", choices=("left", "right"))
ask.add_edge(START, "way").add_edge("way", END)
"""

Begin = Callable[..., Gate]
Open = Callable[..., AbstractAsyncContextManager[Pilot[None]]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    root = tmp_path / "project"
    Project.init(root).close()
    with (root / "karkas.toml").open("a", encoding="utf-8") as file:
        file.write(ZONES)
    (root / "flows.py").write_text(FLOWS, encoding="utf-8")
    monkeypatch.chdir(root)
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Project.open(root) as opened:
        yield opened


@pytest.fixture
def begin(project: Project) -> Begin:
    """Runs a workflow until it waits, and gives the gate that it waits at."""

    def begin(name: str, title: str = "disk") -> Gate:
        run = runner.begin(project, f"flows.py:{name}", {"title": title})
        if running():
            raise AssertionError("begin from a thread: asyncio.to_thread(begin, ...)")
        asyncio.run(runner.advance(project, run.id))
        (gate,) = project.store.gates.list(run=run.id)
        return gate

    return begin


def running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@pytest.fixture
def opened(project: Project) -> Open:
    """The screen, once the first gate stands on it."""

    @asynccontextmanager
    async def opened(width: int = 80, height: int = 24, of: Project = project) -> AsyncIterator[Pilot[None]]:
        app = QueueApp(of)
        async with app.run_test(size=(width, height)) as pilot:
            await until(pilot, lambda: app.queue.sheet is not None or app.queue.is_empty)
            yield pilot

    return opened


def queue(pilot: Pilot[None]) -> QueueScreen:
    app = pilot.app
    assert isinstance(app, QueueApp)
    return app.queue


async def until(pilot: Pilot[None], holds: Callable[[], object], *, seconds: float = 15.0) -> None:
    """Waits for what comes by itself."""
    for _ in range(int(seconds / 0.05)):
        await pilot.pause(0.05)
        if holds():
            return
    raise AssertionError(f"it did not come; the screen says {said(pilot)!r}:\n{text(pilot)}")


async def at(pilot: Pilot[None], gate: str) -> None:
    """Goes to a gate and waits until it is shown."""
    screen = queue(pilot)
    assert screen.gates.go_to(gate), f"{gate} is not listed"
    await until(pilot, lambda: screen.sheet is not None and screen.sheet.gate.id == gate)


def said(pilot: Pilot[None]) -> str:
    return str(queue(pilot).query_one("#said").render())


def text(pilot: Pilot[None]) -> str:
    """What stands on the screen now."""
    size = pilot.app.size
    rows = [
        "".join(segment.text for segment in strip)
        for strip in pilot.app.screen._compositor.render_strips(size)
    ]
    return "\n".join(row.rstrip() for row in rows)
