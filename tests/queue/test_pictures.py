"""The screens in docs/screens: rendered here, and held against the files. `make screens` writes them anew."""

import os
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from textual.pilot import Pilot

from karkas.policies.actions import Action, Digest, Effect, Evidence, Proposal, Variant
from karkas.policies.budgets import Spent
from karkas.policies.gates import (
    POLICY_VERSION,
    CriticFinding,
    CriticReport,
    CriticStatus,
    GateKind,
    PolicyDecision,
    PolicyVerdict,
)
from karkas.policies.permits import Binding
from karkas.policies.provenance import ArgumentOrigin, Origin, Place
from karkas.policies.zones import ControlLevel
from karkas.project import Project
from karkas.storage import NewGate, RunId, RunStatus, ShownVariant, WaitingLine

from .conftest import Open, at, queue, text, until

SCREENS = Path(__file__).parents[2] / "docs/screens"
WRITE = os.environ.get("KARKAS_WRITE_SCREENS") == "1"
NIGHT = datetime(2026, 3, 2, 23, 10, tzinfo=UTC)
MORNING = datetime(2026, 3, 3, 7, 0, tzinfo=UTC)
SIZES = ((80, 24), (120, 36))


@pytest.fixture
def night(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """What a night left: a report to publish with evidence, commands, a letter, a question; ids and clock are fixed."""
    numbers, now = count(1), [NIGHT]
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setattr("karkas.storage.records.secrets.token_hex", lambda _: f"{next(numbers):012x}")
    store = project.store
    store._records.__dict__["clock"] = store.clock = lambda: now[0]
    monkeypatch.setattr("karkas.project.person", lambda: "ada")
    monkeypatch.setattr("karkas.queue.morning.person", lambda: "ada")
    monkeypatch.setattr("karkas.queue.app.person", lambda: "ada")
    store.note("zone_looked_at", "zone:lab", actor="ada")
    open_gates(project, now)
    now[0] = MORNING
    return project


def open_gates(project: Project, now: list[datetime]) -> None:
    store = project.store

    def run(zone: str, workflow: str = "act", status: RunStatus = RunStatus.PARKED) -> RunId:
        now[0] += timedelta(minutes=37)
        begun = store.runs.create(workflow, zone=zone, input={"task": "keep the retries documented"})
        store.runs.take_up(begun.id)
        store.purses.spend(begun.id, Spent(wall_s=412.0, tokens=81_204, model_calls=37))
        store.runs.set_status(begun.id, status)
        return begun.id

    def gate(zone: str, actions: list[tuple[Action, str, str]], **fields: object) -> None:
        run_id = run(zone)
        shown = []
        for action, why, diff in actions:
            artifact = store.artifacts.put_text(diff)
            binding = Binding(
                action=action.digest,
                shown=artifact,
                tool_version=Digest("0" * 64),
                preconditions={str(action.args.get("path", "cwd")): "sha256:1f0c"},
                policy_version=POLICY_VERSION,
            )
            shown.append(ShownVariant(digest=action.digest, shown=artifact, binding=binding))
            assert why
        place = Place(
            label="pkg:tenacity", start=1204, end=1242, before="A stop can be given: ",
            text="stop_after_attempt(3) gives up after 3", after=" attempts.\nIt raises RetryError then.",
        )  # fmt: skip
        origins = (
            ArgumentOrigin(pointer="/path", origin=Origin.TASK, label="the task", start=12),
            ArgumentOrigin(
                pointer="/content", origin=Origin.UNTRUSTED_SOURCE, label="pkg:tenacity", place=place
            ),
        )
        proposal = Proposal(
            zones=(zone,),
            task="keep the retries documented",
            why="the limit changed in the source",
            proposer="executor/qwen3-14b",
            variants=tuple(
                Variant(action=action, why=why, origins=origins if action.tool == "write_file" else ())
                for action, why, _ in actions
            ),
            evidence=(
                Evidence(
                    source="s-1f0c", start=1204, end=1242, quote="stop_after_attempt(3) gives up after 3"
                ),
            ),
        )
        store.gates.open(
            NewGate.model_validate(
                {
                    "key": run_id, "run": run_id, "lane": "act", "kind": GateKind.ACTION, "zones": (zone,),
                    "level": ControlLevel.PROPOSE_ONLY, "level_why": f"propose-only because of {zone}",
                    "policy": PolicyDecision(
                        verdict=PolicyVerdict.PROPOSE,
                        reasons=("argument /content comes from untrusted-source, so a person decides",),
                    ),
                    "proposal": store.artifacts.put_json(proposal.model_dump(mode="json")),
                    "variants": tuple(shown), "title": proposal.title, "effect": proposal.effect,
                    **fields,
                }
            )
        )  # fmt: skip

    def file(path: str, content: str) -> Action:
        return Action(tool="write_file", args={"path": path, "content": content}, effect=Effect.REVERSIBLE)

    critic = CriticReport(
        critic="critic/qwen3-14b", status=CriticStatus.OBJECTED, digests=(),
        reason="The text states a default that the source gives for one function only.",
        findings=(CriticFinding(text="the limit holds for stop_after_attempt alone", quote="every call is tried 3 times"),),
    )  # fmt: skip
    long = [
        (
            file("docs/retries.md", "long"), "says where the limit comes from",
            ("write_file (reversible): changes docs/retries.md\n--- docs/retries.md\n+++ docs/retries.md\n@@ -3,4 +3,5 @@\n"
            " # Retries\n \n-every call is tried 5 times\n+every call is tried 3 times\n+(`stop_after_attempt`, tenacity 9.1)\n"),
        ),
        (
            file("docs/retries.md", "short"), "the number alone",
            ("write_file (reversible): changes docs/retries.md\n--- docs/retries.md\n+++ docs/retries.md\n@@ -3,4 +3,4 @@\n"
            " # Retries\n \n-every call is tried 5 times\n+every call is tried 3 times\n"),
        ),
    ]  # fmt: skip
    gate("lab", long, critic=critic)
    for name in ("disk", "network", "power"):
        gate("lab", [(file(f"lab/{name}.md", name), "a note", f"write_file (reversible): makes lab/{name}.md\n+++ lab/{name}.md\n+{name}\n")])  # fmt: skip
    send = Action(tool="send_mail", args={"to": "ada@example.org", "body": "x"}, effect=Effect.IRREVERSIBLE)
    gate(
        "post", [(send, "they wait", 'send_mail (irreversible)\nto: "ada@example.org"\nbody: "see ⟦U+202E⟧fdp.troper"')],
    )  # fmt: skip
    question = run("lab", "flows.py:ask")
    store.gates.open(
        NewGate(
            key="ask", run=question, lane="way", kind=GateKind.QUESTION, zones=("lab",),
            level=ControlLevel.PROPOSE_ONLY, title="Which cluster gets the long run?",
            policy=PolicyDecision(verdict=PolicyVerdict.PROPOSE, reasons=("a question to a person",)),
            prompt="Which cluster gets the long run?", choices=("north", "south"),
        )
    )  # fmt: skip
    run("lab", status=RunStatus.DONE)


Steps = Callable[[Pilot[None]], Awaitable[None]]


async def over(pilot: Pilot[None]) -> None:
    """The morning is read; the queue is behind it."""
    await until(pilot, lambda: "Decide first" in text(pilot))
    await pilot.press("escape")
    await until(pilot, lambda: pilot.app.screen is queue(pilot) and queue(pilot).sheet is not None)


async def morning(pilot: Pilot[None]) -> None:
    await until(pilot, lambda: "Decide first" in text(pilot))


async def variants(pilot: Pilot[None]) -> None:
    await over(pilot)
    await at(pilot, queue(pilot).gates.ids[0])


async def whole(pilot: Pilot[None]) -> None:
    await variants(pilot)
    await pilot.press("v")
    await pilot.press(*["J"] * 11)


def waiting(pilot: Pilot[None]) -> list[WaitingLine]:
    return queue(pilot).project.store.waiting.lines()


async def letter(pilot: Pilot[None]) -> None:
    await over(pilot)
    (gate,) = (line.id for line in waiting(pilot) if line.effect == "irreversible")
    await at(pilot, gate)
    await pilot.press("pagedown", "a")
    await until(pilot, lambda: "yes, do it" in text(pilot))


async def batch(pilot: Pilot[None]) -> None:
    await over(pilot)
    for line in waiting(pilot)[1:4]:
        await at(pilot, line.id)
        await pilot.press("space")
    await pilot.press("A")
    await until(pilot, lambda: "Approve 3 gates at once" in text(pilot))


async def helping(pilot: Pilot[None]) -> None:
    await over(pilot)
    await pilot.press("question_mark")
    await until(pilot, lambda: "the keys" in text(pilot))


PICTURES: dict[str, Steps] = {
    "morning": morning, "queue": variants, "decision": whole, "irreversible": letter, "batch": batch, "help": helping,
}  # fmt: skip


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("name", PICTURES)
async def test_the_pictures_of_the_docs_are_what_the_screen_shows(
    night: Project, opened: Open, name: str, width: int, height: int
) -> None:
    async with opened(width, height) as pilot:
        await PICTURES[name](pilot)
        await pilot.pause(0.3)
        drawn = plain(pilot.app.export_screenshot(title="karkas queue"))
    path = SCREENS / f"{name}-{width}x{height}.svg"
    if WRITE:
        SCREENS.mkdir(exist_ok=True)
        path.write_text(drawn, "utf-8")
    assert drawn == path.read_text("utf-8"), "the screen changed; look at it, then: make screens"


def plain(svg: str) -> str:
    """Without the number that the drawing's names are made of, and without blanks at ends of lines."""
    numbered = re.sub(r"terminal-\d+-", "terminal-", svg)
    return "\n".join(line.rstrip() for line in numbered.splitlines()) + "\n"
