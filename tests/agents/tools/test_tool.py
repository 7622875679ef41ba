import runpy
from pathlib import Path
from typing import Any

import pytest

from karkas.agents.tools import Tool, ToolBox, Workspace, WorkspacePath, tool
from karkas.policies.actions import Action, ActionError, Effect, canonical
from karkas.policies.errors import NotFoundError, PermitError, UsageError

RUNS: list[str] = []


@tool(Effect.IRREVERSIBLE)
def send_mail(to: str, body: str, copies: int = 1, *, workspace: Workspace, idempotency_key: str) -> str:
    """Sends a mail.

    To one reader.
    """
    RUNS.append(to)
    return idempotency_key


def test_arguments_become_one_canonical_action_with_defaults_filled_in() -> None:
    action = send_mail.action(body="hi", to="a@b")
    assert action.args == {"to": "a@b", "body": "hi", "copies": 1}
    assert action.effect is Effect.IRREVERSIBLE
    assert action == send_mail.action(to="a@b", body="hi", copies=1)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"to": "a"}, "argument body: Field required"),
        ({"to": "a", "body": 3}, "argument body: Input should be a valid string"),
        ({"to": "a", "body": "b", "bcc": "x"}, "argument bcc: Extra inputs"),
        ({"to": "a", "body": "b", "workspace": "x"}, "argument workspace: Extra inputs"),
        ({"to": "a", "body": "\ud800"}, "RFC 8785"),
        ({"self": "a"}, "argument to"),
    ],
)
def test_a_wrong_argument_is_named(args: dict[str, Any], said: str) -> None:
    with pytest.raises(ActionError, match=said):
        send_mail.action(**args)


def test_calling_a_tool_has_no_effect() -> None:
    with pytest.raises(PermitError, match="propose `send_mail`"):
        send_mail("a@b", "hi")
    assert RUNS == []


def test_a_model_sees_the_arguments_and_nothing_that_is_injected() -> None:
    spec = send_mail.spec()
    assert spec.name == "send_mail"
    assert spec.description == "Sends a mail.\n\nTo one reader."
    assert list(spec.parameters["properties"]) == ["to", "body", "copies"]  # type: ignore[arg-type]
    assert spec.parameters["additionalProperties"] is False


def test_without_a_preview_every_argument_is_shown_whole(workspace: Workspace) -> None:
    shown = send_mail.show(send_mail.action(to="a\u202e@b", body="x\ncopies: 9\n" + "y" * 5000), workspace)
    assert shown.split("\n") == [
        "send_mail (irreversible)",
        'to: "a⟦U+202E⟧@b"',
        "body:",
        "  | x",
        "  | copies: 9",
        "  | " + "y" * 5000,
        "copies: 1",
    ]


def test_an_action_is_shown_the_same_after_it_was_stored(workspace: Workspace) -> None:
    @tool(Effect.READ)
    def scale(steps: dict[str, float], by: float = 3.0) -> None: ...

    action = scale.action(steps={"z": 2.0, "a": 1e22})
    stored = Action.model_validate_json(canonical(action.model_dump(mode="json")))
    assert scale.show(stored, workspace).split("\n") == [
        "scale (read)",
        'steps: {"a": 1e+22, "z": 2}',
        "by: 3",
    ]
    assert scale.show(action, workspace) == scale.show(stored, workspace)


def test_an_action_with_another_effect_or_other_arguments_is_not_shown(workspace: Workspace) -> None:
    for forged in (
        Action(tool="send_mail", args={"to": "a", "body": "b", "copies": 1}, effect=Effect.READ),
        Action(tool="send_mail", args={"to": "a", "body": "b"}, effect=Effect.IRREVERSIBLE),
        Action(tool="other", args={"to": "a", "body": "b", "copies": 1}, effect=Effect.IRREVERSIBLE),
    ):
        with pytest.raises(ActionError, match="as send_mail"):
            send_mail.show(forged, workspace)


def test_a_preview_is_rendered_honestly(workspace: Workspace) -> None:
    @tool(Effect.READ, preview=lambda name: f"greets \x1b[2J{name}")
    def greet(name: str) -> None: ...

    assert greet.show(greet.action(name="a\u200b"), workspace) == "greets ⟦U+001B⟧[2Ja⟦U+200B⟧"


def test_paths_for_routing_are_those_of_path_arguments() -> None:
    @tool(Effect.READ)
    def compare(
        left: WorkspacePath,
        right: WorkspacePath | None = None,
        more: list[WorkspacePath] = [],  # noqa: B006
        note: str = "",
    ) -> None: ...

    assert compare.paths(compare.action(left="./a//b", note="docs/x")) == ("a/b",)
    assert compare.paths(compare.action(left="a", right="b/c/", more=["./d"])) == ("a", "b/c", "d")


def make(limit: int, effect: Effect = Effect.READ) -> Tool:
    @tool(effect)
    def fetch(url: str) -> int:
        return limit

    return fetch


def test_the_version_changes_with_whatever_defines_the_tool(tmp_path: Path) -> None:
    assert make(1).version == make(1).version
    assert make(1).version != make(2).version
    assert make(1).version != make(1, Effect.REVERSIBLE).version

    def loaded(body: str) -> str:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
        file.write_text(body)
        names: dict[str, Any] = {"__name__": "mine"}
        exec(compile(body, str(file), "exec"), names)
        return str(names["ping"].version)

    source = "from karkas.agents.tools import tool\nURL = 'a'\n@tool('read')\ndef ping(x: int = 1) -> str:\n    return URL\n"
    assert loaded(source) == loaded(source)
    assert loaded(source) != loaded(source.replace("'a'", "'b'"))
    assert loaded(source) != loaded(source.replace("int = 1", "int = 2"))


@pytest.mark.parametrize("decorator", ["tenacity.retry", "bare"])
def test_the_code_behind_a_decorator_of_others_counts_for_the_version(tmp_path: Path, decorator: str) -> None:
    """The decorator's own file never changes; what it wraps, by `functools.wraps` or in silence, does."""
    (tmp_path / "others.py").write_text(
        "def bare(f):\n    def g(x: int = 1) -> str:\n        return f(x)\n    return g\n"
    )
    others = runpy.run_path(str(tmp_path / "others.py"))

    def loaded(word: str) -> str:
        file = tmp_path / f"{word}.py"
        file.write_text(f"import tenacity\n@{decorator}\ndef ping(x: int = 1) -> str:\n    return {word!r}\n")
        return str(
            tool(Effect.READ, name="ping")(
                runpy.run_path(str(file), {"bare": others["bare"]})["ping"]
            ).version
        )

    assert loaded("a") == loaded("a")
    assert loaded("a") != loaded("b")


def test_a_tool_that_cannot_be_described_is_refused_when_it_is_made() -> None:
    def untyped(a) -> None: ...  # type: ignore[no-untyped-def] # noqa: ANN001

    def open_ended(*args: str) -> None: ...

    def hidden(_a: str) -> None: ...

    for function, said in ((untyped, "annotate"), (open_ended, "ordinary"), (hidden, "_a")):
        with pytest.raises(UsageError, match=said):
            tool(Effect.READ)(function)
    with pytest.raises(UsageError, match="takes b, which f does not"):
        tool(Effect.READ, name="f", preview=lambda b: b)(lambda: None)
    with pytest.raises(UsageError, match="name"):
        tool(Effect.READ, name="rm -rf")(lambda: None)


def test_a_box_knows_its_tools_and_says_what_there_is() -> None:
    box = ToolBox.builtin()
    assert list(box) == ["write_file", "edit_file", "run_command"]
    assert box.register(send_mail) is send_mail
    assert "send_mail" in box
    assert box.get("nope") is None
    with pytest.raises(NotFoundError, match="there is no tool 'nope'; there are: write_file"):
        box["nope"]
    with pytest.raises(UsageError, match="already"):
        box.register(send_mail)
    with pytest.raises(UsageError, match="@tool"):
        box.register(print)  # type: ignore[arg-type]


def test_a_grants_pattern_is_of_the_kind_of_the_argument() -> None:
    from karkas.agents.tools import WorkspacePath, tool

    @tool(Effect.REVERSIBLE)
    def many(
        path: WorkspacePath,
        others: list[WorkspacePath],
        text: str,
        argv: list[str],
        maybe: str | None = None,
    ) -> None:
        pass

    assert many.grant_kinds() == {
        "path": "path",
        "others": "path",
        "text": "text",
        "argv": "exact",
        "maybe": "exact",
    }


def _sorted(names: list[str], workspace: Workspace) -> str:
    names.sort()
    return "\n".join(str(workspace.text(name)) for name in names)


def _first(names: list[str], workspace: Workspace) -> dict[str, str]:
    return {names[0]: workspace.state(names[0])}


@tool(Effect.REVERSIBLE, preview=_sorted, preconditions=_first)
def join(names: list[str]) -> None:
    """Joins files."""


def test_what_is_shown_and_what_must_hold_are_of_one_look_and_each_look_is_new(workspace: Workspace) -> None:
    action = join.action(names=["b.md", "a.md"])
    for content in ("one", "two"):
        workspace.write("a.md", content.encode())
        shown, required = join.look(action, workspace)
        assert (shown, required) == (join.show(action, workspace), join.preconditions(action, workspace))
        assert shown == f"{content}\nNone"
        assert required == {"b.md": "absent"}, "what the preview does to its arguments stays there"
    assert action.args == {"names": ["b.md", "a.md"]}


def test_an_action_that_is_not_as_its_tool_writes_it_is_not_looked_at(workspace: Workspace) -> None:
    action = join.action(names=["a.md"])
    for other in (
        action.model_copy(update={"effect": Effect.READ}),
        action.model_copy(update={"tool": "split"}),
        action.model_copy(update={"args": {}}),
        action.model_copy(update={"args": {"names": ["a.md"], "more": 1}}),
        send_mail.action(to="a", body="b").model_copy(update={"args": {"to": "a", "body": "b"}}),
    ):
        with pytest.raises(ActionError):
            (join if other.tool != "send_mail" else send_mail).look(other, workspace)
