"""A word that a person types before something counts: Enter alone, and the end of input, are no yes."""

import sys

from karkas.policies.errors import UsageError


def typed(word: str, *, to: str) -> None:
    """Returns when the person at the terminal typed `word` in full; else `UsageError`, and nothing was decided."""
    if not sys.stdin.isatty():
        raise UsageError(
            f"nobody is at a terminal to type {word!r}, so nothing was decided; a script gives --yes"
        )
    try:
        given = input(f"type {word} to {to}, anything else decides nothing: ").strip()
    except EOFError:
        raise UsageError("there was no answer, so nothing was decided") from None
    if given != word:
        raise UsageError(f"{given!r} is not {word!r}, so nothing was decided")
