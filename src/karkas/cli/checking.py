"""What `karkas check` checks, and in what surroundings: out of a file, and of the project that it lies in."""

from pathlib import Path
from typing import Any

from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

from karkas import settings
from karkas.agents.tools import Tool
from karkas.policies.errors import ProjectError, UsageError
from karkas.policies.zones import Zone
from karkas.project import find_root
from karkas.runner import input_of
from karkas.testing import Checked, Report, Setup, check
from karkas.testing.suite import Subject
from karkas.workflows.userfile import UserFile, load_file, split_reference


def report_on(
    reference: str, input_: str | None, *, perform: bool, files: Path | None, answers: tuple[str, ...]
) -> Report:
    path, name = (Path(reference), None) if reference.endswith(".py") else split_reference(reference)
    if not path.is_file():
        raise UsageError(
            f"there is no file {path}; give FILE.py, or FILE.py:NAME for one workflow or tool in it"
        )
    file = load_file(path)
    subjects = _subjects(file, name)
    if not subjects:
        raise UsageError(
            f"{path} has no workflow and no tool at its top level; name a function that gives one"
        )
    flows = [label for label, one in subjects.items() if not isinstance(one, Tool)]
    if input_ is not None and len(flows) != 1:
        raise UsageError(f"--input is for one workflow, and here are {len(flows)}; name it: {path}:NAME")
    zones, tools = _surroundings(file)
    setup = Setup(
        perform=perform,
        input=None if input_ is None else input_of(input_),
        answers=dict(map(_answer, answers)),
        files={} if files is None else _texts(files),
        tools=tools,
        zones=zones,
    )
    found: list[Checked] = []
    for label, one in subjects.items():
        found += check(one, setup, name=label)
    return Report(tuple(found))


def _subjects(file: UserFile, name: str | None) -> dict[str, Subject]:
    if name is not None:
        found = vars(file.module).get(name)
        if isinstance(found, Tool):
            return {f"tool {found.name}": found}
        return {f"workflow {name}": file.workflow(name)}
    subjects: dict[str, Subject] = {f"tool {one.name}": one for one in file.tools}
    for key, value in vars(file.module).items():
        if isinstance(value, StateGraph | CompiledStateGraph):
            subjects[f"workflow {key}"] = value
    return subjects


def _surroundings(file: UserFile) -> tuple[tuple[Zone, ...], tuple[Tool, ...]]:
    """The zones and tools that a run of the file would have: its own, and those that its project's toml declares."""
    zones, tools = {one.name: one for one in file.zones}, {one.name: one for one in file.tools}
    try:
        root = find_root(file.path.parent)
    except ProjectError:
        return tuple(zones.values()), tuple(tools.values())
    config = settings.load(root)
    for reference in config.act.tools:
        path, name = split_reference(reference)
        found: Any = vars(load_file(root / path).module).get(name)
        if isinstance(found, Tool):
            tools.setdefault(found.name, found)
    return tuple((config.zones | zones).values()), tuple(tools.values())


def _answer(text: str) -> tuple[str, str]:
    name, mark, answer = text.partition("=")
    if not mark:
        raise UsageError(f"--answer {text} should read NAME=TEXT")
    return name, answer


def _texts(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give one whose files the trial needs")
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            try:
                found[path.relative_to(folder).as_posix()] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise UsageError(f"{path} is no UTF-8 text, and only texts are put into a trial") from error
    return found
