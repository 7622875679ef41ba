"""Failures on the screen: one plain line that says what to do, or JSON; a traceback only on request."""

import json
import os
import re
import sys
import traceback
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from karkas.cli import exits
from karkas.policies.errors import KarkasError
from karkas.policies.rendering import visible_once


def fail(error: Exception, *, as_json: bool) -> NoReturn:
    """Tells `error` on stderr and exits with its code."""
    if os.environ.get("KARKAS_DEBUG"):
        traceback.print_exception(error)
    match error:
        case KarkasError():
            _tell(_kind(error), str(error), as_json=as_json)
            raise typer.Exit(error.exit_code)
        case TyperException():
            _tell_usage(error, as_json=as_json)
            raise typer.Exit(error.exit_code)
        case OSError(strerror=str(reason)):
            where = f"{error.filename}: " if error.filename else ""
            _tell("system", f"{where}{reason}; nothing that was on the record is lost", as_json=as_json)
            _log(error)
            raise typer.Exit(exits.FAILED)
        case _:
            told = " ".join(str(error).split())
            bug = "this is a bug in karkas: report it with what KARKAS_DEBUG=1 shows"
            _tell("bug", f"{type(error).__name__}: {told or 'no message'}; {bug}", as_json=as_json)
            _log(error)
            raise typer.Exit(exits.FAILED)


def _tell(kind: str, message: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": {"kind": kind, "message": message}}), file=sys.stderr)
        return
    for line in visible_once(message).split("\n"):
        print(f"error: {line}", file=sys.stderr)


def _tell_usage(error: TyperException, *, as_json: bool) -> None:
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".")
    if context is not None and context.get_help() == error.message:
        print(error.message, file=sys.stderr)
        return
    _tell("usage", message, as_json=as_json)
    if context is not None and not as_json:
        print(f"{context.get_usage()}\nMore: {context.command_path} --help", file=sys.stderr)


def _kind(error: KarkasError) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__.removesuffix("Error")).lower()


def _log(error: Exception) -> None:
    import structlog

    if structlog.is_configured():
        structlog.get_logger("karkas.cli").error("command_crashed", exc_info=error)
