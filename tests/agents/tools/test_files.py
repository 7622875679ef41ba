from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karkas.agents.tools import Tool, Workspace, perform, undo
from karkas.agents.tools.files import DIFF_LINES, edit_file, unified, write_file
from karkas.policies.actions import Action
from karkas.policies.errors import ConfinementError, StaleError, ToolError
from karkas.storage import Claimed, Store

Permitted = Callable[[Tool, Action], Claimed]
LINES = st.lists(
    st.sampled_from(["a", "b", "-- a", "++ b", "@@ -1 +1 @@", "\\ no newline at end of file", ""])
)


def test_a_new_file_is_shown_whole(workspace: Workspace) -> None:
    action = write_file.action(path="./docs//b.md", content="# B\n\n\ttext\u202e\nend")
    assert write_file.show(action, workspace).split("\n") == [
        "write_file (reversible): makes docs/b.md",
        "--- /dev/null",
        "+++ docs/b.md",
        "@@ -0,0 +1,4 @@",
        "+# B",
        "+",
        "+⇥   text⟦U+202E⟧",
        "+end",
        "\\ no newline at end of file",
    ]
    assert write_file.preconditions(action, workspace) == {"docs/b.md": "absent"}
    assert write_file.paths(action) == ("docs/b.md",)


def test_a_change_is_shown_as_a_diff(workspace: Workspace) -> None:
    (workspace.root / "docs/a.md").chmod(0o755)
    action = edit_file.action(path="docs/a.md", old="two", new="2\r")
    assert edit_file.show(action, workspace).split("\n") == [
        "edit_file (reversible): changes docs/a.md, mode 0755 is kept",
        "--- docs/a.md",
        "+++ docs/a.md",
        "@@ -1,3 +1,3 @@",
        " one",
        "-two",
        "+2⟦U+000D⟧",
        " three",
    ]


def test_what_would_change_nothing_says_so(workspace: Workspace) -> None:
    action = write_file.action(path="docs/a.md", content="one\ntwo\nthree\n")
    assert "exactly this content already" in write_file.show(action, workspace)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("a\n", "a", "\\ no newline"),
        ("a", "a\n", "\\ no newline"),
        ("a\n", "", "becomes empty"),
        ("", "a\n", "was empty"),
    ],
)
def test_ends_of_files_are_told(before: str, after: str, told: str) -> None:
    assert told in unified("f", before, after)


@pytest.mark.parametrize("limit", [DIFF_LINES, 0])
@given(before=LINES, after=LINES)
def test_the_diff_says_exactly_what_happens(limit: int, before: list[str], after: list[str]) -> None:
    import karkas.agents.tools.files as module

    old, new = ("".join(f"{line}\n" for line in lines) for lines in (before, after))
    if not old or not new or old == new:
        return
    kept, module.DIFF_LINES = module.DIFF_LINES, limit
    try:
        diff = unified("f", old, new)
    finally:
        module.DIFF_LINES = kept
    assert applied(old, diff) == new


def applied(old: str, diff: str) -> str:
    """What a reader who takes the diff at its word gets."""
    lines, result, at = old.splitlines(keepends=True), [], 0
    for line in diff.split("\n")[2:]:
        if line.startswith("@@"):
            start, _, count = line.split()[1][1:].partition(",")
            begin = int(start) - (count != "0")
            result += lines[at:begin]
            at = begin
        elif line.startswith(("-", " ")):
            assert lines[at] == line[1:] + "\n"
            result += [lines[at]] if line[0] == " " else []
            at += 1
        else:
            result.append(line[1:] + "\n")
    return "".join(result + lines[at:])


def test_a_huge_change_is_shown_whole_and_soon() -> None:
    old = "".join(f"{number}\n" for number in range(60_000))
    new = "".join(f"{number}\n" for number in range(60_000, 0, -1))
    assert applied(old, unified("f", old, new)) == new


@pytest.mark.parametrize(
    ("old", "said"), [("four", "occurs 0 times"), ("o", "occurs 2 times"), ("one\ntwo", "CR LF")]
)
def test_an_edit_needs_exactly_one_place(workspace: Workspace, old: str, said: str) -> None:
    if "CR" in said:
        (workspace.root / "docs/a.md").write_bytes(b"one\r\ntwo\r\n")
    with pytest.raises(ToolError, match=said):
        edit_file.show(edit_file.action(path="docs/a.md", old=old, new="x"), workspace)


def test_there_is_nothing_to_edit_in_a_missing_or_binary_file(workspace: Workspace) -> None:
    with pytest.raises(ToolError, match="write_file"):
        edit_file.show(edit_file.action(path="docs/none.md", old="a", new="x"), workspace)
    (workspace.root / "docs/b.bin").write_bytes(b"a\xff")
    for tool, args in ((edit_file, {"old": "a", "new": "b"}), (write_file, {"content": "b"})):
        with pytest.raises(ToolError, match="not UTF-8"):
            tool.show(tool.action(path="docs/b.bin", **args), workspace)


@pytest.mark.parametrize(
    "path", ["../x", ".git/config", "karkas.toml", "zones/lora.frame.yaml", ".karkas/signing.key"]
)
def test_no_action_reaches_out_of_the_workspace(workspace: Workspace, path: str) -> None:
    with pytest.raises(ConfinementError):
        write_file.show(write_file.action(path=path, content="x"), workspace)


async def test_a_write_happens_as_shown_and_can_be_taken_back(
    workspace: Workspace, permitted: Permitted
) -> None:
    action = write_file.action(path="docs/new/b.md", content="hi\n")
    done = await perform(write_file, permitted(write_file, action), workspace)
    assert (workspace.root / "docs/new/b.md").read_text() == "hi\n"
    assert done.result["changed"] is True
    assert done.shown == "wrote docs/new/b.md (3 bytes)"
    assert done.undo is not None
    assert await undo(write_file, done.undo, workspace) == "removed docs/new/b.md"
    assert [path.name for path in (workspace.root / "docs").iterdir()] == ["a.md"]


@pytest.mark.parametrize("with_artifacts", [False, True])
async def test_an_edit_can_be_taken_back_unless_the_file_changed_since(
    workspace: Workspace, store: Store, permitted: Permitted, *, with_artifacts: bool
) -> None:
    space = Workspace(workspace.root, artifacts=store.artifacts if with_artifacts else None)
    file = workspace.root / "docs/a.md"
    file.chmod(0o640)
    action = edit_file.action(path="docs/a.md", old="two", new="2")
    done = await perform(edit_file, permitted(edit_file, action), space)
    assert file.read_text() == "one\n2\nthree\n"
    assert done.undo is not None
    assert ("content" in done.undo) is not with_artifacts
    file.write_text("mine now")
    with pytest.raises(ToolError, match="changed since"):
        await undo(edit_file, done.undo, space)
    assert file.read_text() == "mine now"
    file.write_text("one\n2\nthree\n")
    assert await undo(edit_file, done.undo, space) == "restored docs/a.md"
    assert file.read_text() == "one\ntwo\nthree\n"
    assert file.stat().st_mode & 0o777 == 0o640


async def test_a_file_that_changed_after_approval_is_not_touched(
    workspace: Workspace, permitted: Permitted
) -> None:
    claimed = permitted(write_file, write_file.action(path="docs/a.md", content="new\n"))
    (workspace.root / "docs/a.md").write_text("edited by its owner\n")
    with pytest.raises(StaleError, match=r"docs/a\.md changed"):
        await perform(write_file, claimed, workspace)
    assert (workspace.root / "docs/a.md").read_text() == "edited by its owner\n"


async def test_a_link_put_there_after_approval_is_not_followed(
    workspace: Workspace, permitted: Permitted, tmp_path: Path
) -> None:
    (tmp_path / "theirs").write_text("one\ntwo\nthree\n")
    claimed = permitted(write_file, write_file.action(path="docs/a.md", content="new\n"))
    (workspace.root / "docs/a.md").unlink()
    (workspace.root / "docs/a.md").symlink_to(tmp_path / "theirs")
    with pytest.raises(StaleError, match="symbolic link"):
        await perform(write_file, claimed, workspace)
    assert (tmp_path / "theirs").read_text() == "one\ntwo\nthree\n"
