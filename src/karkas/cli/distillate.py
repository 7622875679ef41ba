"""`karkas distillate`: reads a distillate, and proves its spans."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from karkas.cli import exits
from karkas.cli.options import JsonOption, ProjectOption, open_project, room

if TYPE_CHECKING:
    from karkas.policies.distillates import Distillate

app = room("Read a distillate, or prove that every span holds.")

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A ZONE.distillate.yaml.")]


@app.command()
def verify(file: FileArgument, *, json: JsonOption = False, project: ProjectOption = None) -> None:
    """Prove every claim's span against the stored text, or name each break; exits with 1 where one is broken.

    \b
    Examples:
      karkas distillate verify zones/lora.distillate.yaml
    """
    from karkas.agents.distillate import verify as find_breaks
    from karkas.cli import screen
    from karkas.workflows.mapping import text_of

    found = _load(file)
    with open_project(project) as opened:
        breaks = find_breaks(found, text_of(opened.store))
    spans = sum(len(claim.evidence) for claim in found.claims)
    if json:
        screen.as_json({"id": found.id, "claims": len(found.claims), "spans": spans, "breaks": breaks})
    elif not breaks:
        screen.say(f"{found.id}: all {spans} spans of {len(found.claims)} claims stand where they say")
    else:
        for one in breaks:
            screen.say(one)
        screen.say(f"{found.id}: {len(breaks)} breaks in {len(found.claims)} claims")
    if breaks:
        raise typer.Exit(exits.FAILED)


@app.command()
def show(file: FileArgument, *, json: JsonOption = False) -> None:
    """Print a distillate for reading, as Markdown; or as JSON for programs.

    \b
    Examples:
      karkas distillate show zones/lora.distillate.yaml | less
      karkas distillate show zones/lora.distillate.yaml --json | jq '.conflicts'
    """
    from karkas.agents.distillate import to_markdown
    from karkas.cli import screen

    found = _load(file)
    if json:
        screen.as_json(found.model_dump(mode="json", by_alias=True))
    else:
        screen.say(to_markdown(found))


def _load(file: Path) -> "Distillate":
    from karkas.agents.distillate import load
    from karkas.policies.errors import UsageError

    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    return load(data)
