"""Calls in flight at a model server, over processes: never more than there are slots, and none is lost with a process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from karkas.storage import Store, slots

ADDRESS = "http://server:8000"

USER = """
import sys, time, random
from pathlib import Path
from karkas.storage import Store
folder, url, limit, seconds, first, file = sys.argv[1:]
store = Store.open(Path(folder), url=url or None)
turnstile = store.slots("http://server:8000", int(limit))
print("ready", flush=True)
sys.stdin.readline()
end = time.monotonic() + float(seconds)
with open(file, "a", buffering=1) as told:
    while time.monotonic() < end:
        time.sleep(random.uniform(0.005, 0.015))
        slot = turnstile.take(first=bool(first))
        if slot is None:
            continue
        told.write(f"{time.monotonic():.6f} 1\\n")
        time.sleep(random.uniform(0.002, 0.02))
        told.write(f"{time.monotonic():.6f} -1\\n")
        slot.free()
turnstile.leave()
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(store: Store, folder: Path, url: str | None, tmp_path: Path) -> Iterator[Start]:
    """Starts a process that takes slots as quickly as it can, and writes down when; it waits for a line."""
    begun: list[subprocess.Popen[str]] = []

    def start(name: str, *, limit: int, seconds: float, first: bool = False) -> subprocess.Popen[str]:
        args = (str(folder), url or "", str(limit), str(seconds), "1" if first else "", str(tmp_path / name))
        user = subprocess.Popen(
            [sys.executable, "-c", USER, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        begun.append(user)
        assert user.stdout is not None
        assert user.stdout.readline() == "ready\n"
        return user

    yield start
    for user in begun:
        user.kill()
        user.communicate()


def go(*users: subprocess.Popen[str]) -> None:
    for user in users:
        assert user.stdin is not None
        user.stdin.write("\n")
        user.stdin.flush()


def calls(*files: Path) -> list[tuple[float, int]]:
    lines = [line.split() for file in files for line in file.read_text().splitlines()]
    return sorted((float(at), int(by)) for at, by in lines)


def test_all_processes_together_keep_to_the_limit_and_each_gets_its_share(
    start: Start, tmp_path: Path
) -> None:
    users = [start(name, limit=2, seconds=3) for name in "abcd"]
    go(*users)
    for user in users:
        assert user.wait(30) == 0
    in_flight = most = 0
    for _, by in calls(*(tmp_path / name for name in "abcd")):
        in_flight += by
        most = max(most, in_flight)
    assert most == 2
    shares = [len(calls(tmp_path / name)) for name in "abcd"]
    assert min(shares) > max(shares) / 5


def test_a_killed_process_leaves_no_slot_taken(store: Store, start: Start, tmp_path: Path) -> None:
    user = start("a", limit=1, seconds=30)
    go(user)
    while not (tmp_path / "a").exists() or not calls(tmp_path / "a"):
        time.sleep(0.01)
    os.kill(user.pid, signal.SIGKILL)
    user.wait()
    assert soon(store.slots(ADDRESS, 1))


def soon(turnstile: Any, *, first: bool = False) -> Any:
    give_up = time.monotonic() + 3
    while (slot := turnstile.take(first=first)) is None and time.monotonic() < give_up:
        time.sleep(0.02)
    return slot


@pytest.fixture
def other(store: Store, folder: Path, url: str | None) -> Iterator[Store]:
    """As another process sees it."""
    with Store.open(folder, url=url) as other:
        yield other


def test_while_a_person_waits_nobody_else_gets_a_slot(store: Store, other: Store) -> None:
    night, person = store.slots(ADDRESS, 1), other.slots(ADDRESS, 1)
    taken = night.take(first=False)
    assert taken is not None
    assert person.take(first=True) is None
    taken.free()
    assert [night.take(first=False) for _ in range(5)] == [None] * 5
    persons = person.take(first=True)
    assert persons is not None
    persons.free()
    assert soon(night)


def test_a_person_who_gave_up_is_not_waited_for(store: Store, other: Store) -> None:
    night, person = store.slots(ADDRESS, 1), other.slots(ADDRESS, 1)
    taken = night.take(first=False)
    assert taken is not None
    assert person.take(first=True) is None
    person.leave()
    taken.free()
    assert soon(night)


def test_who_comes_does_not_pass_who_waits(store: Store, other: Store) -> None:
    first, second = store.slots(ADDRESS, 1), other.slots(ADDRESS, 1)
    taken = store.slots(ADDRESS, 1).take(first=False)
    assert taken is not None
    assert first.take(first=False) is None
    taken.free()
    assert second.take(first=False) is None
    assert first.take(first=False) is not None


def test_a_person_whose_process_was_stopped_stops_the_night_for_seconds_only(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "STALE_S", 0.3)
    night, person = store.slots(ADDRESS, 1), other.slots(ADDRESS, 1)
    taken = night.take(first=False)
    assert taken is not None
    assert person.take(first=True) is None
    taken.free()
    assert night.take(first=False) is None
    assert soon(night)


def test_each_server_has_its_own(store: Store, other: Store) -> None:
    assert store.slots(ADDRESS, 1).take(first=False)
    assert other.slots(ADDRESS, 1).take(first=False) is None
    assert other.slots("http://server:8001", 1).take(first=False)


def test_two_models_at_one_address_share_its_slots_in_one_process(store: Store) -> None:
    one, two = store.slots(ADDRESS, 2), store.slots(ADDRESS, 2)
    first, second = one.take(first=False), two.take(first=False)
    assert first is not None
    assert second is not None
    assert one.take(first=False) is None
    second.free()
    assert one.take(first=False) is not None
