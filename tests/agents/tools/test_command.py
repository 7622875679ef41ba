import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from pydantic import JsonValue

from karkas.agents.tools import Bubblewrap, Done, Tool, ToolBox, Workspace, bubblewrap, perform
from karkas.agents.tools import command as command_module
from karkas.agents.tools.process import OUTPUT_BYTES, run_process
from karkas.policies.actions import Action, ActionError
from karkas.policies.errors import ConfinementError, StaleError, ToolError, UsageError
from karkas.policies.routing import EVERYWHERE, path_touches
from karkas.policies.sandbox import Sandbox
from karkas.storage import Claimed, Store

Permitted = Callable[[Tool, Action], Claimed]
Shell = Callable[..., Awaitable[Done]]

needs_bwrap = pytest.mark.skipif(
    not isinstance(bubblewrap(), Bubblewrap), reason=f"needs a working bubblewrap: {bubblewrap()}"
)
TOOL = ToolBox.builtin()["run_command"]
UNSANDBOXED = command_module.run_command_tool(Sandbox.ASK)


@pytest.fixture
def shell(workspace: Workspace) -> Shell:
    async def run(script: str, *, timeout_s: int = 20, tool: Tool = TOOL) -> Done:
        action = tool.action(argv=["/bin/sh", "-c", script], timeout_s=timeout_s)
        done = await tool.call(tool.function, action, workspace=workspace)
        assert isinstance(done, Done)
        return done

    return run


@pytest.fixture
def without_bwrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_module, "bubblewrap", lambda: "bubblewrap (bwrap) is not installed")


@needs_bwrap
async def test_a_command_runs_in_the_workspace_as_it_was_shown(
    workspace: Workspace, permitted: Permitted
) -> None:
    action = TOOL.action(argv=["/bin/sh", "-c", 'echo "$0 $1"; pwd; env', "x y", "*"], cwd="./docs/")
    done = await perform(TOOL, permitted(TOOL, action), workspace)
    assert done.result["ok"] is True
    said, where, *environment = str(done.result["stdout"]).splitlines()
    assert (said, where) == ("x y *", str(workspace.root / "docs"))
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert sorted(environment) == ["HOME=/tmp", "LANG=C.UTF-8", f"PATH={path}", f"PWD={where}"]


@needs_bwrap
def test_it_is_shown_argument_by_argument_with_its_sandbox(workspace: Workspace) -> None:
    argv: JsonValue = ["/bin/sh", "-c", "rm\n  -rf \u202e", ""]
    shown = TOOL.show(TOOL.action(argv=argv, timeout_s=5), workspace).split("\n")
    assert shown[0] == "run_command (irreversible)"
    assert "no network" in shown[1]
    assert "  hidden: .karkas; and all of your other folders" in shown
    assert "  read-only: .git, karkas.toml, zones" in shown
    assert "time-out: 5 s" in shown
    assert shown[-4:] == ['  "/bin/sh"', '  "-c"', r'  "rm\n  -rf ⟦U+202E⟧"', '  ""']


@needs_bwrap
async def test_the_signing_key_cannot_be_seen(shell: Shell, workspace: Workspace) -> None:
    done = await shell(
        f"find /tmp /root /etc -name signing.key 2>/dev/null; cat .karkas/signing.key {workspace.root}/.karkas/*"
    )
    assert done.result["stdout"] == ""
    done = await shell(f"umount .karkas; unshare -Urm sh -c 'umount {workspace.root}/.karkas'; ls .karkas")
    assert done.result["stdout"] == ""
    assert (workspace.root / ".karkas/signing.key").read_text() == "secret"


@needs_bwrap
@pytest.mark.parametrize(
    "script",
    [
        "echo x > karkas.toml",
        "rm karkas.toml",
        "mv karkas.toml k",
        "echo x >> .git/config",
        "mv .git g",
        "rm -rf .git",
        "echo x > zones/new",
        "mv sub sub2; echo x > sub2/.git/config",
        "ln .git/config docs/c && echo x > docs/c",
        "chmod 777 karkas.toml",
    ],
)
async def test_protected_places_cannot_be_changed(shell: Shell, workspace: Workspace, script: str) -> None:
    (workspace.root / "sub/.git").mkdir(parents=True)
    (workspace.root / "sub/.git/config").write_text("[core]\n")
    done = await shell(script)
    assert done.result["ok"] is False
    root = workspace.root
    assert (root / "karkas.toml").read_text() == "# settings\n"
    assert (root / ".git/config").read_text() == "[core]\n"
    assert list((root / "zones").iterdir()) == []
    assert next(root.glob("sub*/.git/config")).read_text() == "[core]\n"


@needs_bwrap
async def test_what_should_not_be_made_is_told(shell: Shell, workspace: Workspace) -> None:
    done = await shell("mkdir -p 'vendored\n/.git'")
    assert done.result["ok"] is False
    assert done.result["made_protected"] == ["vendored\n/.git"]
    assert 'it made "vendored\\n/.git"' in done.shown


@needs_bwrap
async def test_nothing_outside_can_be_written_or_reached(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "private").write_text("secret")
    done = await shell(
        f"cat {tmp_path}/private; ls /home /run /var; touch /x /etc/x /usr/x; ls -d /x; cat /etc/shadow; echo end"
    )
    assert done.result["stdout"] == "end\n"
    assert not (tmp_path / "x").exists()
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        done = await shell(f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo connected".join(["bash -c '", "'"]))
    assert done.result["ok"] is False
    assert done.result["stdout"] == ""


@needs_bwrap
@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("/no/such/program", 127)])
async def test_a_failing_command_is_a_result_and_not_an_error(shell: Shell, script: str, code: int) -> None:
    done = await shell(script)
    assert (done.result["ok"], done.result["exit_code"]) == (False, code)
    assert f"exit code {code}" in done.shown


@needs_bwrap
async def test_a_command_ends_with_its_time_and_so_does_all_that_it_started(
    shell: Shell, workspace: Workspace
) -> None:
    began = time.monotonic()
    done = await shell("(setsid sleep 30; echo > late) & trap '' TERM; echo begun; sleep 30", timeout_s=1)
    assert time.monotonic() - began < 20
    assert done.result["timed_out"] is True
    assert done.result["exit_code"] is None
    assert done.result["stdout"] == "begun\n"
    assert "killed after 1 s" in done.shown
    assert (await shell("ps ax || ls /proc")).result["ok"]


@needs_bwrap
async def test_what_a_command_leaves_in_the_background_ends_with_it(
    shell: Shell, workspace: Workspace
) -> None:
    done = await shell("(sleep 1; echo > late) & echo end")
    assert done.result["ok"] is True
    await asyncio.sleep(1.1)
    assert not (workspace.root / "late").exists()


@needs_bwrap
async def test_output_is_bounded_and_the_rest_counted(workspace: Workspace, store: Store) -> None:
    space = Workspace(workspace.root, artifacts=store.artifacts)
    action = TOOL.action(argv=["head", "-c", "3000000", "/dev/zero"])
    done = await TOOL.call(TOOL.function, action, workspace=space)
    assert done.result["stdout_bytes"] == 3_000_000
    assert len(done.result["stdout"]) == command_module.INLINE_CHARS
    assert store.artifacts.get(done.result["stdout_artifact"]) == bytes(OUTPUT_BYTES)
    assert "stdout, 3,000,000 bytes, the last 2,000,000 not kept:" in done.shown


@needs_bwrap
async def test_a_sandbox_that_cannot_start_is_told_from_a_command_that_fails(workspace: Workspace) -> None:
    wrap = bubblewrap()
    assert isinstance(wrap, Bubblewrap)
    call = [wrap.program, *wrap.flags, "--bind", "/no/such/folder", "/x", "--", "/bin/true"]
    with pytest.raises(ToolError, match="so nothing ran: bwrap: Can't find"):
        await run_process(call, workspace.root, timeout_s=5, sandboxed=True)


@needs_bwrap
async def test_a_script_changed_after_approval_does_not_run(
    workspace: Workspace, permitted: Permitted
) -> None:
    (workspace.root / "build.sh").write_text("echo good")
    calls: list[JsonValue] = [["/bin/sh", "build.sh"], ["/bin/sh", "-c", "true", "--file=build.sh"]]
    for argv in calls:
        (workspace.root / "build.sh").write_text("echo good")
        action = TOOL.action(argv=argv)
        assert "build.sh" in TOOL.preconditions(action, workspace)
        claimed = permitted(TOOL, action)
        (workspace.root / "build.sh").write_text("echo bad")
        with pytest.raises(StaleError, match=r"build\.sh changed"):
            await perform(TOOL, claimed, workspace)


@needs_bwrap
def test_it_may_touch_anything_and_says_what_its_arguments_name(workspace: Workspace) -> None:
    action = TOOL.action(argv=["cp", "a.md", "../src/b.md", "--to=c.md", "/etc/x", "../../out"], cwd="docs")
    assert {EVERYWHERE, "docs", "docs/a.md", "src/b.md", "docs/c.md"} <= set(TOOL.paths(action))
    assert path_touches(EVERYWHERE, "secrets/**"), "so every zone that is scoped by path is touched"
    assert not any("out" in path or path.startswith("/") for path in TOOL.paths(action))


@pytest.mark.parametrize(
    ("argv", "cwd", "error", "said"),
    [
        (["no-such-program"], ".", ToolError, "no program"),
        (["./" + "a" * 300], ".", ToolError, "no program"),
        (["docs/a.md"], ".", ToolError, "no program"),
        ([".git/hook"], ".", ConfinementError, "protected"),
        (["ls"], "nowhere", ToolError, "no folder"),
        (["ls"], ".git", ConfinementError, "protected"),
    ],
)
@needs_bwrap
def test_what_cannot_run_is_refused_before_it_is_shown(
    workspace: Workspace, argv: JsonValue, cwd: str, error: type[Exception], said: str
) -> None:
    (workspace.root / ".git/hook").write_text("#!/bin/sh\n")
    (workspace.root / ".git/hook").chmod(0o755)
    with pytest.raises(error, match=said):
        TOOL.show(TOOL.action(argv=argv, cwd=cwd), workspace)


@needs_bwrap
def test_a_program_that_the_sandbox_does_not_show_needs_to_be_listed(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/mine"
    program.write_text("#!/bin/sh\necho mine\n")
    program.chmod(0o755)
    with pytest.raises(ToolError, match="readable"):
        TOOL.show(TOOL.action(argv=[str(program)]), workspace)
    listed = ToolBox.builtin(readable=[str(tmp_path / "bin")])["run_command"]
    action = listed.action(argv=[str(program)])
    assert str(tmp_path / "bin") in listed.show(action, workspace)
    assert asyncio.run(listed.call(listed.function, action, workspace=workspace)).result["stdout"] == "mine\n"


@needs_bwrap
def test_what_is_readable_never_uncovers_what_is_protected(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "beside").write_text("beside\n")
    listed = ToolBox.builtin(readable=[str(tmp_path)])["run_command"]
    script = (
        f"cat {tmp_path}/beside .karkas/signing.key; echo x > karkas.toml; echo x > ../beside; echo x > mine"
    )
    action = listed.action(argv=["/bin/sh", "-c", script])
    assert (
        asyncio.run(listed.call(listed.function, action, workspace=workspace)).result["stdout"] == "beside\n"
    )
    assert (tmp_path / "beside").read_text() == "beside\n"
    assert (workspace.root / "karkas.toml").read_text() == "# settings\n"
    assert (workspace.root / "mine").exists()


@pytest.mark.parametrize("folder", ["/", "models", "/tmp/.."])
def test_the_whole_system_cannot_be_laid_open(folder: str) -> None:
    with pytest.raises(UsageError, match="readable"):
        ToolBox.builtin(readable=[folder])


@pytest.mark.parametrize("argv", [[], ["a\0b"], "ls -la", [1]])
def test_a_shell_string_is_no_argv(argv: object) -> None:
    with pytest.raises(ActionError, match="argument argv"):
        TOOL.action(argv=argv)  # type: ignore[arg-type]


@pytest.mark.usefixtures("without_bwrap")
def test_without_bubblewrap_commands_are_refused(workspace: Workspace) -> None:
    with pytest.raises(ToolError, match='sandbox = "ask"'):
        TOOL.show(TOOL.action(argv=["ls"]), workspace)


@pytest.mark.usefixtures("without_bwrap")
async def test_without_bubblewrap_a_person_can_be_asked_for_unsandboxed_ones(
    shell: Shell, workspace: Workspace
) -> None:
    shown = UNSANDBOXED.show(UNSANDBOXED.action(argv=["ls"]), workspace)
    assert shown.startswith("UNSANDBOXED: it can do all that you can")
    began = time.monotonic()
    done = await shell("(sleep 20; echo > late) & env", tool=UNSANDBOXED)
    assert time.monotonic() - began < 15, "what it leaves in the background is not waited for"
    variables = dict(line.split("=", 1) for line in str(done.result["stdout"]).splitlines())
    assert variables.keys() <= {"HOME", "LANG", "PATH", "PWD", "_", "OLDPWD", "SHLVL"}
    assert "karkas-home-" in variables["HOME"]
    await asyncio.sleep(0.6)
    assert not (workspace.root / "late").exists()


@needs_bwrap
async def test_an_interrupted_command_is_ended(shell: Shell, workspace: Workspace) -> None:
    running = asyncio.ensure_future(shell("echo > begun; sleep 0.6; echo > late"))
    await asyncio.sleep(0.3)
    assert (workspace.root / "begun").exists()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.sleep(0.6)
    assert not (workspace.root / "late").exists()


async def test_what_escapes_the_group_cannot_hold_a_command_up(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("karkas.agents.tools.process.DRAIN_S", 0.1)
    argv = ["/bin/sh", "-c", "setsid sleep 1.5 & echo end; sleep 0.3"]
    ran = await run_process(argv, workspace.root, timeout_s=10, sandboxed=False)
    assert ran.wall_s < 1.4
    assert bytes(ran.stdout.kept) == b"end\n"


@needs_bwrap
async def test_an_approval_for_the_sandbox_is_none_for_going_without(
    workspace: Workspace, permitted: Permitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = permitted(UNSANDBOXED, UNSANDBOXED.action(argv=["ls"]))
    monkeypatch.setattr(command_module, "bubblewrap", lambda: "gone")
    with pytest.raises(StaleError, match="sandbox changed"):
        await perform(UNSANDBOXED, claimed, workspace)


def test_a_refusing_project_has_no_commands() -> None:
    assert "run_command" not in ToolBox.builtin(sandbox=Sandbox.REFUSE)


@needs_bwrap
async def test_nothing_in_proc_leads_out_of_the_sandbox_or_to_the_key(
    shell: Shell, workspace: Workspace
) -> None:
    """By the roots, folders and descriptors of every process that it sees, bubblewrap's own too."""
    script = """
    for place in /proc/*/root /proc/*/cwd /proc/*/fd/*; do
        for name in "" .karkas karkas.toml ../.karkas "$0/.karkas"; do
            cat "$place/$name/signing.key" "$place/$name" 2>/dev/null
            echo leaked >"$place/$name/signing.key" 2>/dev/null
        done
    done
    ls -d /proc/[0-9]* | wc -l
    cat /proc/1/environ | tr '\\0' '\\n'
    """
    action = TOOL.action(argv=["/bin/sh", "-c", script, str(workspace.root)], timeout_s=20)
    done = await TOOL.call(TOOL.function, action, workspace=workspace)
    assert isinstance(done, Done)
    out = str(done.result["stdout"])
    assert "secret" not in out
    assert (workspace.root / ".karkas/signing.key").read_text() == "secret"
    assert "KARKAS" not in out


@needs_bwrap
async def test_a_protected_place_is_not_moved_away_replaced_or_linked_to(
    shell: Shell, workspace: Workspace
) -> None:
    settings = (workspace.root / "karkas.toml").read_text()
    for script in (
        "mv karkas.toml other.toml; echo evil >karkas.toml",
        "rm -rf karkas.toml .git zones .karkas; ln -s docs zones; mkdir .karkas; echo k >.karkas/signing.key",
        "ln karkas.toml docs/hard.toml; ln .git/config docs/hard.config; echo evil >>docs/hard.toml",
        "mv .karkas docs/k; mv zones docs/z; ln -sfn /etc zones",
    ):
        await shell(script)
    assert (workspace.root / "karkas.toml").read_text() == settings
    assert (workspace.root / ".karkas/signing.key").read_text() == "secret"
    assert (workspace.root / ".git/config").read_text() == "[core]\n"
    assert (workspace.root / "zones").is_dir()
    assert not (workspace.root / "zones").is_symlink()
