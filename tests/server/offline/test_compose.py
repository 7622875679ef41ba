from collections.abc import Callable

from karkas.policies.distillates import Claim
from karkas.server.documents import Document
from karkas.server.offline.compose import compose
from karkas.server.offline.review import review
from karkas.server.questions import Compose, Composed, Review

Page = Callable[..., Document]
Claims = Callable[..., list[Claim]]

ORDER = [
    "What it is",
    "How the parts fit",
    "What to choose when",
    "Which parameters matter, and their defaults",
    "Limits and traps",
    "Where the sources disagree",
]
TOPICS = ("scheduler", "cache", "router", "logger", "planner", "sampler", "loader", "writer")


def _documents(page: Page) -> list[Document]:
    text = (
        "# The {0}\n\nThe Big-{0} is a component that handles every {0} request of the server.\n\n"
        "Internally, the {0} stores each request in a queue and sends it to a worker.\n\n"
        "The `{0}_size` option defaults to {1} on every worker.\n\n"
        "The {0} is not supported for requests that share their {0} state.\n\n"
        "Compared to the old {0}, this one is faster than any other for small requests."
    )
    pages = [
        page(text.format(topic, number), f"{topic}.md", framework="x") for number, topic in enumerate(TOPICS)
    ]
    other = "# Tuning\n\nThe `scheduler_size` option defaults to 99 on every worker."
    return [*pages, page(other, "tuning.md", framework="x")]


def _composed(known: list[Claim], documents: list[Document]) -> Composed:
    found = review(Review(zone="server", claims=tuple(known), today="2026-11-22"), documents)
    question = Compose(
        zone="server", claims=tuple(known), conflicts=found.conflicts, open_questions=found.open_questions
    )
    return compose(question, documents)


def test_sections_come_in_reading_order_and_hold_known_claims(page: Page, claims: Claims) -> None:
    documents = _documents(page)
    known = claims(*documents, zone="server")
    summary = _composed(known, documents).summary
    assert [section.title for section in summary] == ORDER
    ids = {claim.id for claim in known}
    for section in summary:
        assert 1 <= len(section.claims) <= 10
        assert set(section.claims) <= ids
        assert len(set(section.claims)) == len(section.claims)


def test_what_disagrees_is_shown_side_by_side(page: Page, claims: Claims) -> None:
    documents = _documents(page)
    known = claims(*documents, zone="server")
    by_id = {claim.id: claim.text for claim in known}
    told = [by_id[one] for one in _composed(known, documents).summary[-1].claims]
    assert any("defaults to 99" in text for text in told)
    assert any("defaults to 0" in text for text in told)


def test_the_map_has_three_levels_and_room_for_a_person_to_edit(page: Page, claims: Claims) -> None:
    documents = _documents(page)
    known = claims(*documents, zone="server")
    areas = _composed(known, documents).areas
    ids = {claim.id for claim in known}
    rules = [rule for area in areas for mechanism in area.mechanisms for rule in mechanism.rules]
    nodes = len(areas) + sum(len(area.mechanisms) for area in areas) + len(rules)
    assert 1 <= len(areas) <= 6
    assert rules
    assert nodes <= 60
    assert all(rule.title and len(rule.title) <= 72 and set(rule.claims) <= ids for rule in rules)
    assert "cache_size is 1 by default" in {rule.title for rule in rules}


def test_a_disputed_rule_names_both_claims_and_its_open_question(page: Page, claims: Claims) -> None:
    documents = _documents(page)
    areas = _composed(claims(*documents, zone="server"), documents).areas
    rules = [rule for area in areas for mechanism in area.mechanisms for rule in mechanism.rules]
    disputed = [rule for rule in rules if "scheduler_size" in rule.title]
    assert disputed
    assert all(len(rule.claims) == 2 and rule.unknowns for rule in disputed)


def test_the_same_claims_give_the_same_map(page: Page, claims: Claims) -> None:
    documents = _documents(page)
    known = claims(*documents, zone="server")
    assert _composed(known, documents) == _composed(known, documents)


def test_no_claims_give_no_prose() -> None:
    assert _composed([], []) == Composed(summary=(), areas=())
