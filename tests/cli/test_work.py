"""The whole way on the command line: explore, read, frame, act, decide, undo, prove."""

import asyncio
import json
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
import yaml

from karkas.policies.gates import CriticFinding, CriticReport, CriticStatus
from karkas.project import Project
from karkas.runner import advance, begin
from karkas.server.endpoints import Patience
from karkas.server.protocol import Caller

from .conftest import KARKAS, Cli

DOCUMENTS = Path(__file__).parents[1] / "workflows" / "documents"


def decided(frame: str) -> str:
    """The drafted frame with every conflict decided."""
    conflicts = dict.fromkeys(re.findall(r"\{conflict: (k-\w+)", frame))
    return frame + "".join(
        f'- {{conflict: {one}, verdict: both, reason: "read both"}}\n' for one in conflicts
    )


@pytest.fixture
def framed(root: Path, cli: Cli, tmp_path: Path) -> Path:
    assert cli("explore", "courier", "--source", str(DOCUMENTS)).code == 3
    frame = tmp_path / "courier.frame.yaml"
    frame.write_text(decided(cli("frame", "courier", "--draft").out))
    ended = cli("frame", "courier", "--from", str(frame), "--level", "propose-only")
    assert ended.code == 0, ended.err
    return root


def gate_of(cli: Cli) -> str:
    (gate,) = cli("queue", "list", "--json").json
    return str(gate["id"])


def test_explore_parks_with_3_and_says_what_was_found_and_what_is_next(root: Path, cli: Cli) -> None:
    ended = cli("explore", "courier", "--source", str(DOCUMENTS))
    assert ended.code == 3
    assert re.search(r"courier: \d+ claims out of 4 sources", ended.out)
    assert "no language model" in ended.out
    assert "karkas frame courier" in ended.out
    assert (root / "zones/courier.distillate.md").exists()
    shown = cli("queue", "show", gate_of(cli)).out
    assert "karkas frame courier" in shown


def test_explore_ended_by_a_budget_exits_with_4_and_a_valid_distillate(root: Path, cli: Cli) -> None:
    assert cli("explore", "courier", "--source", str(DOCUMENTS), "--max-sources", "2").code == 4
    assert cli("distillate", "verify", "zones/courier.distillate.yaml").code == 0


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere.md", "nowhere.md"),
        ("pkg:no-such-package", "no-such-package"),
        ("https://example.org/a", "allowed_hosts"),
    ],
)
def test_a_bad_source_fails_before_anything_is_begun(root: Path, cli: Cli, source: str, said: str) -> None:
    ended = cli("explore", "courier", "--source", source)
    assert ended.code in {1, 2}
    assert said in ended.err
    assert cli("runs", "list", "--json").json == []


def test_verify_names_a_broken_span_and_exits_with_1(root: Path, cli: Cli) -> None:
    cli("explore", "courier", "--source", str(DOCUMENTS))
    path = root / "zones/courier.distillate.yaml"
    found = yaml.safe_load(path.read_text())
    claim = found["claims"][0]
    claim["evidence"][0]["start"] += 1
    path.write_text(yaml.safe_dump(found, allow_unicode=True))
    ended = cli("distillate", "verify", str(path))
    assert ended.code == 1
    assert claim["id"] in ended.out


def test_a_published_report_is_chosen_from_variants_and_can_be_undone(framed: Path, cli: Cli) -> None:
    assert cli("act", "courier", "publish the report to docs/courier.md").code == 3
    gate = gate_of(cli)
    shown = cli("queue", "show", gate).out
    for needed in (
        "propose-only",
        "Variant 1 of 2",
        "+# Zone courier",
        "Where its arguments come from",
        "Evidence",
        "Critic",
        f"karkas queue choose {gate}",
    ):
        assert needed in shown
    assert cli("queue", "approve", gate).code == 1, "two variants: one must be chosen"
    ended = cli("queue", "choose", gate, "1")
    assert ended.code == 0, ended.err
    assert (framed / "docs/courier.md").read_text().startswith("# Zone courier")
    assert cli("queue", "undo", gate).code == 0
    assert not (framed / "docs/courier.md").exists()
    assert cli("audit", "verify").code == 0


def act(cli: Cli, path: str, content: str) -> str:
    args = json.dumps({"path": path, "content": content})
    assert cli("act", "courier", "write it", "--tool", "write_file", "--args", args).code == 3
    return gate_of(cli)


def test_an_approved_call_is_performed_and_a_second_verdict_is_refused(framed: Path, cli: Cli) -> None:
    gate = act(cli, "notes.md", "one\n")
    assert cli("queue", "approve", gate).code == 0
    assert (framed / "notes.md").read_text() == "one\n"
    again = cli("queue", "reject", gate, "--reason", "too late")
    assert again.code == 1
    assert "already" in again.err


def test_an_edit_opens_a_new_gate_and_performs_nothing_by_itself(
    framed: Path, cli: Cli, tmp_path: Path
) -> None:
    first = act(cli, "notes.md", "one\n")
    edit = tmp_path / "edit.json"
    edit.write_text(json.dumps({"tool": "write_file", "args": {"path": "notes.md", "content": "two\n"}}))
    assert cli("queue", "edit", first, "--from", str(edit)).code == 3
    second = gate_of(cli)
    assert second != first
    assert not (framed / "notes.md").exists()
    assert f"{first} is superseded" in cli("queue", "show", second).out
    assert cli("queue", "approve", second).code == 0
    assert (framed / "notes.md").read_text() == "two\n"


def test_rejecting_deferring_and_stopping(framed: Path, cli: Cli) -> None:
    gate = act(cli, "a.md", "a\n")
    assert cli("queue", "reject", gate).code == 2, "a rejection needs its reason"
    assert cli("queue", "reject", gate, "--reason", "no").code == 0
    gate = act(cli, "b.md", "b\n")
    assert cli("queue", "defer", gate, "2h").code == 0
    (waiting,) = cli("queue", "list", "--json").json
    assert waiting["status"] == "deferred"
    assert cli("queue", "stop", gate, "--reason", "enough").code == 0
    assert cli("queue", "list", "--json").json == []
    assert not {"a.md", "b.md"} & {path.name for path in framed.iterdir()}


def test_an_action_on_unframed_ground_says_what_to_do_first(root: Path, cli: Cli) -> None:
    ended = cli("act", "lora", "write it")
    assert ended.code == 1
    assert "karkas explore lora" in ended.out
    assert "karkas frame lora" in ended.out


def test_an_action_on_explored_ground_says_only_to_frame_it(root: Path, cli: Cli) -> None:
    cli("explore", "courier", "--source", str(DOCUMENTS))
    ended = cli("act", "courier", "write it")
    assert ended.code == 1
    assert "karkas frame courier" in ended.out
    assert "karkas explore" not in ended.out


def test_resuming_a_run_that_was_stopped_says_so_and_why(framed: Path, cli: Cli) -> None:
    act(cli, "notes.md", "one\n")
    run = cli("runs", "list", "--json").json[0]["id"]
    cli("runs", "stop", run, "--reason", "wrong folder")
    ended = cli("runs", "resume", run)
    assert ended.out.startswith(f"run {run} was stopped: wrong folder; it is opened again\n")
    assert "was stopped" not in cli("runs", "resume", run).out
    cli("runs", "stop", run)
    assert cli("runs", "resume", run, "--json").json["id"] == run


def test_a_task_that_needs_a_language_model_parks_with_what_is_possible_and_how_it_goes_on(
    framed: Path, cli: Cli
) -> None:
    ended = cli("act", "courier", "rewrite the depot in Rust")
    assert ended.code == 3
    for needed in ("publish", "--tool", "[model] in karkas.toml"):
        assert needed in ended.out
    run = cli("runs", "list", "--json").json[0]["id"]
    assert f"karkas runs resume {run}" in ended.out
    assert f"karkas runs show {run}" in cli("runs", "list").out
    assert cli("runs", "resume", run).code == 3
    assert cli("audit", "verify").code == 0


@pytest.mark.parametrize("named", ['model = "m"\n', ""])
def test_a_server_that_is_down_parks_the_run_with_what_to_do(
    root: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with (root / "karkas.toml").open("a") as file:
        file.write(f'[models.gone]\nbase_url = "{address}"\n{named}')
    monkeypatch.setattr(Patience, "of", lambda *_: 0.1)
    ended = cli("explore", "courier", "--source", str(DOCUMENTS))
    (run,) = cli("runs", "list", "--json").json
    assert (ended.code, run["status"]) == (3, "parked")
    assert address in ended.out
    assert f"karkas runs resume {run['id']}" in ended.out
    assert "claims out of" not in ended.out


@pytest.mark.parametrize(("until", "attended"), [((), {True}), (("--until", "07:00"), {False})])
def test_nobody_waits_for_an_exploration_of_the_night(
    root: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, until: tuple[str, ...], attended: set[bool]
) -> None:
    asked: set[bool] = set()

    def of(_: Patience, caller: Caller) -> float:
        asked.add(caller.waiting)
        return 0.1

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with (root / "karkas.toml").open("a") as file:
        file.write(f'[models.gone]\nbase_url = "{address}"\n')
    monkeypatch.setattr(Patience, "of", of)
    assert cli("explore", "courier", "--source", str(DOCUMENTS), *until).code == 3
    assert asked == attended


@pytest.mark.parametrize(
    ("until", "configured", "seconds"),
    [((), "", 3600), (("--until", "07:00"), "", None), (("--until", "07:00"), "wall_s = 60.0\n", 60)],
)
def test_a_deadline_takes_the_place_of_the_time_that_nobody_set(
    root: Path, cli: Cli, until: tuple[str, ...], configured: str, seconds: float | None
) -> None:
    toml = root / "karkas.toml"
    toml.write_text(toml.read_text().replace("[budgets]\n", f"[budgets]\n{configured}"))
    cli("explore", "courier", "--source", str(DOCUMENTS / "depot.rst"), *until)
    assert cli("runs", "list", "--json").json[0]["budget"]["wall_s"] == seconds


def test_what_the_critic_says_of_a_map_stands_where_it_is_framed(
    root: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def judge(*_: object, **__: object) -> CriticReport:
        finding = CriticFinding(text="it says more than its quote", quote="and deletes older ones")
        return CriticReport(
            critic="critic/x",
            status=CriticStatus.OBJECTED,
            digests=(),
            reason="one\nrun r-0: done",
            findings=(finding,),
        )

    monkeypatch.setattr("karkas.workflows.mapping.judge_map", judge)
    ended = cli("explore", "courier", "--source", str(DOCUMENTS))
    assert "    the critic: objected: one\n    run r-0: done\n" in ended.out
    shown = cli("queue", "show", gate_of(cli)).out
    assert "objected (critic/x)" in shown
    assert "- it says more than its quote\n  > and deletes older ones\n" in shown


def test_a_run_of_another_engine_goes_on_only_when_a_person_switches(root: Path, cli: Cli) -> None:
    assert cli("explore", "courier", "--source", str(DOCUMENTS)).code == 3
    (run,) = cli("runs", "list", "--json").json
    assert run["engine"].startswith("offline ")
    with Project.open(root) as project:
        project.store.runs.release_engine(run["id"], by="test", reason="another one began it")
        project.store.runs.set_engine(run["id"], "language-model 1 (qwen)")
    shown = cli("runs", "show", run["id"]).out
    assert "language-model 1 (qwen)" in shown
    ended = cli("runs", "resume", run["id"], "--switch-engine")
    assert ended.code == 3, "it waits for its frame, and asks no engine any more"
    assert cli("runs", "list", "--json").json[0]["engine"] is None
    assert "none was asked" in cli("runs", "show", run["id"]).out
    assert cli("audit", "verify").code == 0


def test_a_protected_path_is_denied(framed: Path, cli: Cli) -> None:
    args = json.dumps({"path": ".karkas/signing.key", "content": "mine"})
    ended = cli("act", "courier", "write it", "--tool", "write_file", "--args", args)
    assert ended.code == 1
    assert "protected" in ended.out + ended.err


@pytest.mark.parametrize("args", ["[1]", "{", '{"path": 3}'])
def test_bad_arguments_are_refused_before_a_run_begins(framed: Path, cli: Cli, args: str) -> None:
    runs = cli("runs", "list", "--json").json
    assert cli("act", "courier", "t", "--tool", "write_file", "--args", args).code in {1, 2}
    assert cli("runs", "list", "--json").json == runs


def test_every_json_is_json(framed: Path, cli: Cli) -> None:
    gate = act(cli, "notes.md", "one\n")
    whole = cli("queue", "show", gate, "--json").json
    assert whole["shown"][0].count("+one") == 1
    assert whole["possible"] == ["approve", "edit", "reject", "defer", "stop"]
    ended = cli("queue", "approve", gate, "--json").json
    assert ended["run"]["status"] == "done"
    (run, *_) = cli("runs", "list", "--json").json
    assert cli("runs", "show", run["id"], "--json").json["id"] == run["id"]


def test_a_frame_with_a_fault_names_it_and_changes_nothing(root: Path, cli: Cli, tmp_path: Path) -> None:
    cli("explore", "courier", "--source", str(DOCUMENTS))
    frame = tmp_path / "frame.yaml"
    frame.write_text(cli("frame", "courier", "--draft").out.replace("claims: [c-", "claims: [c-0", 1))
    ended = cli("frame", "courier", "--from", str(frame))
    assert ended.code == 1
    assert "not in the distillate" in ended.err
    assert cli("zone", "show", "courier", "--json").json["stage"] == "mapped"


def test_ctrl_c_stops_cleanly_and_resume_goes_on(root: Path, cli: Cli) -> None:
    env = os.environ | {"KARKAS_PROJECT": str(root)}
    process = subprocess.Popen(
        [KARKAS, "explore", "courier", "-s", DOCUMENTS], env=env, stderr=subprocess.PIPE, text=True
    )
    while not cli("runs", "list", "--json").json and process.poll() is None:
        pass
    process.send_signal(2)
    _, said = process.communicate(timeout=30)
    (run,) = cli("runs", "list", "--json").json
    if process.returncode == 130 and run["status"] != "parked":
        assert f"karkas runs resume {run['id']}" in said
        assert run["status"] == "queued"
    resumed = cli("runs", "resume", run["id"])
    assert resumed.code == 3
    assert "claims out of" in resumed.out
    assert "read zones/courier.distillate.md" in resumed.out
    assert "Traceback" not in said


def test_a_users_workflow_runs_parks_and_goes_on(framed: Path, cli: Cli) -> None:
    (framed / "flow.py").write_text(
        "from karkas import END, START, Workflow, WorkflowState, call\n\n"
        "class State(WorkflowState, total=False):\n    topic: str\n\n"
        "flow = Workflow(State, zones=('courier',))\n"
        "flow.add_action('note', lambda state: call('write_file', path='n.md', content=state['topic']))\n"
        "flow.add_edge(START, 'note').add_edge('note', END)\n"
    )
    assert cli("run", "flow.py:flow", "--input", '{"topic": "parcels"}').code == 3
    assert cli("queue", "approve", gate_of(cli)).code == 0
    assert (framed / "n.md").read_text() == "parcels"


def test_of_a_run_in_the_terminal_models_are_told_that_a_person_waits(root: Path, cli: Cli) -> None:
    (root / "flow.py").write_text(
        "from karkas import END, START, Workflow, WorkflowState\n\n"
        "class State(WorkflowState, total=False):\n    waits: bool\n\n"
        "def look(state, runtime):\n    return {'waits': runtime.context.caller.waiting}\n\n"
        "flow = Workflow(State)\nflow.add_node('look', look)\n"
        "flow.add_edge(START, 'look').add_edge('look', END)\n"
    )
    assert cli("run", "flow.py:flow", "--json").json["result"]["values"] == {"waits": True}
    with Project.open(root) as project:
        run = asyncio.run(advance(project, begin(project, "flow.py:flow", {}).id))
        assert run.result is not None
        assert run.result["values"] == {"waits": False}


@pytest.mark.parametrize(
    ("reference", "code", "said"),
    [
        ("flow.py", 2, "FILE.py:NAME"),
        ("nowhere.py:flow", 2, "nowhere.py"),
        ("broken.py:flow", 1, "ZeroDivisionError"),
        ("empty.py:flow", 1, "no workflow"),
    ],
)
def test_a_workflow_that_cannot_be_loaded_says_why(
    root: Path, cli: Cli, reference: str, code: int, said: str
) -> None:
    (root / "broken.py").write_text("1 / 0\n")
    (root / "empty.py").write_text("other = 1\n")
    ended = cli("run", reference)
    assert (ended.code, said in ended.err) == (code, True), ended.err
