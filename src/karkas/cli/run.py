"""`karkas run`: a workflow out of a user's own Python file."""

from typing import Annotated

import typer

from karkas.cli.options import AtOption, DetachOption, JsonOption, ProjectOption, due_at, open_project, room

app = room()


@app.command()
def run(
    workflow: Annotated[
        str, typer.Argument(metavar="FILE.py:NAME", help="The file, and the workflow in it.")
    ],
    *,
    input_: Annotated[
        str, typer.Option("--input", "-i", metavar="JSON", help="The workflow's input, a JSON object.")
    ] = "{}",
    detach: DetachOption = False,
    at: AtOption = None,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Run a workflow of your own: a LangGraph state machine with karkas's gates in it.

    The file runs as your own code, with your rights. A graph in which a path reaches an executor around its gate is
    refused, naming the path. docs/workflows.md teaches how to write one.

    \b
    Examples:
      karkas run flows.py:publish --input '{"topic": "adapters"}'
      karkas run flows.py:publish --detach
    """
    from karkas.cli import ending
    from karkas.runner import begin, input_of

    with open_project(project) as opened:
        due = due_at(opened, detach=detach, at=at)
        begun = begin(opened, workflow, input_of(input_), due_at=due)
        if due is not None:
            ending.tell_queued(opened, begun, json=json)
            return
        ending.tell(opened, ending.drive(opened, begun, quiet=json), json=json)
