"""A project: the folder that holds `karkas.toml`, with its settings, its record and its engine."""

import os
import pwd
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from karkas import logs
from karkas import settings as toml
from karkas.policies.errors import NotFoundError, ProjectError, SettingsError
from karkas.policies.zones import Zone, ZoneRecord, ZoneState, zone_state
from karkas.settings import Settings

if TYPE_CHECKING:
    from karkas.agents.tools import Tool, ToolBox, Workspace
    from karkas.server.pool import ModelPool
    from karkas.server.protocol import Caller, Engine
    from karkas.storage import Store

FOLDER = ".karkas"
"""Beside `karkas.toml`: database, artifacts, logs, the signing key."""
LOGIN = Path("/proc/self/loginuid")
NOBODY_LOGGED_IN = 2**32 - 1
NEWS = timedelta(minutes=1)
"""After so long everybody who waits for a model server has found out that it is ready."""


def find_root(start: Path | str | None = None) -> Path:
    """The nearest folder at or above `start` (default: the current one) that holds a `karkas.toml`.

    One found above that belongs to somebody else is refused, since a project may name code to load.
    """
    try:
        start = Path.cwd() if start is None else Path(start)
    except FileNotFoundError as error:
        raise ProjectError("the current folder is not there any more; go to one that is") from error
    if not start.is_dir():
        raise ProjectError(f"{start} is no folder; give the project's folder, or a folder in it")
    for folder in _upwards(start.resolve()):
        file = folder / toml.FILE
        if not file.exists():
            continue
        if folder != start.resolve() and file.stat().st_uid not in {os.geteuid(), 0}:
            raise ProjectError(
                f"{file} belongs to another user; if you trust it, name the folder: --project {folder}"
            )
        return folder
    raise ProjectError(f"no {toml.FILE} in {start} or above it; `karkas init` makes a project here")


def person() -> str:
    """The user of the operating system: who decided, for the record. The environment has no say in it.

    It is whoever logged in, where Linux knows (proc_pid_loginuid(5)): two people who use one account by `sudo` or `su`
    are two. Elsewhere, as in most containers, it is the user of the process.
    """
    uid = _logged_in()
    uid = os.getuid() if uid is None else uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _logged_in() -> int | None:
    try:
        uid = int(LOGIN.read_text("ascii"))
    except (OSError, ValueError):
        return None
    return None if uid == NOBODY_LOGGED_IN else uid


def _upwards(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.parents


class Project:
    """An open project. Use it as a context manager, or call `close`."""

    def __init__(self, root: Path, settings: Settings, store: "Store") -> None:
        self.root = root
        self.settings = settings
        self.store = store
        logs.route()
        self._declared: dict[str, Zone] = dict(settings.zones)
        self._registered: list[Tool] = []
        self._models: ModelPool | None = None
        self._workspaces: dict[tuple[str, ...], Workspace] = {}

    @classmethod
    def find(cls, start: Path | str | None = None) -> Self:
        """Opens the nearest project at or above `start` (default: the current folder)."""
        return cls.open(find_root(start))

    @classmethod
    def open(cls, root: Path | str) -> Self:
        """Opens the project at exactly `root`. Raises `SettingsError`, `StorageError` or `ProjectError`."""
        from karkas.storage import Store

        root = Path(root).resolve()
        settings = toml.load(root)
        if not (root / FOLDER).is_dir():
            raise ProjectError(
                f"{root} has a {toml.FILE}, but no {FOLDER} folder; `karkas init {root}` makes it"
                " and changes nothing else"
            )
        return cls(root, settings, Store.open(root / FOLDER, url=settings.storage.url))

    @classmethod
    def init(cls, root: Path | str, *, force: bool = False) -> Self:
        """Makes what is missing of a project at `root` and opens it; what is there stays as it is.

        A folder inside another project is refused unless `force`, since it would hide that project's zones.
        """
        from karkas.storage import Store

        root = Path(root).resolve()
        outer = next((folder for folder in root.parents if (folder / toml.FILE).exists()), None)
        if outer is not None and not force and not (root / toml.FILE).exists():
            raise ProjectError(
                f"{outer} is a karkas project already; use it from here, or pass --force to start another"
                " one inside it"
            )
        try:
            root.mkdir(parents=True, exist_ok=True)
            if not os.path.lexists(root / toml.FILE):
                (root / toml.FILE).write_bytes(toml.TEMPLATE.read_bytes())
            settings = toml.load(root)
            folder = root / FOLDER
            folder.mkdir(mode=0o700, exist_ok=True)
            if not (folder / ".gitignore").exists():
                (folder / ".gitignore").write_text("*\n")
        except OSError as error:
            raise ProjectError(
                f"{error.filename}: {error.strerror}; choose a folder that you may write to"
            ) from error
        return cls(root, settings, Store.open(folder, url=settings.storage.url, create=True))

    @property
    def folder(self) -> Path:
        return self.root / FOLDER

    def declare(self, *zones: Zone) -> None:
        """Declares zones in Python, on the same terms as in `karkas.toml`: a declaration only tightens."""
        for zone in zones:
            if self._declared.setdefault(zone.name, zone) != zone:
                raise SettingsError(
                    f"zone {zone.name} is declared already, and differently; declare it in one place"
                )

    def zones(self) -> dict[str, ZoneState]:
        """Every zone in force by name: those declared, then those only on the record. Records new ones."""
        declared = dict(self._declared)  # another run may declare a zone meanwhile
        records = self.store.zones.all()
        for name, zone in declared.items():
            records[name] = self.store.zones.observe(zone, known=records.get(name))
        states = {name: zone_state(zone, records[name]) for name, zone in declared.items()}
        return states | {
            name: _undeclared(record) for name, record in records.items() if name not in declared
        }

    def zone(self, name: str) -> ZoneState:
        """The zone `name` in force. Raises `NotFoundError`."""
        from difflib import get_close_matches

        states = self.zones()
        if name not in states:
            near = get_close_matches(name, states, n=1)
            hint = f"did you mean {near[0]}?" if near else "`karkas zone list` shows what there is"
            raise NotFoundError(f"there is no zone {name}; {hint}")
        return states[name]

    def is_declared(self, name: str) -> bool:
        """Whether the zone is declared, in `karkas.toml` or in Python."""
        return name in self._declared

    def declare_uncharted(self, name: str) -> None:
        """Declares a zone that nobody declared, in `karkas.toml`, where its owner finds it: understanding 0."""
        if name not in self._declared:
            toml.declare_zone(self.root, name)
            self.declare(toml.load(self.root).zones[name])
            self.store.zones.observe(self._declared[name])

    def engine(self, caller: "Caller | None" = None) -> "Engine":
        """What answers the agents: the models that `karkas.toml` names a server for, else the offline engine.

        It reports every call to `caller`. A language model is asked inside `async with project.models()`.
        """
        models = self.models()
        if models is None:
            from karkas.server.offline import OfflineEngine

            return OfflineEngine(caller)
        from karkas.server.language import LanguageEngine

        return LanguageEngine(models if caller is None else models.asked_by(caller), caller)

    def models(self) -> "ModelPool | None":
        """The models of all runs of this project, with their servers' limits; None where no server is configured."""
        configured = self.settings.language_models
        if self._models is None and configured is not None:
            from karkas.server.endpoints import Patience
            from karkas.server.language import VERSION
            from karkas.server.pool import ModelPool

            patience = Patience(starting_s=self._starting_s)
            self._models = ModelPool(
                configured, environ=os.environ, version=VERSION, patience=patience, slots=self.store.slots
            )
        return self._models

    def _starting_s(self) -> float:
        """How long a model server may take that `karkas serve` is starting now, or has started so recently that whoever
        waits for it may not have found out; 0 where there is none.
        """
        from karkas.server.process import State, Watchbook

        configured = self.settings.language_models
        book = Watchbook(self.folder)
        news = self.store.clock() - NEWS
        starting = [
            model.serve.ready_s
            for name, model in (configured.models.items() if configured else ())
            if model.serve is not None
            and (record := book.read(name)) is not None
            and (
                record.state in {State.STARTING, State.RESTARTING}
                or (record.state is State.READY and record.since > news)
            )
        ]
        return max(starting, default=0.0)

    def register(self, *tools: "Tool") -> None:
        """Adds tools to those that `karkas.toml` names, for as long as this project is open."""
        self._registered.extend(tools)

    def tools(self) -> "ToolBox":
        """The tools that may be proposed, in a box of its own: the built-in ones, then those that `[act] tools`
        names, then those that were registered. Runs the files that it names, once in a process.
        """
        from karkas.agents.tools import ToolBox

        named = [self._tool(ref) for ref in self.settings.act.tools]
        box = ToolBox.builtin(sandbox=self.settings.act.sandbox, readable=self.settings.act.readable)
        for one in (*named, *self._registered):
            box.register(one)
        return box

    def _tool(self, ref: str) -> "Tool":
        from karkas.agents.tools import Tool
        from karkas.workflows.userfile import load_file, split_reference

        path, name = split_reference(ref)
        found = vars(load_file(self.root / path).module).get(name)
        if not isinstance(found, Tool):
            what = f"{type(found).__name__}, not a tool" if found is not None else "not there"
            raise SettingsError(
                f"{ref} in [act] tools of karkas.toml is {what}; name a function that is decorated with"
                " `@tool(Effect.REVERSIBLE)`"
            )
        return found

    def workspace(self, *protected: str) -> "Workspace":
        """The project's folder as tools may touch it; the files that define tools are out of their reach, and what is
        `protected` besides.
        """
        from karkas.agents.tools import PROTECTED, Workspace

        files = dict.fromkeys(ref.rpartition(":")[0] for ref in self.settings.act.tools)
        named = (f"/{os.path.normpath(file)}" for file in files)
        every = (*PROTECTED, *named, *protected)
        if every not in self._workspaces:
            self._workspaces[every] = Workspace(self.root, protected=every, artifacts=self.store.artifacts)
        return self._workspaces[every]

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _undeclared(record: ZoneRecord) -> ZoneState:
    """A zone whose declaration is gone: what is on the record holds, and what was only declared does not."""
    drop = f'karkas zone drop {record.name} --reason "..."'
    reasons = [
        f"it is not declared in karkas.toml, but on the record: {record.level} stays in force until `{drop}`"
    ]
    if record.author and record.reason:
        reasons.append(f"{record.level} on the record by {record.author}: {record.reason}")
    return ZoneState(
        zone=Zone(name=record.name, scope=record.scope, understanding=record.understanding),
        level=record.level,
        stage=record.stage,
        scope=record.scope,
        reasons=tuple(reasons),
        approvers=record.approvers,
    )
