import pytest

from karkas.server.offline.signatures import told, worth


@pytest.mark.parametrize(
    ("signature", "shown"),
    [
        ("def wait(self, low: float = 2, high=None) -> int:", "low: float = 2"),
        (
            "def __init__(  # noqa: PLR0913, FBT001\n    self,\n    path: str,\n    timeout: float = -1,\n) -> None:",
            "timeout: float = -1",
        ),
        ("def get(url, *, names=('a', 'b'), retries: int = 3):", "names=('a', 'b'), retries: int = 3"),
        ("def run(self, job: str) -> None:", "def run(self, job: str) -> None:"),
        ("TIMEOUT = Timeout(read=5.0)", "TIMEOUT = Timeout(read=5.0)"),
    ],
)
def test_what_is_shown_are_the_parameters_with_a_default_that_tells_something(
    signature: str, shown: str
) -> None:
    assert signature[slice(*told(signature))] == shown


def test_a_long_list_of_parameters_is_cut_to_what_can_be_read() -> None:
    many = ", ".join(f"option_{number}: int = {number}" for number in range(2, 40))
    start, end = told(f"def run({many}) -> None:")
    assert 20 < end - start < 160


def test_parameters_that_are_tuned_are_worth_more_than_others() -> None:
    assert worth("def get(url, timeout: float = 5.0):") > worth("def get(url, pretty: bool = True):") > 0


@pytest.mark.parametrize(
    "signature",
    [
        "def _get(timeout: float = 5.0):",
        "def get(_timeout: float = 5.0):",
        "def get(url, headers=None, tags=()):",
        "FMT_PICKLED: Final = 1",
        'MAX_ITEMS_MESSAGE = "max_items is deprecated and will be removed"',
        "is_ready: bool = False",
    ],
)
def test_what_no_caller_sets_is_worth_nothing(signature: str) -> None:
    assert worth(signature) == 0
