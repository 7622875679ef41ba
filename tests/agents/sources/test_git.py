import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from karkas.agents.sources import Limits, Reading, discover, read
from karkas.policies.errors import SourceError

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def repository(tmp_path: Path, write: Write) -> Path:
    write("repo/README.md", "# First words\n")
    write("repo/docs/guide.md", "# Guide\n\nSet `r` to 8.\n")
    write("repo/pic.png", b"\x89PNG")
    (tmp_path / "repo/link.md").symlink_to("/etc/hostname")
    folder = tmp_path / "repo"
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "one")
    git(folder, "tag", "v1")
    write("repo/docs/guide.md", "# Guide\n\nSet `r` to 16.\n")
    commit(folder, "two")
    write("repo/docs/guide.md", "# Guide\n\nNot committed.\n")
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", message)


async def readings(root: Path, spec: str) -> dict[str, Reading]:
    found = list(discover(spec, root=root, limits=Limits()))
    return {one.locator["path"]: await read(one, limits=Limits()) for one in found}


@pytest.mark.parametrize(
    ("spec", "said"), [("git:repo", "to 16"), ("git:repo@v1", "to 8"), ("git:repo@HEAD~1", "to 8")]
)
async def test_files_are_read_as_they_were_at_the_commit(repository: Path, spec: str, said: str) -> None:
    read_there = await readings(repository.parent, spec)
    assert said in (read_there["docs/guide.md"].text or "")
    assert read_there["docs/guide.md"].record.rank == "official-docs"
    reasons = {path: one.record.reason for path, one in read_there.items()}
    assert reasons["link.md"] == "a symbolic link"
    assert reasons["pic.png"] == "no reader for .png files"


async def test_equal_files_at_a_commit_have_equal_ids_in_every_clone(repository: Path) -> None:
    git(repository.parent, "clone", "-q", str(repository), "clone")
    here, there = (
        await readings(repository.parent, "git:repo"),
        await readings(repository.parent, "git:clone"),
    )
    assert {path: one.record.id for path, one in here.items()} == {
        path: one.record.id for path, one in there.items()
    }


async def test_a_folder_of_a_repository_gives_only_what_is_in_it(repository: Path) -> None:
    assert list(await readings(repository.parent, "git:repo/docs@main")) == ["docs/guide.md"]


def test_nothing_is_checked_out(repository: Path) -> None:
    list(discover("git:repo@v1", root=repository.parent, limits=Limits()))
    assert "Not committed." in (repository / "docs/guide.md").read_text()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("git:repo@v9", "no commit 'v9'"),
        ("git:repo@--upload-pack=touch x", "no commit"),
        ("git:plain", "not a git repository"),
    ],
)
def test_what_is_no_commit_says_so(repository: Path, spec: str, said: str) -> None:
    (repository.parent / "plain").mkdir()
    with pytest.raises(SourceError, match=said):
        discover(spec, root=repository.parent, limits=Limits())
