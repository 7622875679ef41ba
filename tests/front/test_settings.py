import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from karkas.policies.errors import SettingsError
from karkas.policies.zones import ControlLevel, Scope, Zone
from karkas.settings import TEMPLATE, Settings, declare_zone, load, parse

FILE = Path("karkas.toml")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".karkas").mkdir()
    return tmp_path


def fault(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(text, FILE)
    return str(caught.value)


def test_the_template_says_nothing_but_the_defaults() -> None:
    template = TEMPLATE.read_text(encoding="utf-8")
    assert parse(template, FILE) == Settings()
    # Every default that it shows is the true one; what has none is marked, or an example.
    shown = re.sub(r"(?m)^#(?=\w+ = )", "", template)
    shown = re.sub(r"(?m)^(?=.*(not bounded by default|^base_url|^model =|^api_key_env|^url =))", "#", shown)
    before_zone, _, after_zone = shown.partition("#[zones.lora]")
    options = re.sub(r"(?m)^(understanding|critical|level|description|trusted|scope) = .*$", "", after_zone)
    assert "wall_s = 3600.0" in options
    assert parse(before_zone + options, FILE) == Settings()


def test_the_zone_of_the_template_is_a_valid_one() -> None:
    template = TEMPLATE.read_text(encoding="utf-8")
    example = re.search(r"(?ms)^#\[zones\.lora\]$.*?\n\n", template)
    assert example is not None
    zone = parse(re.sub(r"(?m)^#", "", example[0]), FILE).zones["lora"]
    assert (zone.understanding, zone.level) == (2, ControlLevel.DRAFT_ONLY)
    assert zone.scope.tools == ("run_command",)


def test_every_key_of_the_settings_is_in_the_template() -> None:
    template = TEMPLATE.read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        assert f"[{name}" in template
        keys = getattr(field.annotation, "model_fields", None) or {
            key: None for key in Zone.model_fields if key != "name"
        }
        for key in keys:
            assert re.search(rf"(?m)^#{key} = ", template), (name, key)


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
        ("[zones.lora\n", "karkas.toml is not valid TOML: Expected ']'"),
        ("[zones.a]\n[zones.a]\n", "line 2"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place_and_its_mend(text: str, told: str) -> None:
    assert told in fault(text)


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
