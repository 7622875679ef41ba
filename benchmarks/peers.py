"""What a run costs: five steps under karkas, beside bare LangGraph and plain asyncio, in turns, from the same server.

    python benchmarks/peers.py --bench-dir DIR [--runs 200] [--rounds 3] [--latency-ms 200] [--stored 100 10000]
    python benchmarks/peers.py --only karkas --profile FILE

A run is four model calls of 200 ms, a gate that is decided without a person, and one tool that writes a file.

- floor: asyncio streams by hand, nothing stored (`peer_floor.py --client raw`);
- langgraph: bare LangGraph with AsyncSqliteSaver and durability `sync` (`peer_langgraph.py --client aiohttp`);
- karkas: a user's file, run by `begin` and `advance` in a project on disk. Scout, summarizer and executor ask the
  language model in its nodes; the critic's is the fourth call, and the gate: the zone is autonomous and framed, so its
  verdict issues the permit. The permit is claimed, started and committed, and all of it is on the record.

`DIR` holds the two peers' scripts and `fake_server.py`, an OpenAI-compatible server that answers each chat after a
fixed time. Any that take `--base-url --runs --concurrency --latency-ms --out-dir` (and `--durable` for what is stored)
and print one JSON line with these fields will do; without `--bench-dir` karkas is measured alone. Karkas's agents ask
for structured answers, which a canned one is not; so the server is wrapped, and answers their four questions by their
schemas, after the same time.

Each is a process of its own. Printed are medians over the rounds: CPU of the process and of all its threads; wall time
of all `--runs` at once; bytes that reached the disk; peak memory; rows of the record. `--stored` then takes runs one
after the other, without latency, with so many stored before: whole ones, put there by the methods of the store that a
run calls, with the checkpoints of a real one. The last column is against the first.
"""

import argparse
import asyncio
import gc
import json
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__)
ZONE = "notes"
NOTE = "cap the retries at five; the operator finds why in the log."
CONFIG = """
[model]
base_url = "URL"
model = "fake-model"
context = 32768

[zones.notes]
understanding = 5
scope = { paths = ["notes"] }
"""
FLOW = '''
"""Five steps: scout, summarize, propose, let the critic judge, act."""

from langgraph.runtime import Runtime

from karkas import END, START, Context, Plan, Workflow, WorkflowState
from karkas.agents.executor import propose
from karkas.agents.prompts import instructions
from karkas.agents.summarizer import distil
from karkas.policies.distillates import SourceRank
from karkas.server.documents import Block, BlockKind, Document
from karkas.server.protocol import Request, Role
from karkas.server.questions import Candidate, ReadNext, WhatNext
from karkas.workflows.ruling import frames_of

LOG = "the nightly job retries a failed upload without a limit: three lines between 02:10 and 02:14 show one key."


class State(WorkflowState, total=False):
    task: str
    path: str
    note: str
    chosen: list[str]
    brief: str


async def scout(state: State, runtime: Runtime[Context]) -> State:
    candidates = tuple(
        Candidate(key=key, title=key, path=key, rank=SourceRank.UNKNOWN, excerpt=LOG) for key in ("a.log", "b.log")
    )
    question = WhatNext(zone="notes", queries=(state["task"],), candidates=candidates, at_most=1)
    request = Request(
        role=Role.SCOUT, instructions=instructions(Role.SCOUT), question=question, answer=ReadNext
    )
    reply = await runtime.context.engine.ask(request)
    return {"chosen": [choice.key for choice in reply.value.choices]}


async def summarize(state: State, runtime: Runtime[Context]) -> State:
    document = Document(
        source="s-log",
        title=state["chosen"][0],
        text=LOG,
        blocks=(Block(BlockKind.PARAGRAPH, 0, len(LOG)),),
        rank=SourceRank.UNKNOWN,
        kind="file",
        path=state["chosen"][0],
        lang="en",
        sha256="0" * 64,
    )
    found, _ = await distil(
        runtime.context.engine, zone="notes", queries=(state["task"],), documents=[document], at_most=3
    )
    return {"brief": found.claims[0].text}


async def note(state: State, runtime: Runtime[Context]) -> Plan:
    frames, _ = await frames_of(runtime.context, ("notes",))
    return await propose(
        runtime.context.engine,
        zone="notes",
        task=f"{state['task']} What is known: {state['brief']} Write to the file {state['path']} this: {state['note']}",
        frame=frames["notes"],
        distillate=None,
        tools=runtime.context.tools,
        trusted=(),
        at_most=1,
        feedback="",
    )


five = Workflow(State, zones=("notes",))
five.add_node("scout", scout)
five.add_node("summarize", summarize)
five.add_action("note", note)
five.add_edge(START, "scout")
five.add_edge("scout", "summarize")
five.add_edge("summarize", "note")
five.add_edge("note", END)
'''
CLAIM = {
    "facet": "mechanism",
    "subject": "the nightly job",
    "scope": [],
    "text": "the nightly job retries a failed upload without a limit",
    "cites": [{"passage": 1, "quote": "the nightly job retries a failed upload without a limit"}],
    "importance": 8,
}


def answered(body: bytes) -> str:
    """What the model says to one of karkas's four questions."""
    code = re.search(rb"the code is (\w+)", body)
    if code is not None:
        reason = "The note says what the log shows, and nothing else."
        return json.dumps({"code": code[1].decode(), "findings": [], "reason": reason, "verdict": "pass"})
    if b'"relevance"' in body:
        return json.dumps(
            {"scores": [{"number": 1, "relevance": 9, "why": "it shows the job"}], "queries": []}
        )
    if b'"cites"' in body:
        return json.dumps({"claims": [CLAIM]})
    path = re.search(rb"the file (\S+) this", body)
    args = {"path": path[1].decode() if path else "", "content": NOTE}
    return json.dumps({"why": "the operator asked", "call": {"tool": "write_file", "args": args}})


def serve(bench_dir: str | None) -> None:
    """The peers' server where there is one, which also answers karkas's questions; else only that."""
    sys.path.insert(0, bench_dir or str(HERE.parent))
    if bench_dir is None:
        raise SystemExit(asyncio.run(_serve_alone()))
    import fake_server  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]

    own, plain = fake_server.completion, fake_server.P.handle
    asked: list[bytes] = []

    def handle(self: Any, head: bytes, body: bytes) -> None:
        asked[:] = [body]
        plain(self, head, body)

    def completion(kind: str, run: bytes, tool: bytes, stream: bool) -> bytes:  # noqa: FBT001
        if kind == "verdict" or b"STEP:" in asked[0]:
            return bytes(own(kind, run, tool, stream))
        return bytes(fake_server.full(chat(asked[0])))

    fake_server.P.handle, fake_server.completion = handle, completion
    asyncio.run(fake_server.main(argparse.Namespace(port=0, latency_ms=0.0)))


def chat(body: bytes) -> dict[str, Any]:
    message = {"role": "assistant", "content": answered(body)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 400, "completion_tokens": 120, "total_tokens": 520}
    return {
        "id": "x",
        "object": "chat.completion",
        "model": "fake-model",
        "choices": [choice],
        "usage": usage,
    }


async def _serve_alone() -> int:
    latency_s, asked = 0.0, 0

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal latency_s, asked
        while head := await _head(reader):
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1])) if length else b""
            status, said = b"200 OK", b"{}"
            if b"/chat/completions" in head:
                asked += 1
                await asyncio.sleep(latency_s)
                said = json.dumps(chat(body)).encode()
            elif reset := re.search(rb"/reset\?latency_ms=([\d.]+)", head):
                latency_s, asked = float(reset[1]) / 1000, 0
            elif b"/stats" in head:
                said = json.dumps({"requests": asked}).encode()
            elif b"/models" in head:
                said = b'{"data": [{"id": "fake-model"}]}'
            else:
                status = b"404 Not Found"
            form = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            writer.write(form % (status, len(said)) + said)
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0, backlog=4096)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()
    return 0


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def written() -> int:
    found = re.search(r"^write_bytes: (\d+)", Path("/proc/self/io").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def post(url: str, path: str) -> dict[str, Any]:
    import urllib.request

    request = urllib.request.Request(f"{url}{path}", method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        said: dict[str, Any] = json.load(answer)
        return said


class Karkas:
    """One process that runs the workflow in a project of its own."""

    def __init__(self, url: str, root: Path) -> None:
        from karkas import ControlLevel, Project
        from karkas.testing.charting import chart

        (root / "karkas.toml").write_text(CONFIG.replace("URL", url))
        (root / "five.py").write_text(FLOW)
        self.url, self.root, self.made = url, root, 0
        self.project = Project.init(root)
        self.project.zones()  # puts it on the record
        chart(self.project, ZONE, level=ControlLevel.AUTONOMOUS)

    async def run(self) -> None:
        from karkas import RunStatus, advance, begin

        self.made += 1
        path = f"notes/{self.made}.txt"
        task = "The nightly upload job filled the disk twice this week. Find out why and leave the operator a note."
        input_: dict[str, Any] = {"task": task, "path": path, "note": NOTE}
        run = await asyncio.to_thread(begin, self.project, "five.py:five", input_, zone=ZONE)
        run = await advance(self.project, run.id)
        done = run.status is RunStatus.DONE and run.result
        assert done, run
        assert '"status": "committed"' in json.dumps(run.result), run
        assert (self.root / path).read_text() == NOTE

    def rows(self) -> int:
        from sqlalchemy import text

        with self.project.store.database.connection() as connection:
            counts = [
                connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()
                for name in ("run", "gate", "permit", "audit")
            ]
        return sum(counts)

    async def many(self, runs: int, at_once: int) -> list[float]:
        """Seconds of each."""
        left, times = iter(range(runs)), list[float]()

        async def worker() -> None:
            for _ in left:
                begun = time.perf_counter()
                await self.run()
                times.append(time.perf_counter() - begun)

        async with self.project.models() or nullcontext():
            await asyncio.gather(*(worker() for _ in range(at_once)))
        return times

    async def measured(self, runs: int, latency_ms: float, profile: str | None) -> dict[str, Any]:
        with profiled(profile):
            await self.many(5, 1)
            post(self.url, f"/reset?latency_ms={latency_ms}")
            gc.collect()
            before, rows = written(), self.rows()
            cpu, begun = cpu_s(), time.perf_counter()
            times = await self.many(runs, runs)
            wall, cpu = time.perf_counter() - begun, cpu_s() - cpu
        asked = post(self.url, "/stats")["requests"]
        assert asked == 4 * runs, f"{asked} calls of {runs} runs"
        return {
            "cpu_ms_run": 1000 * cpu / runs,
            "wall_s": wall,
            "p50_ms": 1000 * statistics.median(times),
            "p95_ms": 1000 * statistics.quantiles(times, n=20)[-1],
            "write_bytes_run": (written() - before) / runs,
            "peak_rss_mb": peak_mb(),
            "rows_run": (self.rows() - rows) / runs,
        }

    async def fill(self, more: int) -> None:
        """Stores as many runs that are done, each with gate, permit, record and checkpoints, like the first one."""
        from karkas import RunStatus
        from karkas.policies.budgets import Spent
        from karkas.storage import NewGate, RunId

        store, budget = self.project.store, Spent(tokens=520, model_calls=1)
        like = store.runs.list(status=RunStatus.DONE)[-1]
        gate = store.gates.list(run=like.id)[0]
        permit = store.ledger.for_gate(gate.id)
        assert permit is not None
        shown = {name: getattr(gate, name) for name in NewGate.model_fields}

        def one(number: int) -> RunId:
            run = store.runs.create(like.workflow, zone=ZONE, input=like.input, options=like.options).id
            store.runs.take_up(run)
            store.runs.set_engine(run, str(like.engine))
            for role in ("scout", "summarizer", "executor", "critic"):
                store.note("prompt_used", f"run:{run}", actor=str(like.engine), data={"role": role})
                store.purses.spend(run, budget)
            new = store.gates.open(NewGate(**shown | {"key": f"{run}:{number}", "run": run}))
            assert gate.critic is not None
            store.gates.pass_by_critic(new.id, gate.critic)
            issued = store.ledger.for_gate(new.id)
            assert issued is not None
            store.ledger.start(store.ledger.claim(issued.id, worker="filler"))
            store.ledger.commit(issued.id, permit.result or {}, permit.undo)
            store.runs.set_status(run, RunStatus.DONE, result=like.result)
            return run

        async with store.checkpoints() as saver:
            kept = [one async for one in saver.alist({"configurable": {"thread_id": like.id}})]

            async def copied(run: RunId) -> None:
                for step in reversed(kept):
                    before = (step.parent_config or {}).get("configurable", {}).get("checkpoint_id")
                    place = {"thread_id": run, "checkpoint_ns": "", "checkpoint_id": before}
                    at = await saver.aput({"configurable": place}, step.checkpoint, step.metadata, {})
                    for task, channel, value in step.pending_writes or ():
                        await saver.aput_writes(at, [(channel, value)], task)

            for begun in range(0, more, 64):
                numbers = range(begun, min(begun + 64, more))
                made = await asyncio.gather(*(store.at_once(partial(one, number)) for number in numbers))
                await asyncio.gather(*map(copied, made))
        self.made += max(more, 0)

    async def grown(self, stored: Iterable[int], runs: int) -> list[dict[str, Any]]:
        post(self.url, "/reset?latency_ms=0")
        found = list[dict[str, Any]]()
        await self.many(5, 1)
        for there in sorted(stored):
            await self.fill(there - self.made)
            gc.collect()
            spent = list[float]()
            async with self.project.models() or nullcontext():
                for _ in range(runs):
                    before = cpu_s()
                    await self.run()
                    spent.append(cpu_s() - before)
            one = {"stored": there, "cpu_ms_run": 1000 * statistics.median(spent), "peak_rss_mb": peak_mb()}
            found.append(one | {"verified": self.project.store.verify() == []})
        return found


@contextmanager
def profiled(file: str | None) -> Any:
    """The profile of all threads in CPU time, for `python -m pstats FILE`."""
    if file is None:
        yield
        return
    import cProfile
    import threading

    # One profiler sees one thread. Those that the loop starts each get their own, and all are added up.
    own, others = cProfile.Profile(time.thread_time), list[cProfile.Profile]()
    plain = threading.Thread.run

    def run(self: threading.Thread) -> None:
        other = cProfile.Profile(time.thread_time)
        others.append(other)
        other.runcall(plain, self)

    threading.Thread.run = run  # type: ignore[method-assign]
    own.enable()
    try:
        yield
    finally:
        own.disable()
        threading.Thread.run = plain  # type: ignore[method-assign]
        import pstats

        stats = pstats.Stats(own)
        for other in others:
            other.disable()
            other.create_stats()
            stats.add(pstats.Stats(other))
        stats.dump_stats(file)


async def in_project(asked: argparse.Namespace) -> None:
    with TemporaryDirectory(dir=asked.folder) as folder:
        karkas = Karkas(asked.url, Path(folder))
        if asked.child == "grown":
            print(json.dumps(await karkas.grown(asked.stored, asked.each)))
        else:
            print(json.dumps(await karkas.measured(asked.runs, asked.latency_ms, asked.profile)))
        karkas.project.close()


def last_line(command: list[str]) -> Any:
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(asked: argparse.Namespace, url: str) -> None:
    def peer(script: str, *more: str, durable: bool = False) -> dict[str, Any]:
        with TemporaryDirectory(dir=asked.folder) as folder:
            load = ["--runs", asked.runs, "--concurrency", asked.runs, "--latency-ms", asked.latency_ms]
            where = ["--base-url", f"{url}/v1", "--out-dir", f"{folder}/out"]
            where += ["--durable", f"{folder}/store"] if durable else []
            command = [sys.executable, str(Path(asked.bench_dir, script)), *more, *where]
            found: dict[str, Any] = last_line([*command, *map(str, load)])
            assert found["errors"] == 0, found
            assert found["files"] == asked.runs, found
            return found

    def karkas() -> dict[str, Any]:
        more = ["--profile", asked.profile] if asked.profile else []
        found: dict[str, Any] = last_line([*child(asked, url, "run"), *more])
        return found

    saver = ("--client", "aiohttp", "--saver", "sqlite", "--durability", "sync")
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "floor": lambda: peer("peer_floor.py", "--client", "raw"),
        "langgraph": lambda: peer("peer_langgraph.py", *saver, durable=True),
        "karkas": karkas,
    }
    chosen = [name for name in ways if (asked.bench_dir or name == "karkas") and asked.only in {None, name}]
    found = {name: list[dict[str, Any]]() for name in chosen}
    for number in range(asked.rounds):
        for name in chosen[number % len(chosen) :] + chosen[: number % len(chosen)]:
            found[name].append(ways[name]())
    print(f"{asked.runs} runs at once, 4 calls of {asked.latency_ms:g} ms each, {asked.rounds} rounds")
    print(f"{'':10} CPU ms/run   p50 ms   p95 ms  KB written/run  peak MB  rows/run")
    for name, rounds in found.items():
        fields = ("cpu_ms_run", "p50_ms", "p95_ms", "write_bytes_run", "peak_rss_mb", "rows_run")
        cpu, p50, p95, bytes_, peak, rows = (
            statistics.median(one.get(field, 0) for one in rounds) for field in fields
        )
        print(f"{name:10} {cpu:10.1f} {p50:8.0f} {p95:8.0f} {bytes_ / 1000:15.0f} {peak:8.0f} {rows:9.1f}")


def child(asked: argparse.Namespace, url: str, what: str) -> list[str]:
    load = ["--runs", asked.runs, "--latency-ms", asked.latency_ms, "--each", asked.each]
    where = ["--url", url, *(["--folder", asked.folder] if asked.folder else [])]
    stored = ["--stored", *asked.stored] if asked.stored else []
    return [sys.executable, str(HERE), "--child", what, *map(str, [*load, *where, *stored])]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bench-dir", metavar="DIR", help="where the peers' scripts and their server are")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-ms", type=float, default=200.0)
    parser.add_argument("--only", choices=("floor", "langgraph", "karkas"))
    parser.add_argument("--stored", type=int, nargs="+", default=[], metavar="N")
    parser.add_argument("--each", type=int, default=40, help="runs measured at each number stored")
    parser.add_argument(
        "--folder", metavar="DIR", help="on the disk that is meant (default: the temporary one)"
    )
    parser.add_argument("--profile", metavar="FILE")
    parser.add_argument("--child", choices=("serve", "run", "grown"), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child == "serve":
        serve(asked.bench_dir)
        return
    if asked.child:
        from karkas.runner import collect_less

        collect_less()  # as the karkas command does
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit if limit < 65536 and limit > 0 else 65536, limit))
        asyncio.run(in_project(asked))
        return
    command = [sys.executable, str(HERE), "--child", "serve"]
    command += ["--bench-dir", str(Path(asked.bench_dir).resolve())] if asked.bench_dir else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{json.loads(server.stdout.readline())['port']}"
            compare(asked, url)
            if asked.stored:
                found = last_line(child(asked, url, "grown"))
                print(f"\n{'stored':>8} CPU ms/run  peak MB  growth")
                for one in found:
                    growth = one["cpu_ms_run"] / found[0]["cpu_ms_run"]
                    sound = "" if one["verified"] else "  the record is broken"
                    print(
                        f"{one['stored']:8,} {one['cpu_ms_run']:10.1f} {one['peak_rss_mb']:8.0f} {growth:7.2f}{sound}"
                    )
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
