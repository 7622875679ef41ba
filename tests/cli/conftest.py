"""A real project in a temporary folder, and the command line on it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from karkas.cli.app import app
from karkas.project import Project

KARKAS = Path(sys.executable).with_name("karkas")

ZONES = """
[zones.lora]
understanding = 2
description = "Fine-tuning with low-rank adapters"
scope = {paths = ["train/**"], topics = ["lora", "адаптер"]}

[zones.deploy]
understanding = 5
critical = true
level = "autonomous"
"""


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Ended]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An initialised project with two zones; it is the current folder."""
    root = tmp_path / "project"
    Project.init(root).close()
    with (root / "karkas.toml").open("a", encoding="utf-8") as file:
        file.write(ZONES)
    monkeypatch.chdir(root)
    monkeypatch.delenv("KARKAS_DEBUG", raising=False)
    monkeypatch.delenv("KARKAS_PROJECT", raising=False)
    return root


@pytest.fixture
def cli() -> Cli:
    def run(*args: str) -> Ended:
        ended = CliRunner().invoke(app, args)
        return Ended(ended.exit_code, ended.stdout, ended.stderr)

    return run


@pytest.fixture
def karkas(root: Path) -> Cli:
    """The real command in a process of its own, in the project; keywords go into its environment."""

    def run(*args: str, **env: str) -> Ended:
        ended = subprocess.run(
            [KARKAS, *args],
            cwd=root,
            env=os.environ | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run
