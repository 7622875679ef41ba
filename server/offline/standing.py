"""How much each claim of a distillate matters to a person who reads it for the first time."""

from collections.abc import Sequence
from dataclasses import dataclass

from karkas.policies.distillates import Claim, ClaimMode, Facet, SourceRank
from karkas.server.documents import Document
from karkas.server.offline.cues import choice_cue, heading_cues
from karkas.server.offline.facets import facet_strength
from karkas.server.offline.filler import blemish
from karkas.server.offline.focus import Focus
from karkas.server.offline.parameters import FactRole, signature_defaults
from karkas.server.offline.prominence import prominence, prominence_of
from karkas.server.offline.ranking import relevance, textrank, weights
from karkas.server.offline.signatures import worth
from karkas.server.offline.statements import stated_facts
from karkas.server.offline.subjects import key
from karkas.server.offline.words import terms

_CODE = 0.7
"""How plainly a signature speaks of its parameters."""
_HOMES = ("framework", "package")


@dataclass(frozen=True, slots=True)
class Standing:
    """A claim with what composing needs to know of it."""

    claim: Claim
    score: float
    """About 0..1."""
    terms: frozenset[str]
    subject: str
    """The key of its subject."""
    home: str
    """Framework or package, else the document: what a summary is balanced over."""
    page: str
    joins: float
    """How prominent the other subjects are that it speaks of, added up."""
    fit: float
    """How much it is about the zone, 0..1."""
    states_value: bool
    """Whether it states a default or another value of a parameter."""


def standings(claims: Sequence[Claim], zone: str, documents: Sequence[Document]) -> list[Standing]:
    """In the order of the claims."""
    words = [terms(claim.text) for claim in claims]
    central = textrank(words)
    idf = weights(words)
    asked = [frozenset(terms(zone.replace("-", " ").replace("_", " ")))]
    by_source = {document.source: document for document in documents}
    known = prominence(documents)
    homes = {value for claim in claims for name in _HOMES if (value := claim.scope.get(name))}
    told = {
        term
        for claim in claims
        if claim.facet is Facet.DEFINITION and _of_home(claim, homes)
        for term in terms(claim.text)
    }
    focus = Focus(asked[0], [frozenset(own) for own in words], told)
    weight_of = {key(claim.subject): prominence_of(claim.subject, known) for claim in claims}
    by_words = {
        frozenset(terms(claim.subject)): key(claim.subject) for claim in claims if len(claim.subject) > 1
    }
    found: list[Standing] = []
    for claim, own, weight in zip(claims, words, central, strict=True):
        document = by_source.get(claim.evidence[0].source)
        own_terms = frozenset(own)
        subject = key(claim.subject)
        from_code = document is not None and document.rank is SourceRank.CODE
        fit = focus.fit(own_terms | frozenset(terms(claim.subject.replace("_", " "))))
        others = {
            name for parts, name in by_words.items() if parts and parts <= own_terms and name != subject
        }
        score = (
            0.26 * (_CODE if claim.mode is ClaimMode.CODE else facet_strength(claim.facet, claim.text))
            + 0.20 * weight
            + (0.34 if claim.facet is Facet.PARAMETER else 0.22) * weight_of[subject]
            + 0.10 * relevance(own_terms | frozenset(terms(claim.subject)), asked, idf)
            + 0.08 * (1 - (document.rank.weight if document else 7) / 7)
            + 0.06 * min(2, len(claim.evidence) - 1)
            + _use(claim)
            + 0.12 * _announced(claim)
            - 0.15 * (claim.text.startswith("|") and claim.facet is not Facet.PARAMETER)
            - 0.08 * (not claim.text.endswith((".", "|", ")")) or claim.text[:1].islower())
            + (0.16 * fit if from_code else 0.0)
            - 0.04 * ("Async" in claim.subject)
            - 0.05 * max(0, claim.scope.get("module", "").count(".") - 1)
            - (0.0 if claim.mode is ClaimMode.CODE else 0.5 * blemish(claim.text))
        )
        home = next(
            (claim.scope[name] for name in _HOMES if name in claim.scope), document.path if document else ""
        )
        joins = sum(sorted((weight_of[name] for name in others), reverse=True)[:4])
        page = claim.scope.get("page", "")
        states = bool(signature_defaults(claim.text)) if claim.mode is ClaimMode.CODE else _states(claim)
        found.append(Standing(claim, score, own_terms, subject, home, page, joins, fit, states))
    return found


def _of_home(claim: Claim, homes: set[str]) -> bool:
    return key(claim.subject) in {key(home) for home in homes}


def _states(claim: Claim) -> bool:
    """Whether it names a parameter and what it is set to; a class whose text says `default` names none."""
    named = claim.subject.split(".")[-1][:1].islower() or "module" not in claim.scope
    return claim.text.startswith("|") or any(
        named or fact.name != claim.subject for fact in stated_facts(claim)
    )


def _announced(claim: Claim) -> bool:
    """Whether the page or section is about this facet, as `Choosing a method` is about comparison."""
    heading = heading_cues()[claim.facet]
    return any(heading.search(claim.scope.get(name, "")) for name in ("page", "section"))


def _use(claim: Claim) -> float:
    """What makes a claim of its facet useful: a stated default, help in choosing."""
    match claim.facet:
        case Facet.PARAMETER:
            if claim.mode is ClaimMode.CODE:
                return 0.4 * worth(claim.text) - 0.1 * ("." in claim.subject)
            return 0.12 * any(fact.role is FactRole.DEFAULT for fact in stated_facts(claim))
        case Facet.COMPARISON:
            return 0.12 * bool(choice_cue("helps").search(claim.text)) - 0.18 * bool(
                choice_cue("boasts").search(claim.text)
            )
        case _:
            return 0.0
