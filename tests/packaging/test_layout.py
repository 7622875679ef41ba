"""The folders at the top are the product; `src/karkas/` links to them."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import karkas

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/karkas"
ROOMS = ("agents", "workflows", "policies", "storage", "server")
BELOW = {
    "policies": (),
    "server": ("policies",),
    "storage": ("policies", "server"),
    "agents": ("policies", "server", "storage"),
    "workflows": ("policies", "server", "storage", "agents"),
}


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_is_a_folder_at_the_top_that_the_package_links_to(room: str) -> None:
    link = PACKAGE / room
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == ROOT / room
    assert not (ROOT / room).is_symlink()


def test_the_package_holds_no_other_links() -> None:
    assert {path.name for path in PACKAGE.iterdir() if path.is_symlink()} == set(ROOMS)


def test_what_a_newcomer_looks_for_is_at_the_top() -> None:
    wanted = ("README.md", "CHANGELOG.md", "LICENSE", "Makefile", "pyproject.toml", ".ci/run")
    assert [name for name in wanted if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("room", ROOMS)
def test_imports_only_run_downward(room: str) -> None:
    allowed = {f"karkas.{name}" for name in (*BELOW[room], room)}
    upward = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for name in imported(path)
        if name == "karkas" or (name.startswith("karkas.") and ".".join(name.split(".")[:2]) not in allowed)
    ]
    assert [one for one in upward if one not in EXCEPTIONS] == []


EXCEPTIONS = {
    "agents/tools/workspace.py: karkas",  # asks where its own code lies, to keep tools out of it
}


def imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names


def test_every_public_name_can_be_imported_and_they_stand_in_order() -> None:
    assert [name for name in karkas.__all__ if getattr(karkas, name) is None] == []
    groups = [("constant", str.isupper), ("class", lambda name: name[0].isupper()), ("function", str.islower)]
    kinds = [next(kind for kind, is_kind in groups if is_kind(name)) for name in karkas.__all__]
    assert list(zip(kinds, karkas.__all__, strict=True)) == sorted(
        zip(kinds, karkas.__all__, strict=True),
        key=lambda one: (["constant", "class", "function"].index(one[0]), one[1]),
    )


def test_type_checkers_see_the_same_public_names() -> None:
    (branch, *_) = (
        node for node in ast.parse((PACKAGE / "__init__.py").read_text()).body if type(node) is ast.If
    )
    seen = [alias.asname for node in branch.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(filter(None, seen)) == sorted(karkas.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Projekt"):
        karkas.Projekt  # type: ignore[attr-defined]  # noqa: B018


def test_importing_karkas_imports_nothing_heavy() -> None:
    code = "import sys, karkas; print(*[name for name in ('pydantic', 'langgraph', 'typer', 'sqlalchemy') if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == []


def normal(name: str) -> str:
    """A distribution's name as the packaging standard compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_declared_dependency_is_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {normal(re.split(r"[\[<>=~!;]", one)[0]) for one in project["dependencies"]}
    used = {
        name.split(".")[0]
        for folder in (*(ROOT / room for room in ROOMS), PACKAGE)
        for path in folder.rglob("*.py")
        for name in imported(path)
    }
    providers = packages_distributions()
    provided = {normal(provider) for name in used for provider in providers.get(name, [])}
    assert sorted(declared - provided) == []


def test_no_benchmark_hides_a_module_of_the_standard_library() -> None:
    """A script's own folder comes first when it imports."""
    names = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert names
    assert not names & sys.stdlib_module_names
