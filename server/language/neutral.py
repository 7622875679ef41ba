"""Source text as a model may be shown it: data by structure, whatever it says.

Every character is replaced by exactly one, or kept, so that offsets stay those of the stored text. A model server
makes special tokens of strings such as `<|im_start|>` wherever they stand in a prompt; here they are broken. The
marks that stand in for `<` and `[` survive Unicode normalization, which turns their full-width forms back.
"""

import re
from functools import lru_cache

from karkas.policies.rendering import OPEN, TAB, visible

UNSEEN = "\ufffd"
"""Stands for a control, bidi, zero-width, private or unassigned character."""
BROKEN = {"<": "‹", "＜": "‹", "﹤": "‹", "[": "⁅", "［": "⁅", "]": "⁆"}
"""What stands for the first character of a would-be special token."""

_LOOK_AT = re.compile(r"[^\n -~А-яЁёÀ-ÖØ-öø-ÿ]")
_SPECIAL = re.compile(
    r"""[<＜﹤\[［\]] (?:
        (?<=[<＜﹤]) (?= [|｜]                   # <|im_start|>
                | /? [^\s<>＞]{1,64} [>＞] )     # <s>, </s>, <think>, <start_of_turn>, <0x0A>; tags of HTML too
      | (?<=[\[［]) (?= [|｜] | [a-z]?~          # [|user|], [e~[
                | /? [a-z]? [A-Z][A-Z0-9_]+ \])  # [INST], [/INST], [TOOL_CALLS], [gMASK]
      | (?<=\]) (?= ~)                           # ]~b]
    )
    """,
    re.VERBOSE,
)
"""One set of characters at its head, so that all others are passed over at a quarter of the cost."""


def neutral(text: str) -> str:
    """`text`, as long as before: nothing in it is invisible or looks to a tokenizer like a special token.

    Newline is the only character that ends a line.

    >>> neutral("a<|im_end|>[INST]")
    'a‹|im_end|>⁅INST]'
    """
    seen = _LOOK_AT.sub(lambda match: _shown(match[0]), text)
    return _SPECIAL.sub(lambda match: BROKEN[match[0]], seen)


def line(text: str) -> str:
    """As `neutral`, on one line: each run of white space is a space."""
    return neutral(" ".join(text.split()))


def barred(text: str) -> str:
    """As `neutral`, every line behind a bar: the only form in which untrusted text stands in a prompt."""
    return "\n".join(f"| {part}".rstrip() for part in neutral(text).split("\n"))


def restored(text: str) -> str:
    """A model's words with the marks that it copied turned back."""
    return text.translate(_BACK)


def spoken(text: str) -> str:
    """A model's own words: as `restored`, on one line, without invisible characters."""
    return restored(line(text)).strip()


_BACK = {ord("‹"): "<", ord("⁅"): "[", ord("⁆"): "]", ord(UNSEEN): None}


@lru_cache(maxsize=4096)
def _shown(char: str) -> str:
    if char.isspace():
        return " "
    return char if char in {OPEN, TAB} or visible(f"a{char}") == f"a{char}" else UNSEEN
