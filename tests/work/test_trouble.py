"""A full disk and a lost database hold a worker up: it says so, loses nothing, and goes on when they pass."""

import os
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from karkas.policies.gates import GateKind, GateStatus
from karkas.policies.verdicts import Approve
from karkas.project import Project
from karkas.storage import RunStatus, Store

from .conftest import command, needs_postgres, queue, seen, standing, telling, until

KB = 1024
RINGS = '''
from karkas import Effect, call, tool


@tool(Effect.IRREVERSIBLE)
def ring(name: str) -> str:
    """Rings a bell: each ring is a line."""
    note("rings", {"name": name})
    return "rung"


rings = Workflow(State, zones=("tower",))
rings.add_action("ring", lambda state: call("ring", name=state["name"]))
rings.add_node("think", think)
rings.add_edge(START, "ring").add_edge("ring", "think").add_edge("think", END)
'''


@pytest.fixture
def full_disk(root: Path, tmp_path: Path) -> Iterator[Callable[[], Callable[[], None]]]:
    """The project's record on a disk of its own; a call fills it, and gives one that frees it."""
    place, kept, filler = root / ".karkas", tmp_path / "kept", root / ".karkas" / "filler"
    place.rename(kept)
    place.mkdir(mode=0o700)
    mount: list[str | Path] = ["mount", "-t", "tmpfs", "-o", "size=32m,mode=700", "tmpfs", place]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("may not mount here")
    shutil.copytree(kept, place, dirs_exist_ok=True)

    def full() -> Callable[[], None]:
        with suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(KB))
        return filler.unlink

    yield full
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_holds_a_worker_up_until_there_is_room(
    root: Path, full_disk: Callable[[], Callable[[], None]]
) -> None:
    out = root / "out"
    (root / "wait").touch()
    with Project.open(root) as project:
        runs = queue(project, "steps", "a", "b", "c")
        with telling(out, "work", "--concurrency", "2") as worker:
            until(lambda: len(seen()) == 2)
            freed = full_disk()
            (root / "wait").unlink()
            until(lambda: " held up, " in out.read_text())
            time.sleep(3)
            assert worker.poll() is None
            assert "full" in out.read_text()
            assert RunStatus.FAILED not in standing(project, runs)
            freed()
            until(lambda: set(standing(project, runs)) == {RunStatus.DONE})
            worker.terminate()
            assert worker.wait(30) == 0
        assert "goes on" in out.read_text()
        assert "Traceback" not in out.read_text()
        assert project.store.verify() == []


class Line:
    """All that goes to a server goes through here, until it is cut: then every connection ends, and none is taken."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._cut = False
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def cut(self) -> None:
        with self._lock:
            self._cut = True
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._cut = False

    def close(self) -> None:
        self.cut()
        self._door.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _serve(self) -> None:
        with self._door, suppress(OSError):
            while True:
                theirs, _ = self._door.accept()
                with self._lock:
                    if self._cut:
                        theirs.close()
                        continue
                    ours = socket.create_connection(self._to)
                    self._open |= {theirs, ours}
                for ends in ((theirs, ours), (ours, theirs)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with one:
            with suppress(OSError):
                while data := one.recv(1 << 16):
                    other.sendall(data)
            with suppress(OSError):
                other.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._open.discard(one)


@pytest.fixture
def line(database: str) -> Iterator[Line]:
    to = make_url(database)
    line = Line(to.host or "127.0.0.1", to.port or 5432)
    yield line
    line.close()


@pytest.fixture
def through(root: Path, database: str, line: Line) -> Iterator[Store]:
    """A project whose workers reach PostgreSQL through `line`; this is its store by a way of its own."""
    url = make_url(database).set(host="127.0.0.1", port=line.port).render_as_string(hide_password=False)
    with (root / "karkas.toml").open("a") as file:
        file.write(f'\n[storage]\nurl = "{url}"\n[zones.tower]\nunderstanding = 4\ncritical = true\n')
    (root / "flows.py").write_text((root / "flows.py").read_text() + RINGS)
    Project.init(root).close()
    with Store.open(root / ".karkas", url=database) as store:
        yield store


def begun(root: Path, *names: str) -> list[str]:
    with Project.open(root) as project:
        return [run.id for run in queue(project, "rings", *names)]


def approve_all(store: Store) -> None:
    for gate in store.gates.list(status=GateStatus.OPEN):
        if gate.kind is GateKind.ACTION:
            store.gates.decide(gate.id, Approve(), by="ada")


def in_doubt(store: Store) -> set[str]:
    """Runs whose tool was at work when the database was lost: a person says what came of it."""
    return {gate.run for gate in store.gates.list() if gate.kind is GateKind.OUTCOME}


def statuses(store: Store, runs: list[str]) -> Counter[str]:
    return Counter(store.runs.get(run).status.value for run in runs)


def rung() -> Counter[str]:
    return Counter(line for line in seen() if line.startswith("rings"))


@needs_postgres
def test_a_lost_database_holds_a_night_up_and_it_ends_with_all_done_once(
    root: Path, line: Line, through: Store
) -> None:
    runs, out = begun(root, "a", "b", "c"), root / "out"
    assert command("night").code == 3
    approve_all(through)
    (root / "wait").touch()
    with telling(out, "night") as night:
        until(lambda: sum(one.startswith("begins") for one in seen()) == 3)
        line.cut()
        until(lambda: " held up, " in out.read_text())
        (root / "wait").unlink()
        time.sleep(5)
        assert night.poll() is None
        line.mend()
        code = night.wait(120)
    assert code == 0
    assert statuses(through, runs) == {"done": 3}
    assert rung() == {"rings a": 1, "rings b": 1, "rings c": 1}
    assert " goes on" in out.read_text()
    assert "3 done" in out.read_text()
    assert through.verify() == []


@needs_postgres
def test_a_night_whose_sessions_are_ended_again_and_again_does_all_once(
    root: Path, database: str, through: Store
) -> None:
    names = "abcdefgh"
    runs, out = begun(root, *names), root / "out"

    def settled() -> bool:
        approve_all(through)
        return statuses(through, runs)["done"] + len(in_doubt(through)) == len(names)

    with telling(out, "work", "--concurrency", "4") as worker:
        until(lambda: statuses(through, runs)["parked"])
        with psycopg.connect(database, autocommit=True) as ours:
            give_up = time.monotonic() + 30
            while not settled() and time.monotonic() < give_up:
                ours.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND application_name LIKE %s",
                    (f"%:{worker.pid}",),
                )
                time.sleep(0.7)
        until(settled)
        assert worker.poll() is None
    assert max(rung().values()) == 1
    assert len(rung()) >= statuses(through, runs)["done"]
    assert through.verify() == []


@needs_postgres
def test_a_worker_whose_database_is_away_can_be_ended(root: Path, line: Line, through: Store) -> None:
    runs, out = begun(root, "a"), root / "out"
    with telling(out, "work") as worker:
        until(lambda: statuses(through, runs)["parked"])
        line.cut()
        until(lambda: " held up, " in out.read_text())
        worker.terminate()
        code = worker.wait(60)
    assert code == 0
