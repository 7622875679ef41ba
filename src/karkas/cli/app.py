"""The top of the command line: which commands there are, and how every one of them ends.

Only the module of the command that runs is imported, so that `karkas --help` and completion answer at once.
"""

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from karkas.cli import exits, failures
from karkas.cli.lasting import open_standard_streams


class Room(NamedTuple):
    """A module with an `app: typer.Typer` that is the command or the group of that name."""

    module: str
    help: str


SECTIONS: dict[str, dict[str, Room]] = {
    "Set up": {
        "init": Room("karkas.cli.init", "Make a project: karkas.toml and .karkas/."),
        "doctor": Room("karkas.cli.doctor", "Check what is present, and say how to mend what is not."),
    },
    "Zones": {
        "zone": Room("karkas.cli.zone", "List, explain and change zones: what agents may do where."),
        "explore": Room(
            "karkas.cli.explore", "Let agents map a zone: claims with their spans, conflicts, gaps."
        ),
        "distillate": Room("karkas.cli.distillate", "Read a distillate, or prove that every span holds."),
        "frame": Room("karkas.cli.frame", "Draw the three-level map of a zone, and set its level."),
    },
    "Work": {
        "act": Room(
            "karkas.cli.act", "Let agents propose an action, and perform it once its gate has passed."
        ),
        "run": Room("karkas.cli.run", "Run a workflow of your own, from a Python file."),
        "check": Room(
            "karkas.cli.check",
            "Check that your workflows and tools keep to the gates, in a throw-away project.",
        ),
        "runs": Room("karkas.cli.runs", "List, watch, show, resume and stop runs."),
        "queue": Room("karkas.cli.queue", "See what waits for you at gates, and decide it."),
        "night": Room("karkas.cli.night", "Work off what is queued until morning, unattended."),
        "work": Room("karkas.cli.work", "Take up queued runs for good; one of many workers."),
        "grant": Room(
            "karkas.cli.grant", "Let a narrow class of actions happen without asking you each time."
        ),
    },
    "Morning": {
        "report": Room("karkas.cli.report", "Tell what agents did meanwhile, and what to decide first."),
    },
    "Models": {
        "serve": Room("karkas.cli.serve", "Start the model servers of this machine, and keep them running."),
    },
    "Record": {
        "audit": Room("karkas.cli.audit", "Read the audit log, or prove that nobody changed it."),
        "artifact": Room("karkas.cli.artifact", "Print a stored text or file by its hash."),
    },
}
ROOMS = {name: room for section in SECTIONS.values() for name, room in section.items()}


class Front(TyperGroup):
    """Shows every command by its line in `SECTIONS`, imports the one that is called, tells how it ended."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, room in ROOMS.items():
            self.add_command(TyperCommand(name, help=room.help, rich_markup_mode=None), name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if name in ROOMS:
            app = import_module(ROOMS[name].module).app
            command = typer.main.get_command(app)
            command.name = name
        return name, command, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        for section, rooms in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, room.help) for name, room in rooms.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - typer's signature
        windows_expand_args: bool = True,  # noqa: FBT001, FBT002
        **extra: Any,
    ) -> Any:
        args = list(sys.argv[1:] if args is None else args)
        extra |= {"complete_var": complete_var, "windows_expand_args": windows_expand_args}
        code = self._run(args, prog_name=prog_name, **extra)
        if standalone_mode:
            sys.exit(code)
        return code

    def _run(self, args: list[str], **options: Any) -> int:
        try:
            try:
                code = super().main(args, standalone_mode=False, **options)
                sys.stdout.flush()
            except BrokenPipeError:
                _settle_stdout()
                return exits.FAILED
            except typer.Abort:
                return exits.INTERRUPTED
            except Exception as error:  # noqa: BLE001 - whatever it is, the user gets a line and an exit code
                _settle_stdout()
                failures.fail(error, as_json="--json" in args)
        except typer.Exit as end:
            return end.exit_code
        return code if isinstance(code, int) else exits.DONE

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            raise typer.Exit(exits.INTERRUPTED) from None


def _settle_stdout() -> None:
    """Lets go of output that nobody takes (a closed pipe, a full disk); Python would complain at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    name="karkas",
    cls=Front,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it by position
    if asked:
        from importlib.metadata import version

        typer.echo(f"karkas {version('karkas')}")
        raise typer.Exit


def _log_to_terminal(asked: bool) -> None:  # noqa: FBT001
    if asked:
        from karkas.logs import log_to_terminal

        log_to_terminal()


@app.callback(
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 parked at gates or without its model, 4 stopped by a budget"
    " or deadline, 130 interrupted. KARKAS_DEBUG=1 shows tracebacks."
)
def karkas(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", callback=_log_to_terminal, help="Show the log on stderr as it is written."
        ),
    ] = False,
) -> None:
    """First the frame, then the agent: agents that explore what you do not know, and act only through gates.

    \b
    Examples:
      karkas init                     make a project in this folder
      karkas doctor                   see whether all is well
      karkas explore retries --source pkg:tenacity
                                      let agents map what you do not know
      karkas frame retries            draw the frame; then agents may act
      karkas act retries "publish the report to docs/retries.md"
      karkas queue list               what waits for you
    """


def main() -> None:
    """The entry point of the `karkas` command."""
    open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets its escape, not a crash.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    typer.main.get_command(app).main(prog_name="karkas")
