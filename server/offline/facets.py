"""Which facet of a zone a sentence speaks to, by the cues in `cues.toml`.

A facet's strength is its strongest cue and a third of each further one. The heading above a sentence, or the header
of a table, counts as well.
"""

import re
from dataclasses import dataclass

from karkas.policies.distillates import Facet
from karkas.server.documents import BlockKind
from karkas.server.offline.cues import Cues, column_cues, facet_cues, heading_cues, is_russian
from karkas.server.offline.words import plain

_HEADING_WEIGHT = 0.2
_SIGNATURE_STRENGTH = 0.6
_ROW_STRENGTH = 0.65
_OPENING_STRENGTH = 0.6
_NOUN_PHRASE = re.compile(
    r"(?:An?|The|This (?:class|is)|Abstract|Base|\w+ (?:that|which|for|of|class|strategy|error|exception|to)\b)"
)
_PRECEDENCE = (
    Facet.COMPARISON,
    Facet.PARAMETER,
    Facet.LIMITS,
    Facet.DEFINITION,
    Facet.MECHANISM,
    Facet.PROCEDURE,
)
"""Which of two equally strong facets says more about a sentence."""


@dataclass(frozen=True, slots=True)
class FacetCue:
    """The facet that a sentence speaks to most, and how plainly: 0..1."""

    facet: Facet
    strength: float


def facet_of(
    text: str,
    headings: tuple[str, ...] = (),
    kind: BlockKind = BlockKind.PARAGRAPH,
    columns: tuple[str, ...] = (),
    *,
    opens: bool = False,
) -> FacetCue | None:
    """The strongest facet, or None where nothing in the sentence itself says so.

    >>> facet_of("The timeout defaults to 5 seconds.").facet.value
    'parameter'
    """
    if kind is BlockKind.SIGNATURE:
        return FacetCue(Facet.PARAMETER, _SIGNATURE_STRENGTH)
    header = " | ".join(columns)
    for facet, pattern in column_cues().items():
        if header and pattern.search(header):
            return FacetCue(facet, _ROW_STRENGTH)
    if opens:
        return FacetCue(Facet.DEFINITION if _NOUN_PHRASE.match(text) else Facet.MECHANISM, _OPENING_STRENGTH)
    words = plain(text)
    strengths = {
        facet: _strength(words, cues) for facet, cues in facet_cues(russian=is_russian(words)).items()
    }
    if not any(strengths.values()):
        return None
    for heading in headings[-1:]:
        for facet, pattern in heading_cues().items():
            if strengths[facet] and pattern.search(heading):
                strengths[facet] += _HEADING_WEIGHT
    best = max(_PRECEDENCE, key=lambda facet: (round(strengths[facet], 6), -_PRECEDENCE.index(facet)))
    return FacetCue(best, min(1.0, strengths[best]))


def _strength(text: str, cues: Cues) -> float:
    """The strongest cue, and a third of each further one."""
    weights = sorted((weight for weight, pattern in cues if pattern.search(text)), reverse=True)
    return weights[0] + sum(weights[1:]) / 3 if weights else 0.0


def facet_strength(facet: Facet, text: str) -> float:
    """How plainly a sentence speaks to this facet, 0..1."""
    return min(1.0, _strength(plain(text), facet_cues()[facet]))
