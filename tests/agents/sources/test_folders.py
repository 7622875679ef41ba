from collections.abc import Callable
from pathlib import Path

import pytest

from karkas.agents.sources import Found, Limits, discover
from karkas.policies.distillates import SourceRank
from karkas.policies.errors import SourceError

Write = Callable[[str, str | bytes], Path]


def found(root: Path, spec: str = ".", limits: Limits | None = None) -> dict[str, Found]:
    return {one.path: one for one in discover(spec, root=root, limits=limits or Limits())}


def test_what_is_not_read_is_found_with_its_reason(tmp_path: Path, write: Write) -> None:
    write("a.md", "# A")
    write("LICENSE", "Apache")
    write("sub/LICENSE.md", "Apache")
    write("one.png", b"\x89PNG")
    write("pics/a.svg", "<svg/>")
    write("pics/b.svg", "<svg/>")
    write("c.svg", "<svg/>")
    write("empty.md", "")
    write("big.md", "x" * 101)
    write(".git/HEAD", "ref")
    write("env3/pyvenv.cfg", "")
    write("tests/test_a.py", "x = 1")
    write("src/a_test.py", "x = 1")
    write("env3/lib/x.py", "x = 1")
    write("__pycache__/x.py", "x = 1")
    reasons = {path: one.skip for path, one in found(tmp_path, limits=Limits(max_bytes=100)).items()}
    assert reasons == {
        "a.md": None,
        "LICENSE": "licence text",
        "sub/LICENSE.md": "licence text",
        "one.png": "no reader for .png files",
        "**/*.svg": "no reader for .svg files (3 files)",
        "**/*.py": "test code (2 files)",
        "empty.md": "empty",
        "big.md": "larger than 100 bytes",
        ".git": "hidden folder",
        "env3": "virtual environment",
        "__pycache__": "cache",
    }


def test_the_order_and_the_keys_are_stable(tmp_path: Path, write: Write) -> None:
    for name in ("b/z.md", "a.md", "b/a.md", "c.md"):
        write(name, "# x")
    assert [one.key for one in discover(".", root=tmp_path, limits=Limits())] == [
        "file:a.md",
        "file:c.md",
        "file:b/a.md",
        "file:b/z.md",
    ]


def test_links_are_not_followed(tmp_path: Path, write: Write) -> None:
    write("docs/a.md", "# A")
    write("secret/b.md", "# B")
    (tmp_path / "docs/loop").symlink_to(tmp_path / "docs")
    (tmp_path / "docs/same.md").symlink_to(tmp_path / "docs/a.md")
    (tmp_path / "docs/out.md").symlink_to(tmp_path / "secret/b.md")
    reasons = {path: one.skip for path, one in found(tmp_path, "docs").items()}
    assert reasons == {
        "docs/a.md": None,
        "docs/loop": "a link to what is listed itself",
        "docs/same.md": "a link to what is listed itself",
        "docs/out.md": "a link out of the folder",
    }


def test_files_over_the_limit_are_on_the_record(tmp_path: Path, write: Write) -> None:
    for number in range(3):
        write(f"{number}.md", "# x")
    skipped = [one for one in found(tmp_path, limits=Limits(max_files=2)).values() if one.skip]
    assert [one.path for one in skipped] == ["2.md"]
    assert "narrower folder" in (skipped[0].skip or "")


@pytest.mark.parametrize(
    ("path", "rank"),
    [
        ("pkg/src/x.py", SourceRank.CODE),
        ("pkg/docs/guide.md", SourceRank.OFFICIAL_DOCS),
        ("pkg/docs/changelog.rst", SourceRank.REPOSITORY),
        ("pkg/README.md", SourceRank.README),
        ("pkg/CONTRIBUTING.md", SourceRank.REPOSITORY),
        ("pkg/notes.txt", SourceRank.NOTE),
        ("pkg/changes_in_wind.md", SourceRank.REPOSITORY),
        ("pkg/paper.pdf", SourceRank.UNKNOWN),
        ("site/conf.py", SourceRank.CODE),
        ("site/guide/start.md", SourceRank.OFFICIAL_DOCS),
    ],
)
def test_the_rank_follows_from_name_and_place(
    tmp_path: Path, write: Write, path: str, rank: SourceRank
) -> None:
    write("site/conf.py", "x = 1")
    write(path, "# x")
    assert found(tmp_path)[path].rank is rank


def test_several_projects_in_a_folder_are_the_frameworks_of_their_documents(
    tmp_path: Path, write: Write
) -> None:
    for name in (
        "lora/peft/README.md",
        "lora/peft/docs/a.md",
        "lora/axolotl/docs/b.md",
        "lora/axolotl/README.md",
    ):
        write(name, "# x")
    write("lora/loose.md", "# x")
    meta = {path: one.meta for path, one in found(tmp_path, "lora").items()}
    assert meta == {
        "lora/loose.md": {},
        "lora/axolotl/README.md": {"framework": "axolotl"},
        "lora/axolotl/docs/b.md": {"framework": "axolotl"},
        "lora/peft/README.md": {"framework": "peft"},
        "lora/peft/docs/a.md": {"framework": "peft"},
    }


def test_sections_of_one_documentation_are_no_frameworks(tmp_path: Path, write: Write) -> None:
    for name in ("docs/guides/a.md", "docs/methods/b.md"):
        write(name, "# x")
    assert all(one.meta == {} for one in found(tmp_path, "docs").values())


def test_modules_are_named_from_the_folder_on_the_import_path(tmp_path: Path, write: Write) -> None:
    write("tool/README.md", "# Tool")
    write("tool/src/tool/run.py", "x = 1")
    assert found(tmp_path, "tool")["tool/src/tool/run.py"].meta == {"framework": "tool", "module": "tool.run"}


def test_a_folder_outside_the_project_is_located_absolutely(tmp_path: Path, write: Write) -> None:
    write("elsewhere/a.md", "# x")
    (tmp_path / "project").mkdir()
    one = next(discover("../elsewhere", root=tmp_path / "project", limits=Limits()))
    assert one.path == "elsewhere/a.md"
    assert one.locator == {"path": f"{(tmp_path / 'elsewhere').resolve()}/a.md"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nowhere", "no file or folder 'nowhere'"),
        ("ftp://example.org/x", "use http or https"),
        ("pkg:no-such-distribution", "pip install no-such-distribution"),
        ("pkg:", "pip install"),
        ("git:nowhere", "no folder 'nowhere'"),
        ("https://example.org/", "the host example.org is not allowed"),
        ("https:///x", "not an http"),
    ],
)
def test_a_spec_of_no_use_says_what_to_do_at_once(tmp_path: Path, spec: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        discover(spec, root=tmp_path, limits=Limits())
