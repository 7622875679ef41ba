"""Time and memory of a whole exploration, the proof of its spans, and whether a second run gives the same ids.

    python benchmarks/explore.py SOURCE... [--runs 3] [--json]

SOURCE is whatever `karkas explore --source` takes: a folder of documents, `pkg:NAME`. Each run is a process of its own
in a fresh project, so that wall time and peak memory are those of the command that a user types. The figures that
karkas promises (20 s, 600 MB on two cores) are for the documentation of four LoRA frameworks: 158 Markdown and Quarto
files out of huggingface/peft (docs/source, README), axolotl-ai-cloud/axolotl (docs, README),
KohakuBlueleaf/LyCORIS (docs, README) and unslothai/unsloth (README).
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from karkas.agents.distillate import load, verify
from karkas.project import Project
from karkas.workflows.mapping import text_of

KARKAS = Path(sys.executable).with_name("karkas")


def explore(sources: list[str]) -> dict[str, object]:
    """One exploration in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        Project.init(root).close()
        flags = [flag for source in sources for flag in ("--source", source)]
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([KARKAS, "explore", "zone", *flags], cwd=root, check=False, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        found = load((root / "zones/zone.distillate.yaml").read_bytes())
        with Project.open(root) as project:
            broken = verify(found, text_of(project.store))
    return {
        "id": found.id,
        "wall_s": round(wall, 2),
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "peak_mb": round(after.ru_maxrss / 1024),
        "sources": len(found.sources),
        "claims": len(found.claims),
        "spans": sum(len(claim.evidence) for claim in found.claims),
        "broken": len(broken),
        "conflicts": len(found.conflicts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", nargs="+")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    sources = [one if ":" in one else str(Path(one).resolve()) for one in given.source]
    runs = [explore(sources) for _ in range(given.runs)]
    medians = {
        name: statistics.median(run[name] for run in runs)  # type: ignore[type-var]
        for name in runs[0]
        if name != "id"
    }
    medians["same_ids"] = len({run["id"] for run in runs}) == 1  # type: ignore[assignment]
    if given.json:
        print(json.dumps({"runs": runs, "median": medians}))
        return
    print(f"median of {len(runs)} runs")
    for name, value in medians.items():
        print(f"  {name:10} {value}")


if __name__ == "__main__":
    main()
