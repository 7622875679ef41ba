"""What runs are doing, written seldom and seen from other processes."""

from pathlib import Path
from time import monotonic, sleep

import pytest

from karkas.policies.errors import StorageError
from karkas.storage import Store, worker_name
from karkas.storage import doing as doing_module


def until_written(store: Store, run: str, text: str) -> None:
    give_up = monotonic() + 10
    while (found := store.doings.now().get(run)) is None or found.text != text:
        assert monotonic() < give_up, found
        sleep(0.02)


def test_a_line_is_seen_from_elsewhere_and_the_next_one_takes_its_place(
    store: Store, folder: Path, url: str | None
) -> None:
    run = store.runs.create("explore")
    store.doings.tell(run.id, "reads", done=1, total=9)
    until_written(store, run.id, "reads")
    store.doings.tell(run.id, "thinks")
    store.doings.close()
    with Store.open(folder, url=url) as elsewhere:
        seen = elsewhere.doings.now()[run.id]
    assert (str(seen), seen.worker) == ("thinks", worker_name())
    assert len(store.doings.now()) == 1


def test_of_many_lines_few_are_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0
    write = store.database.write

    def counted() -> object:
        nonlocal written
        written += 1
        return write()

    runs = [store.runs.create("explore").id for _ in range(20)]
    monkeypatch.setattr(store.database, "write", counted)
    for number in range(500):
        store.doings.tell(runs[number % 20], f"step {number}", done=number, total=500)
    store.doings.close()
    assert written <= 2, "the first at once, the rest together"
    assert {one.text for one in store.doings.now().values()} == {f"step {n}" for n in range(480, 500)}


def test_what_is_told_while_others_are_written_is_written_after_the_pause(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doing_module, "PAUSE_S", 0.1)
    run = store.runs.create("explore")
    for number in range(5):
        store.doings.tell(run.id, f"step {number}")
        sleep(0.04)
    until_written(store, run.id, "step 4")


def test_a_store_that_takes_nothing_holds_nobody_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> object:
        raise StorageError("the disk is full")

    run = store.runs.create("explore")
    with monkeypatch.context() as broken:
        broken.setattr(store.database, "write", refused)
        store.doings.tell(run.id, "reads")
        store.doings.close()
    assert run.id not in store.doings.now()


def test_a_long_line_and_one_that_no_database_takes_are_kept_as_far_as_can_be(store: Store) -> None:
    run = store.runs.create("explore")
    store.doings.tell(run.id, "a\x00b\ud800" + "x" * 9_999)
    store.doings.close()
    text = store.doings.now()[run.id].text
    assert text.startswith("a\\x00b")
    assert len(text) < 400
