from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from karkas.policies.actions import Action, Digest, Effect, Proposal, Variant
from karkas.policies.frames import Rule
from karkas.policies.gates import CriticReport, CriticStatus, Hold, PolicyDecision, PolicyVerdict
from karkas.policies.grants import (
    GRANTABLE,
    AnyValue,
    ExactValue,
    Grant,
    PathGlob,
    Pattern,
    TextGlob,
    covers,
    refusal,
)
from karkas.policies.judging import judge
from karkas.policies.provenance import ArgumentOrigin, Origin
from karkas.policies.routing import route
from karkas.policies.zones import ControlLevel, Scope, Stage, Zone, ZoneState

GRANT = Grant(
    zone="docs",
    tool="write_file",
    tool_version=Digest("0" * 64),
    args={"path": PathGlob(glob="docs/**"), "content": AnyValue()},
    limit=3,
    expires_at=datetime(2026, 3, 8, tzinfo=UTC),
    reason="the nightly reports",
    author="ada",
)
PROPOSE = PolicyDecision(verdict=PolicyVerdict.PROPOSE, reasons=("propose-only",), holds=(Hold.LEVEL,))


def action(**changes: Any) -> Action:
    args = {"path": "docs/a.md", "content": "x"} | changes.pop("args", {})
    return Action(**{"tool": "write_file", "args": args, "effect": Effect.REVERSIBLE} | changes)


def proposal(*actions: Action, proposer: str = "executor/model") -> Proposal:
    variants = tuple(Variant(action=one) for one in actions or (action(),))
    return Proposal(zones=("docs",), task="t", why="w", proposer=proposer, variants=variants)


def refused(**changes: Any) -> str | None:
    found: dict[str, Any] = {
        "policy": PROPOSE,
        "zones": ("docs",),
        "proposal": proposal(),
        "critic": None,
    }
    return refusal(GRANT, **found | changes)


def report(status: CriticStatus, digest: Digest | None = None) -> CriticReport:
    return CriticReport(critic="c", status=status, digests=(digest or action().digest,), reason="because")


def test_what_is_granted_is_released() -> None:
    assert refused() is None
    assert refused(policy=PROPOSE.model_copy(update={"holds": (Hold.LEVEL, Hold.MODEL)})) is None
    for status in (CriticStatus.PASSED, CriticStatus.REFUSED):
        assert refused(critic=report(status)) is None
    assert refused(proposal=proposal(action(effect=Effect.READ))) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"zones": ("docs", "ops")}, "touches docs, ops"),
        ({"zones": ("ops",)}, "touches ops"),
        ({"zones": ()}, "no zone"),
        ({"proposal": proposal(action(), action(args={"path": "docs/b.md"}))}, "2 variants"),
        ({"proposal": proposal(action(tool="edit_file"))}, "a call of edit_file"),
        ({"proposal": proposal(action(effect=Effect.IRREVERSIBLE))}, "irreversible"),
        ({"proposal": proposal(action(args={"path": "src/a.md"}))}, "path does not match"),
        ({"proposal": proposal(action(args={"mode": "x"}))}, "mode has no pattern"),
        ({"proposal": proposal(proposer="person/ada")}, "a person proposed it"),
        ({"proposal": proposal(proposer="executor/model, edited by ada")}, "a person proposed it"),
        ({"policy": PROPOSE.model_copy(update={"approvers": 2})}, "2 people"),
        ({"policy": PROPOSE.model_copy(update={"holds": ()})}, "not for the zone's level"),
        ({"critic": report(CriticStatus.OBJECTED)}, "objected"),
        ({"critic": report(CriticStatus.UNSURE)}, "unsure"),
        ({"critic": report(CriticStatus.ERROR)}, "error"),
        ({"critic": report(CriticStatus.PASSED, Digest("1" * 64))}, "something else"),
    ],
)
def test_nothing_beside_it_is_released(changes: dict[str, Any], why: str) -> None:
    assert why in (refused(**changes) or "")


@pytest.mark.parametrize("verdict", [one for one in PolicyVerdict if one is not PolicyVerdict.PROPOSE])
def test_no_other_verdict_of_policy_is_released(verdict: PolicyVerdict) -> None:
    assert refused(policy=PROPOSE.model_copy(update={"verdict": verdict}))


@pytest.mark.parametrize("hold", [hold for hold in Hold if hold not in GRANTABLE])
def test_whatever_else_holds_it_back_keeps_it_back(hold: Hold) -> None:
    assert hold.value in (refused(policy=PROPOSE.model_copy(update={"holds": (Hold.LEVEL, hold)})) or "")


def state(level: ControlLevel, approvers: int = 1) -> ZoneState:
    zone = Zone(name="docs", understanding=5, scope=Scope(tools=("*",)))
    return ZoneState(
        zone=zone, level=level, stage=Stage.FRAMED, scope=zone.scope, reasons=(), approvers=approvers
    )


@given(
    level=st.sampled_from(ControlLevel),
    effect=st.sampled_from(Effect),
    rules=st.lists(st.sampled_from(Rule), max_size=2),
    origins=st.lists(st.sampled_from([*Origin, None]), min_size=2, max_size=2),
    approvers=st.integers(1, 2),
    known=st.booleans(),
)
def test_of_all_that_policy_may_say_only_the_levels_own_question_is_released(  # noqa: PLR0917
    level: ControlLevel,
    effect: Effect,
    rules: list[Rule],
    origins: list[Origin | None],
    approvers: int,
    known: bool,  # noqa: FBT001
) -> None:
    act = action(effect=effect)
    traced = tuple(
        ArgumentOrigin(pointer=f"/{name}", origin=origin)
        for name, origin in zip(("path", "content"), origins, strict=True)
        if origin is not None
    )
    variants = (Variant(action=act, origins=traced),)
    states = [state(level, approvers)]
    policy = judge(
        variants,
        route=route(states, tools=[act.tool]),
        states=states,
        known_tools=[act.tool] if known else [],
        rules=rules,
    )
    offered = proposal().model_copy(update={"variants": variants})
    released = refused(policy=policy, proposal=offered) is None
    assert released == (
        level is ControlLevel.PROPOSE_ONLY
        and effect is not Effect.IRREVERSIBLE
        and not {Rule.ASK, Rule.FORBID} & set(rules)
        and not {None, Origin.UNKNOWN, Origin.UNTRUSTED_SOURCE} & set(origins)
        and approvers == 1
        and known
    )


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("docs/**", "docs/a.md", True),
        ("docs/**", "docs/deep/a.md", True),
        ("docs", "docs/a.md", True),
        ("docs/*.md", "docs/a.md", True),
        ("docs/*.md", "docs/deep/a.md", False),
        ("**/*.md", "deep/er/a.md", True),
        ("*.md", "deep/a.md", False),
        ("README.md", "vendor/README.md", False),
        ("docs/**", "src/docs/a.md", False),
        ("docs/**", "docs/../src/a.md", False),
        ("docs/**", "docs/..", False),
        ("docs/**", "../docs/a.md", False),
        ("docs/**", "/docs/a.md", False),
        ("docs/**", "./docs/a.md", False),
        ("docs/**", "docs//a.md", False),
        ("docs/**", "docs\\a.md", False),
        ("docs/**", "docs/a\u200b.md", False),
        ("docs/**", "docs/a\n.md", False),
        ("docs/**", "docs/\0.md", False),
        ("docs/**", "Docs/a.md", False),
        ("docs/**", "docs2/a.md", False),
        ("docs/[a-c].md", "docs/b.md", True),
        ("docs/**", "", False),
        ("docs/**", ".", False),
    ],
)
def test_a_path_is_matched_from_the_workspaces_own_folder_in_its_one_spelling(
    glob: str, path: str, *, matches: bool
) -> None:
    assert covers(PathGlob(glob=glob), path) is matches
    assert covers(PathGlob(glob=glob), [path]) is matches
    assert not covers(PathGlob(glob=glob), ["docs/a.md", path, "src/evil"])


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        (AnyValue(), {"any": ["thing"]}, True),
        (TextGlob(glob="report-*"), "report-1", True),
        (TextGlob(glob="report-*"), "Report-1", False),
        (TextGlob(glob="report-*"), "my report-1", False),
        (TextGlob(glob="report-*"), ["report-1"], False),
        (TextGlob(glob="report-*"), None, False),
        (TextGlob(glob="docs/*"), "docs/../secret", False),
        (TextGlob(glob="docs*"), "docs\\..\\secret", False),
        (ExactValue(value=["pytest", "-q"]), ["pytest", "-q"], True),
        (ExactValue(value=["pytest", "-q"]), ["pytest", "-q", "-x"], False),
        (ExactValue(value=1), 1.0, True),
        (ExactValue(value=1), True, False),
        (ExactValue(value=None), None, True),
        (ExactValue(value=None), "", False),
        (PathGlob(glob="docs/**"), None, False),
        (PathGlob(glob="docs/**"), [], False),
        (PathGlob(glob="docs/**"), 1, False),
    ],
)
def test_a_pattern_matches_values_of_its_kind(pattern: Pattern, value: JsonValue, *, matches: bool) -> None:
    assert covers(pattern, value) is matches


@given(path=st.text(alphabet="docs/.\\a\0\n", max_size=12))
def test_no_spelling_leaves_the_folder_that_is_granted(path: str) -> None:
    import posixpath

    if covers(PathGlob(glob="docs/**"), path):
        assert posixpath.normpath(path) == path
        assert path == "docs" or path.startswith("docs/")


globs = st.text(alphabet="dab*?/.[]!\\", min_size=1, max_size=8)
values = st.text(alphabet="dabx/.~\\\n ", max_size=10)


@given(glob=globs, path=values)
def test_no_pattern_at_all_lets_a_path_out_of_the_workspace(glob: str, path: str) -> None:
    if covers(PathGlob(glob=glob), path):
        assert not path.startswith(("/", "~"))
        assert path not in {"", "."}
        assert {"..", ".", ""}.isdisjoint(path.split("/"))
        assert "\\" not in path
        assert "\n" not in path
    if covers(TextGlob(glob=glob), path):
        assert ".." not in path.replace("\\", "/").split("/")


@given(glob=globs, one=values, other=values)
def test_a_list_of_paths_matches_where_each_does(glob: str, one: str, other: str) -> None:
    pattern = PathGlob(glob=glob)
    assert covers(pattern, [one, other]) == (covers(pattern, one) and covers(pattern, other))


@given(args=st.dictionaries(st.sampled_from(["path", "content", "mode"]), values))
def test_an_argument_that_the_grant_does_not_name_is_never_granted(args: dict[str, JsonValue]) -> None:
    call = Action(tool="write_file", args=args, effect=Effect.REVERSIBLE)
    if refused(proposal=proposal(call)) is None:
        assert args.keys() <= GRANT.args.keys()
        assert all(covers(GRANT.args[name], value) for name, value in args.items())


@pytest.mark.parametrize(
    "changes", [{"limit": 0}, {"limit": 1001}, {"reason": " "}, {"author": ""}, {"tool": ""}]
)
def test_a_grant_without_bounds_or_reason_is_none(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Grant.model_validate(GRANT.model_dump() | changes)
