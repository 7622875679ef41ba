"""Who lives and who is dead, over processes; a worker that was thought dead and comes back finds itself shut out."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from karkas.policies.errors import StorageError
from karkas.storage import BuriedError, LeaseError, LeaseLostError, Run, RunStatus, Store, sessions, workers

WORKER = """
import sys
from pathlib import Path
from karkas.storage import Store
folder, url, run = sys.argv[1:]
store = Store.open(Path(folder), url=url or None)
worker = store.workers.join(2)
with store.runs.lease(run) as lease:
    print(worker.id, flush=True)
    for line in sys.stdin:
        try:
            exec(line)
            print("done", flush=True)
        except Exception as error:
            print(type(error).__name__, flush=True)
"""


class Process:
    """A worker of its own process, which holds the lease of a run and does what it is told."""

    def __init__(self, folder: Path, url: str | None, run: str) -> None:
        command = [sys.executable, "-c", WORKER, str(folder), url or "", run]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.said: list[str] = []
        self.id = self._read()

    def does(self, code: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()
        return self._read()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def _read(self) -> str:
        assert self.process.stdout is not None
        while "[warning" in (line := self.process.stdout.readline().strip()):
            self.said.append(line)
        return line


@pytest.fixture
def worker(store: Store, folder: Path, url: str | None, run: Run) -> Iterator[Process]:
    started = Process(folder, url, run.id)
    yield started
    started.signal(signal.SIGCONT)
    started.process.kill()
    started.process.communicate()


@contextmanager
def stopped(worker: Process) -> Iterator[None]:
    worker.signal(signal.SIGSTOP)
    yield
    worker.signal(signal.SIGCONT)


def dead_within(store: Store, seconds: float, *, after_s: float = workers.DEAD_S) -> list[str]:
    give_up = time.monotonic() + seconds
    while not (found := store.workers.dead(after_s)) and time.monotonic() < give_up:
        time.sleep(0.2)
    return [one.id for one in found]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is long after a second."""
    monkeypatch.setattr(workers, "TRUST_S", 0.5)


def test_a_worker_is_listed_with_what_it_is_at_work_on_until_it_leaves(
    store: Store, run: Run, worker: Process
) -> None:
    own = store.workers.join(4)
    found = {one.id: one for one in store.workers.all()}
    assert set(found) == {own.id, worker.id}
    assert (found[worker.id].runs, found[own.id].runs) == ((run.id,), ())
    assert (found[own.id].concurrency, found[own.id].pid) == (4, os.getpid())
    store.workers.leave()
    assert [one.id for one in store.workers.all()] == [worker.id]
    assert {one.id for one in store.workers.all(gone=True)} == {own.id, worker.id}


def test_a_live_worker_is_never_dead(store: Store, worker: Process) -> None:
    store.workers.join(1)
    for _ in range(5):
        assert worker.does("store.workers.beat()") == "done"
        assert store.workers.dead() == []


def test_a_killed_worker_is_dead_at_once_and_its_run_free(store: Store, run: Run, worker: Process) -> None:
    with pytest.raises(LeaseError, match=str(worker.process.pid)), store.runs.lease(run.id):
        pass
    worker.signal(signal.SIGKILL)
    assert dead_within(store, 5) == [worker.id]
    with store.runs.lease(run.id) as lease:
        lease.check()


def test_the_dead_are_buried_once_over_all(
    store: Store, folder: Path, url: str | None, worker: Process
) -> None:
    worker.signal(signal.SIGKILL)
    dead_within(store, 5)
    (found,) = store.workers.dead()
    with Store.open(folder, url=url) as other:
        won: list[bool] = []
        at_once = [
            threading.Thread(target=lambda place=place: won.append(place.workers.bury(found)))
            for place in (store, other, store, other)
        ]
        for thread in at_once:
            thread.start()
        for thread in at_once:
            thread.join()
        assert sorted(won) == [False, False, False, True]
        assert other.workers.dead() == []
    told = [entry.event for entry in store.audit.log(subject=f"worker:{worker.id}")]
    assert told == ["worker_joined", "worker_buried"]
    assert store.verify() == []


def test_who_was_buried_takes_up_nothing(store: Store, run: Run, worker: Process) -> None:
    worker.signal(signal.SIGKILL)
    assert dead_within(store, 10) == [worker.id]
    (found,) = store.workers.dead()
    store.runs.hand_over(run.id)
    before = store.runs.get(run.id)
    assert store.workers.bury(found)
    with pytest.raises(LeaseLostError, match="declared dead"):
        store.runs.take_up(run.id, worker=worker.id)
    assert store.runs.get(run.id) == before
    assert store.runs.take_up(run.id, worker=store.workers.join(1).id).segment == before.segment + 1


def test_one_that_has_beaten_since_it_was_looked_at_is_not_buried(store: Store, worker: Process) -> None:
    (seen,) = store.workers.all()
    assert worker.does("store.workers.beat()") == "done"
    assert not store.workers.bury(seen)
    assert worker.does("lease.check()") == "done"


def test_on_one_host_a_stopped_worker_keeps_its_run(
    store: Store, run: Run, worker: Process, hasty: None
) -> None:
    if not store.database.is_sqlite:
        pytest.skip("over many hosts it is buried")
    with stopped(worker):
        assert dead_within(store, 2.5, after_s=1) == []
        with pytest.raises(LeaseError), store.runs.lease(run.id):
            pass
    assert worker.does("lease.check()") == "done"
    assert worker.does("store.workers.beat()") == "done"


@pytest.fixture
def hosts(store: Store) -> Store:
    if store.database.is_sqlite:
        pytest.skip("SQLite is one host")
    return store


def test_a_stopped_worker_is_buried_and_finds_itself_shut_out(
    hosts: Store, run: Run, worker: Process, hasty: None
) -> None:
    with stopped(worker):
        assert dead_within(hosts, 10, after_s=1) == [worker.id]
        (found,) = hosts.workers.dead(1)
        assert hosts.workers.bury(found)
        with hosts.runs.lease(run.id) as lease:
            lease.check()
    assert worker.does("lease.check()") == "LeaseLostError"
    assert worker.does("assert not lease.held") == "done"
    assert worker.does("store.workers.beat()") == "BuriedError"
    assert "locks_lost" in worker.said[0]
    assert run.id in worker.said[0]


def test_one_stopped_in_the_middle_of_a_write_holds_nobody_up(
    hosts: Store, worker: Process, hasty: None, folder: Path, url: str | None
) -> None:
    begin = "writing = store.database.write(); session = writing.__enter__()"
    assert worker.does(begin) == "done"
    with stopped(worker):
        assert dead_within(hosts, 10, after_s=1) == [worker.id]
        (found,) = hosts.workers.dead(1)
        assert hosts.workers.bury(found)
        begun = time.monotonic()
        hosts.note("looked", "something", actor="karkas")
        assert time.monotonic() - begun < 5
    assert worker.does("writing.__exit__(None, None, None)") == "StorageError"


def test_a_pause_of_the_watcher_or_of_the_database_makes_nobody_dead(
    hosts: Store, worker: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is heard of for an hour, and then a beat comes: one look after a long pause is one look."""
    now = [0.0]
    monkeypatch.setattr(workers, "now_s", lambda: now[0])
    hosts.workers.dead()
    now[0] += 3600
    assert hosts.workers.dead() == []
    assert worker.does("store.workers.beat()") == "done"
    for _ in range(4):
        now[0] += 4.9
        assert hosts.workers.dead() == []
    now[0] += 3600
    assert hosts.workers.dead() == []
    now[0] += 10
    assert [one.id for one in hosts.workers.dead()] == [worker.id]


def test_no_clock_makes_a_worker_dead(store: Store, worker: Process, time: list[object]) -> None:
    with store.database.connection(write=True) as connection:
        connection.execute(text("UPDATE worker SET beat_at = '2001-01-01', started_at = '2001-01-01'"))
    assert store.workers.dead() == []
    assert store.workers.dead() == []


def test_a_lease_asks_once_it_has_not_heard_for_a_while(
    hosts: Store, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(sessions, "now_s", lambda: now[0])
    asked: list[str] = []
    ask = sessions._Session.ask

    def noted(self: sessions._Session, query: str, values: dict[str, object]) -> object:
        asked.append(query)
        return ask(self, query, values)

    monkeypatch.setattr(sessions._Session, "ask", noted)
    with hosts.runs.lease(run.id) as lease:
        asked.clear()
        for _ in range(1000):
            lease.check()
        assert asked == []
        now[0] += 5.1
        lease.check()
        lease.check()
        assert asked == ["SELECT 1"]


def test_a_lease_whose_session_ends_is_lost_for_good_and_the_worker_lives_on(hosts: Store, run: Run) -> None:
    own = hosts.workers.join(1)
    with hosts.runs.lease(run.id) as lease:
        ended = "SELECT pg_terminate_backend(session) FROM worker"
        with hosts.database.connection() as connection:
            connection.execute(text(ended))
        time.sleep(0.2)
        assert not lease.held
        with pytest.raises(LeaseLostError):
            lease.check()
        hosts.workers.beat()
        with pytest.raises(LeaseLostError):
            lease.check()
        with hosts.runs.lease(run.id) as again:
            again.check()
    assert [one.id for one in hosts.workers.all()] == [own.id]
    assert hosts.workers.dead() == []


def test_a_hundred_leases_take_one_connection(hosts: Store) -> None:
    runs = [hosts.runs.create("act", zone=None).id for _ in range(100)]
    count = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    held = []
    with hosts.database.connection() as connection:
        before = connection.execute(count).scalar_one()
    for run in runs:
        one = hosts.runs.lease(run)
        one.__enter__()
        held.append(one)
    with hosts.database.connection() as connection:
        assert connection.execute(count).scalar_one() <= before + 1
    for one in held:
        one.__exit__(None, None, None)


def test_of_many_threads_one_has_the_lease(store: Store, run: Run) -> None:
    inside: list[int] = []
    most: list[int] = []
    refused: list[int] = []

    def advance() -> None:
        for _ in range(20):
            try:
                with store.runs.lease(run.id):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.001)
                    inside.pop()
            except LeaseError:
                refused.append(1)

    threads = [threading.Thread(target=advance) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert refused


def test_who_is_buried_by_hand_stops(store: Store) -> None:
    own = store.workers.join(1)
    (row,) = store.workers.all()
    assert row.id == own.id
    with store.database.connection(write=True) as connection:
        connection.execute(text("UPDATE worker SET buried_at = started_at"))
    with pytest.raises(BuriedError, match="start a new one"):
        store.workers.beat()


def test_nobody_is_declared_dead_while_it_may_trust_its_lease(store: Store) -> None:
    with pytest.raises(StorageError, match="10 seconds"):
        store.workers.dead(9)


def test_workers_long_gone_are_forgotten(store: Store, worker: Process) -> None:
    worker.signal(signal.SIGKILL)
    dead_within(store, 5)
    assert store.workers.bury(store.workers.dead()[0])
    with store.database.connection(write=True) as connection:
        connection.execute(text("UPDATE worker SET buried_at = '2001-01-01'"))
    store.workers.join(1)
    assert len(store.workers.all(gone=True)) == 1


def test_runs_that_are_not_at_work_have_no_worker(store: Store, run: Run) -> None:
    store.workers.join(1)
    store.runs.set_status(run.id, RunStatus.PARKED)
    (one,) = store.workers.all()
    assert one.runs == ()
