"""`make demo` a second time keeps what a person decided in the first one."""

import os
import shutil
import subprocess
from pathlib import Path

DEMO = Path(__file__).parents[2] / "docs/demo.sh"


def test_a_demo_that_is_there_already_is_kept(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    script = shutil.copy(DEMO, tmp_path / "docs")
    for decided in ("first", "second"):
        (tmp_path / "demo-project").mkdir(exist_ok=True)
        (tmp_path / "demo-project/mine.yaml").write_text(decided)
        env = os.environ | {"KARKAS": "/bin/false"}
        ended = subprocess.run(["bash", script], env=env, capture_output=True, text=True, check=False)
        assert ended.returncode != 0, "nothing was there to run"
    assert (tmp_path / "demo-project.1/mine.yaml").read_text() == "first"
    assert (tmp_path / "demo-project.2/mine.yaml").read_text() == "second"
    assert not (tmp_path / "demo-project/mine.yaml").exists()
