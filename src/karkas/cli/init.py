"""`karkas init`: makes a project."""

from pathlib import Path
from typing import Annotated

import typer

from karkas.cli.options import JsonOption, room

app = room()


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where; made if it is not there.")] = Path(),
    *,
    force: Annotated[bool, typer.Option("--force", help="Also inside another project.")] = False,
    json: JsonOption = False,
) -> None:
    """Make a project: a commented karkas.toml, and .karkas/ for its record and signing key.

    What is there already stays as it is, so it is safe to repeat, and it completes a fresh clone.

    \b
    Examples:
      karkas init                     in this folder
      karkas init ~/work/adapters     somewhere else
    """
    from karkas import settings
    from karkas.cli import screen
    from karkas.project import FOLDER, Project

    parts = (folder / settings.FILE, folder / FOLDER)
    before = [part.exists() for part in parts]
    with Project.init(folder, force=force) as project:
        made = [part.name for part, was in zip(parts, before, strict=True) if not was]
        if json:
            screen.as_json({"project": str(project.root), "made": made})
            return
    screen.say(f"karkas project in {project.root}")
    for part, was in zip(parts, before, strict=True):
        what = (
            "zones, model, budgets" if part.name == settings.FILE else "record and signing key, not for git"
        )
        screen.say(f"  {part.name:<12} {'was there, unchanged' if was else f'made: {what}'}")
    screen.say(
        "\nNext:\n"
        "  1. say in karkas.toml which zones your work touches and how well you know them\n"
        "  2. karkas doctor                        see whether all is well\n"
        "  3. karkas explore ZONE --source DIR     let agents explore what you do not know"
    )
