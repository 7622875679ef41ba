"""The checks on a tool's effect: it is performed once, under a permit, in a throw-away project."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

from karkas.agents.tools import Tool
from karkas.policies.actions import Effect
from karkas.policies.errors import KarkasError
from karkas.policies.permits import PermitStatus
from karkas.policies.rendering import visible
from karkas.policies.routing import path_touches
from karkas.testing.diffs import file_diffs
from karkas.testing.recorder import survives
from karkas.testing.suite import PASSED, Found, failed, inapplicable, unchecked
from karkas.testing.trial import LANE, Trial, UntriedError, passing
from karkas.testing.watch import Snapshot, changed, snapshot

PLAIN = (int, float, str, bytes, list, dict, set, tuple, type(None))


def read_changes_nothing(trial: Trial) -> Found:
    tool = trial.tool
    if tool.effect is not Effect.READ:
        return inapplicable(f"it is declared {tool.effect}, so it may change things")
    before, remembered = snapshot(trial.bench.root), _remembered(tool)
    _perform(trial)
    (called,) = trial.recorder.calls
    touched = (*changed(before, snapshot(trial.bench.root)), *called.seen.files)
    if touched:
        return failed(
            f"it is declared read, and changed {', '.join(touched)}; declare the effect that it has"
        )
    kept = sorted(name for name, value in _remembered(tool).items() if value != remembered.get(name))
    if kept:
        return failed(
            f"it is declared read, and changed its own {', '.join(kept)}; keep no state between calls"
        )
    return _unseen(trial)


def undo_restores(trial: Trial) -> Found:
    tool, root = trial.tool, trial.bench.root
    if tool.effect is not Effect.REVERSIBLE:
        return inapplicable(f"it is declared {tool.effect}, so nothing is promised to be taken back")
    if tool.undo_by is None:
        return unchecked("it has no undo")
    before = snapshot(root)
    _perform(trial)
    if not changed(before, snapshot(root)):
        return inapplicable(
            "the example changed no file of the workspace, so nothing could be seen to come back"
        )
    (effect,) = trial.bench.effects()
    try:
        trial.bench.undo(effect.gate)
    except KarkasError as error:
        return failed(f"what it did could not be taken back: {error}")
    left = changed(before, snapshot(root))
    if left:
        return failed(
            f"after the undo, {', '.join(left)} is not as it was before; restore every byte and the mode"
        )
    return _unseen(trial)


def paths_are_declared(trial: Trial) -> Found:
    declared = trial.tool.paths(trial.action)
    _perform(trial)
    (called,) = trial.recorder.calls
    stray = [path for path in called.changes if not _declared(path, declared)]
    if stray:
        return failed(
            f"it changed {', '.join(stray)}, and declares {', '.join(declared) or 'no path'}, so zones that own"
            " them are not asked; type the argument as WorkspacePath, or give `paths=`"
        )
    if called.seen.files:
        return failed(
            f"it changed {', '.join(called.seen.files)} outside the workspace, which no zone can own; keep to"
            " the workspace"
        )
    return _unseen(trial)


def _declared(path: str, declared: tuple[str, ...]) -> bool:
    """Whether a path is declared, lies below one that is, or is a folder on the way to one."""
    return any(path_touches(path, one) or one.startswith(f"{path}/") or one == "./" for one in declared)


def preview_matches(trial: Trial) -> Found:
    """A diff that was shown is applied to what was there; what is there now must be exactly that."""
    bench, tool, before = trial.bench, trial.tool, snapshot(trial.bench.root)
    shown = tool.show(trial.action, bench.workspace())
    _perform(trial)
    after = snapshot(bench.root)
    changes = [path for path in changed(before, after) if _is_file(before, path) or _is_file(after, path)]
    diffs = file_diffs(shown)
    if not diffs:
        said = f"; it changed {', '.join(changes)}" if changes else ""
        return unchecked(f"its preview is no unified diff, so a person compares it with the effect{said}")
    stray = sorted(set(changes) - {one.path for one in diffs})
    if stray:
        return failed(f"it changed {', '.join(stray)}, which its preview does not show")
    for one in diffs:
        expected = one.applied(visible(_text(before, one.path)))
        got = visible(_text(after, one.path))
        if expected != got or (one.path in after) is one.removes:
            return failed(f"its preview shows another change of {one.path} than the one that took place")
    return _unseen(trial)


def overwritten_is_bound(trial: Trial) -> Found:
    """What an effect overwrites must be what the person saw: changed after the approval, the gate must ask again."""
    bench, tool = trial.bench, trial.tool
    if tool.idempotent:
        return inapplicable("it is idempotent, and its permit must not bind what the effect itself changes")
    before = snapshot(bench.root)
    bound = _binding(trial)
    _perform(trial)
    after = snapshot(bench.root)
    gone = [path for path in changed(before, after) if _is_file(before, path)]
    if not gone:
        return inapplicable(
            "the example overwrites no file; give one with the file that it changes, in `files`"
        )
    _put_back(trial, before, after)
    loose = []
    for path in gone:
        file = bench.root / path
        file.write_bytes(b"somebody else's\n")
        try:
            if _binding(trial) == bound:
                loose.append(path)
        except KarkasError:
            pass  # what cannot be shown any more is not performed either
        file.write_bytes(before[path][2])
    if loose:
        return failed(
            f"{', '.join(loose)} can change between approval and execution without being noticed; bind its state in"
            " `preconditions`"
        )
    return PASSED


def idempotent_is(trial: Trial) -> Found:
    """The worker is killed once the effect has taken place; its successor repeats it under the same key."""
    bench, tool = trial.bench, trial.tool
    if not tool.idempotent:
        return inapplicable("it is not declared idempotent, so it is never repeated")
    _park(trial)
    gate = bench.gate(LANE)
    bench.store.gates.decide(gate.id, passing(gate), by="ada")
    trial.recorder.kill = True
    if survives(bench, gate.run):
        raise UntriedError(f"it was not performed: {trial.outcome()}")
    once = snapshot(bench.root)
    run = bench.go_on(gate.run)
    if len(trial.recorder.calls) < 2:  # noqa: PLR2004
        return failed(
            f"after a crash it was not repeated under its key: {run.reason or trial.outcome()}. Keep out of preview and"
            " preconditions what the effect itself changes"
        )
    again = changed(once, snapshot(bench.root))
    if again:
        return failed(
            f"repeated under the same key it changed {', '.join(again)} again; look for the key, and do nothing where"
            " it is"
        )
    if not changed({}, once):
        return unchecked("it changed no file of the workspace, so a repetition could not be seen")
    return _unseen(trial)


def acts_once(trial: Trial) -> Found:
    """Nothing before the approval, one execution after it, and nothing at the same gate again."""
    root, before = trial.bench.root, snapshot(trial.bench.root)
    trial.park()
    early = changed(before, snapshot(root))
    if trial.recorder.calls or early:
        return failed(f"proposing it took effect already ({', '.join(early) or 'it was called'})")
    if LANE not in trial.bench.waiting():
        return unchecked(f"no gate opened: {trial.outcome()}")
    trial.approve()
    trial.bench.go_on(trial.bench.store.runs.list()[0])
    if trial.recorder.unpermitted or len(trial.recorder.calls) != 1:
        return failed(f"one approval led to {len(trial.recorder.calls)} calls: {trial.outcome()}")
    return PASSED


def _perform(trial: Trial) -> None:
    """Performs the action as a person approved it. Raises `UntriedError` where it did not come to that."""
    _park(trial)
    trial.approve()
    if [one.status for one in trial.bench.effects()] != [PermitStatus.COMMITTED]:
        raise UntriedError(f"it was not performed: {trial.outcome()}")


def _park(trial: Trial) -> None:
    trial.park()
    if LANE not in trial.bench.waiting():
        raise UntriedError(f"no gate opened: {trial.outcome()}")


def _unseen(trial: Trial) -> Found:
    """Passed, unless something took place that cannot be looked at."""
    begun = [one for call in trial.recorder.calls for one in (*call.seen.programs, *call.seen.connections)]
    if begun:
        return unchecked(
            f"no fault was seen, but it began {', '.join(dict.fromkeys(begun))}; what that did is not seen"
        )
    return PASSED


def _binding(trial: Trial) -> tuple[str, dict[str, str]]:
    workspace = trial.bench.workspace()
    return trial.tool.show(trial.action, workspace), trial.tool.preconditions(trial.action, workspace)


def _put_back(trial: Trial, before: Snapshot, after: Snapshot) -> None:
    for path in changed(before, after):
        file = trial.bench.root / path
        if _is_file(before, path):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(before[path][2])
            file.chmod(before[path][1])
        elif _is_file(after, path):
            file.unlink()


def _is_file(state: Snapshot, path: str) -> bool:
    return path in state and state[path][0] == "file"


def _text(state: Snapshot, path: str) -> str:
    return state[path][2].decode(errors="replace") if path in state else ""


def _remembered(tool: Tool) -> dict[str, Any]:
    """The plain values around the function that it can reach: those of its module and of what it closes over."""
    found = inspect.getclosurevars(inspect.unwrap(tool.function))
    plain = {**found.globals, **found.nonlocals}
    return {name: copy.deepcopy(value) for name, value in plain.items() if isinstance(value, PLAIN)}


EFFECT_CHECKS: tuple[tuple[str, str, Callable[[Trial], Found]], ...] = (
    ("acts-once", "nothing takes place before its approval, and then one execution", acts_once),
    ("paths-are-declared", "every file that it changes is one that it declares", paths_are_declared),
    ("preview-matches-effect", "the diff that was shown is the change that took place", preview_matches),
    (
        "overwritten-is-bound",
        "a file that it overwrites cannot change unnoticed after the approval",
        overwritten_is_bound,
    ),
    (
        "read-changes-nothing",
        "a read tool changes no file, and keeps nothing between calls",
        read_changes_nothing,
    ),
    ("undo-restores", "a reversible tool has an undo, which brings every byte and mode back", undo_restores),
    ("idempotent-is", "repeated after a crash with the same key, it changes nothing further", idempotent_is),
)
