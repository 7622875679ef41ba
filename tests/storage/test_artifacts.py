import errno
import os
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karkas.policies.actions import Digest
from karkas.policies.errors import NotFoundError, StorageError
from karkas.storage import Artifacts


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@given(data=st.binary(max_size=200))
def test_what_is_put_is_got_under_its_hash(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    artifacts = Artifacts(tmp_path_factory.getbasetemp() / "shared")
    digest = artifacts.put(data)
    assert digest == sha256(data).hexdigest()
    assert artifacts.get(digest) == data


@given(text=st.text(st.characters(), max_size=50))
def test_text_keeps_every_code_point(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    artifacts = Artifacts(tmp_path_factory.getbasetemp() / "shared")
    assert artifacts.text(artifacts.put_text(text)) == text


def test_text_keeps_lone_surrogates(artifacts: Artifacts) -> None:
    assert artifacts.text(artifacts.put_text("a\udcffb")) == "a\udcffb"


def test_equal_json_has_equal_hashes(artifacts: Artifacts) -> None:
    digest = artifacts.put_json({"b": [1, None], "a": "ё"})
    assert digest == artifacts.put_json({"a": "ё", "b": [1, None]})
    assert artifacts.json(digest) == {"a": "ё", "b": [1, None]}


def test_putting_it_again_writes_nothing(artifacts: Artifacts, tmp_path: Path) -> None:
    path = artifacts.path(artifacts.put(b"same"))
    before = path.stat()
    artifacts.put(b"same")
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert files(tmp_path) == [path]


def test_a_broken_artifact_is_named_and_never_returned(artifacts: Artifacts) -> None:
    digest = artifacts.put(b"what was shown")
    artifacts.path(digest).write_bytes(b"what is run")
    with pytest.raises(StorageError, match=digest):
        artifacts.get(digest)


def test_a_broken_artifact_is_mended_by_putting_it_again(artifacts: Artifacts) -> None:
    digest = artifacts.put(b"content")
    artifacts.path(digest).write_bytes(b"")
    artifacts.put(b"content")
    assert artifacts.get(digest) == b"content"


@pytest.mark.parametrize(
    "name", ["", "abc", "../../etc/passwd", "A" * 64, "g" * 64, "0" * 63, "0" * 64 + "\n"]
)
def test_only_a_hash_names_an_artifact(artifacts: Artifacts, name: str) -> None:
    with pytest.raises(NotFoundError):
        artifacts.get(Digest(name))


def test_a_missing_artifact_is_said_to_be_missing(artifacts: Artifacts) -> None:
    with pytest.raises(NotFoundError, match="there is no artifact"):
        artifacts.get(Digest("0" * 64))


def test_a_full_disk_leaves_no_partial_file(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        artifacts.put(b"x" * 1000)
    assert files(tmp_path) == []


def test_many_writers_of_one_content_leave_one_file(artifacts: Artifacts, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: artifacts.put(b"x" * 5000), range(32)))) == 1
    assert len(files(tmp_path)) == 1


def test_an_artifact_is_found_by_the_beginning_of_its_hash(artifacts: Artifacts) -> None:
    digest = artifacts.put(b"one")
    assert artifacts.find(digest[:6]) == digest
    twin = artifacts.path(digest).with_name(digest[:-1] + ("0" if digest[-1] != "0" else "1"))
    twin.write_bytes(b"two")
    with pytest.raises(NotFoundError, match="2 artifacts"):
        artifacts.find(digest[:6])
    assert artifacts.find(digest) == digest
    for nothing in ("00000", "*", digest[:5], "../../.."):
        with pytest.raises(NotFoundError):
            artifacts.find(nothing)
