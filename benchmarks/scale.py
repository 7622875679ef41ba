"""What a run in flight costs a worker: memory, CPU, database connections and writes.

    python benchmarks/scale.py [--runs 200] [--latency-ms 5000] [--postgres URL]

One `karkas work` takes up all runs at once. Each is that of `chaos.py`: four model calls and an action, behind a gate
that a critic passes. The server answers after the given time, so that all are in flight together. Memory is that of
the worker at its peak above what it took before the first run, divided by the runs. Nothing is promised.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from chaos import Night, dropped, made

PATIENCE_S = 540.0
TICKS = 100


def looked_at(pid: int) -> tuple[float, float, float]:
    """Resident memory in MB, CPU in seconds, MB written."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    wrote = int(Path(f"/proc/{pid}/io").read_text().split("write_bytes:")[1].split()[0])
    return resident, (int(times[11]) + int(times[12])) / TICKS, wrote / 1e6


def connections(night: Night) -> int:
    from sqlalchemy import text

    if night.postgres is None:
        return 0
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with night.project.store.database.connection() as connection:
        return int(connection.execute(query).scalar_one())


def size(night: Night) -> float:
    """Of the database, in MB."""
    from sqlalchemy import text

    if night.postgres is None:
        return sum(file.stat().st_size for file in (night.roots[0] / ".karkas").glob("*.db*")) / 1e6
    with night.project.store.database.connection() as connection:
        return (
            float(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()) / 1e6
        )


def measure(folder: Path, url: str, asked: argparse.Namespace, postgres: str | None) -> None:
    night = Night(folder, url, runs=0, workers=1, postgres=postgres, places=asked.runs)
    try:
        (worker,) = night.workers
        while not night.project.store.workers.all():
            time.sleep(0.1)
        time.sleep(5)
        before, there, mine = looked_at(worker.pid), size(night), connections(night)
        begun = time.monotonic()
        night.runs = [night.begin(number) for number in range(asked.runs)]
        begun_s = time.monotonic() - begun
        most, lines = before[0], 0
        while time.monotonic() - begun < PATIENCE_S and night.statuses()["done"] < asked.runs:
            most, lines = max(most, looked_at(worker.pid)[0]), max(lines, connections(night))
            time.sleep(0.5)
        wall_s = time.monotonic() - begun
        after = looked_at(worker.pid)
        entries = len(night.project.store.audit.log())
        row: dict[str, Any] = {
            "worker without runs, MB": before[0],
            "memory of a run in flight, MB": (most - before[0]) / asked.runs,
            "CPU of the worker, ms a run": 1000 * (after[1] - before[1]) / asked.runs,
            "queueing a run, ms": 1000 * begun_s / asked.runs,
            "wall time of all, s": wall_s,
            "rows of the record, a run": entries / asked.runs,
            "database grew, KB a run": 1000 * (size(night) - there) / asked.runs,
            "connections, the measuring process's included": lines if postgres else "-",
            "of these before the first run": mine if postgres else "-",
        }
        for name, value in row.items():
            print(f"{name:48}{value:10.2f}" if isinstance(value, float) else f"{name:48}{value:>10}")
        print(dict(night.statuses()))
    finally:
        night.close()
        night.project.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--latency-ms", type=float, default=5000.0)
    parser.add_argument("--postgres", metavar="URL", help="a server where databases may be created")
    asked = parser.parse_args()
    with TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = Path(place)
        chaos = str(Path(__file__).with_name("chaos.py"))
        command = [sys.executable, chaos, "--serve", str(folder / "answers")]
        command += ["--latency-ms", str(asked.latency_ms)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            database = made(asked.postgres) if asked.postgres else None
            try:
                print(f"{asked.runs} runs, {'PostgreSQL' if database else 'SQLite'}", flush=True)
                measure(folder, url, asked, database)
            finally:
                server.terminate()
                if database is not None:
                    dropped(asked.postgres, database)


if __name__ == "__main__":
    main()
