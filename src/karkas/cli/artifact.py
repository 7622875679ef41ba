"""`karkas artifact`: prints what is stored by its hash."""

import sys
from typing import Annotated

import typer

from karkas.cli.options import ProjectOption, open_project, room

app = room("Print a stored text or file by its hash, as distillates and gates name it.")


@app.command()
def cat(
    digest: Annotated[str, typer.Argument(metavar="HASH", help="SHA-256, or its first six digits or more.")],
    *,
    project: ProjectOption = None,
) -> None:
    """Write an artifact to stdout, byte for byte, after checking that it still has its hash.

    On a terminal, text is shown with invisible characters visible, and binary data is not shown.

    \b
    Examples:
      karkas artifact cat 3f9ac2
      karkas artifact cat 3f9ac2 > source.txt
    """
    from karkas.cli import screen
    from karkas.policies.errors import UsageError

    with open_project(project) as opened:
        data = opened.store.artifacts.get(opened.store.artifacts.find(digest.lower()))
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        screen.say(data.decode())
    except UnicodeDecodeError as error:
        raise UsageError(
            f"artifact {digest} is no text; write it to a file: karkas artifact cat {digest} > FILE"
        ) from error
