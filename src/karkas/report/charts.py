"""The report's plots, as SVG that stands in the page, in the page's own colours: they follow light and dark."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from markupsafe import Markup

from karkas.policies.rendering import visible_line
from karkas.report.figures import Figures
from karkas.report.spending import Cycle

if TYPE_CHECKING:
    from leather import Chart

COLOURS = tuple(f"var(--c{number})" for number in range(1, 6))
DASHES = ("none", "7 3", "2 3", "9 3 2 3", "4 4")
"""So that lines are told apart on paper, too."""
WIDTH, HEIGHT = 640, 300
LEGEND = 60
"""By so much a legend may stand out, since it is broken as if it began at the very left."""
BAR = 34
BEFORE = timedelta(minutes=1)
"""The first answer; the line of tokens begins there, at nothing."""
TICKS = 12
LONGEST = 24
"""Characters of a name."""


def new_claims(found: Figures) -> Markup | None:
    """New claims of each cycle, a line a run, those with the most first; None where there was no cycle."""
    by_run: dict[str, list[Cycle]] = {}
    for cycle in found.cycles:
        by_run.setdefault(cycle.run, []).append(cycle)
    if not by_run:
        return None
    chart = _chart()
    most = sorted(by_run.values(), key=lambda its: (-sum(one.new_claims for one in its), its[0].run))
    several = len({its[0].zone for its in most}) < len(most)
    for number, its in enumerate(most[: len(COLOURS)]):
        name = its[0].zone or its[0].run
        points = [(one.cycle, one.new_claims) for one in its]
        _line(chart, points, f"{name} {its[0].run}" if several else name, number)
    last = max(one.cycle for one in found.cycles)
    highest = max(one.new_claims for one in found.cycles)
    chart.add_x_scale(0, last)
    chart.add_y_scale(0, _above(highest))
    step = -(-last // TICKS)
    chart.add_x_axis(ticks=list(range(0, last + 1, step)), name="cycle")
    return _svg(chart, f"New claims by cycle: {len(most)} {'run' if len(most) == 1 else 'runs'}", HEIGHT)


def tokens(found: Figures) -> Markup | None:
    """Tokens of all runs together, over time; None where no model was asked."""
    spent = found.tokens
    if not spent or not spent[-1][1]:
        return None
    chart = _chart()
    begin = [(spent[0][0] - BEFORE, 0)]
    points = [(at.astimezone().replace(tzinfo=None), number) for at, number in (*begin, *spent)]
    _line(chart, points, "tokens", 0)
    chart.add_y_scale(0, _above(spent[-1][1]))
    chart.add_x_axis(tick_formatter=lambda value, *_: f"{value:%H:%M}")
    chart.add_y_axis(tick_formatter=lambda value, *_: f"{float(value):,.0f}")
    return _svg(chart, f"Tokens over time: {spent[-1][1]:,} in all", HEIGHT)


def acceptance(found: Figures) -> Markup | None:
    """The share of the proposals that people passed as they were, a bar a zone; None where nobody judged any."""
    shares = [
        (round(100 * one.gates.acceptance), _short(one.zone or "no zone"))
        for one in found.zones
        if one.gates.acceptance is not None
    ]
    if not shares:
        return None
    chart = _chart()
    chart.add_bars(shares, fill_color=COLOURS[0])
    chart.add_x_scale(0, 100)
    chart.add_x_axis(ticks=[0, 25, 50, 75, 100], tick_formatter=lambda value, *_: f"{value} %")
    return _svg(chart, "Acceptance by zone", 90 + BAR * len(shares))


def _chart() -> "Chart":
    import leather
    from leather import theme

    theme.background_color, theme.margin = "none", 0.02
    for name in ("title", "legend", "axis_title", "tick"):
        setattr(theme, f"{name}_font_family", "inherit")
    theme.legend_color = theme.axis_title_color = theme.label_color = "var(--muted)"
    theme.tick_color, theme.zero_color = "var(--line)", "var(--muted)"
    theme.tick_font_size, theme.legend_font_size, theme.axis_title_font_size = 12, 13, 12
    return leather.Chart()


def _line(chart: "Chart", points: Sequence[tuple[Any, int]], name: str, number: int) -> None:
    colour, name = COLOURS[number], _short(name)
    if len(points) == 1:
        chart.add_dots(list(points), name=name, fill_color=colour, radius=5)
    else:
        chart.add_line(list(points), name=name, stroke_color=colour, width=2, stroke_dasharray=DASHES[number])


def _short(name: str) -> str:
    name = visible_line(name)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _above(highest: int) -> int:
    """A round number that is no smaller, for the end of an axis."""
    size = int(10 ** max(len(str(highest)) - 1, 0))
    return next(size * times for times in (1, 2, 4, 5, 6, 8, 10) if size * times >= max(highest, 1))


def _svg(chart: "Chart", label: str, height: int) -> Markup:
    root = ET.Element(
        "svg", {"viewBox": f"0 0 {WIDTH} {height}", "role": "img", "aria-label": label, "class": "plot"}
    )
    root.append(chart.to_svg_group(WIDTH - LEGEND, height))
    # ElementTree has escaped all that is text.
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704
