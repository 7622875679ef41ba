"""`karkas queue`: the gates that wait for a person, and deciding them, in plain lines."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from karkas.cli.options import JsonOption, ProjectOption, group, open_project, uncollected
from karkas.policies.errors import UsageError

if TYPE_CHECKING:
    from karkas.policies.verdicts import Verdict

app = group()

GateArgument = Annotated[str, typer.Argument(metavar="GATE", help="The gate's id, or its beginning.")]
ReasonText = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it goes on the record.")]


@app.callback(
    invoke_without_command=True,
    help="See what waits for you at gates, and decide it. Alone, on a terminal, it opens the full-screen queue.",
)
def queue(
    ctx: typer.Context,
    *,
    plain: Annotated[
        bool, typer.Option("--plain", help="Print the list, also on a terminal; for screen readers.")
    ] = False,
    project: ProjectOption = None,
) -> None:
    if ctx.invoked_subcommand is not None:
        return
    import sys

    with open_project(project) as opened:
        if plain or not (sys.stdin.isatty() and sys.stdout.isatty()):
            from karkas.cli.listing import print_list

            print_list(opened)
            return
        with uncollected():
            from karkas.queue.app import run
        run(opened)


@app.command("list")
def list_(
    *,
    zone: Annotated[str | None, typer.Option(help="Only gates that touch this zone.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="The last that were decided or closed, too.")
    ] = False,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """List what waits, the longest waiting first.

    \b
    Examples:
      karkas queue list
      karkas queue list --json | jq -r '.[].id'
    """
    from karkas.cli.listing import print_list

    with open_project(project) as opened:
        print_list(opened, zone=zone, everything=everything, json=json)


@app.command()
def show(gate: GateArgument, *, json: JsonOption = False, project: ProjectOption = None) -> None:
    """Show everything that you need to decide: the level and why, the exact diff or command, where each argument
    came from, the evidence with its quotes, what the critic said, and what you can do.

    \b
    Examples:
      karkas queue show g-4f2a
    """
    from karkas.cli import gateview, screen

    with open_project(project) as opened:
        found = opened.store.gates.get(gate)
        if json:
            screen.as_json(gateview.as_json(opened, found, whole=True))
        else:
            gateview.print_gate(opened, found)


@app.command()
def morning(
    *,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN", help="8h, 22:00, 2026-11-22T18:00 (default: your last word on the record)."
        ),
    ] = None,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Show what happened meanwhile, zone by zone, and which decisions free the most work, those first.

    \b
    Examples:
      karkas queue morning
      karkas queue morning --since 8h --json
    """
    from karkas.cli import gateview, screen, times
    from karkas.queue.morning import look, page

    with open_project(project) as opened:
        now = opened.store.clock().astimezone()
        found = look(opened, begin=times.past(since, now=now) if since is not None else None)
    if json:
        screen.as_json(found.model_dump(mode="json"))
        return
    for block in page(found):
        gateview.print_block(block)


@app.command()
def approve(
    gates: Annotated[
        list[str] | None, typer.Argument(metavar="GATE...", help="The gates' ids, or their beginnings.")
    ] = None,
    *,
    alike: Annotated[
        str | None,
        typer.Option(
            "--alike",
            metavar="GATE",
            help="All open gates that are like this one: the same zones, level, verdict, tool and effect.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing back; for scripts that name each gate.")
    ] = False,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Approve the one action shown at a gate; it is performed at once, exactly as it was shown.

    Several gates are a batch: each action is shown with its digest, you type a word once, and all of them are
    approved, or none where any was changed or decided meanwhile.

    \b
    Examples:
      karkas queue approve g-4f2a
      karkas queue approve g-4f2a g-91c0 g-b7e3
      karkas queue approve --alike g-4f2a
    """
    from karkas.cli.batch import approve_all
    from karkas.policies.verdicts import Approve

    named = gates or []
    if bool(named) is (alike is not None):
        raise UsageError("name the gates, or give --alike GATE")
    if alike is not None and yes:
        raise UsageError(
            "--yes goes with gates that are named: look at what --alike finds, and type the word"
        )
    if len(named) == 1:
        _decide(project, named[0], Approve(), json=json)
        return
    with open_project(project) as opened:
        approve_all(opened, named, alike=alike, yes=yes, json=json)


@app.command()
def choose(
    gate: GateArgument,
    variant: Annotated[
        int,
        typer.Argument(metavar="NUMBER", min=1, help="The variant's number, as `queue show` counts them."),
    ],
    *,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Choose one of several variants; it is performed at once, exactly as it was shown.

    \b
    Examples:
      karkas queue choose g-4f2a 2
    """
    from karkas.policies.verdicts import Choose

    _decide(project, gate, Choose(variant=variant - 1), json=json)


@app.command()
def adopt(
    gate: GateArgument,
    *,
    variant: Annotated[int, typer.Option(min=1, help="The variant's number.")] = 1,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Adopt a draft as your own: you become its author, and it is performed. A zone is framed by `karkas frame`.

    To change the draft first: `karkas queue edit`, look at the new gate, then adopt that.

    \b
    Examples:
      karkas queue adopt g-4f2a
    """
    from karkas.policies.verdicts import Adopt

    _decide(project, gate, Adopt(variant=variant - 1), json=json)


@app.command()
def edit(
    gate: GateArgument,
    *,
    variant: Annotated[int, typer.Option(min=1, help="The variant to start from.")] = 1,
    from_: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Take the edited action from a file.")
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Open the whole action as JSON.")] = False,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Change the action in $EDITOR. The edit is a new action: it passes policy and critic, and its own gate opens.

    An action with one long text, such as a file's content, opens as that text. With --whole, for other actions and in
    --from, it is JSON: the tool and its arguments. Nothing is performed before you decide at the new gate.

    \b
    Examples:
      karkas queue edit g-4f2a
      karkas queue edit g-4f2a --whole
      karkas queue edit g-4f2a --from action.json
    """
    from karkas.cli.editing import edited_action
    from karkas.policies.verdicts import Edit

    with open_project(project) as opened:
        found = opened.store.gates.get(gate)
        action = edited_action(opened, found, variant - 1, from_, whole=whole)
    _decide(project, found.id, Edit(action=action), json=json)


@app.command()
def reject(
    gate: GateArgument,
    *,
    reason: ReasonText,
    revise: Annotated[
        bool, typer.Option("--revise", help="Ask for a revised proposal, with your reason.")
    ] = False,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Reject what is proposed, with a reason; with --revise the proposer gets it and tries again.

    \b
    Examples:
      karkas queue reject g-4f2a --reason "that file is generated"
      karkas queue reject g-4f2a --reason "shorter" --revise
    """
    from karkas.policies.verdicts import Reject, Retry

    _decide(
        project,
        gate,
        Reject(reason=_said(reason, "reason"), retry=Retry.REVISED if revise else Retry.NEVER),
        json=json,
    )


@app.command()
def defer(
    gate: GateArgument,
    until: Annotated[str, typer.Argument(metavar="WHEN", help="07:00, 2h, 3d, 2026-11-23T07:00.")],
    *,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Put a gate off; it waits, and comes back at that time.

    \b
    Examples:
      karkas queue defer g-4f2a 2h
    """
    from karkas.cli import times
    from karkas.policies.verdicts import Defer

    with open_project(project) as opened:
        moment = times.future(until, now=opened.store.clock().astimezone())
    _decide(project, gate, Defer(until=moment), json=json)


@app.command()
def answer(
    gate: GateArgument,
    text: Annotated[
        str,
        typer.Argument(metavar="TEXT", help="Your answer, exactly one of the choices where there are any."),
    ],
    *,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Answer a question. No model interprets what you say.

    \b
    Examples:
      karkas queue answer g-4f2a staging
    """
    from karkas.policies.verdicts import Answer

    _decide(project, gate, Answer(text=_said(text, "answer")), json=json)


@app.command()
def stop(
    gate: GateArgument,
    *,
    reason: ReasonText = "",
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Stop the whole run that waits at a gate; its other gates are cancelled.

    \b
    Examples:
      karkas queue stop g-4f2a --reason "not today"
    """
    from karkas.policies.verdicts import Stop

    _decide(project, gate, Stop(reason=reason), json=json)


@app.command()
def undo(gate: GateArgument, *, json: JsonOption = False, project: ProjectOption = None) -> None:
    """Take back what was performed under a gate, where its tool can: a file gets its former content back.

    It is refused where the file was changed since, so that nobody's later work is lost.

    \b
    Examples:
      karkas queue undo g-4f2a
    """
    from karkas.cli import screen
    from karkas.policies.errors import ToolError
    from karkas.project import person
    from karkas.queue.outcome import taken_back
    from karkas.runner import take_back

    with open_project(project) as opened:
        found = opened.store.gates.get(gate)
        if already := taken_back(opened, found.id):
            raise ToolError(f"what was done under gate {found.id} was {already} already")
        done = take_back(opened, found, by=person())
    if json:
        screen.as_json({"gate": found.id, "undone": done})
    else:
        screen.told(done)


def _said(text: str, what: str) -> str:
    if not text.strip():
        raise UsageError(f"the {what} is empty, so nothing was decided")
    return text


def _decide(folder: Path | None, gate: str, verdict: "Verdict", *, json: bool) -> None:
    """Records the verdict, then lets the run go on and tells how it stands."""
    from karkas.cli.deciding import decide

    with open_project(folder) as project:
        decide(project, gate, verdict, json=json)
