"""`karkas frame`: the person draws the three-level map of a zone, and sets its level."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from karkas.cli.options import JsonOption, ProjectOption, open_project, room
from karkas.policies.errors import FrameError, UsageError
from karkas.policies.zones import ControlLevel

if TYPE_CHECKING:
    from karkas.policies.frames import Frame
    from karkas.project import Project
    from karkas.storage import Gate

app = room()


@app.command()
def frame(
    zone: Annotated[str, typer.Argument(metavar="ZONE", help="A zone that was explored.")],
    *,
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Take the frame from a file, without an editor."),
    ] = None,
    level: Annotated[
        ControlLevel | None, typer.Option("--level", help="The zone's control level from here on.")
    ] = None,
    draft: Annotated[
        bool, typer.Option("--draft", help="Print the drafted frame and change nothing.")
    ] = False,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Frame a zone: its map opens in $EDITOR, drafted from what was found; what you save is what agents may do.

    The map has three levels: areas, mechanisms, rules (allow, ask or forbid). Every conflict under a rule must be
    decided. You set the zone's control level in the same file, or with --level. The zone is then framed, and agents
    may act in it at that level.

    \b
    Examples:
      karkas frame lora
      karkas frame lora --draft > lora.frame.yaml      look at it, edit it ...
      karkas frame lora --from lora.frame.yaml         ... and take it
    """
    from karkas.cli import ending, screen
    from karkas.cli.editing import read_text
    from karkas.cli.zone import as_json
    from karkas.project import person
    from karkas.workflows import framing

    with open_project(project) as opened:
        state = opened.zone(zone)
        if draft:
            typer.echo(_start(opened, zone, level or state.level), nl=False)
            return
        if from_ is not None:
            text = _with_level(read_text(from_), level)
            accepted = framing.check(opened.store, zone, text)
        else:
            accepted, text = _edit(opened, zone, _start(opened, zone, level or state.level), level)
        _check_level(accepted, level)
        gate = framing.accept(opened.store, zone, text, by=person())
        if gate is not None and gate.status.waits:
            _draft_path(opened, zone).unlink(missing_ok=True)
            _tell_waiting(gate, json=json)
            return
        path = framing.write_frame(opened.root, zone, text)
        _draft_path(opened, zone).unlink(missing_ok=True)
        run = opened.store.runs.get(gate.run) if gate is not None else None
        if run is not None:
            run = ending.drive(opened, run, quiet=json)
        if json:
            screen.as_json(as_json(opened.zone(zone)) | {"frame": str(path)})
            return
        rules = sum(node.rule is not None for node in accepted.nodes)
        screen.say(
            f"{zone} is framed by {person()}: {accepted.level}, {rules} rules, kept in zones/{path.name}"
        )
        screen.say(f'agents may act there now: karkas act {zone} "publish the report to docs/{zone}.md"')
        if run is not None and run.workflow != "explore":
            ending.tell_summary(opened, run, ending.waiting(opened, run))


def _tell_waiting(gate: "Gate", *, json: bool) -> None:
    from karkas.cli import screen
    from karkas.queue.outcome import so_far

    if json:
        screen.as_json({"gate": gate.id, "status": gate.status.value})
        return
    screen.say(f"gate {gate.id}: {so_far(gate)}")
    screen.say(
        f"{gate.zones[0]} is framed when another person takes this very frame: karkas frame {gate.zones[0]}"
    )


def _start(project: "Project", zone: str, level: ControlLevel) -> str:
    """An edit that was not finished, or else what `starting_frame` gives."""
    from karkas.project import person
    from karkas.workflows.framing import starting_frame

    unfinished = _draft_path(project, zone)
    if unfinished.exists():
        return unfinished.read_text("utf-8")
    return starting_frame(project.store, zone, author=person(), level=level)


def _edit(project: "Project", zone: str, text: str, level: ControlLevel | None) -> "tuple[Frame, str]":
    """Opens the editor until the frame has no fault or the person leaves; what was typed is kept either way."""
    from karkas.cli import screen
    from karkas.cli.editing import in_editor
    from karkas.workflows.framing import check

    drafted = _level_line(text)
    while True:
        before, edited = text, in_editor(text, suffix=".yaml")
        text = _with_level(edited, level)
        kept = _draft_path(project, zone)
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(text, "utf-8")
        try:
            check(project.store, zone, text)
        except FrameError as error:
            screen.say(str(error))
            if _ask("edit again or quit", ("edit", "quit")) == "quit":
                raise UsageError(
                    f"the zone is not framed; what you typed is kept, `karkas frame {zone}` opens it again"
                ) from None
            continue
        if (
            edited == before
            and _ask("nothing was changed; frame by it as it is, or quit", ("frame", "quit")) == "quit"
        ):
            raise UsageError("the zone is not framed")
        # A level that the person wrote in the file is theirs already.
        if level is None and _level_line(text) == drafted:
            level = ControlLevel(_ask(f"the control level of {zone} from here on", tuple(ControlLevel)))
            text = _with_level(text, level)
        frame = check(project.store, zone, text)
        _check_level(frame, level)
        return frame, text


def _ask(what: str, choices: tuple[str, ...]) -> str:
    """One of the choices, typed out. Enter alone decides nothing; the end of input ends the command."""
    while True:
        try:
            given = input(f"{what} ({', '.join(choices)}): ").strip()
        except EOFError:
            raise UsageError("there was no answer, so nothing was decided") from None
        if given in choices:
            return given
        if given:
            print(f"{given!r} is none of them; type one of: {', '.join(choices)}")


def _with_level(text: str, level: ControlLevel | None) -> str:
    """The frame's text with its `level:` line set, every other character as it is."""
    if level is None:
        return text
    return re.sub(r"(?m)^level:.*$", f"level: {level}", text, count=1)


def _level_line(text: str) -> str | None:
    found = re.search(r"(?m)^level:.*$", text)
    return found and found[0].rstrip()


def _check_level(frame: "Frame", level: ControlLevel | None) -> None:
    """A file may spell its `level` so that it could not be set, or have another line that looks like it."""
    if level not in {None, frame.level}:
        raise FrameError(
            f"the file says `level: {frame.level}` and --level says {level}; write it in the file, on a line of its own"
        )


def _draft_path(project: "Project", zone: str) -> Path:
    return project.folder / "drafts" / f"{zone}.frame.yaml"
