"""The checks on a tool that take no effect: its schema, its arguments, its preview, its preconditions."""

from collections.abc import Callable, Iterator
from shutil import copyfile
from typing import Any

from pydantic import JsonValue

from karkas.agents.tools import Example, Tool
from karkas.agents.tools.paths import relative
from karkas.agents.tools.workspace import ABSENT
from karkas.policies.actions import Action, Effect
from karkas.policies.errors import ConfinementError, KarkasError
from karkas.policies.rendering import visible_line
from karkas.testing.bounds import bounded
from karkas.testing.effect_checks import EFFECT_CHECKS
from karkas.testing.suite import PASSED, Check, Found, Setup, failed, inapplicable, joined, unchecked
from karkas.testing.trial import Trial, trying
from karkas.testing.watch import changed, snapshot, watching

NO_EXAMPLE = (
    "it has no example; give one: `@tool(..., examples=[Example({...})])`, with the files that it needs"
)


def undo_is_there(tool: Tool, _: Setup) -> Found:
    if tool.effect is Effect.REVERSIBLE:
        if tool.undo_by is None:
            return failed("it is declared reversible and has no undo; give one, or declare it irreversible")
        return PASSED
    return inapplicable(f"it is declared {tool.effect}, so nothing is promised to be taken back")


def on_examples(check: Callable[[Tool, Example, Setup], Found]) -> Callable[[Tool, Setup], Found]:
    """The check on each of the tool's examples."""

    def run(tool: Tool, setup: Setup) -> Found:
        examples = (*tool.examples, *setup.examples)
        if not examples:
            return unchecked(NO_EXAMPLE)
        return joined(check(tool, one, setup) for one in examples)

    return run


def in_trial(check: Callable[[Trial], Found]) -> Callable[[Tool, Setup], Found]:
    """The check in a throw-away project for each example."""

    def run(tool: Tool, example: Example, setup: Setup) -> Found:
        try:
            with trying(tool, example, setup) as trial:
                return check(trial)
        except KarkasError as error:
            return unchecked(f"the example cannot be tried: {error}")

    return on_examples(run)


def round_trips(tool: Tool, example: Example, _: Setup) -> Found:
    try:
        action = tool.action(**example.args)
    except KarkasError as error:
        return failed(f"its example is not what it takes: {error}")
    try:
        again = Action.model_validate_json(action.model_dump_json())
        tool.check(again)
    except KarkasError as error:
        return failed(
            f"its own arguments, stored and read back, are not accepted or become others: {error}. A type's validator"
            " must leave what it has made once as it is"
        )
    return PASSED


def preview_is_pure(trial: Trial) -> Found:
    """Shown twice, and its preconditions computed twice: the same, and nothing else in the world."""
    bench, tool, action = trial.bench, trial.tool, trial.action
    before, workspace = snapshot(bench.root), bench.workspace()
    with watching(bench.root) as seen:
        texts = {tool.show(action, workspace) for _ in range(2)}
        states = [tool.preconditions(action, workspace) for _ in range(2)]
    touched = (*changed(before, snapshot(bench.root)), *seen.files)
    if touched:
        return failed(
            f"asking what it would do changed {', '.join(touched)}; preview and preconditions may only read"
        )
    if len(texts) > 1:
        return failed(
            "two previews of the same action differ; leave time, chance and order of sets out of it"
        )
    if states[0] != states[1]:
        return failed(
            "two askings for preconditions differ though nothing changed; every approval would be stale"
        )
    if seen.programs or seen.connections:
        begun = ", ".join(dict.fromkeys((*seen.programs, *seen.connections)))
        return unchecked(f"preview or preconditions began {begun}; what that did is not seen")
    return PASSED


def preview_tells_apart(trial: Trial) -> Found:
    """What a person approves must be this action: with another argument it must read otherwise."""
    tool = trial.tool
    shown, untried, hidden = tool.show(trial.action, trial.bench.workspace()), [], []
    for name in tool.args.model_fields:
        others = [one for one in _others(tool, trial.action, name) if one.digest != trial.action.digest]
        texts = {text for one in others if (text := _shown(trial, one)) is not None}
        if not texts:
            untried.append(name)
        if shown in texts:
            hidden.append(name)
    if hidden:
        return failed(
            f"with another {', '.join(hidden)} the preview is the same, so nobody sees what is approved;"
            " show it"
        )
    if untried:
        return unchecked(f"no other value of {', '.join(untried)} was found that is valid and can be shown")
    return PASSED


def _shown(trial: Trial, other: Action) -> str | None:
    """The preview, or None where the action cannot be shown, and so not be approved either. What it names in place of
    a file is a copy of that file.
    """
    tool, workspace = trial.tool, trial.bench.workspace()
    try:
        for path, instead in zip(tool.paths(trial.action), tool.paths(other), strict=False):
            file, copied = trial.bench.root / path, workspace.resolve(instead)
            if file.is_file() and not copied.exists():
                copied.parent.mkdir(parents=True, exist_ok=True)
                copyfile(file, copied)
        return tool.show(other, workspace)
    except KarkasError:
        return None


def _others(tool: Tool, action: Action, name: str) -> Iterator[Action]:
    """Actions that differ in this argument alone, as far as it can be varied blindly."""
    for value in _varied(action.args[name]):
        try:
            yield tool.action(**{**action.args, name: value})
        except KarkasError:
            continue


def _varied(value: JsonValue) -> Iterator[JsonValue]:
    match value:
        case bool():
            yield not value
        case int() | float():
            yield from (value + 1, value - 1)
        case str():
            yield from (f"{value}x", value[:-1], f"x{value}")
        case list():
            yield from ([*value, *value[-1:]], value[:-1])
            for index, one in enumerate(value):
                yield from ([*value[:index], other, *value[index + 1 :]] for other in _varied(one))
        case dict():
            for key, one in value.items():
                yield from ({**value, key: other} for other in _varied(one))
        case None:
            yield from ("x", 1)


def preconditions_follow(trial: Trial) -> Found:
    """Each file that is bound is changed; what is bound must then differ."""
    bench, tool, action = trial.bench, trial.tool, trial.action
    if tool.preconditions_by is None:
        return inapplicable("it binds no preconditions")
    workspace = bench.workspace()
    bound, dead, other = tool.preconditions(action, workspace), [], []
    for name, state in bound.items():
        if not _is_file(bench.root / name, name, state):
            other.append(visible_line(name))
            continue
        text = bench.read(name)
        bench.write(name, f"{text or ''}changed\n")
        if tool.preconditions(action, workspace).get(name) == state:
            dead.append(name)
        (bench.root / name).unlink() if text is None else bench.write(name, text)
    if dead:
        return failed(
            f"{', '.join(dead)} changed, and the precondition of that name did not; compute it from what is there now"
        )
    if other:
        return unchecked(
            f"it binds {', '.join(other)}, which is no text file in the workspace that could be changed here"
        )
    if not bound:
        return inapplicable("it binds nothing for this example")
    return PASSED


def _is_file(file: Any, name: str, state: str) -> bool:
    try:
        relative(name)
    except ConfinementError:
        return False
    if file.is_file():
        return _is_text(file)
    return state == ABSENT and not file.exists()


def _is_text(file: Any) -> bool:
    try:
        file.read_bytes().decode()
    except UnicodeDecodeError:
        return False
    return True


TOOL_CHECKS: tuple[Check, ...] = (
    Check(
        "schema-is-bounded",
        "every text, list, mapping and number among its arguments has an end",
        bounded,
    ),
    Check("undo-is-there", "a reversible tool says how it is taken back", undo_is_there),
    Check(
        "arguments-round-trip",
        "its arguments, written as canonical JSON and read back, are the same action",
        on_examples(round_trips),
    ),
    Check(
        "preview-is-pure",
        "preview and preconditions change nothing, and say the same when asked again",
        in_trial(preview_is_pure),
    ),
    Check(
        "preview-tells-apart",
        "an action with another argument is shown otherwise",
        in_trial(preview_tells_apart),
    ),
    Check(
        "preconditions-follow",
        "a precondition changes when the file that it binds does",
        in_trial(preconditions_follow),
    ),
    *(Check(name, proves, in_trial(run), performs=True) for name, proves, run in EFFECT_CHECKS),
)
