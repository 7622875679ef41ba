"""Settings: what a project's `karkas.toml` says."""

import json
import os
import re
import tempfile
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from karkas.faults import EXPORT, ZONE_NAME, looks_secret, near, place, told
from karkas.policies.budgets import Budget, SharedBudget
from karkas.policies.errors import SettingsError
from karkas.policies.sandbox import Sandbox
from karkas.policies.zones import Zone, ZoneName
from karkas.server.config import DEFAULT, ModelsConfig, ModelSettings, RoleSettings
from karkas.server.protocol import Role

FILE = "karkas.toml"
LOCK_SECONDS = 10
TEMPLATE = Path(__file__).with_name("template.toml")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Budgets(Budget):
    """The bounds of one exploration where its caller sets none, and those that many runs share."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    wall_s: float | None = Field(default=3600.0, gt=0)
    sources: int | None = Field(default=2000, ge=1)
    cycles: int | None = Field(default=10, ge=1)
    night: SharedBudget = SharedBudget()
    """What all runs of a night may spend together."""
    zones: dict[ZoneName, SharedBudget] = Field(default={})
    """What all runs of a zone may spend from noon to noon."""

    @property
    def run(self) -> Budget:
        """Those of one run."""
        return Budget.model_validate({name: getattr(self, name) for name in Budget.model_fields})


class ExploreSettings(_Section):
    allowed_hosts: tuple[str, ...] = ()
    max_file_mb: float = Field(default=20.0, gt=0)
    batch: int = Field(default=40, ge=1)
    """Sources read in one cycle."""


ToolRef = Annotated[str, Field(pattern=r"^[^:\x00]+\.py:[A-Za-z_][A-Za-z0-9_]*$")]
"""`FILE.py:NAME`, the file relative to the project."""


def _length(text: str) -> str:
    found = LENGTH.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise ValueError('must be a length of time, such as "12h", "7d" or "2w"')
    return text


LENGTH = re.compile(r"(\d{1,4})([mhdw])")
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class ActSettings(_Section):
    sandbox: Sandbox = Sandbox.BUBBLEWRAP
    readable: tuple[str, ...] = ()
    """Folders outside the project that sandboxed commands may read."""
    tools: tuple[ToolRef, ...] = ()
    timeout_s: float = Field(default=120.0, gt=0)
    critic: bool = True
    """Whether a critic may be asked at all; without it every action waits for a person."""
    expires: Annotated[str, AfterValidator(_length)] | None = None
    """How long an action or a question waits for a person."""

    @property
    def expires_in(self) -> timedelta | None:
        found = LENGTH.fullmatch(self.expires or "")
        return timedelta(**{UNITS[found[2]]: int(found[1])}) if found else None


class WorkSettings(_Section):
    """What workers do: `karkas night` and `karkas work`."""

    concurrency: int = Field(default=4, ge=1, le=1000)
    """Runs at once in each worker."""
    zones: dict[ZoneName, Annotated[int, Field(ge=1)]] = {}
    """Runs of a zone at once, over all workers."""
    retries: int = Field(default=2, ge=0)
    """How often in a row a run is tried again that failed for a fault of its own."""
    crashes: int = Field(default=5, ge=1)
    """A run is given up when whoever was at work on it died so often in a row at the same step."""


def _cron(text: str) -> str:
    from croniter import croniter

    if not croniter.is_valid(text) or len(text.split()) != CRON_FIELDS:
        raise ValueError(
            'must be five fields of cron, such as "0 23 * * 1-5": minute, hour, day, month, weekday'
        )
    return text


CRON_FIELDS = 5


class ScheduleSettings(_Section):
    """Work that is queued at certain times: one of `explore`, `act` and `run`."""

    cron: Annotated[str, AfterValidator(_cron)]
    """In the time zone of the machine."""
    explore: ZoneName | None = None
    sources: tuple[str, ...] = ()
    act: ZoneName | None = None
    task: str | None = None
    run: ToolRef | None = None
    input: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [name for name in ("explore", "act", "run") if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise ValueError('needs exactly one of: explore = "ZONE", act = "ZONE", run = "FILE.py:NAME"')
        kind = kinds[0]
        needed = {"explore": self.sources, "act": self.task, "run": True}[kind]
        if not needed:
            raise ValueError(
                'explore needs sources = ["..."]' if kind == "explore" else 'act needs task = "..."'
            )
        for name, of in (("sources", "explore"), ("task", "act"), ("input", "run")):
            if getattr(self, name) and kind != of:
                raise ValueError(f"{name} belongs to {of}, not to {kind}")
        return self


def _postgres(url: str) -> str:
    if not url.startswith("postgresql://"):
        raise ValueError('must be "postgresql://USER@HOST/NAME"; without it, SQLite in .karkas/ is used')
    return url


class StorageSettings(_Section):
    url: Annotated[str, AfterValidator(_postgres)] | None = None


class Occasion(StrEnum):
    """What a person is told of."""

    MORNING = "morning"
    GATE = "gate"
    FAILED = "failed"


def _variable(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise ValueError(f"must be the name of a variable that holds the URL; {EXPORT}")
    return text


class NotifySettings(_Section):
    """Messages by Apprise; none by default."""

    urls: tuple[Annotated[str, AfterValidator(_variable)], ...] = ()
    """Variables of the environment, each of which holds an Apprise URL: they carry secrets."""
    on: tuple[Occasion, ...] = (Occasion.MORNING, Occasion.GATE, Occasion.FAILED)


class TelemetrySettings(_Section):
    """Traces of OpenTelemetry; where they go is said by the standard variables `OTEL_...`."""

    traces: bool = False
    content: bool = False
    """Whether they hold what models are asked and answer, and the arguments of tools."""


class Settings(_Section):
    """`karkas.toml`. Every key has a default, so an empty file is a valid one."""

    zones: dict[str, Zone] = {}
    model: ModelSettings = ModelSettings()
    models: dict[str, ModelSettings] = {}
    """Further models, by name."""
    roles: dict[Role, RoleSettings] = {}
    budgets: Budgets = Budgets()
    explore: ExploreSettings = ExploreSettings()
    act: ActSettings = ActSettings()
    storage: StorageSettings = StorageSettings()
    notify: NotifySettings = NotifySettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    work: WorkSettings = WorkSettings()
    schedules: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")], ScheduleSettings] = {}

    @property
    def language_models(self) -> ModelsConfig | None:
        """The models that a server is configured for; None where there are none, so that the offline engine answers."""
        named = {DEFAULT: self.model, **self.models}
        served = {name: model.as_started() for name, model in named.items() if model.base_urls}
        return ModelsConfig(models=served, roles=self.roles) if served else None


def load(root: Path) -> Settings:
    """The settings of the project at `root`. `SettingsError` names file, line and mend of every fault."""
    path = root / FILE
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise SettingsError(f"{path} is missing; `karkas init` writes one") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    return parse(text, path)


def parse(text: str, path: Path) -> Settings:
    """The settings in `text`; `path` is what errors name."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    zones = data.get("zones")
    if isinstance(zones, dict):
        data["zones"] = {
            name: {"name": name, **body} if isinstance(body, dict) else body for name, body in zones.items()
        }
    try:
        # Strict JSON keeps TOML's types apart ("3" is not 3) and still takes arrays as tuples.
        settings = Settings.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        faults = told(error, text, settings=Settings)
        raise SettingsError("\n".join(f"{path}{fault}" for fault in faults)) from error
    for key, zone in settings.zones.items():
        if zone.name != key:
            raise SettingsError(
                f"{path}: zones.{key}.name is unknown; the table's own name, {key}, is the zone's"
            )
    if found := list(_model_faults(settings)):
        raise SettingsError(
            "\n".join(f"{path}{place(text, where)}: {'.'.join(where)} {fault}" for where, fault in found)
        )
    return settings


def _model_faults(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """What models and roles say that cannot be, after the key that says it. No secret is repeated."""
    for name, model in settings.models.items():
        if name == DEFAULT:
            yield (
                ("models", name),
                f"has a name that is taken: {DEFAULT!r} is the model of [model]; choose another",
            )
        elif not model.base_urls:
            yield (
                ("models", name),
                f"has no server; set base_url, or say how it is started in [models.{name}.serve]",
            )
        yield from _secrets(("models", name), model)
    yield from _secrets(("model",), settings.model)
    known = [DEFAULT, *settings.models]
    for role, body in settings.roles.items():
        where = ("roles", role.value, "model")
        if body.model is not None and body.model not in known:
            yield (
                where,
                f"= {json.dumps(body.model, ensure_ascii=False)} is no model here; {near(body.model, known)}",
            )
        elif body.model == DEFAULT and settings.models and not settings.model.base_urls:
            yield where, "is the model of [model], which has no server; set its base_url"


def _secrets(where: tuple[str, ...], model: ModelSettings) -> Iterator[tuple[tuple[str, ...], str]]:
    if model.api_key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", model.api_key_env):
        yield (*where, "api_key_env"), f"must be the name of a variable; {EXPORT}"
    for variable in model.serve.env if model.serve is not None else ():
        if looks_secret(variable):
            mend = "export it instead: the server is started with the environment of `karkas serve`"
            yield (*where, "serve", "env", variable), f"looks like a secret; {mend}"


def declare_zone(root: Path, name: str) -> bool:
    """Appends an uncharted zone to `karkas.toml`, unless it is declared there; tells whether it was appended.

    Every other byte of the file stays as it is. Raises `SettingsError`.
    """
    from filelock import FileLock, Timeout

    path = Path(os.path.realpath(root / FILE))
    try:
        with FileLock(root / ".karkas" / f"{FILE}.lock", timeout=LOCK_SECONDS):
            return _append_zone(root, path, name)
    except Timeout as error:
        raise SettingsError(
            f"{path} is being changed by another karkas; try again when it is done"
        ) from error


def _append_zone(root: Path, path: Path, name: str) -> bool:
    if name in load(root).zones:
        return False
    _check_name(name)
    before = path.read_bytes()
    end = b"\r\n" if b"\r\n" in before else b"\n"
    lines = (
        b"" if before.endswith(b"\n") or not before else end,
        end,
        f"[zones.{name}]".encode(),
        end,
        b"understanding = 0  # 0 nothing to 5 expert; raise it when you know more",
        end,
    )
    after = before + b"".join(lines)
    try:
        parse(after.decode("utf-8-sig"), path)
    except SettingsError as error:
        raise SettingsError(
            f"{path}: zone {name} could not be appended; declare it by hand, beside the zones that stand"
            f" there: {name} = {{understanding = 0}}"
        ) from error
    _replace(path, after)
    return True


def _check_name(name: str) -> None:
    try:
        TypeAdapter(ZoneName).validate_python(name)
    except ValidationError as error:
        raise SettingsError(f"{name!r} is no zone name: {ZONE_NAME}") from error


def _replace(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SettingsError(f"{path} could not be written: {error.strerror}; it is unchanged") from error
