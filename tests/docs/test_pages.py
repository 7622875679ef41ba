"""The documentation says what is so: its links lead somewhere, and its commands exist as they are written."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

import karkas
from karkas.cli.app import ROOMS, app
from karkas.policies.zones import Scope, Zone
from karkas.server.config import ModelSettings, RoleSettings, ServeSettings
from karkas.settings import (
    ActSettings,
    Budgets,
    ExploreSettings,
    ScheduleSettings,
    Settings,
    StorageSettings,
    WorkSettings,
    parse,
)

from .conftest import Desk

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
SCRIPTS = [ROOT / "docs/demo.sh", *sorted((ROOT / "docs/examples").glob("*.py"))]
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PLACEHOLDERS = {"...", "…", "COMMAND"}


def names(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_link_leads_to_something(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(target)
    assert broken == []


def commands(page: Path) -> Iterator[list[str]]:
    """Every `karkas ...` that a page quotes, in blocks and in the running text, as words.

    In a block with prompts (`$ karkas ...`) the other lines are what was printed.
    """
    text = page.read_text("utf-8")
    lines = []
    for block in FENCE.findall(text) if page.suffix == ".md" else [text]:
        typed = [line.strip() for line in block.splitlines()]
        prompted = [line.removeprefix("$ ") for line in typed if line.startswith("$ ")]
        lines += prompted or typed
    if page.suffix == ".md":
        lines += re.findall(r"`(karkas [^`]+)`", FENCE.sub("", text))
    for line in lines:
        if line.startswith("karkas "):
            words = shlex.split(re.split(r"\s[|>;]|&&|\s{2,}|\s#\s", line)[0])
            yield [word for word in words[1:] if word not in PLACEHOLDERS]


def command(words: list[str]) -> tuple[Any, list[str]]:
    """The click command that the words call, and the rest of them."""
    if not words or words[0] not in ROOMS:
        return typer.main.get_command(app), words
    found: Any = typer.main.get_command(import_module(ROOMS[words[0]].module).app)
    rest = words[1:]
    while rest and rest[0] in getattr(found, "commands", {}):
        found, rest = found.commands[rest[0]], rest[1:]
    return found, rest


def faults(words: list[str]) -> Iterator[str]:
    found, rest = command(words)
    known = {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h", "--version"}
    yield from (word for word in rest if word.startswith("-") and word.partition("=")[0] not in known)
    plain = [word for word in rest if not word.startswith(("-", "["))]
    if hasattr(found, "commands") and plain:
        yield plain[0]


@pytest.mark.parametrize("page", [*PAGES, *SCRIPTS], ids=names)
def test_every_command_exists_with_its_options(page: Path) -> None:
    wrong = [f"karkas {' '.join(words)}: {fault}" for words in commands(page) for fault in faults(words)]
    assert wrong == []


def test_the_check_of_commands_finds_what_is_wrong() -> None:
    assert list(faults(["explore", "lora", "--source", "a"])) == []
    assert list(faults(["explore", "lora", "--sauce", "a"])) == ["--sauce"]
    assert list(faults(["queue", "aprove", "g-1"])) == ["aprove"]
    assert list(faults(["nihgt"])) == ["nihgt"]


def test_every_command_stands_on_the_page_of_commands() -> None:
    text = (ROOT / "docs/cli.md").read_text("utf-8")
    calls = []
    for name, room in ROOMS.items():
        found: Any = typer.main.get_command(import_module(room.module).app)
        calls += [f"karkas {name} {one}" for one in getattr(found, "commands", {})] or [f"karkas {name}"]
    assert [call for call in calls if call not in text] == []


SECTIONS: dict[str, type[BaseModel]] = {
    "[zones.NAME]": Zone,
    "[model]": ModelSettings,
    "[model.serve]": ServeSettings,
    "[roles.ROLE]": RoleSettings,
    "[budgets]": Budgets,
    "[explore]": ExploreSettings,
    "[act]": ActSettings,
    "[work]": WorkSettings,
    "[schedules.NAME]": ScheduleSettings,
    "[storage]": StorageSettings,
}
ELSEWHERE = {"name": "the table's own name", "serve": "a table of its own", "night": "a table of its own"}
WORDS = {"none": None, "empty": Scope().model_dump(mode="json"), "needed": PydanticUndefined}


def table(section: str) -> dict[str, Any]:
    """The keys of a section with their defaults, as the page of the configuration has them."""
    text = (ROOT / "docs/configuration.md").read_text("utf-8")
    ((_, body),) = re.findall(
        rf"^(##+) `{re.escape(section)}`$(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL
    )
    found: dict[str, Any] = {}
    for names_, defaults in re.findall(r"^\| (`.+?`) \| (.+?) \|", body, re.MULTILINE):
        values = [
            WORDS[one] if one in WORDS else tomllib.loads(f"it = {one.strip('`')}")["it"]
            for one in defaults.split(", ")
        ]
        found |= dict(zip([name.strip("`") for name in names_.split(", ")], values, strict=True))
    return found


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_the_settings_is_explained_with_its_default(section: str) -> None:
    fields = SECTIONS[section].model_fields
    defaults = {
        name: PydanticUndefined if info.is_required() else to_jsonable_python(info.get_default())
        for name, info in fields.items()
        if name not in ELSEWHERE
    }
    assert table(section) == defaults


def test_every_section_of_the_settings_stands_there() -> None:
    text = (ROOT / "docs/configuration.md").read_text("utf-8")
    assert [
        name for name in Settings.model_fields if not re.search(rf"^##+ `\[{name}[.\]]", text, re.MULTILINE)
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_piece_of_karkas_toml_is_valid(page: Path) -> None:
    for block in re.findall(r"^```toml\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        parse(block, page)


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_test_and_benchmark_that_is_named_is_there(page: Path) -> None:
    named = re.findall(r"\b(test_\w+\.py|benchmarks/\w+\.py)\b", page.read_text("utf-8"))
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    there |= {names(path) for path in (ROOT / "benchmarks").glob("*.py")}
    assert set(named) <= there


def test_every_promise_names_tests_that_are_there() -> None:
    text = (ROOT / "docs/security.md").read_text("utf-8")
    promises = re.findall(r"^\| \*\*.*$", text, re.MULTILINE)
    assert len(promises) > 20
    assert [row for row in promises if not re.search(r"`(tests/\S+|test_\w+)\.py`", row)] == []
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^(?:async )?def (test_\w+)", code, re.MULTILINE))
    assert set(re.findall(r"`(test_\w+)`", text)) - there == set()
    assert [path for path in re.findall(r"`(tests/[\w/]+\.py)`", text) if not (ROOT / path).is_file()] == []


def test_every_module_of_the_model_side_has_its_place() -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8").partition("## The model side")[2]
    modules = [path.stem for folder in ("server", "server/language") for path in (ROOT / folder).glob("*.py")]
    kept = {"__init__", "engine"}
    assert [name for name in modules if name not in kept and not re.search(rf"`{name}(\.py)?`", text)] == []


def test_every_public_name_is_explained() -> None:
    text = (ROOT / "docs/workflows.md").read_text("utf-8") + (ROOT / "docs/tools.md").read_text("utf-8")
    assert [name for name in karkas.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_the_examples_stand_in_the_page_that_teaches_them() -> None:
    text = (ROOT / "docs/workflows.md").read_text("utf-8")
    for example in sorted((ROOT / "docs/examples").glob("*.py")):
        assert f"examples/{example.name}" in text


def test_the_script_on_the_page_of_workflows_runs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs/workflows.md").read_text("utf-8")
    (script,) = re.findall(r"```python\n(import asyncio\n.*?)```", text, re.DOTALL)
    monkeypatch.chdir(desk.root)
    exec(compile(script, "docs/workflows.md", "exec"), {})
    assert "+Half the runs diverged." in capsys.readouterr().out
    assert (desk.root / "notes/raise-r-before-lr.md").exists()


def test_every_dependency_has_a_reason() -> None:
    text = (ROOT / "docs/dependencies.md").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = project["project"]["optional-dependencies"]
    declared = [
        *project["project"]["dependencies"],
        *chain.from_iterable(extras.values()),
        *project["dependency-groups"]["dev"],
    ]
    names_of = [re.match(r"[\w.-]+", one) for one in declared]
    assert [one[0] for one in names_of if one and not re.search(rf"\b{re.escape(one[0])}\b", text)] == []


def test_the_workflow_on_the_first_page_runs_as_it_stands(desk: Desk) -> None:
    (text,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    (desk.root / "notes.py").write_text(text)
    run = desk.run("notes.py:keep", title="A")
    assert desk.shown("write").endswith("+# A")
    desk.decide(run, "write", karkas.Adopt())
    assert (desk.root / "notes/a.md").read_text() == "# A\n"
