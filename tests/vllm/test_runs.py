"""Whole runs through the front door: what must hold of them, whatever a random model says."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from karkas.agents.distillate import verify
from karkas.cli.app import app
from karkas.policies.budgets import Budget, StopReason
from karkas.policies.distillates import SupportLabel
from karkas.policies.gates import GateKind, GateStatus
from karkas.policies.zones import Stage
from karkas.project import Project
from karkas.server.language.distil import PageClaims
from karkas.storage import Run, RunStatus
from karkas.workflows.mapping import text_of

from .conftest import Server
from .driving import Literate, Wire, distillate, explore, make_project

KARKAS = Path(sys.executable).with_name("karkas")
ADAPTER = "adapter-a"
MORE = f'[roles.critic]\nadapter = "{ADAPTER}"\n[act]\ntools = ["tools.py:say"]\n'
TOOL = """
from karkas.agents.tools import tool
from karkas.policies.actions import Effect

@tool(Effect.REVERSIBLE)
def say(words: str) -> str:
    "Says some words."
    return words
"""
ACTS = 30
"""Tasks until the random model has proposed something that can be shown."""
COUNTERS = {
    "prompt": "vllm:prompt_tokens_total",
    "written": "vllm:generation_tokens_total",
    "cached": "vllm:prefix_cache_hits_total",
}


def counted(server: Server) -> dict[str, int]:
    found = server.metrics()
    return {name: int(found.get(counter, 0)) for name, counter in COUNTERS.items()}


def karkas(root: Path, *args: str, codes: tuple[int, ...] = (0,)) -> "subprocess.CompletedProcess[str]":
    """The real command in a process of its own."""
    ended = subprocess.run(
        [KARKAS, *args, "--project", root],
        env=os.environ | {"COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode in codes, ended.stdout + ended.stderr
    return ended


def test_of_what_a_random_model_claims_nothing_gets_into_the_file(server: Server, tmp_path: Path) -> None:
    """Its quotes stand nowhere: all claims are dropped, and counted, and the screen says so."""
    root = make_project(tmp_path / "project", server.base_url)
    with Wire.overheard() as wire:
        while True:
            ended = CliRunner().invoke(
                app, ["explore", "depot", "--source", str(root / "docs"), "--project", str(root)]
            )
            assert ended.exit_code == 0, ended.output
            (choice,) = wire.answered[-1].choices
            if choice.finish == "stop" and len(wire.answered) == 1:
                drafted = len(PageClaims.model_validate_json(choice.text).claims)
                if drafted:
                    break
            wire.calls.clear()  # an answer may hold no claim at all, or not end
    with Project.open(root) as project:
        found = distillate(project)
        assert found.claims == ()
        assert found.honesty.dropped_claims == drafted
        assert not found.honesty.abstractive
        assert project.store.gates.list() == []
        assert project.zones()["depot"].stage is Stage.MAPPED
    assert "0 claims out of 4 sources" in ended.output
    assert f"{drafted} drafted claim" in ended.output
    assert "nothing to frame" in ended.output
    assert f"Dropped: {drafted} further draft" in (root / "zones" / "depot.distillate.md").read_text()
    karkas(root, "audit", "verify")
    assert karkas(root, "act", "depot", "write a.md", codes=(1,)).returncode == 1


@dataclass(frozen=True)
class Explored:
    """An exploration up to the gate where its map is framed, and what it cost by its server's own counters."""

    root: Path
    run: Run
    wire: Wire
    cost: dict[str, int]


@pytest.fixture(scope="module")
def explored(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Explored:
    root = make_project(tmp_path_factory.mktemp("runs") / "project", server.base_url, more=MORE)
    (root / "tools.py").write_text(TOOL)
    before = counted(server)
    with pytest.MonkeyPatch.context() as patch, Wire.overheard() as wire, Project.open(root) as project:
        Literate.teach(patch)
        run = explore(project, root / "docs")
    after = counted(server)
    return Explored(root, run, wire, {name: after[name] - before[name] for name in COUNTERS})


@pytest.fixture
def project(explored: Explored) -> Iterator[Project]:
    with Project.open(explored.root) as opened:
        yield opened


def test_an_exploration_ends_at_the_gate_of_its_frame(explored: Explored, project: Project) -> None:
    assert (explored.run.status, explored.run.error) == (RunStatus.PARKED, None)
    (gate,) = project.store.gates.list(run=explored.run.id)
    assert (gate.kind, gate.status) == (GateKind.FRAME, GateStatus.OPEN)
    assert gate.critic is not None
    assert gate.critic.critic == f"critic/{explored.run.engine}"
    assert project.zones()["depot"].stage is Stage.CRITICISED
    found = distillate(project)
    assert found.claims
    assert found.honesty.abstractive
    assert found.run.stop_reason is StopReason.SOURCES_EXHAUSTED
    assert verify(found, text_of(project.store)) == []
    assert found.summary


def test_claims_in_a_models_words_were_held_against_their_passages(project: Project) -> None:
    found = distillate(project)
    checked = [claim for claim in found.claims if "language-model" in claim.support.checked_by]
    assert checked
    doubted = {SupportLabel.UNCLEAR, SupportLabel.CONTRADICTED}
    assert found.honesty.unsupported_claims == sum(claim.support.label in doubted for claim in found.claims)


def test_a_role_with_an_adapter_is_answered_by_it_and_the_record_says_so(
    explored: Explored, project: Project
) -> None:
    models = {call.request.model: {call.answer.model} for call in explored.wire.calls if call.answer}
    assert models == {"tiny": {"tiny"}, ADAPTER: {ADAPTER}}
    assert explored.run.engine == f"language-model 1 (tiny; critic: {ADAPTER})"
    (judged,) = [one for one in project.store.audit.log(subject="zone:depot") if one.event == "map_judged"]
    assert judged.actor == f"critic/{explored.run.engine}"
    assert distillate(project).engine.model == f"tiny; critic: {ADAPTER}"


def test_a_run_is_charged_what_the_server_counts(explored: Explored) -> None:
    assert explored.run.spent.model_calls == len(explored.wire.answered) == len(explored.wire.calls)
    assert explored.run.spent.tokens == explored.cost["prompt"] + explored.cost["written"]


def test_the_agents_of_a_run_share_the_servers_prefix_cache(explored: Explored) -> None:
    assert explored.cost["cached"] == sum(answer.usage.cached_tokens for answer in explored.wire.answered)
    pages = [
        call for call in explored.wire.calls if "Courier does not retry" in call.request.messages[1].content
    ]
    first, *others = [call.answer.usage for call in pages if call.answer and call.request.model == "tiny"]
    assert first.prompt_tokens > 1000
    assert any(usage.cached_tokens > usage.prompt_tokens / 2 for usage in others)


def test_a_framed_zone_is_acted_in_only_through_gates(explored: Explored, server: Server) -> None:
    root = explored.root
    drafted = karkas(root, "frame", "depot", "--draft").stdout
    with Project.open(root) as project:
        both = "".join(
            f"\n- {{conflict: {one.id}, verdict: both, reason: both are in use}}"
            for one in distillate(project).conflicts
        )
    file = root.parent / "depot.frame.yaml"
    file.write_text(re.sub(r"(?m)^decisions:$", f"decisions:{both}", drafted))
    karkas(root, "frame", "depot", "--from", str(file), "--level", "propose-only")
    before, ended = counted(server), act(root, "write the limits of a depot to docs/limits.md")
    cost = {name: value - before[name] for name, value in counted(server).items()}
    # The server counts the prompt of several variants once for each; it is computed and charged once.
    assert cost["written"] < ended["spent"]["tokens"] <= cost["prompt"] + cost["written"]
    assert ended["engine"] == f"language-model 1 (tiny; critic: {ADAPTER})"
    assert not list((root / "docs").glob("limits*")), "nothing is done before its gate passed"
    karkas(root, "audit", "verify")


def act(root: Path, task: str) -> Any:
    return json.loads(karkas(root, "act", "depot", task, "--json", codes=(0, 1, 3)).stdout)


def test_what_the_model_proposes_is_judged_and_shown_and_done_only_when_a_person_chose_it(
    explored: Explored,
) -> None:
    """What the random model proposes is valid for its tool, or nothing; whether it does any good is another matter."""
    root = explored.root
    for _ in range(ACTS):
        run = act(root, "write the limits of a depot to docs/limits.md")
        outcome = run["result"]["outcomes"].get("act")
        assert (run["status"], outcome and outcome["status"]) in {
            ("parked", None), ("done", "nothing"), ("done", "denied"),
        }  # fmt: skip
        if outcome is None:
            break
        assert outcome["why"]
    else:
        pytest.skip(f"none of {ACTS} proposals of the random model could be shown")
    with Project.open(root) as project:
        (gate,) = project.store.gates.list(run=run["id"])
        assert gate.status is GateStatus.OPEN, "where a person chooses, no critic releases"
        assert gate.critic is not None
        assert gate.critic.critic == f"critic/{run['engine']}"
        assert gate.critic.digests == tuple(variant.digest for variant in gate.variants)
        number = len(gate.variants)
    decision = ("approve", gate.id) if number == 1 else ("choose", gate.id, "1")
    karkas(root, "queue", *decision, codes=(0, 1, 3))
    after = json.loads(karkas(root, "runs", "show", run["id"], "--json").stdout)
    assert after["result"]["outcomes"]["act"]["status"] in {"committed", "failed"}
    karkas(root, "audit", "verify")


def test_a_token_budget_ends_an_exploration_with_a_whole_file(server: Server, tmp_path: Path) -> None:
    root = make_project(tmp_path / "project", server.base_url)
    with pytest.MonkeyPatch.context() as patch, Project.open(root) as project:
        Literate.teach(patch)
        run = explore(project, root / "docs", budget=Budget(tokens=3_000))
        assert run.status is RunStatus.PARKED
        found = distillate(project)
        assert found.run.stop_reason is StopReason.BUDGET
        assert found.claims
        assert verify(found, text_of(project.store)) == []
