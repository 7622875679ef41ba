"""The drafted three-level map: areas (topics), mechanisms (a page or section), rules (what claims ask of an agent)."""

import re
from collections import Counter
from collections.abc import Sequence

from karkas.policies.distillates import ClaimMode, Conflict, Facet, OpenQuestion
from karkas.server.offline.mechanisms import Mechanism, mechanisms
from karkas.server.offline.parameters import FactRole, signature_defaults
from karkas.server.offline.standing import Standing
from karkas.server.offline.statements import stated_facts
from karkas.server.offline.subjects import clean, cut, key
from karkas.server.offline.topics import clusters
from karkas.server.protocol import Document, MapArea, MapMechanism, MapRule

_AREAS = (3, 6)
_PER_AREA = 10
"""Nodes of an area, itself included; six areas stay within the sixty nodes that a person will edit."""
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
    wanted = max(1, min(_AREAS[1], max(_AREAS[0], len(found) // 4), len(found)))
    groups = clusters([one.words for one in found], [one.weight for one in found], wanted)
    grouped = [[found[at] for at in group] for group in groups]
    disputed = {claim: conflict for conflict in reversed(conflicts[:10]) for claim in conflict.claims}
    areas_found: list[MapArea] = []
    for group in sorted(grouped, key=lambda group: (-sum(one.weight for one in group), group[0].title)):
        nodes = _drawn(group, disputed, questions)
        if nodes:
            areas_found.append(MapArea(title=_title(nodes, len(group)), mechanisms=nodes))
    return tuple(areas_found)


def _title(nodes: Sequence[MapMechanism], size: int) -> str:
    """An area is called after its two weightiest mechanisms: words that its authors chose."""
    first = [cut(node.title, _TITLE // 2) for node in nodes[:2]]
    return f"{', '.join(first)} and related" if size > len(first) else " and ".join(first)


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
        (one for one in mechanism.members if one.claim.facet in _RULED),
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
