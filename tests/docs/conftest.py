"""A real project with the documented examples in it."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from karkas import Gate, Project, Run, advance, begin
from karkas.policies.verdicts import Verdict

ROOT = Path(__file__).parents[2]


@dataclass
class Desk:
    """A project, and the person who decides in it."""

    project: Project

    @property
    def root(self) -> Path:
        return self.project.root

    def run(self, workflow: str, **input_: Any) -> Run:
        return self.go_on(begin(self.project, workflow, input_))

    def go_on(self, run: Run) -> Run:
        return asyncio.run(advance(self.project, run.id))

    def waiting(self) -> dict[str, Gate]:
        """The gates that wait, by the name of their action or question."""
        return {gate.lane: gate for gate in self.project.store.gates.list() if gate.status.waits}

    def decide(self, run: Run, name: str, verdict: Verdict) -> Run:
        self.project.store.gates.decide(self.waiting()[name].id, verdict, by="ada")
        return self.go_on(run)

    def shown(self, name: str, variant: int = 0) -> str:
        return self.project.store.artifacts.text(self.waiting()[name].variants[variant].shown)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    root = tmp_path / "project"
    with Project.init(root) as project:
        for example in (ROOT / "docs/examples").glob("*.py"):
            (root / example.name).write_bytes(example.read_bytes())
        yield Desk(project)
