"""Editing in the person's own editor."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from karkas.policies.errors import UsageError

if TYPE_CHECKING:
    from karkas.policies.actions import Action
    from karkas.project import Project
    from karkas.storage import Gate


def in_editor(text: str, *, suffix: str) -> str:
    """The text as the person leaves it. A failing editor, or none at all, is a `UsageError`; nothing is lost."""
    editor = (
        os.environ.get("VISUAL", "").strip() or os.environ.get("EDITOR", "").strip() or installed_editor()
    )
    if not editor:
        raise UsageError(
            "there is no $EDITOR; set one, for example EDITOR=nano, or give the file with --from FILE"
        )
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to edit on; give the file with --from FILE")
    with tempfile.NamedTemporaryFile(
        "w", suffix=suffix, prefix="karkas-", delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
    path = Path(file.name)
    try:
        ended = subprocess.run([*shlex.split(editor), str(path)], check=False).returncode  # noqa: S603
    except OSError as error:
        raise UsageError(f"the editor {editor!r} could not be started: {error.strerror}") from error
    if ended != 0:
        raise UsageError(f"the editor ended with {ended}, so nothing was taken; your text is in {path}")
    edited = path.read_text("utf-8")
    path.unlink()
    return edited


def installed_editor() -> str | None:
    """What opens where neither $VISUAL nor $EDITOR says."""
    return next((name for name in ("sensible-editor", "nano", "vim", "vi") if shutil.which(name)), None)


def edited_action(
    project: "Project", gate: "Gate", variant: int, file: Path | None, *, whole: bool = False
) -> "Action":
    """The action of a gate's variant as the person edits it.

    An action with one long text, such as a file's content, opens as that text. With `whole`, and otherwise, it is
    JSON with the tool and its arguments.
    """
    import json

    from karkas.queue.standing import proposal_of
    from karkas.runner import load

    proposal = proposal_of(project, gate)
    if proposal is None or gate.kind.value != "action" or variant >= len(proposal.variants):
        raise UsageError(f"gate {gate.id} has no action {variant + 1} to edit; `karkas queue show {gate.id}`")
    action = proposal.variants[variant].action
    _, context = load(project, project.store.runs.get(gate.run))
    texts = [name for name, value in action.args.items() if isinstance(value, str) and "\n" in value]
    if file is None and len(texts) == 1 and not whole:
        (name,), before = texts, str(action.args[texts[0]])
        text = in_editor(before, suffix=Path(str(action.args.get("path", ""))).suffix or ".txt")
        if text == before:
            raise UsageError("nothing was changed, so nothing was decided")
        return context.tools[action.tool].action(**(action.args | {name: text}))
    if file is None:
        before = json.dumps({"tool": action.tool, "args": action.args}, ensure_ascii=False, indent=2)
        text = in_editor(before, suffix=".json")
        if text == before:
            raise UsageError("nothing was changed, so nothing was decided")
    else:
        text = read_text(file)
    try:
        changed = json.loads(text)
        tool, args = changed["tool"], dict(changed["args"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UsageError(
            f'the edit must be JSON such as {{"tool": "...", "args": {{...}}}}: {said}'
        ) from error
    return context.tools[tool].action(**args)


def read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
