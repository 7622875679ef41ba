"""Conflict candidates: claims about the same subject in the same scope that cannot both hold.

Only candidates: the label is for the reviewer model and then the person. Every detector compares scopes first, since
without a scope nearly every numeric difference is no conflict.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from karkas.policies.distillates import Claim, ClaimMode, Conflict, ConflictKind, Facet, part_id
from karkas.server.offline.parameters import Fact, FactRole, facts, identifiers, is_number, signature_defaults
from karkas.server.offline.subjects import key
from karkas.server.offline.words import overlap, plain, terms
from karkas.server.protocol import Document

_AT_MOST = 30
_WORST = 0.4
_COMPARED = 60
"""Claims about one name that are compared pairwise; a name that more claims mention is no specific subject."""
_OWN_KEYS = ("framework", "package", "module", "class", "dtype", "version", "stated version", "when")
_PLACE_KEYS = ("page", "section")
_SPECIFIC = 8
"""Code points of an identifier from which on it hardly means two things in one framework."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A claim prepared for comparison."""

    claim: Claim
    path: str
    terms: frozenset[str]
    facts: tuple[Fact, ...]
    names: frozenset[str]
    """Keys of what it is about: its subject and the identifiers in it."""
    polarity: int
    """-1 where it denies, 1 where it affirms."""


@dataclass(frozen=True, slots=True)
class _Found:
    kind: ConflictKind
    detector: str
    score: float
    why: str


Detector = Callable[[Statement, Statement], Iterator[_Found]]

_DENIAL = re.compile(
    r"\b(?:not|cannot|never|no longer|unsupported|incompatible|without|unable|disabled|n['’]t)\b|n['’]t\b|\bне\b|\bнельзя\b|\bневозможно\b|\bбез\b",
    re.IGNORECASE,
)
_EXPANSION = re.compile(r"((?:[A-ZА-Я(][\w-]*\)?[ -](?:of |for |and |to |beYond )?){1,7}[A-ZА-Я][\w-]*)\s*\(\[?([A-Z][A-Za-z0-9-]{1,9})\]?[^)]*\)+|\[?\b([A-Z][A-Za-z0-9-]{1,9})\]?(?:\([^)]*\))? (?:\(|stands for |is short for )([A-Z][\w-]+(?: (?:of |for |and |to |with |representation)?[A-Za-z][\w-]+){1,6})")  # fmt: skip


def conflicts(claims: Sequence[Claim], documents: Sequence[Document]) -> list[Conflict]:
    """Candidates, the likeliest first, at most 30."""
    paths = {document.source: document.path for document in documents}
    statements = [_statement(claim, paths) for claim in claims]
    found: dict[str, Conflict] = {}
    for one, other in _pairs(statements):
        if one.claim.id == other.claim.id or _same_span(one.claim, other.claim):
            continue
        for detect in _DETECTORS:
            for hit in detect(one, other):
                conflict = _conflict(one, other, hit)
                if hit.score >= _WORST and conflict.score > getattr(found.get(conflict.id), "score", 0.0):
                    found[conflict.id] = conflict
    best: dict[frozenset[str], Conflict] = {}
    for conflict in sorted(found.values(), key=lambda conflict: (-conflict.score, conflict.id)):
        best.setdefault(frozenset(conflict.claims), conflict)
    return list(best.values())[:_AT_MOST]


def _statement(claim: Claim, paths: dict[str, str]) -> Statement:
    code = claim.mode is ClaimMode.CODE
    names = frozenset(filter(None, (key(claim.subject), *map(key, identifiers(claim.text)))))
    if code:
        names |= {key(name) for name in signature_defaults(claim.text)}
    return Statement(
        claim=claim,
        path=paths.get(claim.evidence[0].source, claim.evidence[0].source),
        terms=frozenset(terms(claim.text)),
        facts=() if code else tuple(facts(claim.text, claim.subject)),
        names=names,
        polarity=-1 if _DENIAL.search(claim.text) else 1,
    )


def _pairs(statements: Sequence[Statement]) -> Iterator[tuple[Statement, Statement]]:
    """Every two that share a name, once."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for at, statement in enumerate(statements):
        for name in statement.names:
            by_name[name].append(at)
        for fact in statement.facts:
            if fact.role is FactRole.VERSION:
                by_name[key(fact.name)].append(at)
    pairs = {pair for places in by_name.values() for pair in combinations(sorted(set(places))[:_COMPARED], 2)}
    for first, second in sorted(pairs):
        yield statements[first], statements[second]


def _same_span(one: Claim, other: Claim) -> bool:
    first, second = one.evidence[0], other.evidence[0]
    return first.source == second.source and first.start < second.end and second.start < first.end


def shared_scope(one: Claim, other: Claim, keys: Sequence[str] = _OWN_KEYS) -> dict[str, str] | None:
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


def _same_place(one: Claim, other: Claim) -> bool:
    return all(one.scope.get(name) == other.scope.get(name) for name in _PLACE_KEYS[:1])


def _specific(name: str) -> bool:
    return len(name) >= _SPECIFIC and ("_" in name or "." in name or name != name.lower())


def _numeric(one: Statement, other: Statement) -> Iterator[_Found]:
    for first in one.facts:
        for second in other.facts:
            if (
                first.role is not second.role
                or first.role is FactRole.VERSION
                or key(first.name) != key(second.name)
                or not first.name
                or first.unit != second.unit
                or first.value == second.value
                or any(fact.name == first.name and fact.value == first.value for fact in other.facts)
            ):
                continue
            scope = shared_scope(one.claim, other.claim, _OWN_KEYS[:5])
            alike = overlap(one.terms, other.terms)
            if scope is None or not _comparable(first, second):
                continue
            specific = _specific(first.name)
            if not (_same_place(one.claim, other.claim) or specific or alike >= 0.6):
                continue
            if one.claim.scope.get("when") != other.claim.scope.get("when") and alike < 0.45:
                continue
            score = (
                0.45
                + 0.15 * specific
                + 0.35 * alike
                + (0.1 if first.role is FactRole.RESULT else 0.0)
                - (0.0 if scope else 0.1)
            )
            yield _Found(
                ConflictKind.NUMERIC,
                "numeric-role@1",
                score,
                f"{_base(one.path)} gives {first.name} {_role(first)} {_shown(first)}, {_base(other.path)} {_shown(second)}{_within(scope)}",
            )


def _comparable(first: Fact, second: Fact) -> bool:
    return is_number(first.value) == is_number(second.value)


def _copy(one: Statement, other: Statement) -> Iterator[_Found]:
    """One sentence, copied, in which only numbers differ."""
    words_one = frozenset(term for term in one.terms if not term[:1].isdigit())
    words_other = frozenset(term for term in other.terms if not term[:1].isdigit())
    alike = overlap(words_one, words_other)
    numbers_one, numbers_other = _numbers(one.claim.text), _numbers(other.claim.text)
    if (
        alike < 0.7
        or len(words_one) < 5
        or not numbers_one
        or not numbers_other
        or numbers_one == numbers_other
    ):
        return
    if ClaimMode.CODE in {one.claim.mode, other.claim.mode}:
        return
    only_one, only_other = numbers_one - numbers_other, numbers_other - numbers_one
    scope = shared_scope(one.claim, other.claim, _OWN_KEYS[:5])
    if scope is None or not only_one or not only_other:
        return
    calculated = [(a, b) for a in one.facts for b in other.facts if a.role is b.role is FactRole.RESULT]
    if calculated:
        first, second = calculated[0]
        name = one.claim.subject
        why = f"{_base(one.path)} computes {first.shown}, {_base(other.path)} {second.shown}, for {name}{_within(scope)}"
        yield _Found(ConflictKind.NUMERIC, "copy-with-other-number@1", min(1.0, 0.55 + 0.42 * alike), why)
    else:
        why = f"nearly the same sentence, but {_base(one.path)} says {', '.join(sorted(only_one))} and {_base(other.path)} {', '.join(sorted(only_other))}{_within(scope)}"
        yield _Found(ConflictKind.NUMERIC, "copy-with-other-number@1", 0.3 + 0.45 * alike, why)


def _numbers(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"(?<![\w.])\d+(?:[.,]\d+)*(?:e-?\d+)?(?![\w-])", plain(text)))


def _negation(one: Statement, other: Statement) -> Iterator[_Found]:
    if one.polarity == other.polarity or ClaimMode.CODE in {one.claim.mode, other.claim.mode}:
        return
    scope = shared_scope(one.claim, other.claim)
    if scope is None or one.claim.evidence[0].source == other.claim.evidence[0].source:
        return
    alike = overlap(one.terms, other.terms)
    contained = len(one.terms & other.terms) / max(1, min(len(one.terms), len(other.terms)))
    if alike < 0.34 or contained < 0.55 or len(one.terms & other.terms) < 4:
        return
    denies, affirms = (one, other) if one.polarity < 0 else (other, one)
    why = f"{_base(denies.path)} denies what {_base(affirms.path)} affirms about {one.claim.subject}{_within(scope)}"
    yield _Found(ConflictKind.NEGATION, "negation@1", 0.25 + 0.6 * alike, why)


def _definition(one: Statement, other: Statement) -> Iterator[_Found]:
    """One abbreviation, two expansions."""
    for short, long in _expansions(one.claim.text):
        for other_short, other_long in _expansions(other.claim.text):
            first, second = (
                frozenset(terms(long.replace("-", " "))),
                frozenset(terms(other_long.replace("-", " "))),
            )
            if (
                short.lower() != other_short.lower()
                or first == second
                or overlap(first, second) > 0.75
                or not first & second
            ):
                continue
            why = f"{_base(one.path)} reads {short} as “{long}”, {_base(other.path)} as “{other_long}”"
            yield _Found(ConflictKind.DEFINITION, "expansion@1", 0.75 - 0.25 * overlap(first, second), why)


def _expansions(text: str) -> Iterator[tuple[str, str]]:
    for match in _EXPANSION.finditer(plain(text)):
        short = match.group(2) or match.group(3)
        long = match.group(1) or match.group(4)
        initials = "".join(part[0] for part in re.findall(r"[A-Za-z]+", long)).lower()
        if (
            short[0].lower() in initials
            and short.isupper() is not short.islower()
            and len(long.split()) > 1
            or "-" in long
        ):
            yield short, long.strip()


def _version(one: Statement, other: Statement) -> Iterator[_Found]:
    for first in one.facts:
        for second in other.facts:
            if (
                not first.role is second.role is FactRole.VERSION
                or first.name != second.name
                or first.value == second.value
            ):
                continue
            scope = shared_scope(one.claim, other.claim, ("framework", "package"))
            alike = overlap(one.terms, other.terms)
            if (
                scope is None
                or alike < 0.12
                or first.value.startswith(second.value + ".")
                or second.value.startswith(first.value + ".")
            ):
                continue
            why = f"{_base(one.path)} names {first.shown.strip('` ')}, {_base(other.path)} {second.shown.strip('` ')}{_within(scope)}"
            yield _Found(ConflictKind.VERSION, "version@1", 0.42 + 0.5 * alike, why)


def _doc_vs_code(one: Statement, other: Statement) -> Iterator[_Found]:
    code, prose = (one, other) if one.claim.mode is ClaimMode.CODE else (other, one)
    if code.claim.mode is not ClaimMode.CODE or prose.claim.mode is ClaimMode.CODE:
        return
    scope = shared_scope(code.claim, prose.claim, ("package", "framework", "version"))
    if scope is None:
        return
    owner = key(code.claim.subject)
    about = {
        key(prose.claim.subject),
        *map(key, identifiers(prose.claim.text)),
        *(key(value) for value in prose.claim.scope.values()),
    }
    named = owner in about or key(code.claim.scope.get("class", "")) in about - {""}
    for name, value in signature_defaults(code.claim.text).items():
        for fact in prose.facts:
            differs = fact.value.strip("\"'") != value.strip("\"'")
            if (
                fact.role is not FactRole.DEFAULT
                or key(fact.name) != key(name)
                or not differs
                or value == "none"
            ):
                continue
            if is_number(value) != is_number(fact.value) and not {value, fact.value} & {
                "true",
                "false",
                "none",
            }:
                continue
            if not (named or _specific(name)):
                continue
            why = f"{_base(prose.path)} says that {name} defaults to {fact.value}, the code of {code.claim.subject} ({_base(code.path)}) says {value}"
            yield _Found(ConflictKind.DOC_VS_CODE, "doc-vs-code@1", 0.9 if named else 0.7, why)


_DETECTORS: tuple[Detector, ...] = (_copy, _numeric, _negation, _definition, _version, _doc_vs_code)


def _conflict(one: Statement, other: Statement, hit: _Found) -> Conflict:
    ids = sorted((one.claim.id, other.claim.id))
    return Conflict(
        id=part_id("k", hit.kind, *ids),
        kind=hit.kind,
        claims=tuple(ids),
        scope=shared_scope(one.claim, other.claim)
        or shared_scope(one.claim, other.claim, _OWN_KEYS[:2])
        or {},
        detector=hit.detector,
        why=hit.why,
        score=round(max(0.0, min(1.0, hit.score)), 3),
    )


def _base(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _role(fact: Fact) -> str:
    return f"the {fact.role.value}"


def _shown(fact: Fact) -> str:
    return f"{fact.value}{' ' + fact.unit if fact.unit else ''}"


def _within(scope: dict[str, str]) -> str:
    return f" ({', '.join(f'{name} {value}' for name, value in scope.items())})" if scope else ""
