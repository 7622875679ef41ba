from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karkas.agents.frame import draft, draft_text, frame_text, load_frame, rules_for
from karkas.policies.distillates import Distillate
from karkas.policies.errors import FrameError
from karkas.policies.frames import Frame, Rule, check_frame
from karkas.policies.zones import ControlLevel
from karkas.server.questions import MapArea, MapMechanism, MapRule

PIN = "a" * 64


def distillate(subject: str = "learning rate", text: str = "Raise r before lr.") -> Distillate:
    def claim(name: str, quote: str) -> dict[str, Any]:
        return {
            "id": name,
            "facet": "limits",
            "subject": subject,
            "scope": {"framework": "peft", "page": "LoRA"},
            "text": quote,
            "mode": "verbatim",
            "evidence": [{"source": "s-1", "start": 0, "end": len(quote), "quote": quote}],
            "support": {"label": "verbatim", "checked_by": "span-match@1"},
            "confidence": {"level": "low", "why": "one source"},
        }

    source = {
        "id": "s-1",
        "kind": "file",
        "locator": {"path": "docs/lora.md"},
        "rank": "note",
        "status": "used",
        "bytes": 1,
        "sha256_raw": PIN,
    }
    conflict = {"kind": "numeric", "detector": "n@1", "why": "4 here, 8 there", "score": 0.5}
    return Distillate.model_validate(
        {
            "id": "d-1",
            "zone": "lora",
            "engine": {"kind": "extractive", "name": "offline", "version": "1"},
            "honesty": {"abstractive": False, "unsupported_claims": 0, "dropped_claims": 0},
            "run": {"id": "r", "cycles": 1, "stop_reason": "saturated", "budget": {}, "spent": {}},
            "sources": [source],
            "claims": [claim("c-1", text), claim("c-2", "The ratio is 8."), claim("c-3", "Alone.")],
            "conflicts": [
                {"id": "k-free", "claims": ["c-2", "c-3"], **conflict},
                {"id": "k-ruled", "claims": ["c-1", "c-2"], **conflict},
            ],
            "open_questions": [{"id": "q-1", "text": "Which r?", "raised_by": "w-1", "would_settle": "docs"}],
        }
    )


def areas(title: str = "Raise r before lr") -> tuple[MapArea, ...]:
    rule = MapRule(title=title, claims=("c-1", "c-invented"), unknowns=("q-1", "q-invented"))
    return (
        MapArea(title="Adapters", mechanisms=(MapMechanism(title="Rank", claims=("c-3",), rules=(rule,)),)),
        MapArea(title=" \n", mechanisms=()),
    )


def drafted(found: Distillate | None = None, title: str = "Raise r before lr") -> str:
    return draft_text(found or distillate(), PIN, areas(title), author="Ada", level=ControlLevel.PROPOSE_ONLY)


def test_a_draft_asks_everywhere_and_names_what_its_rules_are_about() -> None:
    frame = draft(distillate(), PIN, areas(), author="Ada", level=ControlLevel.PROPOSE_ONLY)
    assert [(node.id, node.level, node.parent) for node in frame.nodes] == [
        ("n1", 1, None),
        ("n1.1", 2, "n1"),
        ("n1.1.1", 3, "n1.1"),
        ("n2", 1, None),
    ]
    rule = frame.nodes[2]
    assert (rule.rule, rule.topics, rule.claims, rule.unknowns) == (
        Rule.ASK,
        ("learning rate",),
        ("c-1",),
        ("q-1",),
    )


def test_a_draft_lacks_nothing_but_the_decisions_under_its_rules() -> None:
    frame = load_frame(drafted())
    (fault,) = check_frame(frame, distillate(), PIN)
    assert "conflict k-ruled" in fault


def test_a_draft_of_no_map_still_has_the_zone_to_begin_with() -> None:
    frame = draft(distillate(), PIN, (), author="Ada", level=ControlLevel.DRAFT_ONLY)
    assert [node.title for node in frame.nodes] == ["lora"]


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from(
    [
        "a\nnodes: []",
        "# x\r- {id: evil}",
        "\u2028- {id: evil}",
        "\x85level: autonomous",
        "'}, {",
        '"',
        "- [",
        "a: b #c",
    ]
)


@given(texts, texts, texts)
def test_the_text_for_the_editor_reads_as_the_draft_whatever_the_sources_say(
    subject: str, text: str, title: str
) -> None:
    found = distillate(subject, text)
    expected = draft(found, PIN, areas(title), author="Ada", level=ControlLevel.PROPOSE_ONLY)
    written = drafted(found, title)
    assert load_frame(written) == expected
    assert all(character.isprintable() or character == "\n" for character in written)


def test_the_text_for_the_editor_shows_what_each_claim_says_and_where() -> None:
    text = drafted()
    assert "# c-1: “Raise r before lr.” (docs/lora.md; peft)" in text
    assert all(f"  {rule} " in text for rule in Rule)
    assert all(f"  {level} " in text for level in ControlLevel)
    ruled, free = (
        text.index("k-ruled, numeric (must be decided"),
        text.index("k-free, numeric (under no rule"),
    )
    assert ruled < free
    assert "c-2: “The ratio is 8.”" in text[ruled:free]


def test_a_judged_conflict_comes_with_what_the_reviewer_said_of_it() -> None:
    found = distillate()
    free, ruled = found.conflicts
    ruled = ruled.model_copy(update={"label": "7", "reviewer": "reviewer/llm 1 (qwen): One is per batch."})
    text = drafted(found.model_copy(update={"conflicts": (free, ruled)}))
    assert "#   step 7 of 10: reviewer/llm 1 (qwen): One is per batch." in text
    assert "step" not in drafted()


def test_a_conflict_is_decided_by_taking_away_a_comment_sign_and_two_choices() -> None:
    text = drafted().replace(
        '# - {conflict: k-ruled, verdict: c-1 | c-2 | both | neither, reason: "..."}',
        '- {conflict: k-ruled, verdict: c-1, reason: "measured it"}',
    )
    assert check_frame(load_frame(text), distillate(), PIN) == ()


def test_a_decision_that_was_not_chosen_is_a_fault() -> None:
    text = drafted().replace("# - {conflict: k-ruled", "- {conflict: k-ruled")
    (fault,) = check_frame(load_frame(text), distillate(), PIN)
    assert "must be one of c-1, c-2, both, neither" in fault


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("rule: ask", "rule: perhaps", r"line \d+: nodes.3.rule: .*'allow', 'ask' or 'forbid'"),
        ("level: propose-only", "level: free", r"line \d+: level: "),
        ("author: Ada", "author: ' '", r"line \d+: author: "),
        ("zone: lora", "zone: lora\nzone: lora", r"line \d+: the key 'zone' stands there twice"),
        ("zone: lora", "zone: lora\nzoen: x", r"zoen: Extra inputs"),
    ],
)
def test_a_mistake_in_the_editor_is_named_with_its_line(before: str, after: str, said: str) -> None:
    text = drafted()
    assert before in text
    with pytest.raises(FrameError, match=said):
        load_frame(text.replace(before, after, 1))


@pytest.mark.parametrize("text", ["", "# only comments\n", "frame", "[]"])
def test_an_empty_file_is_no_frame(text: str) -> None:
    with pytest.raises(FrameError):
        load_frame(text)


def framed(*rules: dict[str, Any]) -> Frame:
    return Frame.model_validate(
        {
            "zone": "lora",
            "distillate": {"id": "d-1", "sha256": PIN},
            "author": "Ada",
            "level": "autonomous",
            "nodes": [
                {"id": "n1", "level": 1, "title": "a"},
                {"id": "n2", "level": 2, "title": "b", "parent": "n1"},
                *(
                    {"id": f"r{n}", "level": 3, "title": "t", "parent": "n2", **one}
                    for n, one in enumerate(rules)
                ),
            ],
        }
    )


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ({}, True),
        ({"tools": ["write_*"]}, True),
        ({"tools": ["WRITE_file"]}, True),
        ({"tools": ["run_command"]}, False),
        ({"paths": ["src/**"]}, True),
        ({"paths": ["docs/**"]}, False),
        ({"topics": ["learning rate"]}, True),
        ({"topics": ["optimizer", "learning rates"]}, True),
        ({"topics": ["optimizer"]}, False),
        ({"tools": ["write_file"], "paths": ["src/**"], "topics": ["learning rate"]}, True),
        ({"tools": ["write_file"], "paths": ["src/**"], "topics": ["optimizer"]}, False),
        ({"tools": ["run_command"], "paths": ["src/**"]}, False),
    ],
)
@pytest.mark.parametrize("word", list(Rule))
def test_a_rule_holds_where_each_of_its_selectors_is_met(
    rule: dict[str, Any], word: Rule, *, holds: bool
) -> None:
    frame = framed({**rule, "rule": word})
    found = rules_for(frame, tool="write_file", paths=["./docs/../src/x.py"], task="Set the learning_rate")
    assert [one for _, one in found] == ([word] if holds else [])


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/x", "docs/../../x"])
def test_a_path_out_of_the_workspace_escapes_no_rule(path: str) -> None:
    frame = framed({"rule": "forbid", "paths": ["src/**"]})
    assert [rule for _, rule in rules_for(frame, tool="t", paths=[path], task="")] == [Rule.FORBID]


def test_an_action_that_does_not_tell_its_paths_is_asked_about_by_rules_on_paths() -> None:
    frame = framed(*({"rule": word, "paths": ["src/**"]} for word in Rule))
    found = rules_for(frame, tool="run_command", paths=(), task="")
    assert [(node.id, rule) for node, rule in found] == [("r1", Rule.ASK), ("r2", Rule.ASK)]


selectors = st.fixed_dictionaries(
    {
        "rule": st.sampled_from([str(rule) for rule in Rule]),
        "tools": st.lists(st.sampled_from(["write_*", "run_command"]), max_size=1),
        "paths": st.lists(st.sampled_from(["src/**", "docs"]), max_size=1),
        "topics": st.lists(st.sampled_from(["rank", "ранг"]), max_size=1),
    }
)


@given(
    st.lists(selectors, max_size=4),
    selectors,
    st.lists(st.sampled_from(["src/a", "docs/b"]), min_size=1),
    st.data(),
)
def test_a_rule_or_a_path_more_never_takes_a_rule_away(
    rules: list[dict[str, Any]], more: dict[str, Any], paths: list[str], data: st.DataObject
) -> None:
    task = data.draw(st.sampled_from(["tune ranks", "поднять ранги", "other"]))
    before = [rule for _, rule in rules_for(framed(*rules), tool="write_file", paths=paths, task=task)]
    after = [rule for _, rule in rules_for(framed(*rules, more), tool="write_file", paths=paths, task=task)]
    assert after[: len(before)] == before
    wider = rules_for(framed(*rules), tool="write_file", paths=[*paths, "src/new"], task=task)
    assert set(before) <= {rule for _, rule in wider}


def test_agents_are_told_rules_claims_questions_and_decisions() -> None:
    frame = load_frame(
        drafted().replace(
            '# - {conflict: k-ruled, verdict: c-1 | c-2 | both | neither, reason: "..."}',
            "- {conflict: k-ruled, verdict: c-2, reason: measured}",
        )
    )
    told = frame_text(frame, distillate())
    assert "[ask] Raise r before lr (topics: learning rate)" in told
    assert "c-1: “Raise r before lr.” (docs/lora.md; peft)" in told
    assert "not known: Which r?" in told
    assert "Decided on k-ruled: c-2, since measured\n    c-2: “The ratio is 8.”" in told
    bare = frame_text(frame, None)
    assert "[ask] Raise r before lr" in bare
    assert "The ratio" not in bare
    changed = frame.model_copy(update={"nodes": tuple(frame.nodes[:-1])})
    assert frame.nodes[-1].title not in frame_text(changed, None)
    assert frame_text(frame, None) == bare


@given(texts, texts)
def test_no_source_adds_a_line_to_what_agents_are_told(subject: str, text: str) -> None:
    def told(found: Distillate) -> str:
        frame = draft(found, PIN, areas(), author="Ada", level=ControlLevel.PROPOSE_ONLY)
        return frame_text(frame, found)

    assert told(distillate(subject, text)).count("\n") == told(distillate()).count("\n")
    assert len(told(distillate(subject, text)).splitlines()) == len(told(distillate()).splitlines())
