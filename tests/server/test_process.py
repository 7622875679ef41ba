"""The supervisor on a server whose faults come on demand; `tests/vllm/test_serve.py` has a real one."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from karkas.server.config import ModelSettings, ServeSettings
from karkas.server.process import Launch, Patience, Probe, Record, ServeError, State, Supervisor, Watchbook
from karkas.server.process import log as logs
from karkas.server.process.command import check_disk
from karkas.server.process.group import Group
from karkas.server.process.log import ServeLog

FAKE = Path(__file__).with_name("fake_vllm.py")
BRISK = Patience(
    poll=0.02, watch=0.05, hung=0.4, ask=2.0, stop=0.5, settled=600, first_wait=0.01, longest_wait=0.02
)


def settings(**serve: Any) -> ModelSettings:
    return ModelSettings(serve=ServeSettings(**({"path": "models/tiny", "command": (str(FAKE),)} | serve)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("tiny", "adapter"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "config.json").write_text("{}")
    (tmp_path / ".karkas").mkdir()
    return tmp_path


@pytest.fixture
def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        found: int = one.getsockname()[1]
        return found


class Watch:
    """Runs a supervisor and waits for what it tells."""

    def __init__(self, root: Path, port: int) -> None:
        self.root, self.port = root, port
        self.book = Watchbook(root / ".karkas")
        self.told: list[Record] = []
        self._news = asyncio.Event()

    def launch(self, fault: str = "", **serve: Any) -> Launch:
        environ = os.environ | {"FAKE": fault, "FAKE_ONCE": str(self.root / "once")}
        return Launch.of("default", settings(port=self.port, **serve), root=self.root, environ=environ)

    def tell(self, record: Record) -> None:
        self.told.append(record)
        self._news.set()

    async def until(self, state: State, *, times: int = 1) -> Record:
        async with asyncio.timeout(20):
            while True:
                seen = [one for one in self.told if one.state is state]
                if len(seen) >= times:
                    return seen[-1]
                self._news.clear()
                await self._news.wait()

    @asynccontextmanager
    async def serving(self, launch: Launch, patience: Patience = BRISK) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(
            Supervisor(launch, self.root / ".karkas", self.tell, patience=patience).run()
        )
        try:
            yield task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, ServeError):
                await task


@pytest.fixture
def watch(root: Path, port: int) -> Iterator[Watch]:
    watch = Watch(root, port)
    yield watch
    for record in watch.told:
        if record.group is not None:
            record.group.signal(signal.SIGKILL)


def listed(record: Record) -> httpx.Response:
    return httpx.get(f"{record.base_url}/v1/models", trust_env=False)


def command_line(record: Record) -> str:
    return Path(f"/proc/{record.pid}/cmdline").read_text()


def members(record: Record) -> list[int]:
    assert record.group is not None
    return record.group.members()


async def test_a_server_is_ready_when_it_answers_and_is_gone_with_its_engine_when_stopped(
    watch: Watch,
) -> None:
    async with watch.serving(watch.launch()):
        ready = await watch.until(State.READY)
        assert len(members(ready)) == 2
        assert listed(ready).json()["data"] == [{"id": "tiny"}]
        assert watch.book.read("default") == ready
    assert members(ready) == []
    last = watch.book.read("default")
    assert last is not None
    assert (last.state, last.pid) == (State.STOPPED, None)


async def test_the_log_of_a_server_at_work_stays_bounded(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "BOUND_BYTES", 1000)
    async with watch.serving(watch.launch()):
        log = (await watch.until(State.READY)).log
        with log.open("ab") as file:
            file.write(b"." * 2000)
        async with asyncio.timeout(20):
            while log.stat().st_size > 1000:  # noqa: ASYNC110 - a file sends no event
                await asyncio.sleep(0.02)


async def test_what_it_is_doing_is_told_while_it_starts(watch: Watch) -> None:
    async with watch.serving(watch.launch("mute")):
        while watch.told[-1:] == [] or watch.told[-1].detail != "loading weights":
            await watch.until(State.STARTING, times=len(watch.told) + 1)


async def test_one_that_dies_at_once_is_not_started_again_and_its_own_words_say_why(watch: Watch) -> None:
    async with watch.serving(watch.launch("dies")) as task:
        with pytest.raises(
            ServeError, match=r"exit code 1; .*does not know --frobnicate; correct args(?s:.*)\| vllm: error"
        ):
            await task
    assert [one.state for one in watch.told].count(
        State.STARTING
    ) == 2  # before the process was there, and with it
    assert watch.told[-1].state is State.FAILED


async def test_one_that_never_answers_is_given_up_and_ended(watch: Watch) -> None:
    async with watch.serving(watch.launch("mute", ready_s=0.4)) as task:
        with pytest.raises(ServeError, match=r"no answer within 0 s \(ready_s\)"):
            await task
    started = next(one for one in watch.told if one.pid)
    assert members(started) == []


async def test_one_that_is_killed_is_started_again_without_what_it_left_behind(watch: Watch) -> None:
    async with watch.serving(watch.launch()):
        first = await watch.until(State.READY)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        second = await watch.until(State.READY, times=2)
        assert members(first) == []
        assert (second.restarts, len(members(second))) == (1, 2)
    assert "ended by SIGKILL; again in" in next(
        one.detail for one in watch.told if one.state is State.RESTARTING
    )


async def test_one_that_keeps_dying_is_given_up(watch: Watch) -> None:
    async with watch.serving(watch.launch("dies-again", restarts=2)) as task:
        first = await watch.until(State.READY)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        with pytest.raises(ServeError, match=r"died 3 times in a row.*memory is too small"):
            await task
    assert watch.told[-1].state is State.FAILED


async def test_deaths_after_a_long_service_do_not_add_up(watch: Watch) -> None:
    async with watch.serving(watch.launch(restarts=1), replace(BRISK, settled=0.0)):
        for times in (1, 2, 3):
            ready = await watch.until(State.READY, times=times)
            assert ready.pid is not None
            os.kill(ready.pid, signal.SIGKILL)
        assert (await watch.until(State.READY, times=4)).restarts == 3


async def test_one_that_hangs_is_ended_and_started_again(watch: Watch) -> None:
    async with watch.serving(watch.launch()):
        first = await watch.until(State.READY)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGSTOP)  # it listens on, and answers nobody
        await watch.until(State.READY, times=2)
        assert members(first) == []


async def test_one_that_ignores_the_request_to_end_is_killed(watch: Watch) -> None:
    async with watch.serving(watch.launch("stubborn")):
        ready = await watch.until(State.READY)
    assert members(ready) == []


async def test_one_that_runs_already_is_used_left_running_and_replaced_when_it_goes(watch: Watch) -> None:
    other = Watch(watch.root, watch.port)
    other.book = Watchbook(watch.root / "other")
    (watch.root / "other").mkdir()
    launch = watch.launch()
    theirs = asyncio.create_task(Supervisor(launch, watch.root / "other", other.tell, patience=BRISK).run())
    ready = await other.until(State.READY)
    async with watch.serving(launch):
        await watch.until(State.FOUND)
    assert len(members(ready)) == 2
    async with watch.serving(launch):
        await watch.until(State.FOUND, times=2)
        theirs.cancel()
        with suppress(asyncio.CancelledError):
            await theirs
        assert (await watch.until(State.READY)).pid != ready.pid


async def test_a_port_with_another_model_or_something_else_is_refused(watch: Watch, root: Path) -> None:
    launch = watch.launch()
    async with watch.serving(launch):
        await watch.until(State.READY)
        for wrong, why in (
            (
                replace(launch, name="b", model="large"),
                "does not serve large but tiny; stop that, or choose another port",
            ),
            (replace(launch, name="b", adapters=("x",)), "does not serve x but tiny"),
        ):
            with pytest.raises(ServeError, match=why):
                await Supervisor(wrong, root / ".karkas", lambda _: None, patience=BRISK).run()
    silent = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", watch.port)
    async with silent:
        with pytest.raises(ServeError, match=r"is taken: something else answers there"):
            await Supervisor(launch, root / ".karkas", lambda _: None, patience=BRISK).run()


async def test_something_else_on_the_port_that_never_ends_its_answer_is_refused_and_heard_no_further() -> (
    None
):
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
        )
        with suppress(ConnectionError):
            while True:
                writer.write(b" " * 65536)
                await writer.drain()

    async with await asyncio.start_server(flood, "127.0.0.1", 0) as server:
        probe = Probe(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", key=None, ask_s=60)
        found = await probe.look()
        assert found is not None
        assert "more than" in found.fault
        assert await probe.healthy(), "it says so, and is not read to its end"
        await probe.close()


async def test_the_key_is_asked_for_by_the_server_and_stands_in_no_command_and_no_record(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = settings(port=watch.port).model_copy(update={"api_key_env": "SECRET_OF_OURS"})
    launch = Launch.of("default", model, root=watch.root, environ=os.environ | {"SECRET_OF_OURS": "hunter2"})
    async with watch.serving(launch):
        ready = await watch.until(State.READY)
        assert listed(ready).status_code == 401
        assert "hunter2" not in command_line(ready)
    assert "hunter2" not in repr(launch) + repr(watch.told)
    assert not [
        path
        for path in (watch.root / ".karkas").rglob("*")
        if path.is_file() and b"hunter2" in path.read_bytes()
    ]


async def test_two_do_not_look_after_the_same_server(watch: Watch, root: Path) -> None:
    launch = watch.launch()
    async with watch.serving(launch):
        await watch.until(State.READY)
        with pytest.raises(
            ServeError, match=f"another karkas serve .pid {os.getpid()}. looks after default already"
        ):
            await Supervisor(launch, root / ".karkas", lambda _: None, patience=BRISK).run()


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from karkas.server.config import ModelSettings, ServeSettings
from karkas.server.process import Launch, State, Supervisor
root = Path(sys.argv[1])
serve = ServeSettings(path="models/tiny", command=(sys.argv[2],), port=int(sys.argv[3]))
def tell(record):
    if record.state is State.READY:
        print(record.model_dump_json(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(Supervisor(Launch.of("default", ModelSettings(serve=serve), root=root), root / ".karkas", tell).run())
"""


def left_behind(watch: Watch, fault: str) -> Record:
    """What lives on of a server whose karkas was killed with no time to do anything."""
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, watch.root, FAKE, str(watch.port)],
        env=os.environ | {"FAKE": fault, "FAKE_ONCE": os.devnull},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    record = Record.model_validate_json(killed.stdout.splitlines()[-1])
    watch.told.append(record)
    # The server gets a signal when its karkas is gone, and its engine does not.
    while not fault and record.pid in members(record):
        time.sleep(0.05)
    return record


@pytest.mark.parametrize("fault", ["", "stubborn"])
async def test_what_a_killed_karkas_leaves_behind_is_ended_by_the_next(watch: Watch, fault: str) -> None:
    left = left_behind(watch, fault)
    assert len(members(left)) == (2 if fault else 1)
    seen = watch.book.read("default")
    assert seen is not None
    assert seen.state is State.LEFT
    async with watch.serving(watch.launch()):
        ready = await watch.until(State.READY, times=2)
        assert members(left) == []
        assert ready.pid != left.pid


def test_a_pid_that_is_somebody_elses_by_now_is_left_alone() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
    ) as process:
        ours = Group.led_by(process.pid)
        assert ours.members() == [process.pid]
        stale = Group(process.pid, (ours.started or 0) - 1)
        stale.signal(signal.SIGKILL)
        assert stale.members() == []
        assert process.poll() is None
        process.communicate(b"\n")
        assert process.returncode == 0


def written(**what: Any) -> Record:
    told: dict[str, Any] = {
        "name": "default",
        "model": "m",
        "base_url": "http://127.0.0.1:8000",
        "log": "log",
    }
    told |= {"state": State.READY, "since": datetime.now().astimezone(), "supervisor": 4711}
    return Record.model_validate(told | what)


@pytest.mark.parametrize(
    "numbers", [{"pid": 0}, {"pid": 1}, {"pid": -5}, {"supervisor": -1}, {"supervisor": 0}]
)
def test_a_record_with_a_number_that_stands_for_everybody_is_none(
    tmp_path: Path, numbers: dict[str, int]
) -> None:
    """kill(2): 0 is the own group, -1 is all that one may kill, 1 is whoever started the machine."""
    book = Watchbook(tmp_path)
    with book.held("default"):
        book.write(written().model_copy(update=numbers))
        assert book.read("default") is None


def test_a_group_of_before_the_machine_was_started_is_somebody_elses() -> None:
    assert written(pid=4712).group is not None
    assert written(pid=4712, since=datetime(2001, 1, 1, tzinfo=UTC)).group is None


def test_a_link_in_place_of_the_log_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "BOUND_BYTES", 5)
    (tmp_path / "precious").write_text("do not touch")
    (tmp_path / "serve.log").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=r"serve\.log"):
        ServeLog(tmp_path / "serve.log").open()
    assert (tmp_path / "precious").read_text() == "do not touch"


def test_the_flags_are_those_of_the_settings(root: Path) -> None:
    model = settings(
        adapters={"critic": "models/adapter"},
        max_model_len=8192,
        gpu_memory_utilization=0.8,
        prefix_caching=False,
        structured_outputs="xgrammar",
        env={"A": "1"},
        args=("--seed", "3"),
    ).model_copy(update={"model": "big"})
    launch = Launch.of("default", model, root=root)
    words = " ".join(launch.command)
    assert words.startswith(
        f"{FAKE} serve {root}/models/tiny --served-model-name big --host 127.0.0.1 --port 8000 "
    )
    for part in (
        "--max-model-len 8192",
        "--gpu-memory-utilization 0.8",
        "--no-enable-prefix-caching",
        "--scheduling-policy priority",
        '--structured-outputs-config {"backend": "xgrammar", "disable_any_whitespace": true}',
        f"--enable-lora --max-loras 1 --max-lora-rank 16 --lora-modules critic={root}/models/adapter",
    ):
        assert part in words
    assert words.endswith("--seed 3")
    assert launch.env["A"] == "1"
    assert Launch.of("default", settings(), root=root).model == "tiny"


@pytest.mark.parametrize(("given", "seconds"), [({}, "60"), ({"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "7"}, "7")])
def test_a_busy_server_does_not_close_idle_connections_at_once(
    root: Path, given: dict[str, str], seconds: str
) -> None:
    assert (
        Launch.of("default", settings(), root=root, environ=given).env["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"]
        == seconds
    )


@pytest.mark.parametrize(
    ("serve", "why"),
    [
        ({"command": ("no-such-vllm",)}, r'pip install "karkas\[vllm\]"'),
        ({"path": "models/absent"}, "models/absent is not there; correct its path"),
        ({"path": "/no/such/model"}, "/no/such/model is not there"),
        ({"path": "models"}, "holds no config.json"),
        ({"adapters": {"x": "./absent"}}, "absent is not there"),
    ],
)
def test_what_is_not_there_is_said_before_anything_starts(
    root: Path, serve: dict[str, Any], why: str
) -> None:
    with pytest.raises(ServeError, match=why):
        Launch.of("default", settings(**serve), root=root)


def test_a_name_on_a_hub_is_handed_over_as_it_is(root: Path) -> None:
    assert "Qwen/Qwen3-14B" in Launch.of("default", settings(path="Qwen/Qwen3-14B"), root=root).command


def test_a_model_that_nothing_says_how_to_serve_is_told_with_the_lines_to_add(root: Path) -> None:
    with pytest.raises(ServeError, match=r"\[models.critic.serve\]\npath = "):
        Launch.of("critic", ModelSettings(), root=root)


def test_a_full_disk_stops_it_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 5_000_000}))
    with pytest.raises(ServeError, match="has 5 MB left"):
        check_disk(tmp_path)


ENDING = """\
(EngineCore pid=7) ERROR 11-22 08:11:43 [core.py:133] Traceback (most recent call last):
(EngineCore pid=7) ERROR 11-22 08:11:43 [core.py:133]   File "core.py", line 1, in run
(EngineCore pid=7) ERROR 11-22 08:11:43 [core.py:133] ValueError: Free memory on device (1/80 GiB) on startup is less than desired GPU memory utilization (0.9).
(APIServer pid=6) Traceback (most recent call last):
  File "/opt/vllm/launcher.py", line 9, in main
    run()
RuntimeError: Engine core initialization failed. See root cause above.
"""


def test_what_ended_it_is_found_among_the_ways_there(tmp_path: Path) -> None:
    log = ServeLog(tmp_path / "serve.log")
    log.open().close()
    log.path.write_text(ENDING)
    mend, where, *quoted = log.why().splitlines()
    assert mend == "; the GPU is in use; free it, or lower gpu_memory_utilization"
    assert where == f"In {log.path}:"
    assert [line.partition("Error: ")[2][:11] for line in quoted] == ["Free memory", "Engine core"]


def test_a_log_is_bounded_while_its_server_writes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "BOUND_BYTES", 1000)
    log = ServeLog(tmp_path / "logs" / "serve.log")
    with log.open() as file:
        for number in range(50):
            file.write(b"line %d " % number + b"." * 90 + b"\n")
            file.flush()
            log.rotate()
        file.write(b"Loading safetensors checkpoint shards:  50% Completed | 1/2\rhalf a line")
        file.flush()
        assert log.read() == "loading weights, 50%"
        file.write(b" and its end\n")
    assert "| half a line and its end" in log.why()
    assert sum(path.stat().st_size for path in log.path.parent.iterdir()) < 2500
    assert log.path.stat().st_mode & 0o777 == 0o600
