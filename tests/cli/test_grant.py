"""`karkas grant`: shown before it is given, given by a typed word, revoked at once."""

from pathlib import Path

import pytest

from .conftest import Cli
from .test_batch import At, terminal

__all__ = ["terminal"]

FLOWS = """
from karkas import END, START, Workflow, WorkflowState, Zone, call

lab = Zone(name="lab", understanding=4, critical=True)

class State(WorkflowState):
    path: str
    text: str

def one(state: State):
    return call("write_file", path=state["path"], content=state["text"])

note = Workflow(State, zones=("lab",))
note.add_action("make", one)
note.add_edge(START, "make")
note.add_edge("make", END)
"""
GRANT = ("--zone", "lab", "--tool", "write_file", "--arg", "path=docs/**", "--arg", "content=*")
BOUNDS = ("--count", "2", "--expires", "7d", "--reason", "the nightly notes")


@pytest.fixture
def note(root: Path, cli: Cli) -> Cli:
    """Begins a run that writes one file."""
    (root / "flows.py").write_text(FLOWS)

    def run(path: str) -> object:
        return cli("run", "flows.py:note", "--input", f'{{"path": "{path}", "text": "hello"}}', "--json")

    return run  # type: ignore[return-value]


def test_a_grant_shows_what_it_would_have_passed_and_is_given_by_a_word(
    root: Path, cli: Cli, note: Cli, terminal: At
) -> None:
    (inside,) = note("docs/a.md").json["gates"]
    (outside,) = note("src/a.md").json["gates"]
    code, said = terminal("grant", "add", *GRANT, *BOUNDS, typed="grant\n")
    assert code == 0, said
    told = " ".join(said.split())
    assert "It would have passed 1 of 2 past gates" in told
    assert "path: path docs/**" in told
    assert "content: anything" in told
    assert f"{inside} write_file" in told
    assert "would not: argument path does not match" in told
    (granted,) = cli("grant", "list", "--json").json
    assert (granted["used"], granted["ended"]) == (0, "")
    assert {one["id"] for one in cli("queue", "list", "--json").json} == {inside, outside}

    assert note("docs/b.md").code == 0
    assert (root / "docs/b.md").read_text() == "hello"
    assert note("src/b.md").code == 3
    shown = cli("grant", "show", granted["id"]).out
    assert "used   1 of 2" in shown
    assert "use 1: gate g-" in shown
    assert "1 of 2" in cli("grant", "list").out
    assert cli("audit", "verify").code == 0


@pytest.mark.parametrize("typed", ["\n", "", "yes\n", "y\n"])
def test_whatever_else_is_typed_grants_nothing(
    root: Path, cli: Cli, note: Cli, terminal: At, typed: str
) -> None:
    note("docs/a.md")
    code, said = terminal("grant", "add", *GRANT, *BOUNDS, typed=typed)
    assert code == 2
    assert "nothing was decided" in said
    assert cli("grant", "list").out == "nothing is granted in advance\n"


def test_a_preview_grants_nothing(cli: Cli, note: Cli) -> None:
    (gate,) = note("docs/a.md").json["gates"]
    shown = cli("grant", "preview", *GRANT, "--json").json
    assert shown["gates"] == [{"gate": gate, "would_pass": True, "why": None}]
    assert "It would have passed 1 of 1 past gate\n" in cli("grant", "preview", *GRANT).out
    assert cli("grant", "list", "--json").json == []


def test_a_revoked_grant_passes_nothing_more(cli: Cli, note: Cli) -> None:
    note("docs/a.md")
    added = cli("grant", "add", *GRANT, *BOUNDS, "--yes", "--json")
    assert added.code == 0, added.err
    assert cli("grant", "revoke", added.json["id"], "--reason", "they moved").code == 0
    assert "revoked by" in cli("grant", "list").out
    assert note("docs/b.md").code == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tool", "write_file", "--arg", "path=docs/**"), "missing: content"),
        (("--tool", "write_file", "--arg", "path=docs/**", "--arg", "contents=*"), "path, content"),
        (("--tool", "write_file", "--arg", "path"), "NAME=PATTERN"),
        (("--tool", "write_file", "--arg", "path=a", "--arg", "path=b"), "once for each"),
        (
            (
                "--tool",
                "write_files",
            ),
            "there is no tool 'write_files'",
        ),
    ],
)
def test_what_is_not_said_of_each_argument_is_refused(
    cli: Cli, note: Cli, options: tuple[str, ...], said: str
) -> None:
    note("docs/a.md")
    ended = cli("grant", "preview", "--zone", "lab", *options)
    assert ended.code != 0
    assert said in ended.err


def test_only_a_zone_that_asks_one_person_takes_a_grant(cli: Cli, note: Cli) -> None:
    refused = cli("grant", "add", "--zone", "lora", *GRANT[2:], *BOUNDS, "--yes")
    assert refused.code == 2
    assert "lora is propose-only, uncharted" in " ".join(refused.err.split())
    note("docs/a.md")
    cli("zone", "set", "lab", "--approvers", "2", "--reason", "it matters")
    assert "approvers = 2" in cli("grant", "add", *GRANT, *BOUNDS, "--yes").err
