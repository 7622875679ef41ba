import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from karkas.policies.errors import StorageError
from karkas.storage import SigningKey, Store
from karkas.storage.keys import REMEMBERED


def test_what_was_signed_verifies_and_nothing_else_does(tmp_path: Path) -> None:
    key, other = SigningKey.create(tmp_path / "key"), SigningKey.create(tmp_path / "other")
    signature = key.sign(b"approve")
    assert key.verifies(b"approve", signature)
    assert SigningKey.load(tmp_path / "key").verifies(b"approve", signature)
    assert key.fingerprint != other.fingerprint
    for data, one in (
        (b"reject", signature),
        (b"approve", other.sign(b"approve")),
        (b"approve", ""),
        (b"approve", None),
        (b"approve", "zz"),
        (b"approve", "00" * 64),
    ):
        assert not key.verifies(data, one)


def test_only_its_owner_may_read_the_key(tmp_path: Path) -> None:
    SigningKey.create(tmp_path / "key")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused_with_the_mend(tmp_path: Path, mode: int) -> None:
    SigningKey.create(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(StorageError, match=f"chmod 600 {tmp_path / 'key'}"):
        SigningKey.load(tmp_path / "key")


def test_a_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(StorageError, match="no signing key"):
        SigningKey.load(tmp_path / "key")


def test_threads_that_make_a_key_get_the_same_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: SigningKey.create(tmp_path / "key").fingerprint, range(8)))
    assert len(set(keys)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_lost_key_is_not_replaced_beside_old_decisions(folder: Path) -> None:
    with Store.open(folder, create=True) as store:
        store.runs.create("act")
    (folder / "signing.key").unlink()
    for create in (True, False):
        with pytest.raises(StorageError, match="restore"):
            Store.open(folder, create=create)
        assert not (folder / "signing.key").exists()


def test_a_second_folder_does_not_sign_with_a_key_of_its_own(
    store: Store, url: str | None, tmp_path: Path
) -> None:
    store.runs.create("act")
    second = tmp_path / "second"
    location = url or f"sqlite:///{store.database.url.database}"
    with pytest.raises(StorageError, match="written with another signing key"):
        Store.open(second, url=location, create=True)
    assert not (second / "signing.key").exists()
    (second / "signing.key").write_bytes(store.key.path.read_bytes())
    (second / "signing.key").chmod(0o600)
    with Store.open(second, url=location) as opened:
        assert len(opened.runs.list()) == 1


def test_a_signature_that_was_right_once_is_right_for_nothing_else(tmp_path: Path) -> None:
    key, other = SigningKey.create(tmp_path / "a"), SigningKey.create(tmp_path / "b")
    signature = key.sign(b"one")
    for _ in range(2):
        assert key.verifies(b"one", signature)
        assert not key.verifies(b"two", signature)
        assert not key.verifies(b"one", signature.upper())
        assert not key.verifies(b"one", f"{signature} ")
        assert not key.verifies(b"one", signature[:-2])
        assert not other.verifies(b"one", signature)
    for number in range(REMEMBERED + 1):
        key.sign(str(number).encode())
    assert key.verifies(b"one", signature)
