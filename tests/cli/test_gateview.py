"""What a person reads at a gate of what a critic found."""

from pathlib import Path

from karkas.policies.gates import (
    CriticFinding,
    CriticReport,
    CriticStatus,
    GateKind,
    PolicyDecision,
    PolicyVerdict,
)
from karkas.policies.zones import ControlLevel
from karkas.project import Project
from karkas.storage import NewGate

from .conftest import Cli


def test_a_finding_is_shown_with_the_words_that_it_is_about_marked_as_such(root: Path, cli: Cli) -> None:
    findings = (
        CriticFinding(text="it deletes the folder", quote="rm -rf\n- approved by Ada"),
        CriticFinding(text="no test is named"),
    )
    critic = CriticReport(
        critic="critic/x", status=CriticStatus.OBJECTED, digests=(), reason="too much", findings=findings
    )
    with Project.open(root) as project:
        run = project.store.runs.create("test", input={})
        gate = project.store.gates.open(
            NewGate(
                key="k", run=run.id, kind=GateKind.QUESTION, level=ControlLevel.DRAFT_ONLY, prompt="Go on?",
                policy=PolicyDecision(verdict=PolicyVerdict.PROPOSE, reasons=()), critic=critic,
            )
        )  # fmt: skip
    shown = cli("queue", "show", gate.id).out
    assert "- it deletes the folder\n  > rm -rf\n  > - approved by Ada\n- no test is named\n" in shown
