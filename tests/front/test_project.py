import importlib.util
import os
import pwd
import py_compile
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from karkas import runner
from karkas.agents.tools import tool
from karkas.policies.actions import Effect
from karkas.policies.errors import ConfinementError, NotFoundError, ProjectError, SettingsError
from karkas.policies.zones import ControlLevel, LevelChange, Scope, Stage, Zone
from karkas.project import Project, find_root, person
from karkas.server.process import Record, State, Watchbook

TOOLS = """
from karkas import runner
from karkas.agents.tools import tool
from karkas.policies.actions import Effect

@tool(Effect.REVERSIBLE)
def greet(name: str) -> str:
    "Greets."
    return "hello " + name

number = 3
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    Project.init(root).close()
    return root


def declare(root: Path, text: str) -> None:
    (root / "karkas.toml").write_text(text, encoding="utf-8")


def test_a_project_is_found_from_anywhere_inside_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = root / "a" / "b"
    deep.mkdir(parents=True)
    with Project.find(deep) as project:
        assert project.root == root
    monkeypatch.chdir(deep)
    assert find_root() == root
    with pytest.raises(ProjectError, match="karkas init"):
        find_root(root.parent)
    with pytest.raises(ProjectError, match="no folder"):
        find_root(root / "karkas.toml")


def test_a_folder_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ProjectError, match="not there any more"):
        find_root()


def test_a_project_of_another_user_above_is_refused_until_it_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a").mkdir()
    if os.geteuid() == 0:
        os.chown(root / "karkas.toml", 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ProjectError, match="another user"):
        find_root(root / "a")
    assert find_root(root) == root


def test_zones_of_the_file_and_of_python_stand_side_by_side(root: Path) -> None:
    declare(root, "[zones.lora]\nunderstanding = 3\n")
    with Project.open(root) as project:
        project.declare(Zone(name="deploy", understanding=4, critical=True))
        states = project.zones()
    assert {name: state.level for name, state in states.items()} == {
        "lora": ControlLevel.PROPOSE_ONLY,
        "deploy": ControlLevel.PROPOSE_ONLY,
    }


def test_a_zone_declared_twice_must_be_declared_alike(root: Path) -> None:
    declare(root, "[zones.lora]\nunderstanding = 3\n")
    with Project.open(root) as project:
        project.declare(Zone(name="lora", understanding=3))
        with pytest.raises(SettingsError, match="one place"):
            project.declare(Zone(name="lora", understanding=5))
        assert project.zone("lora").zone.understanding == 3


def test_an_undeclared_zone_keeps_level_stage_scope_and_understanding(root: Path) -> None:
    with Project.open(root) as project:
        project.declare(Zone(name="lora", understanding=5, scope=Scope(paths=("train/**",))))
        project.zones()
        project.store.zones.set_stage("lora", Stage.MAPPED, actor="karkas")
    with Project.open(root) as project:
        state = project.zone("lora")
        assert not project.is_declared("lora")
    assert (state.level, state.stage) == (ControlLevel.AUTONOMOUS, Stage.MAPPED)
    assert state.scope.paths == ("train/**",)
    assert state.may_act
    assert "karkas zone drop lora" in state.reasons[0]


def test_understanding_that_is_raised_in_the_file_alone_lets_nobody_act(root: Path) -> None:
    with Project.open(root) as project:
        project.declare(Zone(name="lora", understanding=1))
        project.zones()
    for understanding, level in ((1, "draft-only"), (5, "draft-only")):
        with Project.open(root) as project:
            project.declare(Zone(name="lora", understanding=understanding))
            state = project.zone("lora")
            assert (state.level, state.may_act) == (level, False)
    with Project.open(root) as project:
        project.declare(Zone(name="lora", understanding=5))
        change = LevelChange(
            before=ControlLevel.DRAFT_ONLY,
            after=ControlLevel.PROPOSE_ONLY,
            author="ada",
            by_person=True,
            reason="learnt it",
        )
        project.store.zones.set_level("lora", change, declared=ControlLevel.AUTONOMOUS, understanding=5)
        assert project.zone("lora").may_act


def test_an_uncharted_zone_is_declared_where_its_owner_finds_it(root: Path) -> None:
    with Project.open(root) as project:
        for _ in range(2):
            project.declare_uncharted("lora")
        assert project.zone("lora").level is ControlLevel.DRAFT_ONLY
    assert (root / "karkas.toml").read_text(encoding="utf-8").count("\n[zones.lora]\n") == 1


def test_what_a_person_set_outlives_the_session(root: Path) -> None:
    declare(root, "[zones.lora]\nunderstanding = 1\n")
    with Project.open(root) as project:
        project.zones()
        change = LevelChange(
            before=ControlLevel.DRAFT_ONLY,
            after=ControlLevel.AUTONOMOUS,
            author="ann",
            by_person=True,
            reason="knows",
        )
        project.store.zones.set_level("lora", change, declared=ControlLevel.DRAFT_ONLY)
    with Project.open(root) as project:
        assert project.zone("lora").level is ControlLevel.AUTONOMOUS
    declare(root, "[zones.lora]\nunderstanding = 1\ncritical = true\n")
    with Project.open(root) as project:
        assert (
            project.zone("lora").level is ControlLevel.AUTONOMOUS
        )  # the declaration did not become stricter


def test_an_unknown_zone_is_not_found_and_the_nearest_is_named(root: Path) -> None:
    declare(root, "[zones.lora]\n")
    with Project.open(root) as project, pytest.raises(NotFoundError, match="did you mean lora"):
        project.zone("lorra")


def test_zones_are_listed_while_another_run_declares_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(root, "[zones.lora]\n[zones.other]\n")
    with Project.open(root) as project:
        observe = project.store.zones.observe

        def meanwhile(zone: Zone, **known: Any) -> Any:
            project.declare(Zone(name=f"new-{zone.name}"))
            return observe(zone, **known)

        monkeypatch.setattr(project.store.zones, "observe", meanwhile)
        assert {"lora", "other"} <= project.zones().keys()


def test_the_offline_engine_answers_where_no_server_is_named(root: Path) -> None:
    with Project.open(root) as project:
        assert project.engine().info.kind == "extractive"
        assert project.models() is None


def test_all_runs_of_a_project_share_the_models_that_its_file_names(root: Path) -> None:
    declare(root, '[model]\nbase_url = "http://127.0.0.1:8000"\n')
    with Project.open(root) as project:
        assert project.engine().info.kind == "llm"
        assert project.models() is project.models() is not None


def test_a_model_server_that_is_being_started_is_waited_for_as_long_as_its_section_allows(root: Path) -> None:
    (root / "karkas.toml").write_text('[model.serve]\npath = "models/big"\nready_s = 700.0\n')
    with Project.init(root) as project:
        assert project._starting_s() == 0.0
        book = Watchbook(project.folder)
        with book.held("default"):
            now = datetime.now(UTC)
            for state, since, expected in (
                (State.STARTING, now - timedelta(minutes=5), 700.0),
                (State.RESTARTING, now, 700.0),
                (State.READY, now, 700.0),
                (State.READY, now - timedelta(minutes=2), 0.0),
            ):
                book.write(
                    Record(
                        name="default",
                        model="big",
                        base_url="http://127.0.0.1:8000",
                        log=book.log("default"),
                        state=state,
                        since=since,
                        supervisor=os.getpid(),
                    )
                )
                assert project._starting_s() == expected


def test_a_run_that_the_offline_engine_began_goes_on_with_it_until_a_person_switches(root: Path) -> None:
    with Project.open(root) as project:
        run = project.store.runs.create("explore")
        project.store.runs.set_engine(run.id, str(project.engine().info))
    declare(root, '[model]\nbase_url = "http://127.0.0.1:8000"\n')
    with Project.open(root) as project:
        assert runner.context(project, run.id).engine.info.kind == "extractive"
        runner.reopen(project, run.id, switch_engine=True)
        assert runner.context(project, run.id).engine.info.kind == "llm"
        released = project.store.audit.log(subject=f"run:{run.id}")[-1]
        assert (released.event, released.actor) == ("run_engine_released", person())


def test_tools_of_the_file_and_of_python_join_the_built_in_ones(root: Path) -> None:
    (root / "tools.py").write_text(TOOLS)
    declare(root, '[act]\ntools = ["tools.py:greet"]\nsandbox = "refuse"\n')

    @tool(Effect.READ)
    def look(path: str) -> str:
        """Looks."""
        return path

    with Project.open(root) as project:
        project.register(look)
        assert list(project.tools()) == ["write_file", "edit_file", "greet", "look"]
        project.tools().register(tool(Effect.READ, name="only_here")(lambda: "x"))
        assert "only_here" not in project.tools()


@pytest.mark.parametrize("name", ["number", "missing"])
def test_a_tool_that_is_none_is_refused_by_name(root: Path, name: str) -> None:
    (root / "tools.py").write_text(TOOLS)
    declare(root, f'[act]\ntools = ["tools.py:{name}"]\n')
    with Project.open(root) as project, pytest.raises(SettingsError, match=f"tools.py:{name}"):
        project.tools()


def test_agents_cannot_reach_the_files_that_define_tools(root: Path) -> None:
    (root / "tools.py").write_text(TOOLS)
    declare(root, '[act]\ntools = ["./tools.py:greet"]\n')
    with Project.open(root) as project:
        for path in ("tools.py", "TOOLS.py", "karkas.toml", ".karkas/signing.key"):
            with pytest.raises(ConfinementError):
                project.workspace().resolve(path)
        assert project.workspace().resolve("other.py") == root / "other.py"


def test_byte_code_beside_a_tool_file_is_never_run(root: Path) -> None:
    """A sandboxed command may write there; what it wrote would run outside the sandbox."""
    source = root / "tools.py"
    evil = root / "evil.py"
    evil.write_text("raise SystemExit('escaped')\n" + "#" * len(TOOLS))
    source.write_text(TOOLS)
    cached = Path(importlib.util.cache_from_source(str(source)))
    cached.parent.mkdir()
    py_compile.compile(
        str(evil), str(cached), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    declare(root, '[act]\ntools = ["tools.py:greet"]\n')
    with Project.open(root) as project:
        assert "greet" in project.tools()


def test_nothing_is_printed_when_something_is_logged(root: Path, tmp_path: Path) -> None:
    code = (
        f"import structlog; from karkas.project import Project; Project.open({str(root)!r}).close();"
        "structlog.get_logger('karkas.storage').warning('audit_head_not_written')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert (ended.stdout, ended.stderr) == ("", "")


WHO_LOGGED_IN = """
from pathlib import Path
from karkas.project import LOGIN, person
try:
    LOGIN.write_text("1")
except OSError:
    print("refused")
else:
    print(person())
"""


def test_two_people_who_share_an_account_are_two() -> None:
    """As after `sudo -u ops`: Linux knows who logged in, whatever the process may be."""
    ran = subprocess.run([sys.executable, "-c", WHO_LOGGED_IN], capture_output=True, text=True, check=True)
    if ran.stdout == "refused\n":
        pytest.skip("this kernel lets nobody say who logged in")
    assert ran.stdout.strip() == pwd.getpwuid(1).pw_name


@pytest.mark.parametrize("said", ["4294967295", "", "ada", None])
def test_where_nobody_knows_who_logged_in_it_is_the_user_of_the_process(
    said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = tmp_path / "loginuid"
    if said is not None:
        login.write_text(said)
    monkeypatch.setattr("karkas.project.LOGIN", login)
    assert person() == pwd.getpwuid(os.getuid()).pw_name
