"""What is seen of effects, inside the watched folder and outside."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from karkas import Workspace
from karkas.testing.watch import changed, snapshot, watching


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


CHANGES: list[Callable[[Path], Any]] = [
    lambda there: (there / "made.txt").write_text("x"),
    lambda there: (there / "old.txt").write_text("y"),
    lambda there: (there / "old.txt").open("a").close(),
    lambda there: (there / "old.txt").unlink(),
    lambda there: (there / "old.txt").rename(there / "new.txt"),
    lambda there: (there / "old.txt").chmod(0o600),
    lambda there: (there / "folder").mkdir(),
    lambda there: (there / "link").symlink_to("old.txt"),
    lambda there: os.link(there / "old.txt", there / "hard"),
    lambda there: os.truncate(there / "old.txt", 0),
    lambda there: shutil.copy(there / "old.txt", there / "copied"),
    lambda there: os.close(os.open(there / "raw", os.O_CREAT | os.O_WRONLY)),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_outside_is_seen(root: Path, tmp_path: Path, change: Callable[[Path], Any]) -> None:
    (tmp_path / "old.txt").write_text("x")
    with watching(root) as seen:
        change(tmp_path)
    assert seen.files


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_inside_is_left_to_the_snapshot(root: Path, change: Callable[[Path], Any]) -> None:
    (root / "old.txt").write_text("x")
    with watching(root) as seen:
        change(root)
    assert seen.files == ()


def test_reading_and_passing_files_are_no_changes(root: Path, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("x")
    with watching(root) as seen:
        assert (tmp_path / "old.txt").read_text() == "x"
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "passing").write_text("x")
        Workspace(root).write("a/b.md", b"inside, by descriptor")
    assert (seen.files, seen.programs, seen.connections) == ((), [], [])


def test_programs_and_connections_are_seen(root: Path) -> None:
    with watching(root) as seen:
        subprocess.run(["/bin/true"], check=True)
        with socket.socket() as end, pytest.raises(OSError):
            end.connect(("127.0.0.1", 9))
    assert seen.programs == ["/bin/true"]
    assert "127.0.0.1" in seen.connections[0]


def test_after_watching_nothing_is_seen(root: Path, tmp_path: Path) -> None:
    with watching(root) as seen:
        pass
    (tmp_path / "later").write_text("x")
    assert seen.files == ()


def test_a_snapshot_tells_bytes_modes_links_and_folders_apart(root: Path) -> None:
    for name in ("bytes", "mode", "gone", "zones", "karkas.toml"):
        (root / name).write_text("x")
    (root / ".karkas").mkdir()
    before = snapshot(root)
    assert set(before) == {"bytes", "mode", "gone"}
    (root / "bytes").write_text("y")
    (root / "mode").chmod(0o700)
    (root / "gone").unlink()
    (root / "link").symlink_to("bytes")
    (root / "folder/zones").mkdir(parents=True)
    (root / "zones").write_text("y")
    assert changed(before, snapshot(root)) == ("bytes", "folder", "folder/zones", "gone", "link", "mode")
