"""`karkas work`: a worker that stays, one of many on this and other hosts."""

from typing import Annotated

import typer

from karkas.cli.options import JsonOption, ProjectOption, open_project, room
from karkas.policies.errors import UsageError

app = room()


@app.command()
def work(
    *,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=1000, metavar="N", help="Runs at once, instead of [work].")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="PORT", help="Answer GET /metrics there, for Prometheus."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the workers of this project, and end.")] = False,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Take up queued runs for good, until Ctrl-C or SIGTERM; several workers share the work.

    On one machine nothing else is needed. With a PostgreSQL [storage] url in karkas.toml any number of hosts work on
    one project: docs/scale.md. A worker that dies is noticed, and its runs go on elsewhere. Ctrl-C queues what is at
    work here again, for the others or for the next start.

    \b
    Examples:
      karkas work --concurrency 8
      karkas work --list
    """
    from karkas.cli import working

    if list_ and (concurrency, metrics_port) != (None, None):
        raise UsageError("--list starts no worker, so it takes no --concurrency and no --metrics-port")
    with open_project(project) as opened:
        if list_:
            working.list_workers(opened, json=json)
        else:
            working.work(opened, places=concurrency, metrics_port=metrics_port, json=json)
