"""How a run ends on the screen: what became of it, what to do next, and the exit code that says so."""

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import typer

from karkas.cli import exits, progress, screen
from karkas.policies.budgets import StopReason
from karkas.policies.gates import CriticStatus
from karkas.queue import outcome as outcome_of_gate

if TYPE_CHECKING:
    from karkas.project import Project
    from karkas.storage import Gate, Run

ENDED_EARLY = {StopReason.BUDGET.value, StopReason.DEADLINE.value}
BAD = {"denied", "failed", "unknown", "expired"}


def drive(project: "Project", run: "Run", *, quiet: bool = False, patience_s: float = 0.0) -> "Run":
    """Advances a run with progress shown. Ctrl-C leaves it to be resumed, and says how.

    Nobody waits for a run with a deadline: it lets others go first, and bears with a server that is started again.

    Raises `LeaseError` where another process still advances it after `patience_s`.
    """
    try:
        from tenacity import retry_if_exception_type, stop_after_delay, wait_fixed
        from tenacity.asyncio import AsyncRetrying

        from karkas.runner import advance, collect_less
        from karkas.storage import LeaseError

        patiently = AsyncRetrying(
            retry=retry_if_exception_type(LeaseError),
            stop=stop_after_delay(patience_s),
            wait=wait_fixed(0.1),
            reraise=True,
        )
        collect_less()
        with _event_loop() as loop, progress.shown(quiet=quiet) as shown:
            attended = run.deadline is None
            return loop.run(patiently(advance, project, run.id, progress=shown, waiting=attended))
    except KeyboardInterrupt:
        print_error(f"interrupted; nothing is lost. Go on: karkas runs resume {run.id}")
        raise typer.Exit(exits.INTERRUPTED) from None


def _event_loop() -> asyncio.Runner:
    """An event loop, made without a Ctrl-C in the middle: a half-made one complains when it is collected."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        runner = asyncio.Runner()
        runner.get_loop()
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        runner.close()
        raise KeyboardInterrupt
    return runner


def print_error(text: str) -> None:
    import sys

    print(text, file=sys.stderr)


def tell(project: "Project", run: "Run", *, json: bool, told_engine: bool = False) -> None:
    """Says how the run stands and what to do next, then exits with its code."""
    gates = waiting(project, run)
    if json:
        screen.as_json(run_json(run) | {"gates": [gate.id for gate in gates]})
    else:
        if run.engine and not told_engine:
            screen.line(f"engine: {engine(run)}")
        tell_summary(project, run, gates)
    leave(run)


def tell_queued(project: "Project", run: "Run", *, json: bool) -> None:
    """Says that a worker takes the run up, from when on, and how one is started where none is up."""
    if json:
        screen.as_json(run_json(run))
        return
    now = project.store.clock()
    later = run.due_at is not None and run.due_at > now
    when = f" for {run.due_at.astimezone():%a %H:%M}" if run.due_at is not None and later else ""
    screen.line(f"run {run.id}: queued{when}")
    if not project.store.workers.all():
        screen.say("no worker is up; karkas night works off what is queued, karkas work stays up for it")


def leave(run: "Run") -> None:
    """Exits with the run's code."""
    code = exit_code(run)
    if code != exits.DONE:
        raise typer.Exit(code)


def waiting(project: "Project", run: "Run") -> "list[Gate]":
    return [gate for gate in project.store.gates.list(run=run.id) if gate.status.waits]


def exit_code(run: "Run") -> int:
    """0 done, 1 failed or denied, 3 parked, 4 ended early by a person, a budget or a deadline."""
    if values(run).get("stop") in ENDED_EARLY:
        return exits.STOPPED
    match run.status.value:
        case "parked":
            return exits.PARKED
        case "failed":
            return exits.FAILED
        case "stopped":
            return exits.STOPPED
        case "done":
            return exits.FAILED if any(one["status"] in BAD for one in outcomes(run).values()) else exits.DONE
        case _:
            return exits.FAILED


def outcomes(run: "Run") -> dict[str, Any]:
    found: Any = (run.result or {}).get("outcomes", {})
    return dict(found)


def values(run: "Run") -> dict[str, Any]:
    found: Any = (run.result or {}).get("values", {})
    return dict(found)


def tell_summary(project: "Project", run: "Run", gates: "list[Gate]") -> None:
    """The run in a few lines: what became of each action, what waits, and the commands that go on.

    Reasons, errors and outputs are tools' and agents' words: theirs are always indented.
    """
    stuck = run.status.value == "parked" and not gates
    screen.line(f"run {run.id}: {run.status}{f', {run.reason}' if run.reason and not stuck else ''}")
    if stuck and run.reason:
        screen.told(run.reason, indent="  ")
        if run.id not in run.reason:
            screen.line(f"  then: karkas runs resume {run.id}")
    if run.error:
        screen.told(run.error, indent="  ")
        screen.line(f"  mend it, then: karkas runs resume {run.id}")
    for name, outcome in outcomes(run).items():
        first, *rest = str(outcome.get("why") or "").split("\n")
        screen.told(f"{name}: {outcome['status']}{f': {first}' if first else ''}", indent="  ")
        for said in (*rest, outcome.get("result", {}).get("shown"), outcome.get("answer")):
            if said:
                screen.told(str(said), indent="    ")
        if outcome.get("can_undo"):
            performed = project.store.gates.get(outcome["gate"])
            undo = f"take it back: karkas queue undo {performed.id}"
            back = outcome_of_gate.taken_back(project, performed.id) or undo
            screen.line(f"    {back}")
    for gate in gates:
        screen.line(f"  waits at gate {gate.id} ({gate.kind}, {gate.level})")
        if gate.critic is not None and gate.critic.status is not CriticStatus.REFUSED:
            screen.told(f"the critic: {gate.critic.status}: {gate.critic.reason}", indent="    ")
        screen.line(f"    {next_step(gate)}")


def engine(run: "Run") -> str:
    """Who answered the agents."""
    if run.engine is None:
        return "none was asked"
    return f"{run.engine}; no language model" if run.engine.startswith("offline ") else run.engine


def next_step(gate: "Gate") -> str:
    if gate.kind.value == "frame":
        return f"read zones/{gate.zones[0]}.distillate.md, then: karkas frame {gate.zones[0]}"
    return f"karkas queue show {gate.id}"


def run_json(run: "Run") -> dict[str, Any]:
    return run.model_dump(mode="json")
