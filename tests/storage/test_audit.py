import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue
from sqlalchemy import text

from karkas.policies.actions import digest_of
from karkas.policies.errors import StorageError
from karkas.storage import SigningKey, Store
from karkas.storage.audit import Audit, Noted, hash_of, kept
from karkas.storage.database import Database

Tamper = Callable[..., None]


@pytest.fixture
def written(store: Store) -> Store:
    for number in range(5):
        store.note(
            "looked", f"file:{number}", actor="anna", data={"number": number, "path": "ёж \x00 \udcff"}
        )
    return store


def test_an_untouched_log_verifies(written: Store) -> None:
    assert written.verify() == []
    assert [entry.seq for entry in written.audit.log()] == [1, 2, 3, 4, 5]


def test_an_empty_log_verifies(store: Store) -> None:
    assert store.audit.verify() == []
    assert store.audit.log() == []


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE seq = 3", "row 3 (looked file:2) was changed"),
        ("UPDATE audit SET data = '{}' WHERE seq = 3", "row 3 (looked file:2) was changed"),
        ("UPDATE audit SET data = '{' WHERE seq = 3", "row 3 (looked file:2) was changed"),
        (
            "UPDATE audit SET at = '2020-01-01T00:00:00+00:00' WHERE seq = 1",
            "row 1 (looked file:0) was changed",
        ),
        ("UPDATE audit SET event = 'x' WHERE seq = 5", "row 5 (x file:4) was changed"),
        ("DELETE FROM audit WHERE seq = 3", "row 3 is missing"),
        ("DELETE FROM audit WHERE seq IN (2, 3)", "rows 2 to 3 are missing"),
        ("DELETE FROM audit WHERE seq = 1", "row 1 is missing"),
        ("DELETE FROM audit WHERE seq = 5", "remembers row 5: rows were dropped"),
        ("DELETE FROM audit", "remembers row 5: rows were dropped"),
        ("UPDATE audit SET seq = 9 - seq WHERE seq IN (4, 5)", "rows were dropped"),
        ("UPDATE audit SET signature = '00' WHERE seq = 2", "row 2 (looked file:1) was not signed"),
        ("UPDATE audit SET prev = hash WHERE seq = 2", "row 2 (looked file:1) does not follow"),
    ],
)
def test_every_change_of_the_log_is_found(written: Store, tamper: Tamper, sql: str, said: str) -> None:
    if "9 - seq" in sql:
        for step in ("seq = -seq", "seq = 9 + seq"):
            tamper(f"UPDATE audit SET {step} WHERE seq IN (4, 5, -4, -5)")
    else:
        tamper(sql)
    assert said in "\n".join(written.audit.verify()) or "9 - seq" in sql
    assert written.audit.verify() != []


def test_a_log_rewritten_with_another_key_is_found(written: Store, tamper: Tamper, tmp_path: Path) -> None:
    database = Database(written.database.url)
    forger = Audit(database, SigningKey.create(tmp_path / "forged.key"), tmp_path / "forged.head")
    tamper("DELETE FROM audit")
    with database.write() as session:
        forger.append(session, "looked", "file:0", actor="anna", at=written.clock())
    assert forger.verify() == []
    database.close()
    assert any("not signed with this project's key" in line for line in written.audit.verify())
    assert not written.audit.ours()


def test_a_lost_or_broken_mirror_is_said(written: Store, folder: Path) -> None:
    head = folder / "audit.head"
    body = head.read_bytes()
    for content in (None, b"", b"{}", body.replace(b'"signature":"', b'"signature":"00')):
        head.unlink() if content is None else head.write_bytes(content)
        assert len(written.audit.verify()) == 1
    head.write_bytes(body)
    assert written.audit.verify() == []


def test_a_mirror_that_lags_is_no_break_but_one_of_another_history_is(written: Store, folder: Path) -> None:
    head = folder / "audit.head"
    lagging = head.read_bytes()
    written.note("looked", "file:5", actor="anna")
    assert head.read_bytes() != lagging
    head.write_bytes(lagging)
    assert written.audit.verify() == []
    head.write_bytes(lagging.replace(b'"seq":5', b'"seq":4'))
    assert "was rewritten" in written.audit.verify()[0]


def test_the_database_itself_refuses_to_change_the_log(written: Store) -> None:
    for sql in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit WHERE seq = 5"):
        with (
            pytest.raises(StorageError, match="append-only"),
            written.database.connection(write=True) as connection,
        ):
            connection.execute(text(sql))
    assert written.audit.verify() == []


def test_a_change_that_fails_leaves_no_row(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        _append_and_fail(store)
    assert store.audit.log() == []
    assert store.audit.verify() == []


def _append_and_fail(store: Store) -> None:
    with store.database.write() as session:
        store.audit.append(session, "looked", "file:0", actor="anna", at=store.clock())
        raise ZeroDivisionError


def test_the_log_is_read_by_subject_time_and_number(
    written: Store, advance: Callable[[timedelta], object]
) -> None:
    advance(timedelta(hours=1))
    written.note("looked", "file:9", actor="boris")
    assert [entry.seq for entry in written.audit.log(limit=2)] == [5, 6]
    assert [entry.actor for entry in written.audit.log(since=written.clock())] == ["boris"]
    (entry,) = written.audit.log(subject="file:1")
    assert entry.at == written.clock() - timedelta(hours=1)
    assert entry.data == {"number": 1, "path": "ёж \\x00 \\udcff"}


APPEND = """
import sys
from pathlib import Path
from karkas.storage import Store
folder, url, name = sys.argv[1:]
with Store.open(Path(folder), url=url or None) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(25):
        store.note("appended", f"{name}:{number}", actor=name)
"""


def test_processes_that_append_at_once_do_not_fork_the_chain(
    store: Store, folder: Path, url: str | None
) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", APPEND, str(folder), url or "", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert len(store.audit.log()) == 50
    assert store.audit.verify() == []


def test_data_that_is_no_canonical_json_is_refused_and_changes_nothing(store: Store) -> None:
    nested: JsonValue = {"a": float("nan")}
    with pytest.raises(Exception, match="canonical JSON"):
        store.note("looked", "file:0", actor="anna", data=nested)
    assert store.audit.log() == []


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.integers(0, 2**53 - 1))
def test_what_is_hashed_is_the_rfc_8785_form_of_a_row(word: str, seq: int) -> None:
    words = dict.fromkeys(("at", "actor", "event", "subject", "prev"), word)
    row = Noted(seq=seq, data=kept({"a": word}), hash="", signature="", **words)
    assert hash_of(row) == digest_of({"seq": seq, "data": {"a": word}, **words})
