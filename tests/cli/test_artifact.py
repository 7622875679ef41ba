import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from karkas.cli import exits
from karkas.project import Project

Cli = Callable[..., Any]
KARKAS = Path(sys.executable).with_name("karkas")
BINARY = bytes(range(256)) * 40


def stored(root: Path, data: bytes) -> str:
    with Project.open(root) as project:
        return project.store.artifacts.put(data)


def test_cat_writes_every_byte_into_a_pipe(root: Path) -> None:
    digest = stored(root, BINARY)
    for name in (digest, digest[:8].upper()):
        ended = subprocess.run(
            [KARKAS, "artifact", "cat", name], cwd=root, capture_output=True, check=True, timeout=30
        )
        assert ended.stdout == BINARY


def test_cat_refuses_what_it_does_not_have_or_what_was_changed(cli: Cli, root: Path) -> None:
    digest = stored(root, b"the text that was read\n")
    assert cli("artifact", "cat", "000000").code == exits.FAILED
    assert cli("artifact", "cat", "../../x").code == exits.FAILED
    path = root / ".karkas/artifacts" / digest[:2] / digest
    path.chmod(0o600)
    path.write_bytes(b"another text\n")
    broken = cli("artifact", "cat", digest)
    assert broken.code == exits.FAILED
    assert broken.out == ""


@pytest.mark.parametrize(
    ("data", "code"), [("a\u202eb\x1b[2J\n".encode(), exits.DONE), (BINARY, exits.USAGE)]
)
def test_a_terminal_gets_only_what_it_can_show_honestly(root: Path, data: bytes, code: int) -> None:
    digest = stored(root, data)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [KARKAS, "artifact", "cat", digest], cwd=root, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE
    )
    assert process.wait(timeout=30) == code
    os.close(theirs)
    assert process.stderr is not None
    process.stderr.close()
    shown = os.read(ours, 65536) if code == exits.DONE else b""
    os.close(ours)
    assert shown == ("a⟦U+202E⟧b⟦U+001B⟧[2J\r\n\r\n".encode() if code == exits.DONE else b"")
