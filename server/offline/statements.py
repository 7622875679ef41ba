"""Claims prepared for comparison: what each is about, which values it states, what it affirms and denies."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from karkas.policies.distillates import Claim, ClaimMode
from karkas.server.documents import Document
from karkas.server.offline.parameters import Fact, FactRole, facts, identifiers, row_facts, signature_defaults
from karkas.server.offline.sentences import cells
from karkas.server.offline.subjects import key
from karkas.server.offline.words import plain, stem, terms

OWN_SCOPE = ("framework", "package", "module", "class", "dtype", "version", "stated version", "when")
"""Scope that the claim itself sets; where two differ in one of these, they talk about different things."""
_COMPARED = 60
"""Claims about one name that are compared pairwise; a name that more claims mention is no specific subject."""

_PREDICATE = re.compile(
    r"(?P<deny>\b(?:not|cannot|never|no longer|un|in(?=compat))\b|n['’]t\b|\bне\b|\bнельзя\b)?\s*"
    r"(?:(?:be|yet|currently|really|fully|officially|actually|been)\s+){0,2}"
    r"(?P<un>un|in)?(?P<what>support(?:s|ed|ing)?|compatib\w+|works?\b|working|allow(?:s|ed)?|recommend(?:s|ed)?|requir(?:es?|ed)|necessary|needed|possible|available|implement(?:s|ed)|enabled|affects?|restores?|merge[ds]?|combined?|"
    r"поддержива\w+|работа\w+|совместим\w*|рекоменду\w+|требу\w+|возможн\w+|нужн\w+)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One claim. `names` are the keys of its subject and of the identifiers in it."""

    claim: Claim
    path: str
    terms: frozenset[str]
    facts: tuple[Fact, ...]
    names: frozenset[str]
    affirms: frozenset[str]
    """Stems of predicates such as `support`."""
    denies: frozenset[str]

    @property
    def is_code(self) -> bool:
        return self.claim.mode is ClaimMode.CODE

    @property
    def source(self) -> str:
        return self.claim.evidence[0].source


def statements(claims: Sequence[Claim], documents: Sequence[Document]) -> list[Statement]:
    paths = {document.source: document.path for document in documents}
    return [_statement(claim, paths.get(claim.evidence[0].source, "a source")) for claim in claims]


def stated_facts(claim: Claim) -> list[Fact]:
    """What the claim says of values, its table's header included."""
    if claim.mode is ClaimMode.CODE:
        return []
    columns = cells(claim.scope.get("columns", ""))
    return facts(claim.text, claim.subject) + (
        row_facts(cells(claim.text), columns) if len(columns) > 1 else []
    )


def _statement(claim: Claim, path: str) -> Statement:
    names = {key(claim.subject), *map(key, identifiers(claim.text))}
    if claim.mode is ClaimMode.CODE:
        names |= {key(name) for name in signature_defaults(claim.text)}
    text = plain(claim.text)
    affirms: set[str] = set()
    denies: set[str] = set()
    for match in _PREDICATE.finditer(text):
        (denies if match["deny"] or match["un"] else affirms).add(stem(match["what"])[:7])
    return Statement(
        claim=claim,
        path=path,
        terms=frozenset(terms(text)),
        facts=tuple(stated_facts(claim)),
        names=frozenset(names - {""}),
        affirms=frozenset(affirms - denies),
        denies=frozenset(denies),
    )


def pairs(known: Sequence[Statement]) -> Iterator[tuple[Statement, Statement]]:
    """Every two that share a name and do not overlap in their source, once, ordered by where they stand."""
    known = sorted(known, key=lambda one: (one.path, one.claim.evidence[0].start, one.claim.id))
    by_name: dict[str, list[int]] = defaultdict(list)
    for at, statement in enumerate(known):
        versions = {key(fact.name) for fact in statement.facts if fact.role is FactRole.VERSION}
        for name in statement.names | versions:
            by_name[name].append(at)
    found = {pair for places in by_name.values() for pair in combinations(places[:_COMPARED], 2)}
    for first, second in sorted(found):
        if not _overlapping(known[first].claim, known[second].claim):
            yield known[first], known[second]


def _overlapping(one: Claim, other: Claim) -> bool:
    return one.id == other.id or any(
        first.source == second.source and first.start < second.end and second.start < first.end
        for first in one.evidence
        for second in other.evidence
    )


def shared_scope(one: Claim, other: Claim, keys: Sequence[str] = OWN_SCOPE) -> dict[str, str] | None:
    """What both scopes agree in, or None where a key says that they talk about different things."""
    shared: dict[str, str] = {}
    for name in keys:
        first, second = one.scope.get(name), other.scope.get(name)
        if first is None or second is None:
            continue
        if first.lower() != second.lower():
            return None
        shared[name] = first
    return shared
