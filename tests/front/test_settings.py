import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from karkas.policies.errors import SettingsError
from karkas.policies.zones import ControlLevel, Scope, Zone
from karkas.server.config import ModelSettings, RoleSettings, ServeSettings
from karkas.server.protocol import Role
from karkas.settings import TEMPLATE, ScheduleSettings, Settings, declare_zone, load, parse

FILE = Path("karkas.toml")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".karkas").mkdir()
    return tmp_path


def fault(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(text, FILE)
    return str(caught.value)


TEMPLATE_TEXT = TEMPLATE.read_text(encoding="utf-8")
UNSET = r"zones|max_in_flight|price_per_mtok|expires|base_url|model|api_key_env|context|path|url|max_model_len|max_num_seqs|gpu_memory_utilization|tensor_parallel_size"
"""Options without a default: what the template shows of them is an example."""


def test_the_template_says_nothing_but_the_defaults() -> None:
    assert parse(TEMPLATE_TEXT, FILE) == Settings()
    # Every default that it shows is the true one; what has none is marked, or an example.
    shown = re.sub(r"(?m)^#(?=\w+ = )", "", TEMPLATE_TEXT)
    shown = re.sub(rf"(?m)^(?=.*not bounded by default|({UNSET}) = )", "#", shown)
    before_zone, _, after_zone = shown.partition("#[zones.lora]")
    options = re.sub(
        r"(?m)^(understanding|critical|level|approvers|description|trusted|scope) = .*$", "", after_zone
    )
    options = re.sub(r"(?ms)^#\[budgets\..*?(?=\n\n\n)", "", options)
    options = re.sub(r"(?ms)^#\[schedules\..*?(?=\n\n\n)", "", options)
    options = re.sub(r"(?ms)^#\[models\.judge\].*?(?=\n\n\n)", "", options)
    assert "wall_s = 3600.0" in options
    assert "timeout_s = 600.0" in options
    options, serve = re.sub(r"(?ms)^#\[model\.serve\].*?(?=\n\n\n)", "", options), options
    assert parse(before_zone + options, FILE) == Settings()
    (serve,) = re.findall(r"(?ms)^#\[model\.serve\]\n(.*?)(?=\n\n\n)", serve)
    assert parse(f'[model.serve]\npath = "m"\n{serve}', FILE).model.serve == ServeSettings(path="m")


def test_the_examples_of_the_template_are_valid() -> None:
    zone = example(r"\[zones\.lora\]").zones["lora"]
    assert (zone.understanding, zone.level) == (2, ControlLevel.DRAFT_ONLY)
    assert zone.scope.tools == ("run_command",)
    for name in ("lora", "report", "mine"):
        assert example(rf"\[schedules\.{name}\]").schedules[name].cron
    shared = example(r"\[budgets\.night\]").budgets
    assert (shared.night.tokens, shared.zones["lora"].tokens) == (5_000_000, 1_000_000)
    models = example(r"\[models\.judge\]")
    assert models.roles[Role.CRITIC].model in models.models
    assert example(r"\[model\.serve\]").model.base_urls == ("http://127.0.0.1:8000",)


def example(heading: str) -> Settings:
    found = re.search(rf"(?ms)^#{heading}$.*?\n\n", TEMPLATE_TEXT)
    assert found is not None
    return parse(re.sub(r"(?m)^#", "", found[0]), FILE)


def test_every_key_of_the_settings_is_in_the_template() -> None:
    for table, model in TABLES.items():
        assert f"[{table}" in TEMPLATE_TEXT
        for key in model.model_fields:
            if key not in {"name", "serve", "night"}:
                assert re.search(rf"(?m)^#{key} = ", TEMPLATE_TEXT), (table, key)


TABLES: dict[str, type[BaseModel]] = {
    "zones": Zone,
    "model": ModelSettings,
    "model.serve": ServeSettings,
    "models": ModelSettings,
    "schedules": ScheduleSettings,
    "roles": RoleSettings,
    **{
        name: info.annotation
        for name, info in Settings.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
    },
}


def test_every_table_of_the_settings_is_among_those_that_are_compared() -> None:
    assert set(Settings.model_fields) <= set(TABLES)


def test_a_zone_is_read_as_it_is_declared() -> None:
    text = """
    [zones.lora]
    understanding = 3
    critical = true
    level = "draft-only"
    trusted = ["docs/**"]
    [zones.lora.scope]
    paths = ["train/**"]
    topics = ["адаптер"]
    """
    assert parse(text, FILE).zones == {
        "lora": Zone(
            name="lora",
            understanding=3,
            critical=True,
            level=ControlLevel.DRAFT_ONLY,
            trusted=("docs/**",),
            scope=Scope(paths=("train/**",), topics=("адаптер",)),
        )
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[zones.lora]\nunderstnding = 3", "karkas.toml, line 2: zones.lora.understnding is unknown; did you mean 'understanding'?"),
        ('[zones.lora]\nunderstanding = "3"', 'line 2: zones.lora.understanding = "3" should be a valid integer'),
        ("[zones.lora]\n# new\nunderstanding = 9", "line 3: zones.lora.understanding = 9 should be less than or equal to 5"),
        ("[zones.lora]\nunderstanding = true", "zones.lora.understanding = true should be a valid integer"),
        ('[zones.lora]\nlevel = "propose"', "did you mean 'propose-only'?"),
        ("[zones.lora]\n\nscope = {path = ['x']}", "line 3: zones.lora.scope.path is unknown; did you mean 'paths'?"),
        ("[zone.lora]\n", "line 1: zone is unknown; did you mean 'zones'?"),
        ('[zones."Lo Ra"]\n', "line 1: zones.Lo Ra is no zone name: lower-case letters"),
        ('[zones.lora]\nname = "peft"', "zones.lora.name is unknown"),
        ("zones = 3", "line 1: zones = 3 should be a table"),
        ('[model]\nbase_url = "localhost"', 'line 2: model.base_url = "localhost" must be a URL'),
        ('[act]\ntools = ["deploy"]', 'should read "FILE.py:NAME"'),
        ('[act]\nsandbox = "bwrap"', "'bubblewrap', 'ask' or 'refuse'"),
        ('[storage]\nurl = "sqlite:///x.db"', "storage.url"),
        ("[budgets]\nwall_s = 0", "budgets.wall_s = 0 should be greater than 0"),
        ("[budgets]\nwall_s = inf", "finite"),
        ('[model]\nbase_url = "http://h:99999"', 'line 2: model.base_url = "http://h:99999" must be a URL'),
        ('[model]\nbase_url = "http://a..b"', 'line 2: model.base_url = "http://a..b" must be a URL'),
        ('[model]\nbase_url = "http://ada:hunter2@h:0"', "line 2: model.base_url must hold no user or password"),
        ('[model]\nbase_url = ["http://h:1", "h"]', 'line 2: model.base_url = "h" must be a URL'),
        ('[model]\napi_key = "sk-1"', "line 2: model.api_key is unknown; the key itself never stands here"),
        ('[models.judge]\nbase_url = "http://h"\ntoken = "sk-1"', "line 3: models.judge.token is unknown; the key itself"),
        ('[model]\napi_key_env = "sk-1"', "line 2: model.api_key_env must be the name of a variable"),
        ('[model.serve]\npath = "m"\n[model.serve.env]\nHF_TOKEN = "hf-1"', "line 4: model.serve.env.HF_TOKEN looks like a secret"),
        ('[model]\nbase_url = "http://ada:hunter2@h"', "line 2: model.base_url must hold no user or password"),
        ("[model]\ncontxt = 1", "did you mean 'context'?"),
        ("[model.serve]\nport = 8000", "line 1: model.serve.path is missing"),
        ('[model.serve]\npath = "m"\nprot = 1', "line 3: model.serve.prot is unknown; did you mean 'port'?"),
        ('[models.judge.serve]\npath = "m"\nport = 0', "line 3: models.judge.serve.port = 0 should be greater than or equal to 1"),
        ('[models.judge]\nmodel = "m"', "line 1: models.judge has no server; set base_url"),
        ('[models."q.5"]\nbase_url = "h"', "line 2: models.q.5.base_url"),
        ('[models.default]\nbase_url = "http://h"', "line 1: models.default has a name that is taken"),
        ('[roles.critc]\nmodel = "default"', "line 1: roles.critc is unknown; did you mean 'critic'?"),
        ("[roles.critic]\ntemprature = 1", "line 2: roles.critic.temprature is unknown; did you mean 'temperature'?"),
        ('[roles.critic]\nmodel = "jugde"\n[models.judge]\nbase_url = "http://h"', """line 2: roles.critic.model = "jugde" is no model here; did you mean 'judge'?"""),
        ('[roles.critic]\nmodel = "default"\n[models.judge]\nbase_url = "http://h"', "line 2: roles.critic.model is the model of [model], which has no server"),
        ("[zones.lora\n", "karkas.toml is not valid TOML: Expected ']'"),
        ("[zones.a]\n[zones.a]\n", "line 2"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place_and_its_mend(text: str, told: str) -> None:
    assert told in fault(text)


@pytest.mark.parametrize(
    "text",
    [
        '[model]\napi_key = "hunter2"',
        '[model]\napi_key_env = "hunter-2"',
        '[model]\nbase_url = "http://ada:hunter2@h"',
        '[model.serve]\npath = "m"\nenv = {API_KEY = "hunter2"}',
    ],
)
def test_a_secret_in_the_file_is_not_repeated(text: str) -> None:
    assert "hunter" not in fault(text)


def test_all_faults_are_told_at_once() -> None:
    told = fault("[zones.a]\nunderstanding = 9\n[modl]\n[act]\ncritic = 1\n")
    assert len(told.splitlines()) == 3
    assert all(line.startswith("karkas.toml, line ") for line in told.splitlines())


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="karkas init"):
        load(tmp_path)
    (tmp_path / "karkas.toml").write_bytes("# зоны\n".encode("cp1251"))
    with pytest.raises(SettingsError, match="not UTF-8"):
        load(tmp_path)
    (tmp_path / "karkas.toml").write_bytes(b"\xef\xbb\xbf[zones.a]\r\n")
    assert list(load(tmp_path).zones) == ["a"]


@pytest.mark.parametrize("url", ["http://h:8000", "http://h:8000/", "http://h:8000/v1", "http://h:8000/v1/"])
def test_the_server_is_named_by_its_root_however_it_was_written(url: str) -> None:
    assert parse(f'[model]\nbase_url = "{url}"', FILE).model.base_url == "http://h:8000"


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        ('[model.serve]\npath = "google/gemma-4-12B-it"', "gemma-4-12B-it"),
        ('[model.serve]\npath = "models/gemma/"', "gemma"),
        ('[model]\nmodel = "mine"\n[model.serve]\npath = "models/gemma"', "mine"),
        ('[model]\nbase_url = "http://127.0.0.1:8000"\n[model.serve]\npath = "models/gemma"', None),
    ],
)
def test_of_a_server_that_karkas_starts_only_the_model_it_starts_there_is_asked(
    lines: str, asked: str | None
) -> None:
    found = parse(lines, FILE).language_models
    assert found is not None
    assert found.models["default"].model == asked


def test_without_a_server_there_are_no_language_models() -> None:
    assert parse('[model]\nmodel = "m"\n[roles.critic]\nmodel = "default"', FILE).language_models is None


def test_models_and_roles_are_read_as_they_are_declared() -> None:
    text = """
    [model]
    base_url = ["http://a:1/v1", "http://b:1"]
    [models.judge.serve]
    path = "m"
    port = 8001
    [roles.critic]
    adapter = "strict"
    """
    found = parse(text, FILE).language_models
    assert found is not None
    assert {name: model.base_urls for name, model in found.models.items()} == {
        "default": ("http://a:1", "http://b:1"),
        "judge": ("http://127.0.0.1:8001",),
    }
    assert found.roles == {Role.CRITIC: RoleSettings(adapter="strict")}
    assert (found.name_for(Role.EXECUTOR), found.name_for(Role.CRITIC)) == ("default", "judge")


@pytest.mark.parametrize(
    "before", ["", "# mine", "[zones.b]\r\nunderstanding = 4 # really\r\n", "[zones]\nb.critical = true\n"]
)
def test_declaring_a_zone_keeps_every_byte_that_was_there(root: Path, before: str) -> None:
    path = root / "karkas.toml"
    path.write_bytes(before.encode())
    path.chmod(0o640)
    assert declare_zone(root, "lora") is True
    assert path.read_bytes().startswith(before.encode())
    assert load(root).zones["lora"] == Zone(name="lora", understanding=0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    if "\r\n" in before:
        assert path.read_bytes().count(b"\n") == path.read_bytes().count(b"\r\n")
    after = path.read_bytes()
    assert declare_zone(root, "lora") is False
    assert path.read_bytes() == after


def test_a_zone_beside_an_inline_table_is_left_to_the_person(root: Path) -> None:
    path = root / "karkas.toml"
    path.write_text("zones = {b = {understanding = 4}}\n")
    with pytest.raises(SettingsError, match="by hand"):
        declare_zone(root, "lora")
    assert path.read_text() == "zones = {b = {understanding = 4}}\n"


@given(name=st.text(max_size=20).filter(lambda name: not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name)))
def test_a_name_that_is_none_never_reaches_the_file(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp() / "names"
    (root / ".karkas").mkdir(parents=True, exist_ok=True)
    (root / "karkas.toml").write_text("# mine\n")
    with pytest.raises(SettingsError):
        declare_zone(root, name)
    assert (root / "karkas.toml").read_text() == "# mine\n"


def test_zones_declared_at_the_same_time_are_all_kept(root: Path) -> None:
    (root / "karkas.toml").write_text("# mine\n")
    names = [f"zone-{number}" for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda name: declare_zone(root, name), names)) == [True] * 12
    assert sorted(load(root).zones) == sorted(names)
    assert sorted(path.name for path in root.iterdir()) == [".karkas", "karkas.toml"]


def test_a_file_that_another_process_is_changing_is_left_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "karkas.toml").write_text("# mine\n")
    monkeypatch.setattr("karkas.settings.LOCK_SECONDS", 0.05)
    with FileLock(root / ".karkas/karkas.toml.lock"), pytest.raises(SettingsError, match="another karkas"):
        declare_zone(root, "lora")
    assert (root / "karkas.toml").read_text() == "# mine\n"


def test_a_linked_file_is_changed_where_it_lies(root: Path) -> None:
    real = root / "shared.toml"
    real.write_text("# ours\n")
    (root / "karkas.toml").symlink_to(real)
    declare_zone(root, "lora")
    assert (root / "karkas.toml").is_symlink()
    assert "[zones.lora]" in real.read_text()


def test_a_full_disk_leaves_the_file_as_it_was(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "karkas.toml").write_text("# mine\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingsError, match=r"No space left.*unchanged"):
        declare_zone(root, "lora")
    assert (root / "karkas.toml").read_text() == "# mine\n"
    assert sorted(path.name for path in root.iterdir()) == [".karkas", "karkas.toml"]


@pytest.mark.parametrize(("text", "days"), [("7d", 7), ("2w", 14), ("12h", 0.5), ("1440m", 1)])
def test_a_gates_time_is_a_length(text: str, days: float) -> None:
    assert parse(f'[act]\nexpires = "{text}"', FILE).act.expires_in == timedelta(days=days)
    assert parse("", FILE).act.expires_in is None


@pytest.mark.parametrize("text", ['"soon"', '"0d"', '""', '"-1d"', '"7"', "7", '"7y"', '"99999d"'])
def test_what_is_no_length_is_refused_with_its_line(text: str) -> None:
    assert "line 2: act.expires" in fault(f"[act]\nexpires = {text}")
