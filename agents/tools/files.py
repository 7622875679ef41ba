"""write_file and edit_file: text files, changed as the diff that was shown says, and back again."""

import base64
import difflib
from typing import Annotated, cast

from pydantic import Field, JsonValue

from karkas.agents.tools import paths, workspace
from karkas.agents.tools.paths import WorkspacePath
from karkas.agents.tools.tool import Done, tool
from karkas.agents.tools.workspace import ABSENT, Workspace, state_of
from karkas.policies.actions import Digest, Effect
from karkas.policies.errors import ToolError

MAX_CHARS = 2_000_000
DIFF_LINES = 6_000
"""Beyond as many lines the diff is one block of all old and all new ones: difflib takes quadratic time."""

Content = Annotated[str, Field(max_length=MAX_CHARS)]


def unified(path: str, before: str | None, after: str) -> str:
    """A whole unified diff of two texts, with nothing cut. `Tool.show` renders it."""
    if before == after:
        return f"{path} has exactly this content already; nothing would change"
    old, new = _lines(before), _lines(after)
    head = [f"--- {path if before is not None else '/dev/null'}", f"+++ {path}"]
    if max(len(old), len(new)) <= DIFF_LINES:
        hunks = list(difflib.unified_diff(old, new, lineterm=""))[2:]
    else:
        hunks = _one_block(old, new)
    if before is not None and not before:
        head.append("(the file was empty)")
    if not after:
        hunks.append("(the file becomes empty)")
    return "\n".join([*head, *hunks])


def _one_block(old: list[str], new: list[str]) -> list[str]:
    """What differs between the common beginning and the common end, all old lines first."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    gone, come = old[start : len(old) - end], new[start : len(new) - end]
    mark = f"@@ -{start + bool(gone)},{len(gone)} +{start + bool(come)},{len(come)} @@"
    return [mark, *(f"-{line}" for line in gone), *(f"+{line}" for line in come)]


def _lines(text: str | None) -> list[str]:
    """Lines; one without its newline at the end of the file says so, and therefore differs."""
    if not text:
        return []
    *lines, rest = text.split("\n")
    return [*lines, f"{rest}\n\\ no newline at end of file"] if rest else lines


def _header(name: str, path: str, before: str | None, space: Workspace) -> str:
    if before is None:
        return f"{name} (reversible): makes {path}"
    mode = space.mode(path)
    note = f", mode {mode:04o} is kept" if mode is not None and mode & 0o111 else ""
    return f"{name} (reversible): changes {path}{note}"


def _preview_write(path: str, content: str, workspace: Workspace) -> str:
    before = workspace.text(path)
    return f"{_header('write_file', path, before, workspace)}\n{unified(path, before, content)}"


def _preview_edit(path: str, old: str, new: str, workspace: Workspace) -> str:
    before, after = _edited(path, old, new, workspace)
    return f"{_header('edit_file', path, before, workspace)}\n{unified(path, before, after)}"


def _file_state(path: str, workspace: Workspace) -> dict[str, str]:
    return {path: workspace.state(path)}


def _restore(record: dict[str, JsonValue], workspace: Workspace) -> str:
    """Puts back what was there, if the file still has the content that the tool wrote."""
    path, before, after = (str(record[key]) for key in ("path", "before", "after"))
    if workspace.state(path) != after:
        raise ToolError(f"{path} changed since; it was left as it is. Its earlier state was {before}")
    if before == ABSENT:
        workspace.remove(path, expected=after, folders=tuple(cast("list[str]", record["made"])))
        return f"removed {path}"
    kept = record.get("content")
    if kept is not None:
        data = base64.b64decode(str(kept))
    elif workspace.artifacts is not None:
        data = workspace.artifacts.get(Digest(before.removeprefix("sha256:")))
    else:
        raise ToolError(
            f"the earlier content of {path} ({before}) is in the project's artifacts; open the project"
        )
    if state_of(data) != before:
        raise ToolError(f"the backup of {path} is damaged; the file was left as it is")
    workspace.write(path, data, expected=after)
    return f"restored {path}"


_CODE = (paths, workspace)


@tool(Effect.REVERSIBLE, preview=_preview_write, preconditions=_file_state, undo=_restore, code=_CODE)
def write_file(
    path: WorkspacePath, content: Content, workspace: Workspace, preconditions: dict[str, str]
) -> Done:
    """Writes a UTF-8 text file in the workspace: makes it, with its folders, or replaces all of it."""
    return _write(path, content, workspace, preconditions[path])


@tool(Effect.REVERSIBLE, preview=_preview_edit, preconditions=_file_state, undo=_restore, code=_CODE)
def edit_file(
    path: WorkspacePath,
    old: Annotated[str, Field(min_length=1, max_length=MAX_CHARS)],
    new: Content,
    workspace: Workspace,
    preconditions: dict[str, str],
) -> Done:
    """Replaces `old`, which must occur exactly once in the file, by `new`."""
    _, after = _edited(path, old, new, workspace)
    return _write(path, after, workspace, preconditions[path])


def _edited(path: str, old: str, new: str, workspace: Workspace) -> tuple[str, str]:
    before = workspace.text(path)
    if before is None:
        raise ToolError(f"there is no {path} to edit; `write_file` makes one")
    count = before.count(old)
    if count != 1:
        hint = " (its lines end in CR LF)" if not count and "\n" in old and "\r\n" in before else ""
        raise ToolError(
            f"`old` occurs {count} times in {path}{hint}; give a passage that occurs exactly once"
        )
    return before, before.replace(old, new)


def _write(path: str, content: str, workspace: Workspace, expected: str) -> Done:
    data = content.encode()
    after = state_of(data)
    if after == expected:
        return Done({"path": path, "changed": False, "sha256": after}, f"{path} had this content already")
    written = workspace.write(path, data, expected=expected)
    undo: dict[str, JsonValue] = {
        "path": path,
        "before": expected,
        "after": after,
        "made": list(written.made),
    }
    if written.before is not None and workspace.artifacts is None:
        undo["content"] = base64.b64encode(written.before).decode()
    result: dict[str, JsonValue] = {"path": path, "changed": True, "bytes": len(data), "sha256": after}
    return Done(result, f"wrote {path} ({len(data):,} bytes)", undo)
