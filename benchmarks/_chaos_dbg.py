"""A night of runs while workers are killed: nothing lost, no effect twice, no answer paid for twice.

    python benchmarks/chaos.py [--runs 100] [--kills 10] [--seed 1] [--latency-ms 500] [--postgres URL]

Each run asks a model four times (two questions, a proposal, its critic) and then performs one action, which appends
a line to a file of that run's own. The server is a process that answers after a fixed time and writes down what it
answered when. `karkas work --concurrency 8` is killed with -9 at random moments and started anew: two of them on
SQLite; with `--postgres` three on PostgreSQL, each with a `.karkas` of its own beside a shared folder, as on three
hosts, and every fourth is not killed but stopped, until it was declared dead and its runs went on elsewhere.

Printed, and all but the first two must be 0:

- in flight: answers that the server had given whole and no worker had written down before its end, so that they were
  asked for again; and how long before a kill the earliest of them was given;
- parked: runs that wait for a person: in doubt are those whose tool was at work at a kill; after the first of them the
  zone is out of autonomy, so all later actions wait as well;
- lost: runs that neither ended well nor parked; effects twice, and effects missing of runs that are done;
- paid twice: answers that had been written down when their run was taken up again, and were asked for again then.
"""

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ZONE = "notes"
CONFIG = """
[model]
base_url = "URL"
model = "fake-model"
context = 32768

[zones.notes]
understanding = 5
scope = { tools = ["stamp"] }

[act]
tools = ["flow.py:stamp"]

[work]
crashes = 100
"""
FLOW = '''
from pathlib import Path

from langgraph.runtime import Runtime

from karkas import END, START, Context, Done, Effect, Plan, Workflow, WorkflowState, tool
from karkas.agents.executor import propose
from karkas.agents.prompts import instructions
from karkas.policies.distillates import SourceRank
from karkas.server.protocol import Request, Role
from karkas.server.questions import Candidate, ReadNext, WhatNext
from karkas.workflows.ruling import frames_of

STAMPS = Path(STAMPS_FOLDER)


def scrape(record, workspace):
    return "a line stays"


@tool(Effect.REVERSIBLE, undo=scrape)
def stamp(name: str) -> Done:
    """Appends a line to the file of this name."""
    with (STAMPS / name).open("a") as file:
        file.write(name + "\\n")
    return Done({"name": name}, undo={"name": name})


class State(WorkflowState, total=False):
    name: str
    first: list[str]
    second: list[str]


async def ask(state, runtime, word):
    candidates = tuple(
        Candidate(key=key, title=key, path=key, rank=SourceRank.UNKNOWN, excerpt=word) for key in ("a.log", "b.log")
    )
    question = WhatNext(zone="notes", queries=(f"{word} {state['name']}",), candidates=candidates, at_most=1)
    request = Request(role=Role.SCOUT, instructions=instructions(Role.SCOUT), question=question, answer=ReadNext)
    reply = await runtime.context.engine.ask(request)
    return [choice.key for choice in reply.value.choices]


async def first(state: State, runtime: Runtime[Context]) -> State:
    return {"first": await ask(state, runtime, "first")}


async def second(state: State, runtime: Runtime[Context]) -> State:
    return {"second": await ask(state, runtime, "second")}


async def act(state: State, runtime: Runtime[Context]) -> Plan:
    frames, _ = await frames_of(runtime.context, ("notes",))
    return await propose(
        runtime.context.engine,
        zone="notes",
        task=f"Stamp the file {state['name']}",
        frame=frames["notes"],
        distillate=None,
        tools=runtime.context.tools,
        trusted=(),
        at_most=1,
        feedback="",
    )


night = Workflow(State, zones=("notes",))
night.add_node("first", first)
night.add_node("second", second)
night.add_action("act", act)
night.add_edge(START, "first")
night.add_edge("first", "second")
night.add_edge("second", "act")
night.add_edge("act", END)
'''
KARKAS = Path(sys.executable).with_name("karkas")
CONCURRENCY = 8
AWAKE_S = 40.0
"""A stopped worker is let go on after that; by then it was declared dead."""
PATIENCE_S = 600.0


def answered(body: bytes) -> tuple[str, str]:
    """Which question it is, and what the model says to it."""
    code = re.search(rb"the code is (\w+)", body)
    if code is not None:
        verdict = {
            "code": code[1].decode(),
            "findings": [],
            "reason": "It stamps what it was told.",
            "verdict": "pass",
        }
        return "critic", json.dumps(verdict)
    if b'"relevance"' in body:
        kind = "first" if b"first chaos-" in body else "second"
        return kind, json.dumps({"scores": [{"number": 1, "relevance": 9, "why": "it is it"}], "queries": []})
    args = {"name": _name(body)}
    return "propose", json.dumps({"why": "it was asked for", "call": {"tool": "stamp", "args": args}})


def _name(body: bytes) -> str:
    found = re.search(rb"chaos-\d+", body)
    return found[0].decode() if found else ""


async def serve(latency_s: float, file: Path) -> None:
    told = file.open("a", buffering=1)

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1])) if length else b""
                status, said, asked = b"200 OK", b"{}", None
                if b"/chat/completions" in head:
                    kind, text = answered(body)
                    asked = (_name(body), kind)
                    await asyncio.sleep(latency_s)
                    message = {"role": "assistant", "content": text}
                    choice = {"index": 0, "message": message, "finish_reason": "stop"}
                    usage = {"prompt_tokens": 400, "completion_tokens": 120, "total_tokens": 520}
                    said = json.dumps({"model": "fake-model", "choices": [choice], "usage": usage}).encode()
                elif b"/models" in head:
                    said = b'{"data": [{"id": "fake-model"}]}'
                else:
                    status = b"404 Not Found"
                if reader.at_eof():
                    break
                form = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                writer.write(form % (status, len(said)) + said)
                await writer.drain()
                if asked is not None:
                    told.write(json.dumps([time.time(), *asked]) + "\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Night:
    def __init__(
        self,
        folder: Path,
        url: str,
        *,
        runs: int,
        workers: int,
        postgres: str | None,
        places: int = CONCURRENCY,
    ) -> None:
        from karkas import ControlLevel, Project
        from karkas.testing.charting import chart

        self.folder, self.postgres, self.places = folder, postgres, places
        self.stamps = folder / "stamps"
        self.stamps.mkdir()
        self.roots = [folder / f"host{number}" for number in range(workers if postgres else 1)]
        storage = f'\n[storage]\nurl = "{postgres}"\n' if postgres else ""
        for number, root in enumerate(self.roots):
            root.mkdir()
            (root / "karkas.toml").write_text(CONFIG.replace("URL", url) + storage)
            (root / "flow.py").write_text(FLOW.replace("STAMPS_FOLDER", repr(str(self.stamps))))
            if number:  # as another host is added: it gets the key, and nothing else
                (root / ".karkas").mkdir(mode=0o700)
                shutil.copy2(self.roots[0] / ".karkas" / "signing.key", root / ".karkas")
            Project.init(root).close()
        self.project = Project.open(self.roots[0])
        self.project.zones()
        chart(self.project, ZONE, level=ControlLevel.AUTONOMOUS)
        self.runs = [self.begin(number) for number in range(runs)]
        self.workers = [self._worker(number) for number in range(workers)]
        self.hurt: list[float] = []
        self.stopped: list[tuple[float, subprocess.Popen[bytes]]] = []

    def begin(self, number: int) -> str:
        from karkas import begin

        name = {"name": f"chaos-{number}"}
        return begin(self.project, "flow.py:night", name, zone=ZONE, due_at=datetime.now(UTC)).id  # type: ignore[arg-type]

    def _worker(self, number: int) -> subprocess.Popen[bytes]:
        root = self.roots[number % len(self.roots)]
        log = (self.folder / f"worker{number}.log").open("ab")
        return subprocess.Popen(
            [KARKAS, "work", "--concurrency", str(self.places)], cwd=root, stdout=log, stderr=log
        )

    def hurt_one(self, chance: random.Random) -> str:
        number = chance.randrange(len(self.workers))
        worker = self.workers[number]
        stop = self.postgres is not None and len(self.hurt) % 4 == 3
        os.kill(worker.pid, signal.SIGSTOP if stop else signal.SIGKILL)
        self.hurt.append(time.time())
        if stop:
            self.stopped.append((time.monotonic() + AWAKE_S, worker))
        else:
            worker.wait()
        self.workers[number] = self._worker(number)
        return "stopped" if stop else "killed"

    def wake(self, *, all_of_them: bool = False) -> None:
        for at, worker in list(self.stopped):
            if all_of_them or time.monotonic() > at:
                os.kill(worker.pid, signal.SIGCONT)
                self.stopped.remove((at, worker))
                self.workers.append(worker)

    def statuses(self) -> Counter[str]:
        """Those that are parked and go on by themselves count as `waits`."""
        found = {
            run.id: "waits" if run.status == "parked" and run.due_at is not None else run.status.value
            for run in self.project.store.runs.list()
        }
        return Counter(found.get(run, "gone") for run in self.runs)

    def close(self) -> None:
        self.wake(all_of_them=True)
        for worker in self.workers:
            if worker.poll() is None:
                worker.terminate()
        for worker in self.workers:
            try:
                worker.wait(60)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def disturbed(url: str, folder: Path, asked: argparse.Namespace, answers: Path, postgres: str | None) -> bool:
    chance = random.Random(asked.seed)
    begun = time.monotonic()
    night = Night(folder, url, runs=asked.runs, workers=3 if postgres else 2, postgres=postgres)
    how: Counter[str] = Counter()
    next_at = float("inf")
    try:
        while time.monotonic() - begun < PATIENCE_S:
            time.sleep(0.1)
            night.wake()
            if next_at == float("inf") and answers.stat().st_size:  # now there is something to disturb
                next_at = time.monotonic() + chance.uniform(0, 2)
            standing = night.statuses()
            if sum(standing[name] for name in ("done", "parked", "failed", "stopped")) == asked.runs:
                break
            if sum(how.values()) < asked.kills and time.monotonic() >= next_at:
                how[night.hurt_one(chance)] += 1
                next_at = time.monotonic() + chance.uniform(1, asked.every_s)
        while night.stopped:
            time.sleep(0.2)
            night.wake()
        time.sleep(3)  # who comes back has time to do what it must not
    finally:
        night.close()
    return tell(night, how, answers, time.monotonic() - begun)


def paid_twice(project: Any, run: str) -> int:
    """Answers that a run asked for though the same one was written down when it was taken up.

    What is asked anew because the zone fell meanwhile is another question. An answer of an earlier segment that came
    after a later one had begun is of a worker that was thought dead: it was in flight.
    """
    from sqlmodel import select

    from karkas.storage.tables import JournalRow

    taken_up = {
        entry.data["segment"]: entry.at
        for entry in project.store.audit.log(subject=f"run:{run}")
        if entry.event == "run_taken_up"
    }
    with project.store.database.read() as session:
        rows = session.exec(select(JournalRow).where(JournalRow.run == run)).all()
    in_time = [
        (row.digest, row.n)
        for row in rows
        if all(segment <= row.segment or row.at < at for segment, at in taken_up.items())
    ]
    return len(in_time) - len(set(in_time))


def tell(night: Night, how: Counter[str], answers: Path, seconds: float) -> bool:
    from karkas import GateKind, RunStatus

    given = defaultdict[tuple[str, str], list[float]](list)
    for line in answers.read_text().splitlines():
        at, name, kind = json.loads(line)
        given[name, kind].append(at)
    again = [at for times in given.values() for at in sorted(times)[:-1]]
    ages = [min((hurt - at for hurt in night.hurt if hurt >= at), default=0.0) for at in again]
    found = {run.id: run for run in night.project.store.runs.list()}
    lost = twice = missing = parked = paid = 0
    for number, run in enumerate(night.runs):
        stamp = night.stamps / f"chaos-{number}"
        lines = len(stamp.read_text().splitlines()) if stamp.exists() else 0
        status = found[run].status
        paid += paid_twice(night.project, run)
        parked += status is RunStatus.PARKED
        lost += status not in {RunStatus.DONE, RunStatus.PARKED}
        twice += lines > 1
        missing += status is RunStatus.DONE and not lines
        if status is RunStatus.DONE and not lines:
            from sqlalchemy import text
            print("MISSING", run, found[run].result)
            with night.project.store.database.connection() as c:
                subjects = {f"run:{run}"}
                for g in c.execute(text("select id, status, reason from gate where run=:r"), {"r": run}): print("  gate", g); subjects.add(f"gate:{g[0]}")
                for p in c.execute(text("select id, status, reason, worker, claims from permit where run=:r"), {"r": run}): print("  permit", p); subjects.add(f"permit:{p[0]}")
            for e in night.project.store.audit.log():
                if e.subject in subjects: print("   ", e.at.isoformat()[11:23], e.subject, e.event, e.actor, str(e.data)[:170])
    outcomes = [gate for gate in night.project.store.gates.list() if gate.kind is GateKind.OUTCOME]
    breaks = night.project.store.verify()
    bad = {
        "lost": lost,
        "effects twice": twice,
        "effects missing": missing,
        "paid twice": paid,
        "breaks of the record": len(breaks),
    }
    print(
        f"  {len(night.runs)} runs in {seconds:.0f} s; {dict(how)}; answers: {sum(map(len, given.values()))}"
    )
    print(
        f"  in flight at a kill, asked again: {len(again) - paid}, given {max(ages, default=0.0):.1f} s before at most;"
        f" parked for a person: {parked}, of them in doubt: {len(outcomes)}"
    )
    print("  " + "; ".join(f"{name}: {count}" for name, count in bad.items()), flush=True)
    for one in found.values():
        if one.status not in {RunStatus.DONE, RunStatus.PARKED}:
            print(f"  {one.id} {one.status}: {one.error or one.reason}")
    for line in breaks[:3]:
        print(f"  {line}")
    night.project.close()
    return not any(bad.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--every-s", type=float, default=6.0, help="at most so long between two kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--latency-ms", type=float, default=500.0)
    parser.add_argument(
        "--postgres", metavar="URL", help="a server where databases may be created; only there then"
    )
    parser.add_argument("--serve", metavar="FILE", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        asyncio.run(serve(asked.latency_ms / 1000, Path(asked.serve)))
        return
    where = (
        f"PostgreSQL, 3 workers of {CONCURRENCY}" if asked.postgres else f"SQLite, 2 workers of {CONCURRENCY}"
    )
    print(f"{where}, seed {asked.seed}, {asked.latency_ms:.0f} ms a call")
    with TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = Path(place)
        answers = folder / "answers.jsonl"
        command = [sys.executable, __file__, "--serve", str(answers), "--latency-ms", str(asked.latency_ms)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            database = made(asked.postgres) if asked.postgres else None
            try:
                well = disturbed(url, folder, asked, answers, database)
            finally:
                server.terminate()
                if database is not None:
                    dropped(asked.postgres, database)
    sys.exit(not well)


def made(server: str) -> str:
    from sqlalchemy.engine import make_url

    name = f"karkas_chaos_{os.getpid()}"
    _execute(server, f"CREATE DATABASE {name}")
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def dropped(server: str, database: str) -> None:
    _execute(server, f"DROP DATABASE {database.rpartition('/')[2]} WITH (FORCE)")


def _execute(server: str, statement: str) -> Any:
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement)


if __name__ == "__main__":
    main()
