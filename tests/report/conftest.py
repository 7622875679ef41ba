"""A real project after a night: a zone explored, actions at gates, a run that failed."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from karkas import runner
from karkas.policies.budgets import Spent
from karkas.project import Project
from karkas.storage import Run
from karkas.storage.journal import Entry

ZONES = """
[zones.lab]
understanding = 4
critical = true
scope = {paths = ["lab/**"]}
"""

FLOWS = """
from karkas import END, START, Workflow, WorkflowState, call

class State(WorkflowState):
    title: str

def note(state: State):
    return call("write_file", path=f"lab/{state['title']}.md", content="text")

def broken(state: State):
    raise ValueError(f"no {state['title']} here")

def flow_of(propose):
    flow = Workflow(State, zones=("lab",))
    flow.add_action("make", propose)
    flow.add_edge(START, "make")
    flow.add_edge("make", END)
    return flow

write, breaks = flow_of(note), flow_of(broken)
"""

Advance = Callable[..., Run]
Answer = Callable[..., None]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    root = tmp_path / "project"
    Project.init(root).close()
    with (root / "karkas.toml").open("a", encoding="utf-8") as file:
        file.write(ZONES)
    (root / "flows.py").write_text(FLOWS, encoding="utf-8")
    (root / "a.md").write_text(
        "# Couriers\n\nA courier is a person who carries parcels. A courier waits 5 minutes by default.\n"
    )
    monkeypatch.chdir(root)
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Project.open(root) as opened:
        yield opened


@pytest.fixture
def advance(project: Project) -> Advance:
    """Begins a run of a workflow, or of an exploration of a zone, and advances it until it is left."""

    def advance(name: str, title: str = "disk") -> Run:
        if name == "explore":
            run = runner.begin(project, "explore", {"zone": "courier", "sources": ["a.md"]}, zone="courier")
        else:
            run = runner.begin(project, f"flows.py:{name}", {"title": title}, zone="lab")
        return asyncio.run(runner.advance(project, run.id))

    return advance


@pytest.fixture
def answer(project: Project) -> Answer:
    """A model answered a run: `tokens` of prompt, and as many again of answer."""

    def answer(run: str, tokens: int, *, role: str = "summarizer") -> None:
        entry = Entry(
            run=run,
            segment=1,
            night=None,
            digest="0" * 64,
            n=0,
            engine="language-model 1: m",
            role=role,
            model="m",
            prompt_tokens=tokens,
            completion_tokens=tokens,
            cached_tokens=tokens // 2,
            wall_s=1.0,
            answer="{}",
            learnt={},
        )
        spent = Spent(tokens=2 * tokens, cached_tokens=tokens // 2, model_calls=1)
        project.store.purses.spend(run, spent, answer=entry)

    return answer
