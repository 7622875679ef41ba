"""A tool: a typed Python function with an effect class; only the gateway reaches its effect."""

import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, get_args, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    JsonValue,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    create_model,
)

from karkas.agents.tools.paths import PathArgument
from karkas.agents.tools.workspace import Workspace
from karkas.policies.actions import Action, ActionError, Digest, Effect, canonical, digest_of
from karkas.policies.errors import PermitError, UsageError
from karkas.policies.rendering import visible, visible_line
from karkas.server.questions import ToolSpec

INJECTED = ("workspace", "idempotency_key", "preconditions")
"""Parameters that the gateway fills: the `Workspace`, the permit's key, and the states that it binds."""

AnyFunction = Callable[..., Any]


@dataclass(frozen=True)
class Done:
    """What a function may return instead of a plain JSON value: with it, what would take the effect back."""

    result: dict[str, JsonValue]
    shown: str = ""
    undo: dict[str, JsonValue] | None = None


@dataclass(frozen=True)
class Example:
    """Arguments that a tool can be tried with, and the files (path to text) that must then be in the workspace."""

    args: Mapping[str, JsonValue]
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Tool:
    """A registered function. Make one with `tool`. `version` is the hash of all code that defines it."""

    name: str
    effect: Effect
    description: str
    args: type[BaseModel]
    version: Digest
    idempotent: bool
    function: AnyFunction = field(repr=False)
    preview_by: AnyFunction | None = field(default=None, repr=False)
    preconditions_by: AnyFunction | None = field(default=None, repr=False)
    undo_by: AnyFunction | None = field(default=None, repr=False)
    paths_by: AnyFunction | None = field(default=None, repr=False)
    examples: tuple[Example, ...] = field(default=(), repr=False)

    def __call__(self, *_: object, **__: object) -> NoReturn:
        raise PermitError(
            f"{self.name} cannot be called directly; propose `{self.name}` as an action, and a permit runs it"
        )

    def action(self, /, **args: JsonValue) -> Action:
        """The canonical action of these arguments, defaults filled in. `ActionError` says which is wrong."""
        written = _stored(self._checked(args).model_dump(mode="json"))
        return Action(tool=self.name, args=written, effect=self.effect)

    def spec(self) -> ToolSpec:
        """The tool as a model sees it; the same each time."""
        return _spec(self)

    def check(self, action: Action) -> BaseModel:
        """The arguments as the function takes them. Raises `ActionError` unless `action` is one of this tool, exactly
        as `action(...)` writes it.
        """
        if (action.tool, action.effect) == (self.name, self.effect):
            checked = self._checked(action.args)
            if canonical(checked.model_dump(mode="json")) == canonical(action.args):
                return checked
        raise ActionError(
            f"this is not an action as {self.name} ({self.effect}) writes it; make it by `tool.action(...)`"
        )

    def show(self, action: Action, workspace: Workspace) -> str:
        """The whole text that a person decides on, rendered honestly; the permit binds its digest."""
        return self._shown(action, self.check(action), workspace)

    def preconditions(self, action: Action, workspace: Workspace) -> dict[str, str]:
        """What must still hold at execution, by name, for example `{"docs/a.md": "sha256:..."}`."""
        return self._required(self.check(action), workspace)

    def look(self, action: Action, workspace: Workspace) -> tuple[str, dict[str, str]]:
        """Both, of one look at the workspace: the preconditions are of the very files that are shown."""
        checked, seen = self.check(action), workspace.look()
        shown = self._shown(action, checked, seen)
        return shown, self._required(self._checked(action.args), seen)

    def paths(self, action: Action) -> tuple[str, ...]:
        """The workspace-relative paths that the action touches: those of arguments typed `WorkspacePath`."""
        if self.paths_by is not None:
            return tuple(self.call(self.paths_by, action))
        found: list[str] = []
        for name in _path_arguments(self.args):
            value = action.args.get(name)
            found += [str(one) for one in (value if isinstance(value, list) else [value]) if one is not None]
        return tuple(found)

    def grant_kinds(self) -> dict[str, str]:
        """Of each argument what a grant's pattern for it is: a `path`, a `text`, or an `exact` value."""
        properties = _schema(self.args).get("properties", {})
        return {
            name: "path"
            if name in _path_arguments(self.args)
            else "text"
            if properties.get(name, {}).get("type") == "string"
            else "exact"
            for name in self.args.model_fields
        }

    def call(self, function: AnyFunction, action: Action, **injected: object) -> Any:
        """Calls one of the tool's functions with those arguments and injected values that it takes."""
        return _called(function, self.args.model_validate(action.args), **injected)

    def _checked(self, args: dict[str, JsonValue]) -> BaseModel:
        try:
            return self.args.model_validate(args)
        except ValidationError as error:
            wrong = "; ".join(
                f"argument {'.'.join(map(str, one['loc'])) or '(all)'}: {one['msg']}"
                for one in error.errors()
            )
            raise ActionError(f"{self.name}: {visible_line(wrong)}") from error

    def _shown(self, action: Action, checked: BaseModel, workspace: Workspace) -> str:
        if self.preview_by is None:
            return _arguments(self, action)
        return visible(str(_called(self.preview_by, checked, workspace=workspace)))

    def _required(self, checked: BaseModel, workspace: Workspace) -> dict[str, str]:
        if self.preconditions_by is None:
            return {}
        found = _called(self.preconditions_by, checked, workspace=workspace)
        return {str(name): str(state) for name, state in found.items()}


def _called(function: AnyFunction, checked: BaseModel, **injected: object) -> Any:
    given = vars(checked) | injected
    return function(**{name: given[name] for name in _parameters(function) if name in given})


@lru_cache(maxsize=256)
def _path_arguments(args: type[BaseModel]) -> tuple[str, ...]:
    return tuple(
        name for name, info in args.model_fields.items() if _marks_path(info.annotation, info.metadata)
    )


@lru_cache(maxsize=256)
def _spec(tool: Tool) -> ToolSpec:
    schema = {name: value for name, value in _schema(tool.args).items() if name != "title"}
    return ToolSpec(name=tool.name, description=tool.description, parameters=deepcopy(schema))


@lru_cache(maxsize=256)
def _schema(args: type[BaseModel]) -> dict[str, Any]:
    return args.model_json_schema()


@lru_cache(maxsize=1024)
def _parameters(function: AnyFunction) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def tool(
    effect: Effect,
    *,
    name: str | None = None,
    preview: AnyFunction | None = None,
    preconditions: AnyFunction | None = None,
    undo: AnyFunction | None = None,
    paths: AnyFunction | None = None,
    idempotent: bool = False,
    code: tuple[ModuleType, ...] = (),
    examples: Iterable[Example] = (),
) -> Callable[[AnyFunction], Tool]:
    """Makes a `Tool` of a function, sync or async, whose parameters are all typed.

    `preview` (gives the raw text to show), `preconditions` (gives states by name) and `paths` take any of the
    function's arguments by name, the first two `workspace` too. `undo(record, workspace)` takes back what the
    function's `Done.undo` recorded. `idempotent`: repeated with the same `idempotency_key` it has no further
    effect. `code`: further modules that count for the version; the function's own module always does. `examples`:
    what `karkas check` tries the tool with.
    """
    helpers = (preview, preconditions, undo, paths)

    def wrap(function: AnyFunction) -> Tool:
        label = name or function.__name__
        if not label.replace("_", "").replace("-", "").isalnum() or not label.isascii() or len(label) > 64:  # noqa: PLR2004
            raise UsageError(f"a tool's name is made of ASCII letters, digits, '_' and '-': {label!r}")
        args = _args_model(label, function)
        for helper in (preview, preconditions, paths):
            _check_helper(label, helper, args)
        return Tool(
            name=label,
            effect=Effect(effect),
            description=inspect.getdoc(function) or label,
            args=args,
            version=_version(Effect(effect), args, (function, *helpers), code),
            idempotent=idempotent,
            function=function,
            preview_by=preview,
            preconditions_by=preconditions,
            undo_by=undo,
            paths_by=paths,
            examples=tuple(examples),
        )

    return wrap


_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


def json_result(value: object) -> dict[str, JsonValue]:
    """A function's return value as a JSON object that can be recorded; what is no JSON goes in as its `repr`.

    The effect has happened by now, so a value that cannot be recorded must not make it look failed.
    """
    if value is None:
        return {}
    plain = _ANYTHING.dump_python(value, mode="json", fallback=repr)
    result: dict[str, JsonValue] = plain if isinstance(plain, dict) else {"value": plain}
    try:
        canonical(result)
    except ActionError:
        return {"value": visible(repr(value))}
    return result


def _marks_path(annotation: Any, metadata: Iterable[object] = ()) -> bool:
    """Whether a type is, or is made of, paths in the workspace."""
    marks = (*metadata, *getattr(annotation, "__metadata__", ()))
    return any(isinstance(mark, PathArgument) for mark in marks) or any(
        map(_marks_path, get_args(annotation))
    )


def _args_model(label: str, function: AnyFunction) -> type[BaseModel]:
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise UsageError(f"tool {label}: {error}; annotate with names that the module knows") from error
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in INJECTED:
            continue
        if parameter.name.startswith("_"):
            raise UsageError(f"tool {label}: parameter {parameter.name} must not begin with an underscore")
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            raise UsageError(
                f"tool {label}: parameter {parameter.name} must be named and ordinary, not {parameter}"
            )
        if parameter.name not in hints:
            raise UsageError(f"tool {label}: parameter {parameter.name} has no type; annotate it")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
    try:
        return create_model(label, __config__=config, **fields)
    except (NameError, TypeError, PydanticUserError) as error:
        raise UsageError(f"tool {label}: {error}") from error


def _check_helper(label: str, helper: AnyFunction | None, args: type[BaseModel]) -> None:
    if helper is None:
        return
    if inspect.iscoroutinefunction(helper):
        raise UsageError(
            f"tool {label}: {helper.__name__} must not be async; only the tool and its undo may be"
        )
    unknown = inspect.signature(helper).parameters.keys() - args.model_fields.keys() - {"workspace"}
    if unknown:
        raise UsageError(
            f"tool {label}: {helper.__name__} takes {', '.join(sorted(unknown))}, which {label} does not"
        )


def _version(
    effect: Effect,
    args: type[BaseModel],
    functions: tuple[AnyFunction | None, ...],
    code: tuple[ModuleType, ...],
) -> Digest:
    """Of sources rather than byte code, so that it is the same under every Python; and of whole files, because
    what a function does also depends on the names around it.
    """
    real = list(_layers([function for function in functions if function is not None]))
    return digest_of(
        {
            "effect": effect.value,
            "args": args.model_json_schema(),
            "functions": [function.__qualname__ for function in real],
            "bound": [_bound(function) for function in real],
            "code": list(dict.fromkeys(_source(of) for of in (*real, *code))),
        }
    )


def _layers(functions: list[AnyFunction]) -> Iterator[AnyFunction]:
    """The functions, and those that a decorator hid in them: what they wrap, and what they have closed over."""
    seen: set[int] = set()
    while functions:
        function, *functions = functions
        if id(function) not in seen:
            seen.add(id(function))
            yield function
            inner = [getattr(function, "__wrapped__", None), *_closure(function).values()]
            functions += [one for one in inner if inspect.isfunction(one) or inspect.ismethod(one)]


def _source(of: AnyFunction | ModuleType) -> str:
    try:
        file = Path(inspect.getsourcefile(of) or "")
        return file.read_text() if file.is_file() else inspect.getsource(of)
    except (OSError, TypeError, ValueError):
        found = getattr(of, "__code__", None)
        return repr((found.co_code.hex(), found.co_consts, found.co_names)) if found else repr(of)


def _bound(function: AnyFunction) -> dict[str, JsonValue]:
    """The plain values that a function made inside another one has closed over."""
    return {name: repr(value) for name, value in _closure(function).items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    """Whether its `repr` is the same in another process."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def _closure(function: AnyFunction) -> Mapping[str, Any]:
    return inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}


def _stored(args: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """As the arguments come back from storage: there 1.0 is 1, keys are in order, and all is shown as before."""
    plain: dict[str, JsonValue] = json.loads(canonical(args))
    return plain


def _arguments(tool: Tool, action: Action) -> str:
    lines = [f"{tool.name} ({tool.effect})"]
    args = _stored(action.args)
    for name in tool.args.model_fields:
        value = args[name]
        if isinstance(value, str) and "\n" in value:
            lines += [f"{name}:", *(f"  | {line}" for line in visible(value).split("\n"))]
        else:
            lines.append(f"{name}: {visible_line(json.dumps(value, ensure_ascii=False))}")
    return "\n".join(lines)
