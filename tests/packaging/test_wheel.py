"""What a built wheel contains: everything that runs, and nothing of the tests."""

import subprocess
import sys
from email.parser import Parser
from pathlib import Path
from shutil import copytree, ignore_patterns
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("agents", "workflows", "policies", "storage", "server")
DATA = {".md", ".toml", ".mako", ".sql", ".yaml", ".tcss", ".typed", ".txt", ".json", ".html"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """Built out of a copy, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for name in (*ROOMS, "src", "tests"):
        copytree(
            ROOT / name, source / name, symlinks=True, ignore=ignore_patterns("__pycache__", "*.egg-info")
        )
    command = [
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation"),
        *("--outdir", str(folder), str(source)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("karkas-*.whl")
    return ZipFile(built)


def expected() -> set[str]:
    """Every module and data file of the package, through its links."""
    folders = [(ROOT / room, f"karkas/{room}") for room in ROOMS] + [(ROOT / "src/karkas", "karkas")]
    return {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for folder, name in folders
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in {".py", *DATA}
    }


def test_it_holds_every_module_and_data_file(wheel: ZipFile) -> None:
    assert sorted(expected() - set(wheel.namelist())) == []


def test_it_holds_nothing_else(wheel: ZipFile) -> None:
    extra = {name for name in wheel.namelist() if ".dist-info/" not in name} - expected()
    assert sorted(extra) == []


@pytest.mark.parametrize(
    "name",
    [
        "karkas/py.typed",
        "karkas/template.toml",
        "karkas/cli/app.py",
        "karkas/agents/prompts/critic.md",
        "karkas/server/offline/cues.toml",
        "karkas/storage/migrations/script.py.mako",
        "karkas/storage/migrations/versions/0001_first.py",
    ],
)
def test_what_is_easily_left_out_is_there(wheel: ZipFile, name: str) -> None:
    assert wheel.getinfo(name).file_size >= 0


def test_it_names_its_licence_command_and_python(wheel: ZipFile) -> None:
    (folder,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = Parser().parsestr(wheel.read(f"{folder}/METADATA").decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    assert "karkas = karkas.cli:main" in wheel.read(f"{folder}/entry_points.txt").decode()
