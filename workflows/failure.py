"""What a user's code raised, in the words that help to mend it: the node, the line, the error."""

import errno
import re
import sqlite3
import traceback
from pathlib import Path

from karkas.policies.errors import AuditError, StorageError

PREFIX = "karkas_user_"
"""What the module of a user's file is called, before its own name."""

IN_NODE = re.compile(r"During task with name '([^']+)'")
"""LangGraph's note on what a node raised."""


def told(error: BaseException) -> str:
    """The error, after the last line of a user's file that it went through."""
    lines = [
        f"{Path(frame.f_code.co_filename).name}, line {number}: "
        for frame, number in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).startswith(PREFIX)
    ]
    return f"{''.join(lines[-1:])}{type(error).__name__}: {error}"


def of_run(error: BaseException) -> str:
    """The error that ended a run, with the node that raised it as the user named it."""
    notes = [IN_NODE.match(note) for note in getattr(error, "__notes__", ())]
    nodes = [found[1].partition(".")[0] for found in notes if found]
    return f"node {nodes[0]}: {told(error)}" if nodes else told(error)


def of_storage(error: BaseException) -> bool:
    """Whether it is the store that failed, and not the run: a full disk, a lost database, a checkpoint not written.
    What the store refuses for what it is, such as a value that is too long, it would refuse for ever.
    """
    cause = error.__cause__ if isinstance(error, StorageError) else error
    if "DataError" in {one.__name__ for one in type(cause).__mro__}:
        return False
    if isinstance(error, StorageError | sqlite3.Error):
        return not isinstance(error, AuditError)
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
    return type(error).__module__.partition(".")[0] == "psycopg"
