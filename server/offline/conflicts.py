"""Conflict candidates: claims about the same subject in the same scope that cannot both hold.

Only candidates: the label is for the reviewer model and then the person. Every detector compares scopes first, since
without a scope nearly every numeric difference is no conflict.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from karkas.policies.distillates import Claim, Conflict, ConflictKind, part_id
from karkas.server.documents import Document
from karkas.server.offline.parameters import Fact, FactRole, identifiers, is_number, signature_defaults
from karkas.server.offline.statements import OWN_SCOPE, Statement, pairs, shared_scope, statements
from karkas.server.offline.subjects import key
from karkas.server.offline.words import overlap, plain, terms

_AT_MOST = 30
_WORST = 0.45
_WIDE = ("framework", "package", "module", "class", "dtype")
"""Scope for values: a condition (`when`) is compared by the words of the sentences instead."""
_SPECIFIC = 8
"""Code points of an identifier from which on it hardly means two things in one framework."""
_COPIED = 0.7
_COPY_WORDS = 5
_ALIKE = 0.34
_SHARED = 4
_CONTAINED = 0.55

_SHORT = r"\[?(?P<short>[A-Z][A-Za-z0-9-]{1,9})\]?"
_SMALL = r"(?:of|for|and|to|with)"
_EXPANSIONS = (
    re.compile(
        rf"(?P<long>(?:[A-Z][\w-]*[ -](?:{_SMALL}[ -])?){{1,6}}[A-Z][\w-]*)\s*\({_SHORT}\s*(?:\([^)]*\))?\)"
    ),
    re.compile(
        rf"{_SHORT}(?: stands for | is short for |:? \()(?P<long>[A-Z][\w-]+(?: (?:{_SMALL} )?[A-Z][\w-]+){{1,6}})"
    ),
)


@dataclass(frozen=True, slots=True)
class _Hit:
    kind: ConflictKind
    detector: str
    score: float
    why: str
    about: str = ""
    """Name and values: further pairs of claims with the same add nothing."""


Detector = Callable[[Statement, Statement], Iterator[_Hit]]


def conflicts(
    claims: Sequence[Claim], documents: Sequence[Document], *, fresh: Collection[str] | None = None
) -> list[Conflict]:
    """Candidates, the likeliest first, at most 30; the likeliest alone where several detectors name the same claims.

    With `fresh`, only those of which one claim at least is named there, by id.
    """
    found: list[tuple[Conflict, str]] = []
    for one, other in pairs(statements(claims, documents)):
        if fresh is not None and one.claim.id not in fresh and other.claim.id not in fresh:
            continue
        for detect in _DETECTORS:
            for hit in detect(one, other):
                found.append((_conflict(one.claim, other.claim, hit), hit.about or hit.why))  # noqa: PERF401
    kept: list[Conflict] = []
    seen: set[str] = set()
    for conflict, about in sorted(found, key=lambda pair: (-pair[0].score, pair[0].id)):
        same = {about, " ".join(conflict.claims)}
        if conflict.score >= _WORST and not seen & same:
            kept.append(conflict)
        seen |= same
    return kept[:_AT_MOST]


def _copied(one: Statement, other: Statement) -> Iterator[_Hit]:
    """One sentence, copied, in which only numbers differ."""
    words_one, words_other = _without_numbers(one), _without_numbers(other)
    alike = overlap(words_one, words_other)
    numbers_one, numbers_other = _numbers(one.claim.text), _numbers(other.claim.text)
    only_one, only_other = numbers_one - numbers_other, numbers_other - numbers_one
    scope = shared_scope(one.claim, other.claim, _WIDE)
    if alike < _COPIED or len(words_one) < _COPY_WORDS or not only_one or not only_other:
        return
    if scope is None or one.is_code or other.is_code:
        return
    calculated = [
        (first, second) for first in one.facts for second in other.facts
        if first.role is second.role is FactRole.RESULT and first.value != second.value
    ]  # fmt: skip
    if calculated:
        first, second = calculated[0]
        why = f"{_base(one)} computes {first.shown}, {_base(other)} {second.shown},"
        why += f" for {one.claim.subject}{_within(scope)}"
        yield _Hit(ConflictKind.NUMERIC, "copy-with-other-number@1", 0.55 + 0.42 * alike, why)
    elif one.source != other.source:
        why = (
            f"nearly the same sentence about {one.claim.subject}, but {_base(one)} says {_and(only_one)}"
            f" and {_base(other)} {_and(only_other)}{_within(scope)}"
        )
        yield _Hit(ConflictKind.NUMERIC, "copy-with-other-number@1", 0.3 + 0.45 * alike, why)


def _without_numbers(one: Statement) -> frozenset[str]:
    return frozenset(term for term in one.terms if not term[:1].isdigit())


def _numbers(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"(?<![\w.])\d+(?:[.,]\d+)*(?:e-?\d+)?(?![\w-])", plain(text)))


def _valued(one: Statement, other: Statement) -> Iterator[_Hit]:
    """The same name in the same role (default, minimum, ...) and unit with another value."""
    for first in one.facts:
        for second in other.facts:
            if first.role is not second.role or first.role is FactRole.VERSION or not _differ(first, second):
                continue
            if any(fact.role is first.role and fact.value == first.value for fact in other.facts):
                continue
            scope = shared_scope(one.claim, other.claim, _WIDE)
            alike = overlap(one.terms, other.terms)
            same_page = all(
                one.claim.scope.get(name) == other.claim.scope.get(name) for name in ("page", "section")
            )
            specific = len(first.name) >= _SPECIFIC and (
                "_" in first.name or first.name != first.name.lower()
            )
            if scope is None or not (specific or same_page or alike >= _COPIED):
                continue
            otherwise = one.claim.scope.get("when") != other.claim.scope.get("when")
            unset = "none" in {first.value, second.value}
            score = (
                0.5
                + 0.15 * specific
                + 0.3 * alike
                - 0.15 * (otherwise and alike < _ALIKE)
                - 0.15 * unset
                - 0.1 * (not scope)
            )
            why = f"{_base(one)} gives {first.role.value} {_shown(first)} for {first.name},"
            why += f" {_base(other)} {_shown(second)}{_within(scope)}"
            about = f"{key(first.name)} {first.role} {sorted((first.value, second.value))}"
            yield _Hit(ConflictKind.NUMERIC, "value-in-role@1", score, why, about)


def _differ(first: Fact, second: Fact) -> bool:
    values = {first.value, second.value}
    comparable = is_number(first.value) == is_number(second.value) or "none" in values
    named = bool(first.name) and key(first.name) == key(second.name)
    return (
        named
        and comparable
        and values != {"none", "false"}
        and first.unit == second.unit
        and first.value.strip("\"'") != second.value.strip("\"'")
    )


def _denied(one: Statement, other: Statement) -> Iterator[_Hit]:
    """One denies the predicate (support, work, require, ...) that the other affirms, of the same things."""
    predicates = (one.denies & other.affirms) | (other.denies & one.affirms)
    scope = shared_scope(one.claim, other.claim)
    shared = one.terms & other.terms
    if not predicates or scope is None or one.source == other.source or one.is_code or other.is_code:
        return
    alike = overlap(one.terms, other.terms)
    contained = len(shared) / max(1, min(len(one.terms), len(other.terms)))
    if (
        alike < _ALIKE
        or contained < _CONTAINED
        or len(shared) < _SHARED
        or key(one.claim.subject) not in other.names
    ):
        return
    no, yes = (one, other) if one.denies & other.affirms else (other, one)
    why = f"{_base(no)} denies “{min(predicates)}” where {_base(yes)} affirms it,"
    why += f" about {no.claim.subject}{_within(scope)}"
    yield _Hit(ConflictKind.NEGATION, "negation@1", 0.3 + 0.6 * alike, why)


def _expanded(one: Statement, other: Statement) -> Iterator[_Hit]:
    """One abbreviation, two expansions."""
    if one.source == other.source:
        return
    for short, long in _expansions(one.claim.text):
        for other_short, other_long in _expansions(other.claim.text):
            first, second = _expansion_terms(long), _expansion_terms(other_long)
            if short.lower() != other_short.lower() or first == second or not first & second:
                continue
            why = f"{_base(one)} reads {short} as “{long}”, {_base(other)} as “{other_long}”"
            yield _Hit(ConflictKind.DEFINITION, "expansion@1", 0.8 - 0.3 * overlap(first, second), why)


def _expansions(text: str) -> Iterator[tuple[str, str]]:
    for pattern in _EXPANSIONS:
        for match in pattern.finditer(plain(text)):
            yield match["short"], match["long"].strip()


def _expansion_terms(long: str) -> frozenset[str]:
    return frozenset(terms(long.replace("-", " ")))


def _versioned(one: Statement, other: Statement) -> Iterator[_Hit]:
    """The same thing is said to need two versions."""
    if key(one.claim.subject) != key(other.claim.subject):
        return
    scope = shared_scope(one.claim, other.claim, ("framework", "package", "class"))
    for first in one.facts:
        for second in other.facts:
            if (
                not first.role is second.role is FactRole.VERSION
                or first.name != second.name
                or scope is None
            ):
                continue
            if (
                first.value == second.value
                or f"{first.value}.".startswith(f"{second.value}.")
                or f"{second.value}.".startswith(f"{first.value}.")
            ):
                continue
            why = f"for {one.claim.subject}, {_base(one)} names {first.shown.strip('` ')},"
            why += f" {_base(other)} {second.shown.strip('` ')}{_within(scope)}"
            yield _Hit(ConflictKind.VERSION, "version@1", 0.5 + 0.4 * overlap(one.terms, other.terms), why)


def _coded(one: Statement, other: Statement) -> Iterator[_Hit]:
    """A default in a signature against the default that the documentation states."""
    code, prose = (one, other) if one.is_code else (other, one)
    scope = shared_scope(code.claim, prose.claim, ("package", "framework", "version", "module"))
    if not code.is_code or prose.is_code or scope is None:
        return
    about = {
        key(prose.claim.subject),
        *map(key, identifiers(prose.claim.text)),
        *map(key, prose.claim.scope.values()),
    } - {""}
    named = bool({key(code.claim.subject), key(code.claim.scope.get("class", ""))} & about)
    for name, value in signature_defaults(code.claim.text).items():
        for fact in prose.facts:
            if fact.role is not FactRole.DEFAULT or not _differ(
                fact, Fact(name, FactRole.DEFAULT, value, fact.unit, "")
            ):
                continue
            if value == "none" or not (named or len(name) >= _SPECIFIC):
                continue
            why = f"{_base(prose)} says that {name} defaults to {fact.value};"
            why += f" in {_base(code)}, {code.claim.subject} has {value}{_within(scope)}"
            yield _Hit(ConflictKind.DOC_VS_CODE, "doc-vs-code@1", 0.92 if named else 0.65, why)


_DETECTORS: tuple[Detector, ...] = (_copied, _valued, _denied, _expanded, _versioned, _coded)


def _conflict(one: Claim, other: Claim, hit: _Hit) -> Conflict:
    ids = tuple(sorted((one.id, other.id)))
    return Conflict(
        id=part_id("k", hit.kind, *ids),
        kind=hit.kind,
        claims=ids,
        scope=shared_scope(one, other, OWN_SCOPE) or shared_scope(one, other, OWN_SCOPE[:2]) or {},
        detector=hit.detector,
        why=hit.why,
        score=round(max(0.0, min(1.0, hit.score)), 3),
    )


def _base(one: Statement) -> str:
    return one.path.rsplit("/", 1)[-1]


def _shown(fact: Fact) -> str:
    return "unset" if fact.value == "none" else f"{fact.value} {fact.unit}".strip()


def _and(values: frozenset[str]) -> str:
    return ", ".join(sorted(values))


def _within(scope: dict[str, str]) -> str:
    return f" ({', '.join(f'{name} {value}' for name, value in scope.items())})" if scope else ""
