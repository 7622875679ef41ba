"""The drafted three-level map: areas (topics), mechanisms (a page or section), rules (what claims ask of an agent)."""

import re
from collections import Counter
from collections.abc import Sequence

from karkas.policies.distillates import ClaimMode, Conflict, Facet, OpenQuestion
from karkas.server.documents import Document
from karkas.server.offline.mechanisms import Mechanism, mechanisms
from karkas.server.offline.parameters import FactRole, signature_defaults
from karkas.server.offline.sections import belongs
from karkas.server.offline.standing import Standing
from karkas.server.offline.statements import stated_facts
from karkas.server.offline.subjects import clean, cut, key
from karkas.server.offline.topics import clusters
from karkas.server.questions import MapArea, MapMechanism, MapRule

_AREAS = (3, 6)
_PER_AREA = 10
"""Nodes of an area, itself included; six areas stay within the sixty nodes that a person will edit."""
_WEIGHED = 3
_RULES = 3
_FEW_RULES = 2
_TITLE = 68
_CLAUSE = 12
_RULED = (Facet.PARAMETER, Facet.LIMITS, Facet.PROCEDURE, Facet.COMPARISON)


def areas(
    known: Sequence[Standing],
    documents: Sequence[Document],
    conflicts: Sequence[Conflict],
    questions: Sequence[OpenQuestion],
) -> tuple[MapArea, ...]:
    """At most about 60 nodes, the weightiest area first."""
    found = mechanisms(known, documents)
    if not found:
        return ()
    grouped = _grouped(found)
    disputed = {claim: conflict for conflict in reversed(conflicts[:10]) for claim in conflict.claims}
    areas_found: list[MapArea] = []
    for group in sorted(grouped, key=lambda group: (-_weight(group), group[0].title)):
        nodes = _drawn(group, disputed, questions)
        if nodes:
            areas_found.append(MapArea(title=_title(nodes, group), mechanisms=nodes))
    return tuple(areas_found)


def _weight(group: Sequence[Mechanism]) -> float:
    """Of its best, so that a large package does not stand before one that is about the zone."""
    return sum(sorted((one.weight for one in group), reverse=True)[:_WEIGHED])


def _grouped(found: Sequence[Mechanism]) -> list[list[Mechanism]]:
    """Each of a few packages is an area; what comes from none is parted by topics."""
    packages: dict[str, list[Mechanism]] = {}
    for one in found:
        packages.setdefault(one.package, []).append(one)
    rest = packages.pop("", [])
    if len(packages) > _AREAS[1] or len(packages) + bool(rest) == 1:
        return _by_topic(found, _AREAS[1])
    topics = _by_topic(rest, max(1, _AREAS[1] - len(packages))) if rest else []
    return [*packages.values(), *topics]


def _by_topic(found: Sequence[Mechanism], most: int) -> list[list[Mechanism]]:
    wanted = min(most, max(_AREAS[0], len(found) // 4), len(found))
    groups = clusters([one.words for one in found], [one.weight for one in found], wanted)
    return [[found[at] for at in group] for group in groups]


def _title(nodes: Sequence[MapMechanism], group: Sequence[Mechanism]) -> str:
    """An area is called after its package and its two weightiest mechanisms: words that its authors chose."""
    packages = {one.package for one in group}
    package = packages.pop() if len(packages) == 1 else ""
    first = [cut(node.title, _TITLE // 2) for node in nodes[:2] if key(node.title) != key(package)]
    parts = f"{', '.join(first)} and related" if len(group) > len(nodes[:2]) else " and ".join(first)
    return ": ".join(part for part in (package, parts) if part)


def _drawn(
    group: Sequence[Mechanism], disputed: dict[str, Conflict], questions: Sequence[OpenQuestion]
) -> tuple[MapMechanism, ...]:
    room = _PER_AREA - 1
    nodes: list[MapMechanism] = []
    most = _RULES if len(group) < _RULES else _FEW_RULES
    contested = [any(one.claim.id in disputed for one in mechanism.members) for mechanism in group]
    for _, mechanism in sorted(
        zip(contested, group, strict=True), key=lambda pair: (not pair[0], -pair[1].weight, pair[1].title)
    ):
        node = _node(mechanism, most, disputed, questions)
        if len(node.rules) + 1 > room:
            break
        if node.rules or len(node.claims) > 1:
            room -= len(node.rules) + 1
            nodes.append(node)
    return tuple(nodes)


def _node(
    mechanism: Mechanism, most: int, disputed: dict[str, Conflict], questions: Sequence[OpenQuestion]
) -> MapMechanism:
    ruled = sorted(
        (one for one in mechanism.members if one.claim.facet in _RULED and _rules(one)),
        key=lambda one: (one.claim.id not in disputed, -one.score, one.claim.id),
    )
    rules: list[MapRule] = []
    used: set[str] = set()
    subjects: Counter[str] = Counter()
    for one in ruled:
        if len(rules) >= most:
            break
        if one.claim.id in used or (subjects[one.subject] and len(ruled) > most):
            continue
        conflict = disputed.get(one.claim.id)
        claims = tuple(dict.fromkeys((one.claim.id, *(conflict.claims if conflict else ()))))
        used.update(claims)
        subjects[one.subject] += 1
        rules.append(
            MapRule(title=rule_title(one), claims=claims, unknowns=_unknowns(one, conflict, questions))
        )
    about = tuple(one.claim.id for one in mechanism.members if one.claim.facet not in _RULED)[:4]
    return MapMechanism(title=mechanism.title, claims=about, rules=tuple(rules))


def _rules(one: Standing) -> bool:
    return "module" not in one.claim.scope or belongs(one)


def _unknowns(one: Standing, conflict: Conflict | None, questions: Sequence[OpenQuestion]) -> tuple[str, ...]:
    named = (
        re.compile(rf"(?<![\w.]){re.escape(one.claim.subject)}(?![\w.])")
        if len(one.claim.subject) > 1
        else None
    )
    return tuple(
        question.id
        for question in questions
        if (conflict is not None and question.raised_by == conflict.id)
        or (named is not None and named.search(question.text))
    )[:3]


def rule_title(one: Standing) -> str:
    """A parameter and its default, or the subject and what is said of it, cut at a word."""
    if one.claim.mode is ClaimMode.CODE:
        told = [
            f"{name}={value}" for name, value in signature_defaults(one.claim.text).items() if value != "none"
        ]
        own = one.claim.subject.rsplit(".", 1)[-1]
        if len(told) == 1 and told[0].startswith(f"{own}="):
            return cut(f"{one.claim.subject} is {told[0].removeprefix(own + '=')} by default", _TITLE)
        return cut(f"{one.claim.subject}: {', '.join(told)}", _TITLE)
    text = clean(one.claim.text.strip("| ").replace("|", ", "))
    subject = one.claim.subject
    for fact in stated_facts(one.claim):
        if (
            fact.role is FactRole.DEFAULT
            and fact.name
            and fact.name in one.claim.text
            and len(fact.value) <= _TITLE // 2
        ):
            said = f" {fact.unit}" if fact.unit else ""
            return cut(f"{fact.name} is {fact.value}{said} by default", _TITLE)
    if key(subject) in re.sub(r"[\W_]+", "", text.lower()):
        return _shortened(text)
    return _shortened(f"{subject}: {text}")


def _shortened(text: str) -> str:
    clause = re.split(r"(?<=[\w)])[.;](?:\s|$)", text, maxsplit=1)[0]
    whole = clause if len(clause) >= _CLAUSE else text
    short = cut(whole, _TITLE)
    return short if short == whole else short + " …"
