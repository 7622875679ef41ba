"""Evidence and arguments in their context, in plain lines: the quote in its stored text, what stands around it."""

import json
from pathlib import Path

import pytest

from karkas.policies.actions import Evidence, Proposal
from karkas.project import Project
from karkas.queue import grounds
from karkas.queue.blocks import Context, Line

from .conftest import Cli
from .test_work import DOCUMENTS, decided


@pytest.fixture
def framed(root: Path, cli: Cli, tmp_path: Path) -> Path:
    assert cli("explore", "courier", "--source", str(DOCUMENTS)).code == 3
    frame = tmp_path / "courier.frame.yaml"
    frame.write_text(decided(cli("frame", "courier", "--draft").out))
    assert cli("frame", "courier", "--from", str(frame), "--level", "propose-only").code == 0
    return root


@pytest.fixture
def published(framed: Path, cli: Cli) -> str:
    assert cli("act", "courier", "publish the report to docs/courier.md").code == 3
    (gate,) = cli("queue", "list", "--json").json
    return str(gate["id"])


def test_evidence_stands_in_the_words_around_it(published: str, cli: Cli, framed: Path) -> None:
    with Project.open(framed) as project:
        gate = project.store.gates.get(published)
        proposal = Proposal.model_validate(project.store.artifacts.json(gate.proposal or ""))  # type: ignore[arg-type]
        sources = grounds.Sources(project.store)
        found = [block for block in grounds.evidence(sources, proposal) if isinstance(block, Context)]
        known = sources.of(proposal.zones)
        for span, block in zip(proposal.evidence, found, strict=True):
            whole = sources.text(known[span.source])
            assert whole is not None
            assert block.text == span.quote
            assert f"{block.before}{block.text}{block.after}" in whole
        assert any(block.before and block.after for block in found)
        moved = proposal.model_copy(
            update={"evidence": (Evidence(source=proposal.evidence[0].source, start=0, end=3, quote="no!"),)}
        )
        lines = [block.text for block in grounds.evidence(sources, moved) if isinstance(block, Line)]
        assert any("does not stand there" in line for line in lines)
    shown = cli("queue", "show", published).out
    assert f"  > {proposal.evidence[0].quote.splitlines()[0]}" in shown
    assert "\n  . " in shown


def test_an_argument_stands_where_it_was_found(framed: Path, cli: Cli) -> None:
    args = json.dumps({"path": "docs/note.md", "content": "three attempts"})
    cli("act", "courier", "write three attempts to docs/note.md", "--tool", "write_file", "--args", args)
    (gate,) = cli("queue", "list", "--json").json
    shown = cli("queue", "show", gate["id"]).out
    assert (
        "    /path: task (the task [24:36])\n      . write three attempts to \n      > docs/note.md\n"
        in shown
    )
    assert "What happens next" in shown
    assert "waits for nothing else" in shown
