"""A trial of one tool: its example as an action in a throw-away project, up to its gate and past it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from langgraph.graph import END, START

from karkas.agents.tools import Example, Tool, ToolBox
from karkas.policies.actions import Action
from karkas.policies.errors import KarkasError
from karkas.policies.gates import GateKind
from karkas.policies.verdicts import Adopt, Answer, Approve, Choose, Verdict, possible
from karkas.policies.zones import Scope, Zone
from karkas.server.questions import ToolCall
from karkas.storage import Gate, Run
from karkas.testing.bench import Bench, throwaway
from karkas.testing.recorder import Recorder, recording
from karkas.testing.suite import Setup
from karkas.workflows.define import Workflow
from karkas.workflows.execution import HAPPENED

LANE = "try"
GROUND = Zone(name="conformance", understanding=4, critical=True, scope=Scope(paths=("**",)))
"""Where nothing acts by itself, and a person may approve."""


class UntriedError(KarkasError):
    """The example could not be tried."""


@dataclass(frozen=True)
class Trial:
    bench: Bench
    tool: Tool
    action: Action
    recorder: Recorder

    def park(self) -> Run:
        """Proposes the action; its gate then waits."""
        flow = Workflow(zones=(GROUND.name,))
        flow.add_action(LANE, lambda _: ToolCall(tool=self.tool.name, args=self.action.args))
        flow.add_edge(START, LANE).add_edge(LANE, END)
        return self.bench.run(flow)

    def approve(self) -> Gate:
        """Has a person approve it, and returns the gate once the run has gone on."""
        gate = self.bench.gate(LANE)
        self.bench.decide(LANE, passing(gate))
        return self.bench.store.gates.get(gate.id)

    def outcome(self) -> str:
        """Why the run did not come to its gate, or did not perform."""
        run = self.bench.store.runs.list()[0]
        outcomes = (run.result or {}).get("outcomes")
        became = outcomes.get(LANE) if isinstance(outcomes, dict) else None
        said = became if isinstance(became, dict) else {}
        return str(run.error or said.get("why") or run.reason or said.get("status") or run.status)


@contextmanager
def trying(tool: Tool, example: Example, setup: Setup) -> Iterator[Trial]:
    """A throw-away project with the tool, its example's files, and nothing decided. Raises `KarkasError` where the
    tool does not take the arguments.
    """
    action = tool.action(**example.args)
    own = () if tool.name in ToolBox.builtin() else (tool,)
    files = {**setup.files, **example.files}
    with (
        throwaway(files=files, zones=(GROUND,), tools=own) as bench,
        recording(bench) as recorder,
    ):
        yield Trial(bench, bench.tools()[tool.name], action, recorder)


def passing(gate: Gate, answer: str | None = None) -> Verdict:
    """The verdict by which a person lets the gate pass; to a question, `answer`, the first choice, or "yes"."""
    verdicts: dict[str, Verdict] = {"approve": Approve(), "choose": Choose(variant=0), "adopt": Adopt()}
    if gate.kind is GateKind.OUTCOME:
        return Answer(text=HAPPENED)
    if gate.kind is GateKind.QUESTION:
        return Answer(text=answer or next(iter(gate.choices), "yes"))
    return next(verdicts[kind] for kind in possible(gate.facts) if kind in verdicts)
