"""What the sections of a summary promise, and whether a claim keeps it; a claim's facet alone is a guess."""

import re

from karkas.policies.distillates import ClaimMode, Facet
from karkas.server.offline.cues import pattern
from karkas.server.offline.standing import Standing

_ABOUT = 0.5
_ENOUGH_WORDS = 9
_SETTING = re.compile(r"\W*[\w.-]+[`*]*\s*(?:\([^)\n]*\))?\s*(?::|—|–|-)\s")


def belongs(one: Standing) -> bool:
    """Whether it says how parts fit, when to choose, what to set or what goes wrong; docstrings must say so plainly."""
    claim, text = one.claim, one.claim.text
    match claim.facet:
        case Facet.PARAMETER:
            if claim.mode is ClaimMode.CODE and "." in claim.subject and not re.search(r"=\s*-?\d", text):
                return False
            return one.states_value or bool(_SETTING.match(text))
        case Facet.COMPARISON:
            return "package" not in claim.scope or pattern("chooses").search(text) is not None
        case Facet.MECHANISM:
            plain = pattern("plain_act").match(text) is not None and pattern("tells").search(text) is None
            joins = one.joins > 0 and pattern("relates").search(text) is not None
            enough = len(text.split()) >= _ENOUGH_WORDS and not text.startswith("`")
            return "module" not in claim.scope or (
                enough
                and not plain
                and (joins or one.fit >= _ABOUT)
                and (claim.subject.count(".") == 0 or one.fit >= _ABOUT)
            )
        case Facet.LIMITS:
            return "module" not in claim.scope or len(text.split()) >= _ENOUGH_WORDS
        case _:
            return True
