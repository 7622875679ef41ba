"""`karkas serve`: starts, watches and stops the model servers of this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from karkas.cli.options import JsonOption, ProjectOption, open_project, room

if TYPE_CHECKING:
    from pathlib import Path

    from karkas.server.config import ModelSettings
    from karkas.server.process import Launch

app = room()


@app.command()
def serve(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Which: `default` is the one of [model.serve], the others are named as in [models.NAME.serve]."
            " All of them where none is named.",
        ),
    ] = None,
    *,
    detach: Annotated[
        bool, typer.Option("--detach", help="Go on in the background once they answer, and return.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Show what runs; exits 1 unless all answer.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Stop what runs, in the background or elsewhere.")
    ] = False,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Start the vLLM servers that karkas.toml describes, and keep them running until Ctrl-C.

    A server is ready when it has answered its first token. One that dies or hangs is started again, with growing pauses
    and not for ever. One that runs at the same address already is used, and left running at the end. Each logs to
    .karkas/logs/serve-NAME.log. Ctrl-C stops them in order; pressed twice, at once.

    \b
    In karkas.toml:
      [model.serve]
      path = "models/qwen3-14b"     its folder, or ORG/NAME on a hub

    \b
    Examples:
      karkas serve                  in this terminal
      karkas serve --detach         in the background; returns when they answer
      karkas serve --status
      karkas serve --stop
    """
    from karkas.cli import overseeing, serving
    from karkas.policies.errors import UsageError
    from karkas.server.process import Watchbook

    if detach + status + stop > 1:
        raise UsageError("--detach, --status and --stop exclude each other")
    with open_project(project) as opened:
        root, folder = opened.root, opened.folder
        models = {"default": opened.settings.model, **opened.settings.models}
    book = Watchbook(folder)
    if stop:
        overseeing.stop(book, _known(names, sorted({*book.names(), *_served(models)})), json=json)
        return
    chosen = _known(names, _served(models), described=models)
    if status:
        overseeing.status(book, [(name, models[name]) for name in chosen], json=json)
        return
    launches = _launches(chosen, models, root)
    if detach:
        serving.detach(book, launches, root, json=json)
    else:
        serving.foreground(book, launches, json=json)


def _served(models: "dict[str, ModelSettings]") -> list[str]:
    return [name for name, model in models.items() if model.serve is not None]


def _known(
    names: list[str] | None, known: list[str], *, described: "dict[str, ModelSettings] | None" = None
) -> list[str]:
    """The names asked for, or all; one that is described without saying how it is served passes, to be told so."""
    from difflib import get_close_matches

    from karkas.policies.errors import NotFoundError

    if not names:
        return known or ["default"]
    for name in names:
        if name not in known and name not in (described or {}):
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            mend = f"did you mean {near[0]}?" if near else f"there is: {', '.join(known) or 'none yet'}"
            raise NotFoundError(f"no model {name} is served here; {mend}")
    return list(dict.fromkeys(names))


def _launches(names: list[str], models: "dict[str, ModelSettings]", root: "Path") -> "list[Launch]":
    from karkas.policies.errors import SettingsError
    from karkas.server.process import Launch

    launches = [Launch.of(name, models[name], root=root) for name in names]
    addresses: dict[str, str] = {}
    for launch in launches:
        other = addresses.setdefault(launch.base_url, launch.name)
        if other != launch.name:
            raise SettingsError(
                f"{other} and {launch.name} are both served at {launch.base_url}; give one of them another port"
            )
    return launches
