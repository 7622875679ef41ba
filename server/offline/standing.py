"""How much each claim of a distillate matters to a person who reads it for the first time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from karkas.policies.distillates import Claim, Facet
from karkas.server.offline.facets import facet_strength
from karkas.server.offline.filler import blemish
from karkas.server.offline.parameters import FactRole, facts
from karkas.server.offline.ranking import relevance, textrank, weights
from karkas.server.offline.subjects import key
from karkas.server.offline.words import terms
from karkas.server.protocol import Document


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
    mentions: frozenset[str]
    """Keys of other claims' subjects that it speaks of."""


def standings(claims: Sequence[Claim], zone: str, documents: Sequence[Document]) -> list[Standing]:
    """In the order of the claims."""
    words = [terms(claim.text) for claim in claims]
    central = textrank(words)
    idf = weights(words)
    asked = [frozenset(terms(zone.replace("-", " ").replace("_", " ")))]
    by_source = {document.source: document for document in documents}
    subjects = Counter(key(claim.subject) for claim in claims)
    by_words = {
        frozenset(terms(claim.subject)): key(claim.subject) for claim in claims if len(claim.subject) > 1
    }
    found: list[Standing] = []
    for claim, own, weight in zip(claims, words, central, strict=True):
        document = by_source.get(claim.evidence[0].source)
        own_terms = frozenset(own)
        subject = key(claim.subject)
        mentions = frozenset(
            name for parts, name in by_words.items() if parts and parts <= own_terms and name != subject
        )
        stated = any(fact.role in {FactRole.DEFAULT, FactRole.RESULT} for fact in facts(claim.text))
        page = claim.scope.get("page", "")
        score = (
            0.28 * facet_strength(claim.facet, claim.text)
            + 0.22 * weight
            + 0.14 * relevance(own_terms | frozenset(terms(claim.subject)), asked, idf)
            + 0.10 * min(3, subjects[subject] - 1) / 3
            + 0.10 * (key(page) == subject or subject in {key(word) for word in page.split()})
            + 0.08 * (1 - (document.rank.weight if document else 7) / 7)
            + 0.06 * min(2, len(claim.evidence) - 1)
            + 0.12 * (stated and claim.facet is Facet.PARAMETER)
            - 0.5 * blemish(claim.text)
        )
        home = (
            claim.scope.get("framework") or claim.scope.get("package") or (document.path if document else "")
        )
        found.append(Standing(claim, score, own_terms, subject, home, page, mentions))
    return found
