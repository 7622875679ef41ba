import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from karkas.agents.sources import Found, Limits, discover, read
from karkas.policies.distillates import SourceRank, SourceStatus
from karkas.server.documents import BlockKind

Write = Callable[[str, str | bytes], Path]

METADATA = """Metadata-Version: 2.4
Name: Waiter
Version: 3.1
License-Expression: MIT
Description-Content-Type: text/markdown; charset=UTF-8

# Waiter

Waits for things — politely.
"""
FILES = {
    "waiter/__init__.py": '"""Waits."""\nfrom ._core import wait\n__all__ = ["wait"]\nraise SystemExit(1)\n',
    "waiter/_core.py": "def wait(seconds: float = 1.5) -> None: ...\n",
    "waiter/_hidden.py": "def no(): ...\n",
    "waiter/queue.py": '"""Queues."""\n',
    "waiter/none.py": "",
    "waiter/tests/test_it.py": "def test(): ...\n",
    "waiter/_vendor/six.py": "x = 1\n",
    "waiter/_fast.so": "\x7fELF",
}


@pytest.fixture
def installed(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Found]]:
    """Lays an installed distribution out and discovers it."""

    def discovered(files: dict[str, str] = FILES, metadata: str = METADATA, **extra: str) -> list[Found]:
        for name, content in files.items():
            write(f"site/{name}", content)
        record = "".join(f"{name},,\n" for name in [*files, "Waiter-3.1.dist-info/METADATA"])
        for name, content in {"METADATA": metadata, "RECORD": record, **extra}.items():
            write(f"site/Waiter-3.1.dist-info/{name}", content)
        monkeypatch.syspath_prepend(tmp_path / "site")
        return list(discover("pkg:waiter", root=tmp_path, limits=Limits()))

    return discovered


async def test_readme_and_public_modules_are_documents_of_the_package(
    installed: Callable[..., list[Found]],
) -> None:
    found = installed()
    assert [one.key for one in found] == [
        "pkg:Waiter/README",
        "pkg:Waiter/waiter/__init__.py",
        "pkg:Waiter/waiter/_core.py",
        "pkg:Waiter/waiter/queue.py",
        "pkg:Waiter/~left-out",
    ]
    assert found[-1].skip == "modules left out: 1 compiled, 1 empty, 1 private, 1 tests, 1 vendored"
    readme, _, core, *_ = [await read(one, limits=Limits()) for one in found]
    assert readme.document is not None
    assert core.document is not None
    assert (readme.record.kind, readme.record.rank) == ("package", SourceRank.PACKAGE_DOCS)
    assert readme.document.text.startswith("# Waiter\n\nWaits for things — politely.")
    assert core.record.license == "MIT"
    assert core.record.rank is SourceRank.CODE
    assert core.document.meta == {"package": "Waiter", "version": "3.1", "module": "waiter._core"}
    assert [core.document.text[block.start : block.end] for block in core.document.blocks] == [
        "def wait(seconds: float = 1.5) -> None:"
    ]


async def test_nothing_of_the_package_is_imported(installed: Callable[..., list[Found]]) -> None:
    for one in installed():
        await read(one, limits=Limits())
    assert not any(name.startswith("waiter") for name in sys.modules)


async def test_a_description_without_a_type_is_restructured_text(
    installed: Callable[..., list[Found]],
) -> None:
    found = installed(
        metadata=METADATA.replace("Description-Content-Type: text/markdown; charset=UTF-8\n", "")
    )
    reading = await read(found[0], limits=Limits())
    assert reading.record.text is not None
    assert reading.record.text.extractor == "rst@1"


async def test_a_missing_description_is_on_the_record(installed: Callable[..., list[Found]]) -> None:
    found = installed(metadata="Metadata-Version: 2.1\nName: Waiter\nVersion: 3.1\n")
    reading = await read(found[0], limits=Limits())
    assert reading.record.status is SourceStatus.SKIPPED
    assert reading.record.reason == "its metadata has no description"


def test_an_editable_install_says_where_its_code_can_be_read(installed: Callable[..., list[Found]]) -> None:
    direct = json.dumps({"url": "file:///somewhere", "dir_info": {"editable": True}})
    found = installed({}, **{"direct_url.json": direct})
    assert "source folder" in (found[-1].skip or "")


async def test_an_installed_package_has_documents_with_signatures(tmp_path: Path) -> None:
    found = list(discover("pkg:tenacity", root=tmp_path, limits=Limits()))
    wait = next(one for one in found if one.key == "pkg:tenacity/tenacity/wait.py")
    document = (await read(wait, limits=Limits())).document
    assert document is not None
    signatures = [
        document.text[block.start : block.end]
        for block in document.blocks
        if block.kind is BlockKind.SIGNATURE and "wait_exponential" in block.headings
    ]
    assert "exp_base: float = 2" in signatures[0]
