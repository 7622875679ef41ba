"""The report as one HTML file that needs nothing else: no script, no network, light and dark, and fit to be printed."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from karkas.policies.rendering import visible_line
from karkas.report import charts
from karkas.report.figures import Figures
from karkas.report.prices import money
from karkas.report.text import first_line

LONGEST = 400
"""Characters of what others wrote."""


def page(found: Figures, *, title: str = "karkas") -> str:
    """The same figures give the same page. Everything in it is escaped, and what is invisible is shown."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plots = [
        ("New claims by cycle", charts.new_claims(found)),
        ("Tokens over time", charts.tokens(found)),
        ("Acceptance by zone", charts.acceptance(found)),
    ]
    environment.globals["as_money"] = money
    template = environment.get_template("report.html")
    return template.render(
        found=found,
        title=title,
        first_line=first_line(found.failed, found.stuck),
        plots=[one for one in plots if one[1] is not None],
    )


def _shown(value: object) -> object:
    if type(value) is not str:  # what is Markup was escaped
        return value
    text = visible_line(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
