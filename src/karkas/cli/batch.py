"""Approving several gates at once: what is shown, gate by gate, is what is signed, all of it or nothing."""

from typing import TYPE_CHECKING, Any

import typer

from karkas.cli import confirming, ending, exits, gateview, screen
from karkas.queue.outcome import so_far

if TYPE_CHECKING:
    from collections.abc import Sequence

    from karkas.project import Project
    from karkas.storage import Gate, Run

GRAVEST = (exits.FAILED, exits.STOPPED, exits.PARKED)
"""Of several runs' exit codes the first of these that any has."""


def approve_all(
    project: "Project", named: "Sequence[str]", *, alike: str | None, yes: bool, json: bool
) -> None:
    """Shows the gates, asks once, approves them in one transaction, and lets their runs go on."""
    from karkas.project import person
    from karkas.queue import batches

    store = project.store
    gates = store.gates.alike(alike) if alike is not None else [store.gates.get(name) for name in named]
    store.gates.check_batch(gates)
    if not json:
        for gate in gates:
            for block in batches.blocks(project, gate):
                gateview.print_block(block)
        screen.say()
    if not yes:
        confirming.typed("approve", to=f"approve {screen.counted(len(gates), 'gate')}, exactly as shown")
    decided = store.gates.decide_batch(batches.shown(gates), by=person())
    if not json:
        for gate in decided:
            state = so_far(gate) if gate.status.waits else f"{gate.status}, decided by {gate.decided_by}"
            screen.say(f"gate {gate.id}: {state}")
    _let_go_on(project, decided, json=json)


def _let_go_on(project: "Project", decided: "Sequence[Gate]", *, json: bool) -> None:
    from karkas.cli.deciding import go_on

    runs: list[Run] = []
    for name in dict.fromkeys(gate.run for gate in decided if not gate.status.waits):
        run = project.store.runs.get(name)
        driven = run if run.status.ended else go_on(project, run, quiet=json)
        if driven is not None:
            runs.append(driven)
            if not json:
                ending.tell_summary(project, driven, ending.waiting(project, driven))
    if json:
        told: list[Any] = [{"gate": gate.id, "status": gate.status.value} for gate in decided]
        screen.as_json({"gates": told, "runs": [ending.run_json(run) for run in runs]})
    codes = {ending.exit_code(run) for run in runs}
    for code in GRAVEST:
        if code in codes:
            raise typer.Exit(code)
