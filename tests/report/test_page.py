"""The report as a page: whole, escaped, the same again."""

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from karkas.policies.budgets import Spent
from karkas.report.choices import Choice
from karkas.report.figures import Figures, GateCounts, RunFigures, ZoneFigures
from karkas.report.page import page
from karkas.report.spending import Cycle
from karkas.storage import RunStatus

BEGIN = datetime(2026, 11, 22, 21, tzinfo=UTC)
HOSTILE = "</text></svg><script>alert(1)</script><img src=x onerror=alert(1)>"


def figures(name: str = "lora", *, cycles: int = 3, zones: int = 1) -> Figures:
    names = [name, *(f"zone-{number}" for number in range(1, zones))]
    spent = Spent(tokens=1_234, model_calls=5, cycles=cycles, sources=9, wall_s=60)
    return Figures(
        since=BEGIN,
        until=BEGIN + timedelta(hours=10),
        now=BEGIN + timedelta(hours=10),
        zones=tuple(
            ZoneFigures(
                zone=one,
                runs={"parked": 1},
                spent=spent,
                claims=7,
                conflicts=1,
                gates=GateCounts(opened=4, approved=3, rejected=1),
                new_claims=6,
                stops={name: 1},
            )
            for one in names
        ),
        runs=tuple(
            RunFigures(
                run=f"r-{number}",
                workflow=name,
                zone=one,
                status=RunStatus.PARKED,
                stop=name,
                spent=spent,
                cost=None,
                taken_up=1,
                broke_off=0,
            )
            for number, one in enumerate(names)
        ),
        cycles=tuple(
            Cycle(
                run=f"r-{at}",
                zone=one,
                at=BEGIN + timedelta(hours=number),
                cycle=number,
                sources=number,
                claims=number,
                new_claims=max(10 - number, 0),
                conflicts=0,
                novelty=0.5,
                tokens=number,
            )
            for at, one in enumerate(names)
            for number in range(1, cycles + 1)
        ),
        gates=GateCounts(opened=4, approved=3, rejected=1),
        by_person={name: 4},
        troubles=(f"run r-1: failed, {name}",),
        resumed=(name,),
        performed=3,
        waits=1,
        put_off=0,
        choices=(Choice(what=name, why=name, gates=2, runs=2, gate="g-1"),),
        spent=spent,
        cost=None,
        tokens=((BEGIN + timedelta(hours=1), 600), (BEGIN + timedelta(hours=2), 1_234)),
    )


class Seen(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_nothing_that_others_wrote_is_markup() -> None:
    seen = Seen(page(figures(HOSTILE), title=HOSTILE))
    assert not {"script", "img"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert seen.tags.count("svg") == 3, "no plot is closed from within"
    words = "".join(seen.words)
    assert words.count("<script>alert(1)</script>") > 5, "it is shown as it is"


def test_what_is_invisible_is_shown_and_what_is_long_is_cut() -> None:
    words = "".join(Seen(page(figures("safe\u202eevil\x1b[31m" + "x" * 5_000))).words)
    assert "\u202e" not in words
    assert "\x1b" not in words
    assert "U+202E" in words
    assert "x" * 450 not in words


def test_it_needs_no_network_and_runs_no_script() -> None:
    text = page(figures())
    assert not re.findall(r"(?:src|href|url)\s*[=(]", text)
    assert "@import" not in text
    addresses = set(re.findall(r"https?://[^\s\"'<]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}, "a name, not an address"
    assert "default-src 'none'" in text


def test_the_same_figures_give_the_same_page() -> None:
    assert page(figures(zones=3)) == page(figures(zones=3))


def test_it_has_a_plot_of_each_kind_where_there_is_something_to_plot() -> None:
    seen = Seen(page(figures()))
    labels = [value for name, value in seen.attributes if name == "aria-label"]
    assert labels == ["New claims by cycle: 1 run", "Tokens over time: 1,234 in all", "Acceptance by zone"]
    none = figures(cycles=0).model_copy(update={"tokens": (), "zones": ()})
    assert "svg" not in Seen(page(none)).tags


@pytest.mark.parametrize("zones", [1, 2, 6, 40])
@pytest.mark.parametrize("cycles", [1, 2, 100])
def test_plots_are_drawn_of_few_and_of_many(zones: int, cycles: int) -> None:
    text = page(figures(zones=zones, cycles=cycles))
    lines = re.findall(r"<(?:path|circle) [^>]*var\(--c\d\)", text)
    assert lines
    assert "nan" not in text.lower().replace("finance", "")


def test_light_dark_and_paper_have_their_colours() -> None:
    text = page(figures())
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]+)"', text)) == set(), "plots take the page's colours"


def test_an_empty_night_says_what_to_do() -> None:
    empty = figures().model_copy(
        update={"zones": (), "runs": (), "cycles": (), "troubles": (), "choices": (), "resumed": ()}
    )
    words = "".join(Seen(page(empty)).words)
    assert "No run was at work in this time" in words
    assert "karkas explore ZONE" in words
    assert "Nothing waits for you" in words
