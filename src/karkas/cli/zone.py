"""`karkas zone`: what agents may do where, why, and how a person changes it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from karkas.cli.options import JsonOption, ProjectOption, ReasonOption, open_project, room
from karkas.policies.approvals import FEWEST, MOST
from karkas.policies.errors import UsageError
from karkas.policies.zones import (
    ACTING_UNDERSTANDING,
    ControlLevel,
    LevelChange,
    Stage,
    ZoneState,
    declared_level,
)

if TYPE_CHECKING:
    from karkas.project import Project
    from karkas.storage import ZoneGround

app = room("List, explain and change zones: what agents may do where.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The zone's name.")]

MEANING = {
    ControlLevel.AUTONOMOUS: "agents act; a critic agent is the gate",
    ControlLevel.PROPOSE_ONLY: "agents offer variants, you choose one",
    ControlLevel.DRAFT_ONLY: "agents write a draft, you edit and adopt it",
}
SKILL = ("nothing", "novice", "advanced beginner", "competent", "proficient", "expert")


@app.command("list")
def list_(*, json: JsonOption = False, project: ProjectOption = None) -> None:
    """List the zones with their level, their stage and the reason that decided.

    \b
    Examples:
      karkas zone list
      karkas zone list --json | jq '.[] | select(.stage != "framed") | .name'
    """
    from karkas.cli import screen

    with open_project(project) as opened:
        states = opened.zones()
    if json:
        screen.as_json([as_json(state) for state in states.values()])
    elif not states:
        screen.say(
            "no zones yet: declare one in karkas.toml, or let agents explore one:"
            " karkas explore NAME --source DIR"
        )
    else:
        screen.table(
            ("zone", "level", "stage", "known", "critical", "why"),
            [
                (
                    state.zone.name,
                    state.level,
                    state.stage,
                    f"{state.zone.understanding}/5",
                    "yes" if state.zone.critical else "no",
                    _deciding(state),
                )
                for state in states.values()
            ],
        )


@app.command()
def show(name: NameArgument, *, json: JsonOption = False, project: ProjectOption = None) -> None:
    """Explain a zone: every reason for its level in order, its scope, its ground, and what would change it.

    \b
    Examples:
      karkas zone show lora
    """
    from karkas.cli import screen

    with open_project(project) as opened:
        state, ground = opened.zone(name), opened.store.zones.ground(name)
        changes = _changes(state, declared=opened.is_declared(name))
    if json:
        screen.as_json(
            as_json(state) | {"ground": ground.model_dump(mode="json", exclude={"name"}), "changes": changes}
        )
        return
    zone = state.zone
    screen.facts(
        [
            ("zone", f"{zone.name}: {zone.description}" if zone.description else zone.name),
            ("level", f"{state.level}: {MEANING[state.level]}"),
            ("why", [f"{number}. {reason}" for number, reason in enumerate(state.reasons, start=1)]),
            ("stage", f"{state.stage}{'' if state.may_act else ': nothing acts here before you framed it'}"),
            ("known", f"{zone.understanding} of 5 ({SKILL[zone.understanding]})"),
            ("critical", "yes" if zone.critical else "no"),
            ("approvers", f"{state.approvers} different people" if state.approvers > FEWEST else "1 person"),
            ("paths", state.scope.paths or "none"),
            ("tools", state.scope.tools or "none"),
            ("topics", state.scope.topics or "none"),
            ("trusted", zone.trusted or "none"),
            *_ground_facts(ground),
            ("to change", changes),
        ]
    )


@app.command("set")
def set_(
    name: NameArgument,
    *,
    reason: ReasonOption,
    level: Annotated[ControlLevel | None, typer.Option("--level", help="The level from now on.")] = None,
    approvers: Annotated[
        int | None,
        typer.Option(
            min=FEWEST, max=MOST, help="How many different people must pass an action or a frame from now on."
        ),
    ] = None,
    accept_scope: Annotated[
        bool,
        typer.Option(
            "--accept-scope", help="Take the scope as karkas.toml has it now, also where it shrank."
        ),
    ] = False,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Set a zone's level or approvers, or accept its shrunken scope; with your reason, on the record.

    This is the only way to loosen a zone. It asks nothing back: the command line counts as the hand of the
    user who runs it, and that user's name goes on the record.

    \b
    Examples:
      karkas zone set lora --level propose-only --reason "read the map"
      karkas zone set lora --accept-scope --reason "train/ moved to another zone"
      karkas zone set lora --approvers 2 --reason "it reaches production"
    """
    from karkas.cli import screen
    from karkas.project import person

    if level is None and approvers is None and not accept_scope:
        raise UsageError("say what to set: --level LEVEL, --approvers NUMBER, --accept-scope, or several")
    with open_project(project) as opened:
        before = opened.zone(name)
        if accept_scope and not opened.is_declared(name):
            raise UsageError(f"zone {name} is not declared in karkas.toml, so there is no scope to accept")
        if approvers is not None and opened.is_declared(name) and approvers < before.zone.approvers:
            raise UsageError(
                f"karkas.toml declares approvers = {before.zone.approvers} for {name}; lower it there first"
            )
        change = LevelChange(
            before=before.level, after=level or before.level, author=person(), by_person=True, reason=reason
        )
        opened.store.zones.set_level(
            name,
            change,
            declared=_declared(opened, before),
            scope=before.zone.scope if accept_scope else None,
            understanding=before.zone.understanding if opened.is_declared(name) else None,
            approvers=approvers,
        )
        after = opened.zone(name)
    if json:
        screen.as_json(as_json(after))
        return
    moved = f"{before.level} → {after.level}" if after.level is not before.level else f"stays {after.level}"
    screen.say(f"{name}: {moved}, on the record by {change.author}")
    if approvers is not None:
        screen.say(f"approvers: {before.approvers} → {after.approvers}")
    if accept_scope:
        screen.say("its scope is now what karkas.toml declares")


@app.command()
def drop(
    name: NameArgument, *, reason: ReasonOption, json: JsonOption = False, project: ProjectOption = None
) -> None:
    """Take a zone off the record after you removed it from karkas.toml. The audit log keeps its history.

    Until then a removed zone stays in force, so that nothing loosens by deleting a few lines.

    \b
    Examples:
      karkas zone drop lora --reason "the project ended"
    """
    from karkas.cli import screen
    from karkas.project import person

    with open_project(project) as opened:
        opened.zone(name)
        if opened.is_declared(name):
            raise UsageError(f"zone {name} is declared in karkas.toml; remove [zones.{name}] there first")
        opened.store.zones.drop(name, author=person(), reason=reason)
    if json:
        screen.as_json({"dropped": name})
    else:
        screen.say(f"{name} is off the record")


def _declared(project: "Project", state: ZoneState) -> ControlLevel:
    if project.is_declared(state.zone.name):
        return declared_level(state.zone)
    record = project.store.zones.get(state.zone.name)
    return record.declared_level if record else state.level


def _deciding(state: ZoneState) -> str:
    """The last reason that speaks of the level that holds."""
    return next((one for one in reversed(state.reasons) if str(state.level) in one), state.reasons[0])


def as_json(state: ZoneState) -> dict[str, Any]:
    zone = state.zone
    return {
        "name": zone.name,
        "description": zone.description,
        "level": state.level.value,
        "stage": state.stage.value,
        "may_act": state.may_act,
        "understanding": zone.understanding,
        "critical": zone.critical,
        "approvers": state.approvers,
        "scope": state.scope.model_dump(mode="json"),
        "trusted": list(zone.trusted),
        "reasons": list(state.reasons),
    }


def _ground_facts(ground: "ZoneGround") -> list[tuple[str, str]]:
    distillate, frame = "none", "none"
    if ground.distillate_id is not None:
        distillate = f"{ground.distillate_id} in {ground.distillate_path}"
    if ground.frame_artifact is not None and ground.framed_at is not None:
        frame = (
            f"{ground.frame_level} by {ground.frame_author} on {ground.framed_at:%Y-%m-%d},"
            f" `karkas artifact cat {ground.frame_artifact[:12]}`"
        )
        if ground.frame_is_stale:
            frame += "; stale: the distillate changed since"
    return [("distillate", distillate), ("frame", frame)]


def _changes(state: ZoneState, *, declared: bool) -> list[str]:
    """What would change the zone's level or stage, as commands where there is one."""
    name = state.zone.name
    looser = [level for level in ControlLevel if state.level.stricter_than(level)]
    changes = [f'karkas zone set {name} --level {level} --reason "..."   loosens it' for level in looser]
    if state.stage is Stage.UNCHARTED:
        changes.insert(0, f"karkas explore {name} --source DIR   lets agents map it for you")
    elif state.stage is not Stage.FRAMED:
        changes.insert(0, f"karkas frame {name}   makes its map yours, and sets its level")
    if declared:
        changes.append(
            "in karkas.toml: a lower understanding, critical = true or a stricter level tightens it at once;"
            f" an understanding of {ACTING_UNDERSTANDING} or more lets agents act without a frame"
        )
    else:
        changes.append(f'karkas zone drop {name} --reason "..."   takes it off the record')
    return changes
