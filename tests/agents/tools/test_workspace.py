import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karkas.agents.tools import Workspace
from karkas.agents.tools.paths import covered, relative
from karkas.agents.tools.workspace import ABSENT, PROTECTED, own_folders, state_of
from karkas.policies.errors import ConfinementError, InDoubtError, StorageError, ToolError

PARTS = st.sampled_from(
    ["..", ".", "", "a", ".git", ".GIT", "zones", "．．", "a\u200b", " a", "x.", "karkas.toml", "/"]
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@given(st.lists(st.one_of(PARTS, st.text(max_size=4)), max_size=5).map("/".join))
def test_a_path_is_refused_or_gets_one_harmless_spelling(path: str) -> None:
    try:
        plain = relative(path)
    except ConfinementError:
        return
    assert relative(plain) == plain
    assert not plain.startswith("/")
    assert ".." not in plain.split("/")
    assert os.path.normpath(plain) == plain
    assert plain.isprintable()


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("~/x", "absolute"),
        ("../x", "'..'"),
        ("a/../../x", "'..'"),
        ("a/．．/x", "'..'"),
        ("a\x00b", "cannot be seen"),
        ("a\u202eb", "cannot be seen"),
        (".g\u200cit/config", "cannot be seen"),
        ("a\nb", "cannot be seen"),
        ("a\ud800", "cannot be seen"),
        ("a／b", "separator"),
        ("a\\..\\b", "backslash"),
        (".git./config", "dot"),
        (".git /config", "space"),
        ("x" * 300, "255 bytes"),
        ("ё" * 128, "255 bytes"),
        ("x/" * 2000, "2048 bytes"),
        (".karkas/signing.key", "protected"),
        (".KARKAS/signing.key", "protected"),
        ("sub/.Git/hooks/pre-commit", "protected"),
        (".ｇｉｔ/config", "protected"),
        ("Karkas.TOML", "protected"),
        ("zones/lora.frame.yaml", "protected"),
        ("ZONES/x", "protected"),
        (".", "workspace itself"),
        ("docs", "a folder"),
        ("docs/a.md/b", "no folder"),
    ],
)
def test_a_path_out_of_bounds_is_refused_with_its_rule(workspace: Workspace, path: str, rule: str) -> None:
    for use in (workspace.read, lambda path: workspace.write(path, b"x")):
        with pytest.raises(ConfinementError, match=rule.replace("'..'", r"'\.\.'")):
            use(path)
    if path not in {".", "docs"}:
        with pytest.raises(ConfinementError):
            workspace.resolve(path)


def test_what_is_protected_at_the_top_is_free_below() -> None:
    assert covered("zones", PROTECTED)
    assert not covered("src/zones/a.py", PROTECTED)
    assert not covered("examples/karkas.toml", PROTECTED)
    assert covered("examples/.karkas/x", PROTECTED)
    assert covered("tools/mine.py", ("/tools/mine.py",))
    assert not covered("tools/other.py", ("/tools/mine.py",))


def test_links_are_not_followed_wherever_they_stand(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("theirs")
    (workspace.root / "file").symlink_to(outside / "f")
    (workspace.root / "folder").symlink_to(outside)
    (workspace.root / "dangling").symlink_to(outside / "new")
    (workspace.root / "inside").symlink_to("docs")
    for path in ("file", "folder/f", "dangling", "inside/a.md", "folder/sub/new"):
        for use in (workspace.read, workspace.resolve, lambda path: workspace.write(path, b"x")):
            with pytest.raises(ConfinementError, match="link"):
                use(path)
    assert (outside / "f").read_text() == "theirs"
    assert names(outside) == ["f"]


def test_a_link_swapped_in_while_writing_leads_nowhere(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    place, parked = workspace.root / "docs", workspace.root / "parked"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            # The writer makes a missing folder anew, so any of these may find its name taken.
            with suppress(OSError):
                place.rename(parked)
            with suppress(OSError):
                place.symlink_to(outside)
            with suppress(OSError):
                place.unlink()
            with suppress(OSError):
                parked.rename(place)
            shutil.rmtree(parked, ignore_errors=True)

    attacker = threading.Thread(target=swap)
    attacker.start()
    refused = 0
    try:
        for number in range(300):
            try:
                workspace.write("docs/a.md", b"%d" % number)
            except ToolError:
                refused += 1
    finally:
        stop.set()
        attacker.join()
    assert names(outside) == []
    assert refused < 300


def test_hard_links_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("x")
    os.link(tmp_path / "theirs", workspace.root / "mine")
    with pytest.raises(ConfinementError, match="2 hard links"):
        workspace.write("mine", b"y")
    assert (tmp_path / "theirs").read_text() == "x"


def test_pipes_sockets_and_devices_are_refused_without_being_opened(workspace: Workspace) -> None:
    os.mkfifo(workspace.root / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(workspace.root)
        try:
            server.bind("sock")
        finally:
            os.chdir(here)
        for path in ("fifo", "sock"):
            with pytest.raises(ConfinementError, match="pipe, socket or device"):
                workspace.read(path)
            with pytest.raises(ConfinementError, match="pipe, socket or device"):
                workspace.write(path, b"x")


@pytest.fixture
def mounted() -> Iterator[Callable[..., None]]:
    """Mounts with `mount(8)` for the length of a test."""
    places: list[Path] = []

    def mount(place: Path, *options: str | Path) -> None:
        if os.geteuid() != 0 or subprocess.run(["mount", *options, place], check=False).returncode:
            pytest.skip("may not mount here")
        places.append(place)

    yield mount
    for place in places:
        subprocess.run(["umount", place], check=True)


def test_a_protected_folder_is_known_by_any_other_name(
    workspace: Workspace, mounted: Callable[..., None]
) -> None:
    alias = workspace.root / "alias"
    alias.mkdir()
    mounted(alias, "--bind", workspace.root / ".karkas")
    with pytest.raises(ConfinementError, match="another name"):
        workspace.read("alias/signing.key")
    with pytest.raises(ConfinementError, match="another name"):
        workspace.resolve("alias")


def test_the_environment_that_runs_karkas_is_out_of_reach() -> None:
    folder = next(folder for folder in own_folders() if folder.name == "policies")
    space = Workspace(folder.parent)
    with pytest.raises(ConfinementError, match="another name"):
        space.write("policies/gates.py", b"")


def test_the_root_folder_is_no_workspace() -> None:
    with pytest.raises(ConfinementError, match="not the root folder"):
        Workspace(Path("/"))


def test_one_look_says_everything_of_the_same_bytes_and_the_next_one_looks_again(
    workspace: Workspace,
) -> None:
    workspace.write("a.md", b"one")
    seen = workspace.look()
    assert (seen.text("a.md"), seen.text("b.md")) == ("one", None)
    workspace.write("a.md", b"two")
    workspace.write("b.md", b"new")
    (workspace.root / "a.md").chmod(0o755)
    assert (seen.text("a.md"), seen.state("a.md"), seen.mode("a.md")) == ("one", state_of(b"one"), 0o644)
    assert seen.state("b.md") == ABSENT
    again = workspace.look()
    assert (again.text("a.md"), again.mode("a.md"), again.text("b.md")) == ("two", 0o755, "new")
    with pytest.raises(ToolError, match="not as it was approved"):
        seen.write("a.md", b"three", expected=seen.state("a.md"))
    with pytest.raises(ToolError, match="changed meanwhile"):
        seen.remove("b.md", expected=state_of(b"old"))
    assert (workspace.text("a.md"), workspace.text("b.md")) == ("two", "new")


def test_a_write_makes_folders_and_says_so(workspace: Workspace) -> None:
    written = workspace.write("new/deep/file.md", b"x")
    assert written.before is None
    assert written.made == ("new", "new/deep")
    assert (workspace.root / "new/deep/file.md").read_bytes() == b"x"


def test_a_write_keeps_the_mode_and_leaves_no_other_file(workspace: Workspace) -> None:
    script = workspace.root / "run.sh"
    script.write_text("old")
    script.chmod(0o750)
    assert workspace.write("run.sh", b"new").before == b"old"
    assert script.stat().st_mode & 0o7777 == 0o750
    assert script.read_bytes() == b"new"
    assert names(workspace.root) == [".git", ".karkas", "docs", "karkas.toml", "run.sh", "zones"]


def test_a_read_only_file_is_left_alone(workspace: Workspace) -> None:
    (workspace.root / "docs/a.md").chmod(0o444)
    with pytest.raises(ToolError, match="read-only"):
        workspace.write("docs/a.md", b"x")


def test_a_full_disk_loses_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for path in ("docs/a.md", "docs/new/b.md"):
        with pytest.raises(ToolError, match="No space left on device; nothing was changed"):
            workspace.write(path, b"new")
    monkeypatch.undo()
    assert (workspace.root / "docs/a.md").read_text() == "one\ntwo\nthree\n"
    assert names(workspace.root / "docs") == ["a.md"]


def test_a_full_tmpfs_loses_nothing(tmp_path: Path, mounted: Callable[..., None]) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mounted(place, "-t", "tmpfs", "-o", "size=64k", "tmpfs")
    (place / "a").write_text("old")
    with pytest.raises(ToolError, match="No space left"):
        Workspace(place).write("a", b"x" * 200_000)
    assert names(place) == ["a"]
    assert (place / "a").read_text() == "old"


def test_a_file_in_another_state_than_approved_is_left_alone(workspace: Workspace) -> None:
    approved = workspace.state("docs/a.md")
    (workspace.root / "docs/a.md").write_text("edited meanwhile")
    with pytest.raises(ToolError, match="not as it was approved"):
        workspace.write("docs/a.md", b"new", expected=approved)
    with pytest.raises(ToolError, match="not as it was approved"):
        workspace.write("docs/a.md", b"new", expected="absent")
    assert (workspace.root / "docs/a.md").read_text() == "edited meanwhile"
    assert names(workspace.root / "docs") == ["a.md"]


@pytest.fixture(params=["unnamed", "named"])
def without_unnamed_files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also as on a file system that knows no files without a name."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE")


@pytest.mark.usefixtures("without_unnamed_files")
def test_writes_on_any_file_system(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write("docs/a.md", b"new", expected=workspace.state("docs/a.md"))
    workspace.write("docs/b.md", b"b", expected="absent")
    with pytest.raises(ToolError, match="not as it was approved"):
        workspace.write("docs/b.md", b"c", expected="absent")
    assert workspace.read("docs/a.md") == b"new"
    assert workspace.read("docs/b.md") == b"b"

    def failing(*args: object, **kwargs: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(ToolError, match="Input/output error"):
        workspace.write("docs/a.md", b"newer")
    assert workspace.read("docs/a.md") == b"new"
    assert names(workspace.root / "docs") == ["a.md", "b.md"]


def test_a_kill_leaves_the_old_file_or_the_new_one_and_nothing_else(workspace: Workspace) -> None:
    size, script = (
        2_000_000,
        (
            "import sys; from pathlib import Path; from karkas.agents.tools import Workspace\n"
            "space = Workspace(Path(sys.argv[1])); print(flush=True)\n"
            "while True:\n    for byte in b'AB': space.write('docs/a.md', bytes([byte]) * int(sys.argv[2]))\n"
        ),
    )
    workspace.write("docs/a.md", b"A" * size)
    for wait in (0.0, 0.013, 0.031):
        with subprocess.Popen(
            [sys.executable, "-c", script, workspace.root, str(size)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(wait)
            writer.kill()
        assert workspace.read("docs/a.md") in {b"A" * size, b"B" * size}
        assert names(workspace.root / "docs") == ["a.md"]


def test_a_new_file_never_overwrites_one_that_appears_in_the_last_moment(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def late(*args: object, **kwargs: object) -> None:
        (workspace.root / "docs/new.md").write_text("theirs")
        real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(ToolError, match="appeared meanwhile"):
        workspace.write("docs/new.md", b"ours", expected="absent")
    assert (workspace.root / "docs/new.md").read_text() == "theirs"
    assert names(workspace.root / "docs") == ["a.md", "new.md"]


def test_a_folder_that_cannot_be_synced_leaves_doubt_not_failure(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def failing(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(InDoubtError, match="was written"):
        workspace.write("docs/a.md", b"new")
    assert (workspace.root / "docs/a.md").read_bytes() == b"new"


def test_nothing_is_overwritten_that_cannot_be_backed_up(workspace: Workspace) -> None:
    class Full:
        def put(self, data: bytes) -> str:
            raise StorageError("the disk is full")

    space = Workspace(workspace.root, artifacts=Full())  # type: ignore[arg-type]
    with pytest.raises(ToolError, match="cannot be backed up"):
        space.write("docs/a.md", b"new")
    assert (workspace.root / "docs/a.md").read_text() == "one\ntwo\nthree\n"


def test_a_file_too_large_to_show_is_refused(workspace: Workspace) -> None:
    with (workspace.root / "big").open("wb") as stream:
        stream.truncate(9 * 1024 * 1024)
    with pytest.raises(ToolError, match="too large"):
        workspace.read("big")


def test_proc_self_is_out_of_reach(workspace: Workspace) -> None:
    for path in ("/proc/self/environ", "proc/../../../../../proc/self/environ"):
        with pytest.raises(ConfinementError):
            workspace.read(path)
