"""The queue with 10, 1,000 and 10,000 gates: seconds until it can be read, and what it holds in memory.

    python benchmarks/screen.py [--gates 10 --gates 1000 ...]

For each number, in a project of its own with that many gates waiting (each with a stored proposal and a diff):

- `lines`     the list's query alone, in ms;
- `list`      `karkas queue list` as a process, from its start to its end, in s;
- `first`     `karkas queue` on a terminal of 80x24, from its start until the list is there, in s;
- `cpu`       seconds of processor that the screen had used by then, which other work on the machine changes less;
- `decision`  from there until the gate under the cursor can be read whole, in s;
- `rss`       the most memory that the screen had, in MB, after going down 200 gates, and more than with the fewest.

Promised: 10,000 gates cost the screen no more than a fifth of a second and 20 MB over what 10 do, whatever lies in
them. The list is one query over a few columns of which the most urgent lines are kept; only what is looked at is read,
and with ten gates there is less to look at. SQLite keeps up to 2 MB of pages a connection. Most of the time until the
first screen is that of importing; aimed at is under a second on a machine that does nothing else.
"""

import argparse
import fcntl
import os
import pty
import re
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import suppress
from pathlib import Path

from karkas.policies.actions import Action, Digest, Effect, Proposal, Variant
from karkas.policies.gates import POLICY_VERSION, GateKind, PolicyDecision, PolicyVerdict
from karkas.policies.permits import Binding
from karkas.policies.zones import ControlLevel
from karkas.project import Project
from karkas.storage import NewGate, ShownVariant

KARKAS = Path(sys.executable).with_name("karkas")
DIFF_LINES = 40
STEPS = 200


def fill(root: Path, number: int) -> None:
    """A project with `number` gates waiting, in runs of four."""
    with Project.init(root) as project:
        (root / "karkas.toml").write_text("".join(f"[zones.z{n}]\nunderstanding = 3\n" for n in range(5)))
        store = project.store
        for at in range(number):
            if at % 4 == 0:
                run = store.runs.create("act", zone=f"z{at // 4 % 5}")
            zone = f"z{at // 4 % 5}"
            effect = Effect.IRREVERSIBLE if at % 3 == 0 else Effect.REVERSIBLE
            content = "\n".join(f"line {line} of {at}" for line in range(DIFF_LINES))
            action = Action(
                tool="write_file", args={"path": f"docs/{at}.md", "content": content}, effect=effect
            )
            proposal = Proposal(
                zones=(zone,), task="write it", why="", proposer="bench", variants=(Variant(action=action),)
            )
            shown = store.artifacts.put_text("\n".join(f"+{line}" for line in content.split("\n")))
            binding = Binding(
                action=action.digest, shown=shown, tool_version=Digest("0" * 64), preconditions={},
                policy_version=POLICY_VERSION,
            )  # fmt: skip
            store.gates.open(
                NewGate(
                    key=str(at), run=run.id, lane=str(at), kind=GateKind.ACTION, zones=(zone,),
                    level=ControlLevel.PROPOSE_ONLY,
                    policy=PolicyDecision(verdict=PolicyVerdict.PROPOSE, reasons=("a benchmark",)),
                    proposal=store.artifacts.put_json(proposal.model_dump(mode="json")),
                    variants=(ShownVariant(digest=action.digest, shown=shown, binding=binding),),
                    title=proposal.title, effect=effect,
                )
            )  # fmt: skip


def lines_ms(root: Path) -> float:
    with Project.open(root) as project:
        took = []
        for _ in range(5):
            began = time.perf_counter()
            project.store.waiting.lines()
            took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


def list_s(root: Path) -> float:
    began = time.perf_counter()
    subprocess.run([KARKAS, "queue", "list"], cwd=root, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


class Screen:
    """`karkas queue` on a terminal of its own."""

    def __init__(self, root: Path) -> None:
        self.began = time.perf_counter()
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(root)
            os.environ["TERM"] = "xterm-256color"
            os.execv(KARKAS, [str(KARKAS), "queue"])
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.seen = ""

    def until(self, pattern: str) -> float:
        """Seconds since it was started until the terminal was sent this."""
        while not re.search(pattern, self.seen):
            ready, _, _ = select.select([self.terminal], [], [], 30)
            if not ready:
                raise SystemExit(f"{pattern!r} did not appear; the screen showed {self.seen[-500:]!r}")
            self.seen += os.read(self.terminal, 1 << 16).decode("utf-8", "replace")
        return time.perf_counter() - self.began

    def press(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def drain(self, seconds: float) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            if select.select([self.terminal], [], [], 0.05)[0]:
                os.read(self.terminal, 1 << 16)

    def peak_mb(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else 0.0

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.press("q")
        with suppress(OSError):  # it left
            self.drain(5.0)
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


def screen_of(root: Path) -> tuple[float, float, float, float]:
    screen = Screen(root)
    try:
        first, used = screen.until(r"propose-only|z0"), screen.cpu_s()
        decision = screen.until(r"digest [0-9a-f]") - first
        for _ in range(STEPS):
            screen.press("n")
            screen.drain(0.02)
        screen.drain(0.5)
        return first, used, decision, screen.peak_mb()
    finally:
        screen.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gates", type=int, action="append")
    numbers = parser.parse_args().gates or [10, 1_000, 10_000]
    # Where nothing compiled is kept, each start compiles karkas anew, which on nobody's machine it does.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    names = ("gates", "lines ms", "list s", "first s", "cpu s", "decision s", "rss MB", "more")
    print("".join(f"{name:>11}" for name in names))
    fewest = None
    for number in numbers:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "project"
            fill(root, number)
            screen_of(root)  # which compiles what the next ones import
            lines, listed = lines_ms(root), list_s(root)
            found = [screen_of(root) for _ in range(3)]
        first, used, decision, peak = (statistics.median(column) for column in zip(*found, strict=True))
        fewest = peak if fewest is None else fewest
        more = peak - fewest
        seconds = "".join(f"{value:>11.2f}" for value in (listed, first, used, decision))
        print(f"{number:>11,}{lines:>11.1f}{seconds}{peak:>11.0f}{more:>+11.0f}", flush=True)


if __name__ == "__main__":
    main()
