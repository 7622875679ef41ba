import pytest
from hypothesis import given
from hypothesis import strategies as st

from karkas.policies.routing import path_matches, path_touches, route, topic_in
from karkas.policies.zones import ControlLevel, Scope, Stage, Zone, ZoneState, strictest


def state(name: str, level: ControlLevel, scope: Scope) -> ZoneState:
    zone = Zone(name=name, understanding=5, scope=scope)
    return ZoneState(zone=zone, level=level, stage=Stage.FRAMED, scope=scope, reasons=())


levels = st.sampled_from(ControlLevel)
scopes = st.builds(
    Scope,
    paths=st.lists(st.sampled_from(["src/**", "docs", "*.md", "a/b"])).map(tuple),
    tools=st.lists(st.sampled_from(["write_*", "run_command", "*"])).map(tuple),
    topics=st.lists(st.sampled_from(["adapter", "ранг", "learning rate"])).map(tuple),
)
states = st.lists(st.tuples(levels, scopes), max_size=5).map(
    lambda some: [state(f"z{index}", *one) for index, one in enumerate(some)]
)
asked = st.fixed_dictionaries(
    {
        "text": st.sampled_from(["", "Tune the adapters", "поднять ранги", "fix learning_rates"]),
        "paths": st.lists(
            st.sampled_from(["src/x.py", "README.md", "./src/../docs/a", "/etc/passwd", "a/b/c"])
        ),
        "tools": st.lists(st.sampled_from(["write_file", "run_command"])),
        "named": st.lists(st.sampled_from(["z0", "z1", "ghost"])),
    }
)


@given(states, asked)
def test_the_strictest_zone_touched_wins(some: list[ZoneState], task: dict[str, object]) -> None:
    found = route(some, **task)  # type: ignore[arg-type]
    by_name = {one.zone.name: one for one in some}
    if not found.touches:
        assert found.level is ControlLevel.DRAFT_ONLY
    assert not any(by_name[name].level.stricter_than(found.level) for name in found.zones)
    if set(task["named"]) <= by_name.keys():  # type: ignore[call-overload]
        assert found.level is strictest(by_name[name].level for name in found.zones)
    else:
        assert found.level is ControlLevel.DRAFT_ONLY


@given(states, asked, levels, scopes)
def test_another_zone_or_another_touch_never_loosens(
    some: list[ZoneState], task: dict[str, object], level: ControlLevel, scope: Scope
) -> None:
    before = route(some, **task)  # type: ignore[arg-type]
    after = route([*some, state("extra", level, scope)], **task)  # type: ignore[arg-type]
    assert set(before.zones) <= set(after.zones)
    if before.touches:
        assert not before.level.stricter_than(after.level)
    more = {**task, "paths": [*task["paths"], "src/y.py"], "tools": ["run_command", *task["tools"]]}  # type: ignore[misc]
    assert set(before.zones) <= set(route(some, **more).zones)  # type: ignore[arg-type]


@given(st.sampled_from(["src/train/lora.py", "src", "src/a b/ü.txt"]), st.data())
def test_no_way_of_writing_a_path_avoids_its_zone(path: str, data: st.DataObject) -> None:
    trick = data.draw(
        st.sampled_from(
            [
                lambda p: f"./{p}",
                lambda p: f"docs/../{p}",
                lambda p: p.replace("/", "//"),
                lambda p: p.replace("/", "/./"),
                lambda p: f"{p}/",
                lambda p: p.upper(),
                lambda p: f"/{p}",
                lambda p: f"../{p}",
                lambda p: f"src/../../{p}",
                lambda p: p.replace("/", "\\"),
                lambda p: p.replace("s", "ſ"),
                lambda p: p.replace("r", "r\u200b"),
                lambda p: p + "\0",
            ]
        )
    )
    zone = state("code", ControlLevel.DRAFT_ONLY, Scope(paths=("src/**",)))
    free = state("free", ControlLevel.AUTONOMOUS, Scope(tools=("*",)))
    found = route([zone, free], paths=[trick(path)], tools=["write_file"])
    assert "code" in found.zones
    assert found.level is ControlLevel.DRAFT_ONLY


@pytest.mark.parametrize(
    ("path", "glob", "matches"),
    [
        ("src/a/b.py", "src/**", True),
        ("src/a/b.py", "src", True),
        ("src/a/b.py", "src/*.py", False),
        ("src/b.py", "src/*.py", True),
        ("src/b.py", "src/?.py", True),
        ("src/a/b.py", "**/b.py", True),
        ("b.py", "**/b.py", True),
        ("deep/in/b.py", "*.py", True),
        ("source/b.py", "src/**", False),
        ("lib/src/b.py", "src/**", False),
        ("lib/src/b.py", "/src", False),
        ("src/v1/x", "src/v[0-9]/x", True),
        ("src/vx/x", "src/v[!0-9]/x", True),
        ("src/v1/x", "src/v[!0-9]/x", False),
        ("any/thing", ".", True),
        ("any/thing", "**", True),
        ("a+b/c", "a+b", True),
    ],
)
def test_globs_match_as_git_reads_them(path: str, glob: str, *, matches: bool) -> None:
    assert path_matches(path, glob) is matches
    assert path_touches(path, glob) is matches


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", "x\0y"])
def test_a_path_that_leaves_the_workspace_is_trusted_nowhere_and_touches_everything(path: str) -> None:
    assert not path_matches(path, "**")
    assert path_touches(path, "only/this")


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        ("adapter", "merge the Adapters"),
        ("adapters", "the adapter"),
        ("library", "which libraries?"),
        ("api", "two APIs"),
        ("адаптер", "список адаптеров"),
        ("настройка", "в настройках сервера"),
        ("обучение", "после обучения"),
        ("учёт", "для учета"),
        ("learning rate", "set learning_rate=3"),
        ("learning rate", "learning-rates"),
        ("lora config", "LoraConfig(r=8)"),
        ("qlora", "QLoRA"),
        ("lora", "lora_alpha"),
        ("c++", "write C++ code"),
        ("r", "r=8"),
        ("adapter", "ａｄａｐｔｅｒ"),
        ("adapter", "adap\u00adter, ad\u200bapter"),
    ],
)
def test_a_topic_is_found_in_any_ending_case_and_joining(topic: str, text: str) -> None:
    assert topic_in(topic, text)


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        ("rust", "trust"),
        ("rank", "frankly"),
        ("r", "run it raw"),
        ("a b", "a then b"),
        ("", "x"),
        (" -", "x - y"),
    ],
)
def test_a_topic_is_not_found_inside_other_words(topic: str, text: str) -> None:
    assert not topic_in(topic, text)


@given(st.text(max_size=30), st.text(max_size=30))
def test_routing_takes_any_text(topic: str, text: str) -> None:
    topic_in(topic, text)
    path_touches(text, topic)


def test_a_tool_in_other_case_still_touches_its_zone() -> None:
    zone = state("shell", ControlLevel.DRAFT_ONLY, Scope(tools=("Run_*",)))
    assert route([zone], tools=["run_command"]).zones == ("shell",)


def test_a_trusted_folder_may_be_named_absolutely() -> None:
    assert path_matches("/srv/docs/a.md", "/srv/docs/**")
    assert not path_matches("/srv/docs/../keys/a.md", "/srv/docs/**")
    assert not path_matches("/srv/docs/a.md", "srv/docs/**")
