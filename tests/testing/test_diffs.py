"""A unified diff that was shown, applied to what was there, gives what it says."""

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karkas.agents.tools.files import unified
from karkas.testing.diffs import file_diffs

TEXTS = st.lists(
    st.sampled_from(["a", "b", "", "--- x", "+++ y", "@@ -1 +1 @@", "\\ no", "(the file"]), max_size=8
)


def text(lines: list[str], *, ended: bool) -> str:
    return "\n".join(lines) + ("\n" if ended and lines else "")


@given(TEXTS, TEXTS, st.sets(st.sampled_from(["old ends", "new ends", "there"])))
def test_a_diff_applied_to_the_old_text_is_the_new_one(old: list[str], new: list[str], so: set[str]) -> None:
    before, after, there = text(old, ended="old ends" in so), text(new, ended="new ends" in so), "there" in so
    shown = f"write_file (reversible): changes a.md\n{unified('a.md', before if there else None, after)}"
    diffs = file_diffs(shown)
    if there and before == after:
        assert diffs == ()
        return
    (diff,) = diffs
    assert (diff.path, diff.makes) == ("a.md", not there)
    assert diff.applied(before if there else "") == after


def test_a_diff_of_something_else_does_not_apply() -> None:
    (diff,) = file_diffs(unified("a.md", "one\ntwo\n", "one\n2\n"))
    assert diff.applied("one\ntwo\n") == "one\n2\n"
    assert diff.applied("one\nthree\n") is None


def test_several_files_and_a_removal_are_read() -> None:
    parts = [
        difflib.unified_diff(["x"], ["y"], "a.md", "a.md", lineterm=""),
        difflib.unified_diff(["x"], [], "b.md", "/dev/null", lineterm=""),
    ]
    first, second = file_diffs("\n".join(line for part in parts for line in part))
    assert (first.path, first.removes, first.applied("x\n")) == ("a.md", False, "y\n")
    assert (second.path, second.removes, second.applied("x\n")) == ("b.md", True, "")


@pytest.mark.parametrize("shown", ["", "to team: hello", "--- a rule\nand more", "+++ only"])
def test_prose_is_no_diff(shown: str) -> None:
    assert file_diffs(shown) == ()
