"""Zones out of installed packages: READMEs and docstrings instead of documentation."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from karkas.policies.distillates import Claim, Facet, SourceRank
from karkas.server.documents import Document
from karkas.server.offline.compose import compose
from karkas.server.offline.distil import distil
from karkas.server.questions import Compose, Composed, Distil, Distilled

Page = Callable[..., Document]
Claims = Callable[..., list[Claim]]


@pytest.fixture
def readme(page: Page) -> Page:
    def build(text: str, package: str) -> Document:
        found = page(text, f"pkg:{package}/README", rank=SourceRank.PACKAGE_DOCS, package=package)
        return replace(found, kind="package")

    return build


def _distilled(*documents: Document, zone: str = "retries") -> Distilled:
    return distil(Distil(zone=zone, at_most=60), documents)


def _composed(known: list[Claim], documents: list[Document], zone: str = "retries") -> Composed:
    return compose(Compose(zone=zone, claims=tuple(known), conflicts=(), open_questions=()), documents)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "# again\n\nFor more information see the docs.\n\nAgain is a library that repeats calls.",
            "Again is a library that repeats calls.",
        ),
        (
            "# again\n\n*again* is *the* way to repeat calls in Python:",
            "*again* is *the* way to repeat calls in Python",
        ),
        (
            "# again\n\nThis package repeats a call until it succeeds.",
            "This package repeats a call until it succeeds.",
        ),
        (
            "# Async call repeating framework\n\n- Has no dependencies of its own.",
            "Async call repeating framework",
        ),
    ],
)
def test_a_readme_introduces_its_package(readme: Page, text: str, said: str) -> None:
    document = readme(text, "again")
    first = _distilled(document).claims[0]
    assert (first.facet, first.subject.lower(), first.text) == (Facet.DEFINITION, "again", said)
    start = first.cites[0].start or 0
    assert document.text[start : start + len(first.cites[0].quote)] == first.cites[0].quote


def test_a_package_without_a_telling_readme_is_introduced_by_its_top_module(
    readme: Page, module: Page
) -> None:
    top = module('"""A lock on a file that works on all platforms."""', package="locked", module="locked")
    top = replace(top, blocks=tuple(replace(block, headings=("locked",)) for block in top.blocks))
    found = _distilled(readme("# locked\n\nFor more information see the docs.", "locked"), top)
    assert [(claim.subject, claim.text) for claim in found.claims] == [
        ("locked", "A lock on a file that works on all platforms.")
    ]


def test_the_summary_opens_with_one_sentence_for_each_package(readme: Page, claims: Claims) -> None:
    documents = [
        readme(
            f"# {name}\n\n{name.title()} is a library that repeats {what}.\n\n{name.title()} is a tool to {what}.",
            name,
        )
        for name, what in (("again", "calls"), ("oncemore", "requests"), ("encore", "songs"))
    ]
    known = claims(*documents, zone="calls")
    section = _composed(known, documents, "calls").summary[0]
    subjects = [claim.subject for wanted in section.claims for claim in known if claim.id == wanted]
    assert subjects[0].lower() == "again"
    assert {subject.lower() for subject in subjects[:3]} == {"again", "oncemore", "encore"}


@pytest.mark.parametrize(
    "docstring",
    [
        ":raises RuntimeError: if the portal is not running when it is called",
        ":return: a future that resolves when the task is done",
        "Raised if the connection to the proxy cannot be established.",
        "21.2.0 The colors keyword now defaults to True on all systems.",
        "Return the current retry.",
        ":param url: The address of the server.",
        "For example if the user failed to pass a header to the request.",
    ],
)
def test_docstrings_that_tell_nothing_of_their_own_are_no_claims(module: Page, docstring: str) -> None:
    document = module(f'class Retry:\n    """Calls it again."""\n    """{docstring}"""', module="pkg.module")
    assert docstring not in {claim.text for claim in _distilled(document).claims}


def test_a_parameter_shows_its_default_without_the_rest_of_the_signature(module: Page) -> None:
    document = module(
        "class Retry:\n    def __init__(self, call, attempts: int = 3, log=None) -> None:",
        module="pkg.module",
    )
    (claim,) = _distilled(document).claims
    assert (claim.facet, claim.subject, claim.text) == (Facet.PARAMETER, "Retry", "attempts: int = 3")


def test_what_is_about_the_zone_comes_first(module: Page, claims: Claims) -> None:
    socket = module(
        "class Socket:\n    def __init__(self, timeout: int = 7) -> None:", "b/socket.py", module="b.socket"
    )
    retry = module(
        "class Retry:\n    def __init__(self, timeout: int = 7) -> None:", "a/retry.py", module="a.retry"
    )
    known = claims(socket, retry, zone="retries")
    sections = _composed(known, [socket, retry]).summary
    by_id = {claim.id: claim.subject for claim in known}
    assert next(by_id[one] for section in sections for one in section.claims) == "Retry"


def test_like_parameters_of_different_things_are_different_claims(module: Page) -> None:
    text = "class {}:\n    def __init__(self, timeout: int = 7) -> None:"
    documents = [
        module(text.format(name), f"{name}.py", module=f"a.{name}") for name in ("Socket", "Session")
    ]
    assert {claim.subject for claim in _distilled(*documents).claims} == {"Socket", "Session"}


def test_a_query_that_repeats_the_zone_asks_nothing_more(module: Page) -> None:
    document = module("class Retry:\n    def __init__(self, timeout: int = 7) -> None:", module="a.retry")
    asked = distil(Distil(zone="retries", queries=("retries",), at_most=60), [document])
    assert asked == _distilled(document)


def test_a_zone_of_packages_has_an_area_for_each(module: Page, claims: Claims) -> None:
    documents = [
        module(
            f"class {name.title()}:\n    def __init__(self, {name}_timeout: int = {number}) -> None:",
            f"{name}/core.py", module=f"{name}.core", package=name,
        )
        for number, name in enumerate(("again", "encore"), start=5)
    ]  # fmt: skip
    areas = _composed(claims(*documents, zone="again"), documents, "again").areas
    assert [area.title.split(":")[0] for area in areas] == ["again", "encore"]


def test_in_a_mixed_zone_packages_are_areas_beside_the_topics_of_the_rest(
    page: Page, module: Page, claims: Claims
) -> None:
    code = module(
        "class Again:\n    def __init__(self, timeout: int = 7) -> None:", "again/core.py",
        module="again.core", package="again",
    )  # fmt: skip
    notes = page("# Backoff\n\nThe `backoff` option defaults to 3 seconds between two calls.")
    areas = _composed(claims(code, notes), [code, notes]).areas
    assert sorted(area.title for area in areas) == ["Backoff", "again"]
