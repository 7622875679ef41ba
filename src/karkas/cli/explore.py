"""`karkas explore`: agents map a zone that its owner does not know yet."""

from typing import TYPE_CHECKING, Annotated

import typer

from karkas.cli.options import AtOption, DetachOption, JsonOption, ProjectOption, due_at, open_project, room
from karkas.policies.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from karkas.policies.budgets import Budget
    from karkas.project import Project
    from karkas.storage import Run

app = room()


@app.command()
def explore(
    zone: Annotated[
        str, typer.Argument(metavar="ZONE", help="The zone; one that nobody declared is declared.")
    ],
    *,
    source: Annotated[
        list[str],
        typer.Option(
            "--source",
            "-s",
            metavar="SRC",
            help="A file, a folder, pkg:NAME, git:PATH@REV or a URL on an allowed host. Give it as often as needed.",
        ),
    ],
    until: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="End then with what there is: 07:00, 2h, 2026-11-23T07:00."),
    ] = None,
    max_sources: Annotated[int | None, typer.Option(min=1, help="Read at most so many sources.")] = None,
    max_cycles: Annotated[int | None, typer.Option(min=1, help="Run at most so many cycles.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.01, help="End after so long with what there is.")
    ] = None,
    detach: DetachOption = False,
    at: AtOption = None,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Map a zone: collect sources, distil claims with their spans, find conflicts and gaps; then you frame it.

    Exploring is always safe: it changes nothing but the zone's own files, zones/ZONE.distillate.yaml and .md. It
    works in cycles, each led by the open questions of the one before, until nothing new comes, the sources or the
    budget end, or it is late. Then it parks at the gate at which you frame the zone, and exits with 3 (with 4 where
    a budget or --until ended it).

    \b
    Examples:
      karkas explore retries --source pkg:tenacity --source pkg:httpx
      karkas explore lora -s ~/docs/peft -s git:../axolotl@main --until 07:00
      karkas explore lora -s ~/docs/peft --at 23:00
    """
    from karkas.cli import ending
    from karkas.runner import begin

    with open_project(project) as opened:
        zone_sources = [_checked(opened, one) for one in source]
        due, deadline = due_at(opened, detach=detach, at=at), _deadline(opened, until)
        budget = _budget(
            opened,
            deadline=deadline,
            max_sources=max_sources,
            max_cycles=max_cycles,
            max_minutes=max_minutes,
        )
        opened.declare_uncharted(zone)
        run = begin(
            opened,
            "explore",
            {"zone": zone, "sources": list(zone_sources)},
            zone=zone,
            budget=budget,
            deadline=deadline,
            due_at=due,
        )
        if due is not None:
            ending.tell_queued(opened, run, json=json)
            return
        tell(opened, ending.drive(opened, run, quiet=json), json=json)


def tell(project: "Project", run: "Run", *, json: bool) -> None:
    """Says what an exploration found, how it stands and what to do next, then exits with its code."""
    from karkas.cli import ending

    mapped = ending.values(run).get("distillate")
    if mapped and not json:
        _tell_map(project, str(run.zone), mapped)
    ending.tell(project, run, json=json, told_engine=bool(mapped))


def _checked(project: "Project", spec: str) -> str:
    """The spec with a path made absolute, after a look whether there is anything to read."""
    from pathlib import Path

    from karkas.agents.sources import discover
    from karkas.runner import limits

    scheme = spec.split(":", 1)[0] if ":" in spec else ""
    if scheme not in {"pkg", "git", "http", "https"}:
        spec = str(Path(spec).expanduser().absolute())
    if next(iter(discover(spec, root=project.root, limits=limits(project.settings))), None) is None:
        raise UsageError(f"{spec} holds nothing to read; name a folder or file with documents, or pkg:NAME")
    return spec


def _deadline(project: "Project", until: str | None) -> "datetime | None":
    from karkas.cli import times

    return None if until is None else times.future(until, now=project.store.clock().astimezone())


def _budget(
    project: "Project",
    *,
    deadline: "datetime | None",
    max_sources: int | None,
    max_cycles: int | None,
    max_minutes: float | None,
) -> "Budget":
    """The project's budget, with what the command line says instead. A deadline takes the place of the default time."""
    from karkas.policies.budgets import Budget

    budgets = project.settings.budgets
    configured = budgets.run.model_dump()
    if deadline is not None and "wall_s" not in budgets.model_fields_set:
        configured["wall_s"] = None

    given = {
        "sources": max_sources,
        "cycles": max_cycles,
        "wall_s": None if max_minutes is None else max_minutes * 60,
    }
    return Budget.model_validate(
        configured | {name: value for name, value in given.items() if value is not None}
    )


def _tell_map(project: "Project", zone: str, artifact: str) -> None:
    """What was found, in one glance."""
    from karkas.agents.distillate import load
    from karkas.cli import screen
    from karkas.policies.actions import Digest

    found = load(project.store.artifacts.text(Digest(artifact)))
    used = sum(source.status.value == "used" for source in found.sources)
    counts = (
        (len(found.conflicts), "conflict candidate" if found.engine.kind == "extractive" else "conflict"),
        (len(found.weak_spots), "weak spot"),
        (len(found.open_questions), "open question"),
    )
    gaps = ", ".join(screen.counted(number, noun) for number, noun in counts)
    by = f": {found.run.stopped_by}," if found.run.stopped_by else ""
    cycles = screen.counted(found.run.cycles, "cycle")
    ended = f"{found.run.stop_reason.replace('_', ' ')}{by} after {cycles}"
    claims = screen.counted(len(found.claims), "claim")
    screen.say(f"{zone}: {claims} out of {screen.counted(used, 'source')}, {gaps} ({ended})")
    if dropped := found.honesty.dropped_claims:
        screen.say(f"{screen.counted(dropped, 'drafted claim')} dropped: what was quoted stands in no source")
    if used and not found.claims:
        others = "other sources" if found.engine.kind == "extractive" else "other sources, or another model"
        screen.say(f"nothing was found that a source proves, so there is nothing to frame; name {others}")
    unread = [one for one in found.sources if one.status.value in {"skipped", "unreadable"}]
    if used == 0 and unread:
        first = next(iter(unread[0].locator.values()), unread[0].id)
        screen.say(f"nothing could be read; name other sources. The first: {first}: {unread[0].reason}")
    honest = "; no language model, every claim is copied" if found.engine.kind == "extractive" else ""
    screen.say(f"engine: {found.engine}{honest}")
    screen.say(f"read zones/{zone}.distillate.md (the data: zones/{zone}.distillate.yaml)")
