"""`karkas act`: a task in a framed zone, through critic, gate and permit."""

import json as json_module
from typing import Annotated, Any

import typer

from karkas.cli.options import AtOption, DetachOption, JsonOption, ProjectOption, due_at, open_project, room
from karkas.policies.errors import UsageError

app = room()


@app.command()
def act(
    zone: Annotated[
        str, typer.Argument(metavar="ZONE", help="A zone that is framed, or that you know well.")
    ],
    task: Annotated[str, typer.Argument(metavar="TASK", help="What is to be done, in your words.")],
    *,
    tool: Annotated[
        str | None, typer.Option(help="Name the tool yourself instead of letting agents propose.")
    ] = None,
    args: Annotated[
        str | None, typer.Option(metavar="JSON", help="The tool's arguments; `@FILE` reads them from a file.")
    ] = None,
    detach: DetachOption = False,
    at: AtOption = None,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Let agents propose an action for a task, and perform it once its gate has passed.

    The task is routed to every zone that it touches (the one you name, its topics, paths and tools); the strictest
    level wins. Usually it parks at a gate and exits with 3: `karkas queue show GATE` has all that you need to decide.
    Without a language model the executor can only propose to publish a framed zone's report and map; any other call
    you name yourself with --tool and --args, and it passes the same gate.

    \b
    Examples:
      karkas act lora "publish the report to docs/lora.md"
      karkas act lora "note the decision" --tool write_file \\
          --args '{"path": "notes/lora.md", "content": "r = 16"}'
      karkas act lora "run the tests" --tool run_command \\
          --args '{"argv": ["pytest", "-q"]}'
    """
    from karkas.cli import ending
    from karkas.project import person
    from karkas.runner import begin

    with open_project(project) as opened:
        opened.zone(zone)
        given: dict[str, Any] = {"zone": zone, "task": task}
        if tool is not None:
            opened.tools()[tool].action(**_arguments(args))
            given |= {"tool": tool, "args": _arguments(args), "by": person()}
        elif args is not None:
            raise UsageError("--args needs --tool: which tool are they for?")
        due = due_at(opened, detach=detach, at=at)
        run = begin(opened, "act", given, zone=zone, due_at=due)
        if due is not None:
            ending.tell_queued(opened, run, json=json)
            return
        ending.tell(opened, ending.drive(opened, run, quiet=json), json=json)


def _arguments(text: str | None) -> dict[str, Any]:
    from pathlib import Path

    if text is None:
        return {}
    try:
        found = json_module.loads(Path(text[1:]).read_text("utf-8") if text.startswith("@") else text)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--args cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise UsageError('--args must be a JSON object, for example \'{"path": "a.md", "content": "..."}\'')
    return found
