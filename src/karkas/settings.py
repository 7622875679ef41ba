"""Settings: what a project's `karkas.toml` says."""

import json
import os
import re
import tempfile
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from karkas.agents.tools.sandbox import Sandbox
from karkas.policies.budgets import Budget
from karkas.policies.errors import SettingsError
from karkas.policies.zones import Zone, ZoneName

FILE = "karkas.toml"
LOCK_SECONDS = 10
TEMPLATE = Path(__file__).with_name("template.toml")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _server_root(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", url):
        raise ValueError('must be a URL such as "http://127.0.0.1:8000"')
    return url.rstrip("/").removesuffix("/v1")


class ModelSettings(_Section):
    """The model server; without `base_url` the offline engine answers."""

    base_url: Annotated[str, AfterValidator(_server_root)] | None = None
    """The root of an OpenAI-compatible server; a trailing `/v1` is dropped."""
    model: str | None = None
    api_key_env: str | None = None


class Budgets(Budget):
    """The bounds of one exploration where its caller sets none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    wall_s: float | None = Field(default=3600.0, gt=0)
    sources: int | None = Field(default=2000, ge=1)
    cycles: int | None = Field(default=10, ge=1)


class ExploreSettings(_Section):
    allowed_hosts: tuple[str, ...] = ()
    max_file_mb: float = Field(default=20.0, gt=0)
    batch: int = Field(default=40, ge=1)
    """Sources read in one cycle."""


ToolRef = Annotated[str, Field(pattern=r"^[^:\x00]+\.py:[A-Za-z_][A-Za-z0-9_]*$")]
"""`FILE.py:NAME`, the file relative to the project."""


class ActSettings(_Section):
    sandbox: Sandbox = Sandbox.BUBBLEWRAP
    readable: tuple[str, ...] = ()
    """Folders outside the project that sandboxed commands may read."""
    tools: tuple[ToolRef, ...] = ()
    timeout_s: float = Field(default=120.0, gt=0)
    critic: bool = True
    """Whether a critic may be asked at all; without it every action waits for a person."""


def _postgres(url: str) -> str:
    if not url.startswith("postgresql://"):
        raise ValueError('must be "postgresql://USER@HOST/NAME"; without it, SQLite in .karkas/ is used')
    return url


class StorageSettings(_Section):
    url: Annotated[str, AfterValidator(_postgres)] | None = None


class Settings(_Section):
    """`karkas.toml`. Every key has a default, so an empty file is a valid one."""

    zones: dict[str, Zone] = {}
    model: ModelSettings = ModelSettings()
    budgets: Budgets = Budgets()
    explore: ExploreSettings = ExploreSettings()
    act: ActSettings = ActSettings()
    storage: StorageSettings = StorageSettings()


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
        faults = [_fault(fault, text) for fault in error.errors(include_url=False)]
        raise SettingsError("\n".join(f"{path}{fault}" for fault in faults)) from error
    for key, zone in settings.zones.items():
        if zone.name != key:
            raise SettingsError(
                f"{path}: zones.{key}.name is unknown; the table's own name, {key}, is the zone's"
            )
    return settings


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
        raise SettingsError(f"{name!r} is no zone name: {_NAME_RULE}") from error


_NAME_RULE = "lower-case letters, digits, `-` and `_`, at most 64, beginning with a letter or digit"


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


def _fault(fault: Any, text: str) -> str:
    """One fault of pydantic's as `, line N: key: what is wrong; what to do`."""
    where = tuple(str(part) for part in fault["loc"])
    if where[:1] == ("zones",) and where[2:] == ("name",):
        return f"{_place(text, where[:2])}: zones.{where[1]} is no zone name: {_NAME_RULE}"
    place, key = _place(text, where), ".".join(where)
    if fault["type"] == "extra_forbidden":
        known = _known_keys(where[:-1])
        near = get_close_matches(where[-1], known, n=1, cutoff=0.5)
        mend = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"{place}: {key} is unknown; {mend}"
    if fault["type"] == "string_pattern_mismatch":
        return f'{place}: {key} = {fault["input"]!r} should read "FILE.py:NAME", such as "tools.py:deploy"'
    near = get_close_matches(str(fault["input"]), re.findall(r"'([^']+)'", fault["msg"]), n=1, cutoff=0.5)
    mend = f"; did you mean {near[0]!r}?" if near else ""
    given = "" if isinstance(fault["input"], dict) else f" = {json.dumps(fault['input'], ensure_ascii=False)}"
    message = (
        fault["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("an object", "a table")
    )
    return f"{place}: {key}{given} {message}{mend}"


def _known_keys(where: tuple[str, ...]) -> list[str]:
    """The keys that `karkas.toml` may have in the table at `where`."""
    model: type[BaseModel] = Settings
    for part in where:
        if model is Settings and part == "zones":
            model = Zone
        elif part in model.model_fields:
            annotation = model.model_fields[part].annotation
            assert isinstance(annotation, type)
            model = annotation
    return [name for name in model.model_fields if not (model is Zone and name == "name")]


def _place(text: str, where: tuple[str, ...]) -> str:
    """`, line N` of a key, as far as it is written plainly: `key =` under its `[table]`, or that table."""
    table: tuple[str, ...] = ()
    place, depth = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+([^\]]+)\]+", line):
            path = table = _keys(header[1])
        elif assignment := re.match(r"\s*([^#=\[\]{}]+)=", line):
            path = (*table, *_keys(assignment[1]))
        else:
            continue
        shared = min(len(path), len(where))
        if path[:shared] == where[:shared] and shared > depth:
            place, depth = f", line {number}", shared
    return place


def _keys(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip(" \t\"'") for part in dotted.split("."))
