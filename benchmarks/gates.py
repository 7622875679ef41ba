"""What a gate costs: opened, decided, claimed, started, committed, and verified, with 100 to 10,000 gates stored.

    python benchmarks/gates.py [--stored 100 1000 10000] [--gates 40] [--postgres URL]

For each number of gates that are stored already it takes more of them the whole way, one after the other, and prints
for each step the median and the 95th percentile of the wall time, the median of the CPU time, the rows that it adds,
and what a gate adds to the database in bytes (indexes included). `verify` is the whole `karkas audit verify`, and grows
with what is stored. A claim does not: it reads what came since the one before; the first at each size, its 95th
percentile, reads all that was stored meanwhile. With `--postgres` a user who may create databases is needed.

SQLite writes each transaction to the disk before it goes on (`synchronous = FULL`), so wall time there is the disk's.
"""

import argparse
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from karkas.policies.actions import Action, Effect, Proposal, Variant
from karkas.policies.gates import POLICY_VERSION, GateKind, PolicyDecision, PolicyVerdict
from karkas.policies.permits import Binding
from karkas.policies.verdicts import Approve
from karkas.policies.zones import ControlLevel, Scope, Zone
from karkas.storage import NewGate, RunId, RunStatus, ShownVariant, Store

TABLES = ("gate", "permit", "audit")
STEPS = ("open", "decide", "claim", "start", "commit")
ZONE = "notes"

T = TypeVar("T")


class Meter:
    """Wall and CPU seconds, and rows, of each step."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.wall: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}
        self.rows: dict[str, int] = {}

    def of(self, step: str, call: Callable[[], T], *, count: bool = False) -> T:
        before = sum(rows(self.store).values()) if count else 0
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        self.cpu.setdefault(step, []).append(time.process_time() - cpu)
        self.wall.setdefault(step, []).append(time.perf_counter() - wall)
        if count:
            self.rows[step] = sum(rows(self.store).values()) - before
        return result


def rows(store: Store) -> dict[str, int]:
    with store.database.connection() as connection:
        return {
            name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in TABLES
        }


def size(store: Store) -> int:
    """Bytes of the database."""
    with store.database.connection() as connection:
        if store.database.is_sqlite:
            pages = connection.execute(
                text("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            )
            return int(pages.scalar_one())
        total = " + ".join(f"pg_total_relation_size('\"{name}\"')" for name in TABLES)
        return int(connection.execute(text(f"SELECT {total}")).scalar_one())


def new_gate(store: Store, run: RunId, number: int) -> NewGate:
    path = f"notes/{number}.md"
    action = Action(
        tool="write_file", args={"path": path, "content": f"# Note {number}\n"}, effect=Effect.REVERSIBLE
    )
    proposal = Proposal(
        zones=(ZONE,),
        task=f"write {path}",
        why="a note",
        proposer="executor",
        variants=(Variant(action=action),),
    )
    shown = store.artifacts.put_text(
        f"write_file (reversible): makes {path}\n--- /dev/null\n+++ {path}\n+# Note {number}"
    )
    binding = Binding(
        action=action.digest,
        shown=shown,
        tool_version=shown,
        preconditions={path: "absent"},
        policy_version=POLICY_VERSION,
    )
    return NewGate(
        key=f"{run}:{number}",
        run=run,
        kind=GateKind.ACTION,
        zones=(ZONE,),
        level=ControlLevel.PROPOSE_ONLY,
        level_why="propose-only because of notes",
        policy=PolicyDecision(verdict=PolicyVerdict.PROPOSE, reasons=("propose-only because of notes",)),
        proposal=store.artifacts.put_json(proposal.model_dump(mode="json")),
        variants=(ShownVariant(digest=action.digest, shown=shown, binding=binding),),
    )


def whole_way(store: Store, meter: Meter, run: RunId, number: int, *, count: bool) -> None:
    new = new_gate(store, run, number)
    gate = meter.of("open", lambda: store.gates.open(new), count=count)
    meter.of("decide", lambda: store.gates.decide(gate.id, Approve(), by="ada"), count=count)
    permit = store.ledger.for_gate(gate.id)
    assert permit is not None
    claimed = meter.of("claim", lambda: store.ledger.claim(permit.id, worker="w"), count=count)
    meter.of("start", lambda: store.ledger.start(claimed), count=count)
    undo = {"path": f"notes/{number}.md", "before": "absent", "after": "sha256:" + "0" * 64, "made": []}
    result = {"path": f"notes/{number}.md", "changed": True, "bytes": 10}
    meter.of("commit", lambda: store.ledger.commit(permit.id, result, undo), count=count)


def measure(store: Store, stored: list[int], gates: int) -> None:
    store.zones.observe(Zone(name=ZONE, understanding=3, scope=Scope(paths=("notes",))))
    run = store.runs.set_status(store.runs.create("act", zone=ZONE).id, RunStatus.RUNNING).id
    number = 0
    for there in stored:
        while number < there:
            gate = store.gates.open(new_gate(store, run, number))
            store.gates.decide(gate.id, Approve(), by="ada")
            number += 1
        meter, before = Meter(store), size(store)
        for _ in range(gates):
            whole_way(store, meter, run, number, count=number == there)
            number += 1
        grown = (size(store) - before) / gates
        assert meter.of("verify", store.verify) == []
        print(f"\n{there:,} gates stored, {sum(rows(store).values()):,} rows, {size(store) / 1e6:.1f} MB")
        print(f"{'step':<8} {'wall p50':>9} {'p95':>9} {'CPU p50':>9}   rows")
        for step in (*STEPS, "verify"):
            wall, cpu = meter.wall[step], meter.cpu[step]
            p95 = statistics.quantiles(wall, n=20)[-1] if len(wall) > 1 else wall[0]
            numbers = " ".join(
                f"{one * 1e3:>6,.1f} ms" for one in (statistics.median(wall), p95, statistics.median(cpu))
            )
            print(f"{step:<8} {numbers} {meter.rows.get(step, ''):>6}")
        total = [sum(times) for times in zip(*(meter.wall[step] for step in STEPS), strict=True)]
        spent = [sum(times) for times in zip(*(meter.cpu[step] for step in STEPS), strict=True)]
        whole = f"{statistics.median(total) * 1e3:.1f} ms, of it {statistics.median(spent) * 1e3:.1f} ms CPU"
        print(f"a gate, the whole way: {whole}; {sum(meter.rows.values())} rows, {grown:,.0f} bytes")


@contextmanager
def postgres(server: str) -> Iterator[str]:
    """A database of our own, for this measurement only."""
    url, name = make_url(server).set(drivername="postgresql+psycopg"), f"karkas_bench_{secrets.token_hex(4)}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stored", type=int, nargs="+", default=[100, 1_000, 10_000], metavar="N")
    parser.add_argument("--gates", type=int, default=40, help="gates measured at each size")
    parser.add_argument("--postgres", metavar="URL", help="also on this PostgreSQL")
    asked = parser.parse_args()
    with TemporaryDirectory() as folder, Store.open(Path(folder) / ".karkas", create=True) as store:
        print(f"SQLite, {datetime.now(UTC):%F}")
        measure(store, sorted(asked.stored), asked.gates)
    if asked.postgres:
        with (
            postgres(asked.postgres) as url,
            TemporaryDirectory() as folder,
            Store.open(Path(folder) / ".karkas", url=url, create=True) as store,
        ):
            print("\nPostgreSQL")
            measure(store, sorted(asked.stored), asked.gates)


if __name__ == "__main__":
    main()
