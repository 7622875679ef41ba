"""Every passage that could be a claim, with the score by which it competes inside its facet."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from karkas.policies.distillates import Facet, SourceRank
from karkas.server.documents import BlockKind, Document
from karkas.server.offline.cues import pattern
from karkas.server.offline.docstrings import argument, docstring_facet
from karkas.server.offline.facets import FacetCue, facet_of
from karkas.server.offline.filler import blemish, is_filler, is_fragment
from karkas.server.offline.focus import Focus
from karkas.server.offline.introductions import introduction
from karkas.server.offline.parameters import Fact, FactRole, facts, identifiers, row_facts, signature_defaults
from karkas.server.offline.prominence import prominence, prominence_of
from karkas.server.offline.ranking import relevance, salience, weights
from karkas.server.offline.sentences import Passage, cells, passages
from karkas.server.offline.signatures import worth
from karkas.server.offline.subjects import key, subject_of
from karkas.server.offline.words import overlap, terms
from karkas.server.questions import Distil

_WEAKEST = 0.3
_WEAKEST_IN_CODE = 0.4
"""A candidate that scores less is not worth a person's time, even where there is room for it."""
_ALIKE = 0.5
_CONTESTED = 0.2
"""What a claim gains where another document says nearly the same with another value: a person must see both."""
_COMPARED = 40
_ENTRY = 0.45
"""How plainly an entry of a docstring's list of arguments speaks to it."""
_NUMBERS_MATTER = frozenset({FactRole.DEFAULT, FactRole.RESULT, FactRole.RECOMMENDED, FactRole.VERSION})
_HOMES = ("framework", "package")
_PRIVATE = re.compile(r"_(?!_init__)")
_ASIDE = re.compile(r"/(?:v\d|deprecated|legacy|compat|testing|plugins?)/|pytest_plugin|/mypy", re.IGNORECASE)
_ABOUT_THE_PROJECT = re.compile(
    r"contribut|change(?:s|log)?\b|history|release|code_of_conduct|security|telemetry|authors", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A passage with everything that selection needs."""

    passage: Passage
    facet: Facet
    subject: str
    terms: frozenset[str]
    values: frozenset[str]
    """Stated values, numbers, and whether it denies: two passages that differ here are never the same claim."""
    default: str
    """The default that it states, or nothing."""
    score: float


@dataclass(frozen=True, slots=True)
class _Zone:
    """What all documents together say about what matters."""

    name: frozenset[str]
    focus: Focus
    queries: list[frozenset[str]]
    idf: dict[str, float]
    known: dict[str, float]
    homes: frozenset[str]


def candidates(question: Distil, documents: Sequence[Document]) -> list[Ranked]:
    """In reading order, each scored 0..1; what is no claim or scores too little is left out."""
    cut = [passages(index, document) for index, document in enumerate(documents)]
    words = [[terms(passage.text) for passage in one] for one in cut]
    name = frozenset(terms(question.zone.replace("-", " ").replace("_", " ")))
    opened = [introduction(document, own) for document, own in zip(documents, cut, strict=True)]
    told = {term for one in opened if one is not None for term in terms(one.text)}
    zone = _Zone(
        name=name,
        focus=Focus(name, [frozenset(own) for one in words for own in one], told),
        queries=[asked for query in question.queries if (asked := frozenset(terms(query))) != name],
        idf=weights([own for one in words for own in one]),
        known=prominence(documents),
        homes=frozenset(
            key(document.meta[name]) for document in documents for name in _HOMES if name in document.meta
        ),
    )
    found: list[Ranked] = []
    for index, (document, own, own_words) in enumerate(zip(documents, cut, words, strict=True)):
        first = opened[index]
        if first is not None:
            found.append(_introducing(replace(first, document=index), document))
        central = salience([passage.text for passage in own], own_words)
        about = frozenset(terms(f"{document.title} {document.path}"))
        for passage, passage_words, weight in zip(own, own_words, central, strict=True):
            private = document.rank is SourceRank.CODE and any(map(_PRIVATE.match, passage.headings[1:]))
            if passage.anaphoric or private or is_fragment(passage.text, passage.kind):
                continue
            if _aside(passage, document):
                continue
            cue = _cue(passage, passage_words, zone)
            if cue is None or is_filler(passage.text, passage.kind, cue.facet, passage.columns):
                continue
            one = _ranked(
                passage,
                cue,
                own=frozenset(passage_words),
                weight=weight,
                document=document,
                about=about,
                zone=zone,
            )
            code = document.rank is SourceRank.CODE
            if one.score >= (_WEAKEST_IN_CODE if code else _WEAKEST):
                found.append(one)
    return _contested(found)


def _aside(passage: Passage, document: Document) -> bool:
    """Whether it stands where a document tells its history or, in a package's README, speaks of the project."""
    if any(map(pattern("news_heading").match, passage.headings)):
        return True
    return document.rank is SourceRank.PACKAGE_DOCS and any(
        map(pattern("project_heading").match, passage.headings)
    )


def _cue(passage: Passage, words: Sequence[str], zone: _Zone) -> FacetCue | None:
    if passage.kind is BlockKind.SIGNATURE:
        speaks = worth(passage.quote)
        return FacetCue(Facet.PARAMETER, 0.4 + 0.5 * speaks) if speaks else None
    cue = facet_of(passage.text, passage.headings, passage.kind, passage.columns, opens=passage.opens)
    if passage.kind is not BlockKind.DOCSTRING:
        return cue
    if cue is None:
        if not argument(passage):
            return None
        cue = FacetCue(Facet.PARAMETER, _ENTRY)
    owner = terms(" ".join(passage.headings[1:]).replace("_", " "))
    facet = docstring_facet(passage, cue.facet, zone.focus.fit([*words, *owner]))
    return FacetCue(facet, cue.strength) if facet is not None else None


def _introducing(passage: Passage, document: Document) -> Ranked:
    package = document.meta["package"]
    named = subject_of(passage, document)
    return Ranked(
        passage=passage,
        facet=Facet.DEFINITION,
        subject=named if key(named) == key(package) else package,
        terms=frozenset(terms(passage.text)),
        values=frozenset(),
        default="",
        score=1.0,
    )


def _ranked(
    passage: Passage,
    cue: FacetCue,
    *,
    own: frozenset[str],
    weight: float,
    document: Document,
    about: frozenset[str],
    zone: _Zone,
) -> Ranked:
    subject = subject_of(passage, document)
    name = key(subject)
    stated = facts(passage.text) + row_facts(cells(passage.text), passage.columns)
    owner = frozenset(terms(" ".join(passage.headings[-2:]).replace("_", " ")))
    context = own | about | frozenset(terms(" ".join(passage.headings)))
    fit = 0.5 * relevance(context, [zone.name], zone.idf) + 0.5 * relevance(own, [zone.name], zone.idf)
    defines = cue.facet is Facet.DEFINITION
    score = (
        0.34 * cue.strength
        + 0.14 * min(1.0, weight)
        + 0.12 * _concreteness(passage, stated)
        + (0.17 if cue.facet is Facet.PARAMETER else 0.1) * prominence_of(subject, zone.known)
        + 0.08 * fit
        + 0.13 * (relevance(own, zone.queries, zone.idf) if zone.queries else fit)
        + (0.16 * zone.focus.fit(own | owner) if document.rank is SourceRank.CODE else 0.0)
        - (0.05 * max(0, document.meta.get("module", "").count(".") - 1))
        - 0.08 * (passage.kind is BlockKind.SIGNATURE and _is_method(passage))
        + 0.07 * (1 - document.rank.weight / 7)
        + 0.05 * (1 - passage.place)
        + 0.06 * (defines and bool(name) and name in key(document.title))
        + 0.16 * (defines and name in zone.homes)
        # A worked calculation is rare, anyone can check it, and where one page errs it disagrees with another.
        + 0.18 * any(fact.role is FactRole.RESULT for fact in stated)
        - 0.12 * (defines and passage.kind is BlockKind.DOCSTRING and not passage.opens)
        - 0.10 * (defines and passage.text.startswith("The "))
        - 0.04 * ("Async" in subject)  # the twin of something that is named without it
        - (0.0 if passage.kind is BlockKind.SIGNATURE else 0.45 * blemish(passage.text))
        - 0.20 * bool(_ABOUT_THE_PROJECT.search(document.path))
        - 0.12 * bool(_ASIDE.search(document.path))
    )
    return Ranked(
        passage=passage,
        facet=cue.facet,
        subject=subject,
        terms=own,
        values=_values(passage, stated),
        default=next((fact.value for fact in stated if fact.role is FactRole.DEFAULT), ""),
        score=max(0.0, min(1.0, score)),
    )


def _is_method(passage: Passage) -> bool:
    """Whether it is called on an object: whoever makes the object meets its constructor first."""
    return len(passage.headings) > 1 and "__init__" not in passage.quote


def _concreteness(passage: Passage, stated: Sequence[Fact]) -> float:
    """How much of the passage a reader could check or set, 0..1."""
    if passage.kind is BlockKind.SIGNATURE:
        return worth(passage.quote)
    strength = 0.6 * any(fact.role in _NUMBERS_MATTER for fact in stated)
    strength += 0.4 * any(fact.role is FactRole.RESULT for fact in stated)
    return min(1.0, strength + 0.15 * min(3, len(identifiers(passage.text))) + 0.15 * bool(stated))


def _values(passage: Passage, stated: Sequence[Fact]) -> frozenset[str]:
    if passage.kind is BlockKind.SIGNATURE:
        return frozenset(f"{name}={value}" for name, value in signature_defaults(passage.text).items())
    numbers = {word.strip(".,;:()*`") for word in passage.text.split() if word[:1].isdigit()}
    denies = {"not"} if pattern("denial").search(passage.text) else set()
    return frozenset(fact.value for fact in stated) | numbers | denies


def _contested(found: list[Ranked]) -> list[Ranked]:
    by_subject: dict[str, list[int]] = defaultdict(list)
    for at, one in enumerate(found):
        if one.values:
            by_subject[key(one.subject)].append(at)
    raised: set[int] = set()
    for places in by_subject.values():
        for first, second in combinations(places[:_COMPARED], 2):
            if found[first].passage.document != found[second].passage.document:
                raised |= {first, second} if _contradict(found[first], found[second]) else set()
    return [
        replace(one, score=min(1.0, one.score + _CONTESTED)) if at in raised else one
        for at, one in enumerate(found)
    ]


def _contradict(one: Ranked, other: Ranked) -> bool:
    if one.default and other.default:
        return one.default != other.default and {one.default, other.default} != {"none", "false"}
    return one.values != other.values and overlap(one.terms, other.terms) >= _ALIKE
