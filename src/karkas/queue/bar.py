"""A line of the screen that is karkas's own: above, between and below what is shown."""

from textual.widgets import Static

from karkas import cells
from karkas.policies.rendering import visible_once


class Bar(Static):
    """One line of ours. Data in it was made visible, and none of it is markup."""

    def say(self, text: str, right: str = "") -> None:
        """`text` in as many lines as the bar may have; with `right`, in one, and an ellipsis tells what is missing."""
        text = visible_once(text.replace("\n", " "))
        if right and self.size.width:
            text = f"{cells.fit(text, max(self.size.width - len(right) - 1, 1))} {right}"
        self.update(text)
