"""A night in several zones at once, whose machine is suspended in the middle.

    python benchmarks/night.py CORPUS [--url http://127.0.0.1:8000] [--after 20] [--for 60] [--until 10m]

Each folder of CORPUS is a zone and its sources. All are queued and worked off by one `karkas night`, which is stopped
(SIGSTOP, as a suspended laptop stops it) `--after` so many seconds `--for` so many, and then goes on. With `--url` the
agents ask that server, which is not stopped; without it the offline engine answers, which may be through before.

Printed is how each run ended, what it cost, how often it was taken up, and whether its distillate verifies. It exits
with 1 where a run neither ended nor parks at its gate, a distillate does not verify, the record is broken, or a model
answer was asked for again that had been kept.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlmodel import select

from karkas.project import Project
from karkas.storage.tables import JournalRow

KARKAS = Path(sys.executable).with_name("karkas")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("corpus", type=Path)
    options.add_argument("--url")
    options.add_argument("--after", type=float, default=20.0)
    options.add_argument("--for", type=float, default=60.0, dest="stopped_s")
    options.add_argument("--until", default="30m")
    asked = options.parse_args()
    zones = sorted(folder.name for folder in asked.corpus.resolve().iterdir() if folder.is_dir())
    with TemporaryDirectory(prefix="karkas-night-") as name:
        root = Path(name, "project")
        root.mkdir()
        model = f'[model]\nbase_url = "{asked.url}"\n' if asked.url else ""
        (root / "karkas.toml").write_text(model)
        karkas(root, "init", ".")
        for zone in zones:
            karkas(root, "explore", zone, "--source", str(asked.corpus.resolve() / zone), "--detach")
        began = time.monotonic()
        night = subprocess.Popen(
            [KARKAS, "night", "--until", asked.until, "--concurrency", str(len(zones))], cwd=root
        )
        stopped = suspended(night, after_s=asked.after, for_s=asked.stopped_s)
        code = night.wait()
        print(
            f"\nthe night took {time.monotonic() - began:.0f} s, {stopped:.0f} of them suspended; exit code {code}"
        )
        sys.exit(1 if told(root) else 0)


def suspended(process: "subprocess.Popen[bytes]", *, after_s: float, for_s: float) -> float:
    """Stops the process for a while; says for how many seconds, 0 where it ended before."""
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGSTOP)
        time.sleep(for_s)
        process.send_signal(signal.SIGCONT)
        return for_s
    return 0.0


def told(root: Path) -> bool:
    """Prints what came of it, and what is wrong; whether something is."""
    wrong = list[str]()
    with Project.open(root) as project:
        store = project.store
        print(
            f"{'zone':12} {'status':8} {'stopped by':20} {'taken up':>8} {'calls':>6} {'tokens':>9} {'wall s':>7}"
            "  verified"
        )
        for run in sorted(store.runs.list(), key=lambda one: one.zone or ""):
            values = (run.result or {}).get("values")
            stop = values.get("stop", "") if isinstance(values, dict) else ""
            verified = not karkas(
                root, "distillate", "verify", f"zones/{run.zone}.distillate.yaml", check=False
            )
            if not verified:
                wrong.append(f"the distillate of {run.zone} does not verify")
            if run.status.value not in {"parked", "done"}:
                wrong.append(f"run {run.id} is {run.status}: {run.error or run.reason}")
            spent = run.spent
            print(
                f"{run.zone or '':12} {run.status:8} {stop!s:20} {run.segment:8} {spent.model_calls:6}"
                f" {spent.tokens:9,} {spent.wall_s:7.0f}  {verified}"
            )
        with store.database.read() as session:
            kept = Counter((row.run, row.digest, row.n) for row in session.exec(select(JournalRow)))
        twice = sum(number - 1 for number in kept.values())
        breaks = store.verify()
        print(
            f"model answers {sum(kept.values()):,}, asked for again {twice}; breaks of the record {len(breaks)}"
        )
        wrong += [f"{twice} answers were asked for again"] if twice else []
        wrong += breaks
        for one in wrong:
            print(f"wrong: {one}")
        return bool(wrong)


def karkas(root: Path, *args: str, check: bool = True) -> int:
    return subprocess.run([KARKAS, *args], cwd=root, check=check, stdout=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    main()
