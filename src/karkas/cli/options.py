"""What the commands share: their options, their kind of group, and opening the project."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from datetime import datetime

    from karkas.project import Project

ProjectOption = Annotated[
    Path | None,
    typer.Option(
        "--project",
        metavar="DIR",
        envvar="KARKAS_PROJECT",
        help="The project's folder or one inside it (default: found upwards from here).",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="Queue it for a worker (karkas night, karkas work), and return.")
]
AtOption = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="WHEN", help="As --detach, but not before then: 23:00, 2h, 2026-11-23T01:00."
    ),
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it goes on the record.")]


def room(help_text: str | None = None) -> typer.Typer:
    """The `app` of a module of commands. With `help_text` it is a group, without it one single command."""
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=help_text is not None,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    if help_text is not None:
        app.callback(cls=_Group, help=help_text)(_group)
    return app


def group() -> typer.Typer:
    """The `app` of a group whose own callback says what it does without a command."""
    return typer.Typer(
        cls=_Group,
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


class _Group(TyperGroup):
    """Lists each command with the whole first sentence of its help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.get_short_help_str(limit=500)) for name, command in self.commands.items()]
            )


def _group() -> None:
    pass


def open_project(folder: Path | None) -> "Project":
    """Opens the project at or above `folder`; its log takes what is logged from now on."""
    with uncollected():
        from karkas.logs import log_to
        from karkas.project import FOLDER, Project, find_root

        root = find_root(folder)
        if (root / FOLDER).is_dir():
            log_to(root / FOLDER)
        return Project.open(root)


@contextmanager
def uncollected() -> Iterator[None]:
    """For imports: what they make stays, and walking it while it grows is a tenth of the time until anything shows."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def due_at(project: "Project", *, detach: bool, at: str | None) -> "datetime | None":
    """From when on a worker takes up what is begun now; None where it is done here."""
    from karkas.cli import times

    now = project.store.clock()
    if at is not None:
        return times.future(at, now=now.astimezone())
    return now if detach else None
