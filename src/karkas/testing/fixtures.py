"""For pytest: the fixture `project`, and the suite as parametrised tests. Both are imported, no plugin is needed."""

from collections.abc import Callable, Iterator

import pytest

from karkas.testing.bench import Bench, throwaway
from karkas.testing.suite import Check, Setup, Status, Subject, checks_of


@pytest.fixture
def project() -> Iterator[Bench]:
    """An empty throw-away project."""
    with throwaway() as bench:
        yield bench


def conformance(subject: Subject, setup: Setup = Setup()) -> Callable[[Check], None]:  # noqa: B008  it is frozen
    """One test for each check, which pytest finds under the name that it is given, such as `test_announce`.

    What could not be checked is skipped, with the reason.
    """

    @pytest.mark.parametrize("check", [pytest.param(one, id=one.name) for one in checks_of(subject)])
    def test_conforms(check: Check) -> None:
        found = check(subject, setup)
        if found.status is Status.FAILED:
            pytest.fail(f"{check.name} ({check.proves}): {found.why}", pytrace=False)
        if found.status is Status.NOT_CHECKED:
            pytest.skip(found.why)

    return test_conforms
