"""What `karkas doctor` checks. Each check looks for itself, so that one that fails hides no other."""

import asyncio
import os
import platform
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from karkas import settings as toml
from karkas.agents.tools import bubblewrap
from karkas.cli.editing import installed_editor
from karkas.policies.errors import KarkasError, ProjectError
from karkas.policies.sandbox import Sandbox
from karkas.project import FOLDER, Project, find_root
from karkas.server.config import DEFAULT
from karkas.settings import Settings

if TYPE_CHECKING:
    from karkas.cli.servers import Finding
    from karkas.storage import Store

MB = 1_000_000


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, and how to mend it where it needs mending."""

    name: str
    status: Status
    found: str
    mend: str = ""


def checks(start: Path | None) -> Iterator[Check]:
    """Every check for the project at or above `start`, in the order in which they depend on each other."""
    yield _python()
    readable = True
    try:
        root = find_root(start)
    except ProjectError as error:
        found, _, mend = str(error).partition("; ")
        yield Check("project", Status.PROBLEM, found, mend)
        settings = Settings()
    else:
        yield Check("project", Status.OK, str(root))
        settings = Settings()
        try:
            settings = toml.load(root)
        except ProjectError as error:
            yield Check("karkas.toml", Status.PROBLEM, str(error), "correct the line that is named")
            readable = False
        else:
            zones = len(settings.zones)
            yield Check("karkas.toml", Status.OK, f"valid, {zones} zone{'' if zones == 1 else 's'} declared")
            if (root / FOLDER).is_dir():
                yield from _record(root)
        yield from _folder(root / FOLDER)
        yield from _tool_files(root, settings)
    yield _bubblewrap(settings.act.sandbox)
    if readable:
        yield from _models(settings)
    else:
        yield Check("model", Status.WARNING, "not examined, since karkas.toml could not be read")
    yield from _extras(settings)
    yield _editor()


def _python() -> Check:
    return Check("python", Status.OK, f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}")


def _record(root: Path) -> Iterator[Check]:
    """The database and the audit log, which need the project to open."""
    try:
        project = Project.open(root)
    except KarkasError as error:
        found, _, mend = str(error).partition("; ")
        yield Check("database", Status.PROBLEM, found, mend or "see the message")
        return
    with project:
        try:
            yield _database(project.store)
            yield from _workers(project.store)
            breaks, ours = project.store.verify(), project.store.audit.ours()
        except KarkasError as error:
            breaks, ours = [str(error)], True
        if not ours and not project.store.database.is_sqlite:
            found = "the record was last written with another signing key than this host's"
            mend = "copy .karkas/signing.key from the host that began the project (docs/scale.md)"
            yield Check("audit log", Status.PROBLEM, found, mend)
        elif breaks:
            mend = "`karkas audit verify` names all; keep a copy of .karkas/ and restore it from a backup"
            yield Check("audit log", Status.PROBLEM, breaks[0], mend)
        else:
            yield Check("audit log", Status.OK, "no row was changed, dropped or reordered")


def _workers(store: "Store") -> Iterator[Check]:
    from karkas.storage.workers import DEAD_S

    workers = store.workers.all()
    for one in workers:
        if one.silent_s > DEAD_S:
            where = f"process {one.pid} on {one.host}"
            found = f"{where} has not been heard of for {one.silent_s:,.0f} s; it holds {len(one.runs)} runs"
            mend = (
                f"any other worker takes them over, once it is dead: look at {where}, and kill it if it hangs"
            )
            yield Check("workers", Status.WARNING, found, mend)
    if workers and all(one.silent_s <= DEAD_S for one in workers):
        yield Check("workers", Status.OK, f"{len(workers)} at work")


def _database(store: "Store") -> Check:
    from sqlalchemy import text

    from karkas.storage.schema import version

    with store.database.connection() as connection:
        schema = version(connection)
        if not store.database.is_sqlite:
            return Check("database", Status.OK, f"PostgreSQL, schema {schema}")
        faults = connection.execute(text("PRAGMA quick_check(1)")).scalars().all()
        mode = connection.execute(text("PRAGMA journal_mode")).scalar_one()
    where = store.database.url.database
    if faults != ["ok"]:
        mend = f"restore it from a backup (`sqlite3 {where} .recover` saves what is left)"
        return Check("database", Status.PROBLEM, f"{where} is damaged: {faults[0]}", mend)
    if mode != "wal":
        mend = "put the project on a local disk: write-ahead logging does not work on network file systems"
        return Check("database", Status.WARNING, f"{where} is in journal mode {mode}, not WAL", mend)
    return Check("database", Status.OK, f"SQLite, intact, WAL, schema {schema}")


def _folder(folder: Path) -> Iterator[Check]:
    if not folder.is_dir():
        yield Check("folder", Status.PROBLEM, f"{folder} is missing", f"karkas init {folder.parent}")
        return
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        found = f"others may enter {folder} (mode {mode:04o})"
        yield Check("folder", Status.WARNING, found, f"chmod 700 {folder}")
    yield _key(folder / "signing.key")
    yield _writable(folder / "artifacts")
    yield _disk(folder)


def _key(path: Path) -> Check:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        mend = "restore it from a backup: without it no earlier decision can be checked"
        return Check("signing key", Status.PROBLEM, f"{path}: {error.strerror}", mend)
    if mode & 0o077:
        found = f"{path} can be read by others (mode {mode:04o}), so decisions could be forged"
        return Check("signing key", Status.PROBLEM, found, f"chmod 600 {path}")
    return Check("signing key", Status.OK, f"only you may read it (mode {mode:04o})")


def _writable(folder: Path) -> Check:
    # Made with the first artifact; until then its parent is what must be writable.
    place = folder if folder.is_dir() else folder.parent
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        return Check("artifacts", Status.PROBLEM, f"{place}: {error.strerror}", f"chmod u+rwx {place}")
    return Check("artifacts", Status.OK, "the folder is writable")


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    found = f"{free / 1000 / MB:,.1f} GB free"
    mend = "free some space: sources, artifacts and checkpoints all lie in .karkas/"
    if free < 100 * MB:
        return Check("disk", Status.PROBLEM, found, mend)
    return Check("disk", Status.WARNING, found, mend) if free < 1000 * MB else Check("disk", Status.OK, found)


def _tool_files(root: Path, settings: Settings) -> Iterator[Check]:
    for ref in settings.act.tools:
        path = root / ref.rpartition(":")[0]
        if not path.is_file():
            mend = "make the file, or take it out of [act] tools in karkas.toml"
            yield Check("tools", Status.PROBLEM, f"{ref}: there is no file {path}", mend)


def _bubblewrap(sandbox: Sandbox) -> Check:
    name = "bubblewrap"
    if sandbox is Sandbox.REFUSE:
        return Check(name, Status.OK, 'not needed: [act] sandbox = "refuse", so agents run no commands')
    meanwhile = (
        "run_command is refused until then"
        if sandbox is Sandbox.BUBBLEWRAP
        else "run_command asks you to let it run unsandboxed"
    )
    found = bubblewrap()
    if isinstance(found, str):
        trouble, _, mend = found.partition("; ")
        mend = mend or "allow unprivileged user namespaces, in a container start it with that right"
        return Check(name, Status.WARNING, trouble, f"{mend}; {meanwhile}")
    return Check(name, Status.OK, f"{found.program} {found.version} works")


def _models(settings: Settings) -> Iterator[Check]:
    from karkas.cli import servers

    config = settings.language_models
    if config is None:
        found = "no server configured: the offline engine quotes, and never writes or judges"
        yield Check("model", Status.OK, found)
        return
    examined = asyncio.run(servers.examine(config, os.environ))
    working = {one.model for one in examined if one.works}
    for one in examined:
        name = "model" if one.model == DEFAULT else f"model {one.model}"
        yield _found(name, one.findings, address=one.address, elsewhere=one.model in working)
    yield _found("roles", [servers.roles(config, examined)])


def _found(name: str, findings: Sequence["Finding"], *, address: str = "", elsewhere: bool = False) -> Check:
    """What was found of a model; where it answers `elsewhere` too, an address that does not stops nothing."""
    lines = [one.text for one in findings]
    if address and not any(address in line for line in lines):
        lines[0] = f"{address}: {lines[0]}"
    status = Status.WARNING if any(one.mend for one in findings) else Status.OK
    if any(one.stops for one in findings) and not elsewhere:
        status = Status.PROBLEM
    return Check(name, status, "\n".join(lines), "; ".join(one.mend for one in findings if one.mend))


def _extras(settings: Settings) -> Iterator[Check]:
    """What is asked for in `karkas.toml` and needs an extra; nothing where it is not."""
    from karkas import notify

    if settings.notify.urls:
        troubles = list(notify.troubles(settings.notify))
        if troubles:
            found, mends = zip(*(one.split("; ", 1) for one in troubles), strict=True)
            yield Check("notify", Status.WARNING, "\n".join(found), "; ".join(mends))
        else:
            told = ", ".join(settings.notify.on) or "nothing, since `on` is empty"
            yield Check("notify", Status.OK, f"tells of {told}; `karkas doctor --notify` sends a test")
    if settings.telemetry.traces:
        try:
            import opentelemetry.sdk.trace  # noqa: F401
        except ImportError:
            mend = "pip install 'karkas[otel]', or set [telemetry] traces to false: no run begins before"
            yield Check("traces", Status.PROBLEM, "OpenTelemetry's SDK is not installed", mend)
        else:
            where = (
                os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
                or "http://localhost:4318 (OpenTelemetry's default)"
            )
            yield Check("traces", Status.OK, f"go to {where}")


def tried(start: Path | None) -> Iterator[Check]:
    """Sends a message to the person, and says whether it could be sent."""
    from karkas import notify

    with Project.open(find_root(start)) as project:
        if not project.settings.notify.urls:
            yield Check(
                "message", Status.PROBLEM, "nothing says where to", "set urls under [notify] in karkas.toml"
            )
        elif notify.try_out(project):
            yield Check("message", Status.OK, "every service took it")
        else:
            mend = "see the check `notify` above, and .karkas/logs/karkas.log"
            yield Check("message", Status.PROBLEM, "a service did not take it", mend)


def _editor() -> Check:
    name = "editor"
    for variable in ("VISUAL", "EDITOR"):
        if command := os.environ.get(variable, "").strip():
            program = command.split()[0]
            if shutil.which(program):
                return Check(name, Status.OK, f"${variable} is {command}")
            mend = f"install {program}, or point ${variable} to an editor"
            return Check(name, Status.PROBLEM, f"${variable} is {command}, which is not found", mend)
    if fallback := installed_editor():
        return Check(name, Status.OK, f"{fallback}, since neither $VISUAL nor $EDITOR is set")
    mend = "install one or export EDITOR=..., or frame with `karkas frame ZONE --from FILE`"
    return Check(name, Status.WARNING, "there is none, so `karkas frame` cannot open one", mend)
