"""Questions that the screen asks. Enter alone answers none of them, and Esc leaves everything as it is."""

from collections.abc import Mapping
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from karkas.policies.rendering import visible
from karkas.queue.blocks import Block
from karkas.queue.page import Page

ESCAPE = "Esc: nothing is decided"


class Ask(ModalScreen[str | None]):
    """What all of them look like: a box at the bottom, above the keys."""

    DEFAULT_CSS = """
    Ask, Letter, Words { align: center bottom; background: $background 0%; }
    Ask Vertical, Letter Vertical, Words Vertical {
        height: auto; max-height: 80%; border: heavy $foreground; padding: 0 1; background: $background;
    }
    Ask Static, Letter Static, Words Static { height: auto; }
    Words Input { border: none; height: 1; padding: 0; background: $boost; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "leave", "leave")]

    def action_leave(self) -> None:
        self.dismiss(None)


class Letter(Ask):
    """Asks for one typed letter out of a few."""

    def __init__(self, question: str, letters: Mapping[str, str]) -> None:
        super().__init__()
        self._question, self._letters = question, letters

    def compose(self) -> ComposeResult:
        offered = "\n".join(f"  {letter}  {meaning}" for letter, meaning in self._letters.items())
        with Vertical():
            yield Static(visible(f"{self._question}\n{offered}\n  {ESCAPE}"), markup=False)

    def on_key(self, event: events.Key) -> None:
        if event.character in self._letters:
            event.stop()
            self.dismiss(event.character)


class Words(Ask):
    """Asks for words. Enter sends what was typed, and nothing where nothing was."""

    def __init__(
        self, question: str, *, hint: str = "", ending: str = f"Enter sends what you typed. {ESCAPE}"
    ) -> None:
        super().__init__()
        self._question, self._hint, self._ending = question, hint, ending

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(visible(self._question), markup=False)
            yield Input(placeholder=self._hint, compact=True)
            yield Static(self._ending, markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.value.strip():
            self.dismiss(event.value)


class Consent(ModalScreen[bool]):
    """A page to read and to say yes to, by a letter. Esc says nothing."""

    DEFAULT_CSS = """
    Consent { background: $background; }
    Consent Page { height: 1fr; }
    Consent Static { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape", "say(False)", "leave"),
        ("y", "say(True)", "yes"),
        ("pagedown", "down", "down"),
        ("pageup", "up", "up"),
    ]

    def __init__(self, yes: str, blocks: tuple[Block, ...]) -> None:
        super().__init__()
        self._yes, self._blocks = yes, blocks

    def compose(self) -> ComposeResult:
        yield Page("consent")
        yield Static(visible(f"y {self._yes}   PgDn PgUp read   {ESCAPE}"), markup=False)

    def on_mount(self) -> None:
        page = self.query_one(Page)
        page.show(self._blocks)
        page.focus()

    def action_say(self, yes: bool) -> None:  # noqa: FBT001 - a binding calls it
        self.dismiss(yes)

    def action_down(self) -> None:
        self.query_one(Page).scroll_page_down(animate=False)

    def action_up(self) -> None:
        self.query_one(Page).scroll_page_up(animate=False)


class Reading(ModalScreen[None]):
    """A page to read: the help, the morning. Any of its keys closes it, and none decides anything."""

    DEFAULT_CSS = """
    Reading { background: $background; }
    Reading Page { height: 1fr; }
    Reading Static { height: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q,m,question_mark,enter", "leave", "leave"),
        ("pagedown,space,down,j", "down", "down"),
        ("pageup,up,k", "up", "up"),
    ]

    def __init__(self, title: str, blocks: tuple[Block, ...]) -> None:
        super().__init__()
        self._title, self._blocks = title, blocks

    def compose(self) -> ComposeResult:
        yield Static(self._title, markup=False)
        yield Page("reading")
        yield Static("PgDn PgUp read   Esc back to the queue", markup=False)

    def on_mount(self) -> None:
        page = self.query_one(Page)
        page.show(self._blocks)
        page.focus()

    def action_leave(self) -> None:
        self.dismiss(None)

    def action_down(self) -> None:
        self.query_one(Page).scroll_page_down(animate=False)

    def action_up(self) -> None:
        self.query_one(Page).scroll_page_up(animate=False)
