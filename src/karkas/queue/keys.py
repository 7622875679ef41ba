"""The keys of the queue: one table for what a key does, what the bottom line offers and what `?` explains."""

from typing import NamedTuple


class Key(NamedTuple):
    """`verdict` is the verdict that must be possible at the gate for the key to do anything."""

    key: str
    action: str
    label: str
    help: str
    verdict: str | None = None


KEYS = (
    Key(
        "a", "approve", "approve", "approve the one action that is shown; it is performed at once", "approve"
    ),
    Key("c", "choose", "choose", "choose a variant by its number; it is performed at once", "choose"),
    Key(
        "o",
        "adopt",
        "adopt",
        "own a draft: you become its author; at a frame, draw the frame in your editor",
        "adopt",
    ),
    Key("w", "answer", "answer", "write the answer to a question", "answer"),
    Key(
        "e", "edit", "edit", "edit the action in $EDITOR; the edit gets a gate of its own, shown next", "edit"
    ),
    Key("E", "edit_whole", "", "edit the whole action as JSON", "edit"),
    Key(
        "r",
        "reject",
        "reject",
        "reject, with a reason; the proposer may revise it, or never try again",
        "reject",
    ),
    Key("d", "defer", "defer", "defer the gate until a time: 2h, 07:00, 3d", "defer"),
    Key("x", "stop", "stop", "stop the whole run that waits here", "stop"),
    Key("u", "undo", "", "take back what was performed under the gate that is shown, where its tool can"),
    Key("n,j", "next", "next", "the next gate"),
    Key("p,k", "previous", "", "the gate before"),
    Key("pagedown", "page_down", "", "read on"),
    Key("pageup", "page_up", "", "read back"),
    Key("J", "line_down", "", "one line on"),
    Key("K", "line_up", "", "one line back"),
    Key("v", "widen", "", "give the decision the whole screen, and back"),
    Key("m", "morning", "morning", "what happened since you last decided something, and what frees the most"),
    Key(
        "f",
        "filter",
        "",
        "list only irreversible, reversible, frames, questions, put off, or what was decided",
    ),
    Key("z", "zone", "", "list only this gate's zone, and all again"),
    Key("slash", "search", "", "list only gates with this text in their line"),
    Key("space", "mark", "", "mark the gate, to decide several alike ones at once"),
    Key("A", "batch", "", "approve all marked gates, after seeing their list"),
    Key("question_mark", "help", "help", "this page"),
    Key("q", "quit", "quit", "leave; what waits goes on waiting"),
)

NAMES = {"slash": "/", "question_mark": "?", "pagedown": "PgDn", "pageup": "PgUp", "space": "Space"}


def shown(key: str) -> str:
    """The keys as a person reads them."""
    return " ".join(NAMES.get(one, one) for one in key.split(","))


def offered(possible: tuple[str, ...], *, undo: bool, marked: int, frame: bool) -> str:
    """What can be done here, in one line of 80 cells. The key stands before its word."""
    found = [
        f"{shown(key.key.split(',')[0])} {key.label}"
        for key in KEYS
        if key.label and (key.verdict is None or key.verdict in possible)
    ]
    if frame:
        found = ["o draw the frame" if one == "o adopt" else one for one in found]
    if undo:
        found.insert(0, "u take it back")
    if marked:
        found = [one for one in found if one not in {"m morning", "q quit"}]
        found.insert(0, f"A all {marked} marked")
    return "  ".join(found)
