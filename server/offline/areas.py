"""The drafted three-level map: areas (pages that speak of the same), mechanisms (a page or section), rules (claims)."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from karkas.policies.distillates import Conflict, Facet, OpenQuestion
from karkas.server.offline.ranking import weights
from karkas.server.offline.standing import Standing
from karkas.server.offline.subjects import clean, cut, key
from karkas.server.offline.words import STOPWORDS, plain, stem, terms, tokens
from karkas.server.protocol import MapArea, MapMechanism, MapRule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_AREAS = (3, 7)
_MECHANISMS = 4
_RULES = 3
_NODES = 60
_PAGES_ENOUGH = 6
_TITLE = 68
_RULED = (Facet.PARAMETER, Facet.LIMITS, Facet.PROCEDURE, Facet.COMPARISON)
_ROUNDS = 12


@dataclass
class _Mechanism:
    title: str
    members: list[Standing] = field(default_factory=list)
    weight: float = 0.0


def areas(
    known: Sequence[Standing], conflicts: Sequence[Conflict], questions: Sequence[OpenQuestion]
) -> tuple[MapArea, ...]:
    """At most 60 nodes, the weightiest area first."""
    mechanisms = _mechanisms(known)
    if not mechanisms:
        return ()
    disputed = {claim: conflict for conflict in reversed(conflicts[:10]) for claim in conflict.claims}
    groups = _clusters(mechanisms)
    titles = _titles(groups)
    found: list[MapArea] = []
    nodes = 0
    for title, group in sorted(
        zip(titles, groups, strict=True), key=lambda pair: (-sum(m.weight for m in pair[1]), pair[0])
    ):
        drawn: list[MapMechanism] = []
        for mechanism in sorted(group, key=lambda one: (-one.weight, one.title))[:_MECHANISMS]:
            node = _mechanism(mechanism, disputed, questions)
            if nodes + 1 + len(drawn) + 1 + len(node.rules) > _NODES:
                break
            nodes += 1 + len(node.rules)
            drawn.append(node)
        if drawn:
            nodes += 1
            found.append(MapArea(title=title, mechanisms=tuple(drawn)))
    return tuple(found)


def _mechanisms(known: Sequence[Standing]) -> list[_Mechanism]:
    """Claims grouped by page, or by section where there are few pages."""
    pages = Counter(key(one.page) for one in known)
    by_page = sum(count > 1 for count in pages.values()) >= _PAGES_ENOUGH
    groups: dict[str, _Mechanism] = {}
    for one in known:
        title = (
            one.page
            if by_page and one.page
            else one.claim.scope.get("section") or one.page or one.claim.subject
        )
        title = cut(re.split(r":\s", clean(title), maxsplit=1)[0])
        groups.setdefault(key(title), _Mechanism(title)).members.append(one)
    for group in groups.values():
        group.members.sort(key=lambda one: (-one.score, one.claim.id))
        group.weight = sum(max(0.0, one.score) for one in group.members[: _RULES + 2])
    return list(groups.values())


def _clusters(mechanisms: Sequence[_Mechanism]) -> list[list[_Mechanism]]:
    """Spherical k-means over TF-IDF, seeded with what lies farthest apart, so that it is deterministic."""
    import numpy as np

    wanted = min(len(mechanisms), max(_AREAS[0], min(_AREAS[1], round((len(mechanisms) / 3) ** 0.5) + 2)))
    rows = _vectors(mechanisms)
    seeds = [int(np.argmax([mechanism.weight for mechanism in mechanisms]))]
    while len(seeds) < wanted:
        nearest = (rows @ rows[seeds].T).max(axis=1)
        gain = (1 - nearest) * np.sqrt([mechanism.weight + 0.01 for mechanism in mechanisms])
        gain[seeds] = -1
        seeds.append(int(np.argmax(gain)))
    centres = rows[seeds]
    labels = np.zeros(len(rows), dtype=int)
    for _ in range(_ROUNDS):
        labels = np.argmax(rows @ centres.T, axis=1)
        for number in range(wanted):
            if (labels == number).any():
                centre = rows[labels == number].sum(axis=0)
                centres[number] = centre / max(float(np.linalg.norm(centre)), 1e-9)
    groups: dict[int, list[_Mechanism]] = defaultdict(list)
    for mechanism, label in zip(mechanisms, labels, strict=True):
        groups[int(label)].append(mechanism)
    return [groups[label] for label in sorted(groups)]


def _vectors(mechanisms: Sequence[_Mechanism]) -> "NDArray[np.float64]":
    import numpy as np

    words = [
        terms(mechanism.title) * 3 + [term for one in mechanism.members for term in sorted(one.terms)]
        for mechanism in mechanisms
    ]
    idf = weights(words)
    columns = {term: number for number, term in enumerate(sorted(idf))}
    rows = np.zeros((len(mechanisms), max(1, len(columns))))
    for at, own in enumerate(words):
        for term, count in Counter(own).items():
            rows[at, columns[term]] = count**0.5 * max(0.0, idf[term])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths == 0, 1, lengths)


def _titles(groups: Sequence[Sequence[_Mechanism]]) -> list[str]:
    """For each area the two words that set it apart from the others, as they are mostly written."""
    surfaces: dict[str, Counter[str]] = defaultdict(Counter)
    counts: list[Counter[str]] = []
    for group in groups:
        inside: Counter[str] = Counter()
        for mechanism in group:
            texts = [
                mechanism.title,
                *(one.claim.subject for one in mechanism.members),
                *(one.claim.text for one in mechanism.members),
            ]
            seen: set[str] = set()
            for text in texts:
                for token in tokens(plain(text)):
                    if token.lower() not in STOPWORDS and len(token) > 2 and not re.search(r"[\d_.]", token):
                        surfaces[stem(token)][token] += 1
                        seen.add(stem(token))
            inside.update(seen)
            inside.update(
                {stem(token): 2 for token in tokens(mechanism.title) if token.lower() not in STOPWORDS}
            )
        counts.append(inside)
    total = sum(counts, Counter[str]())
    titles: list[str] = []
    for group, inside in zip(groups, counts, strict=True):
        scored = sorted(
            (
                (count**1.5 / total[term] * (count > 1 or len(group) == 1), term)
                for term, count in inside.items()
                if surfaces[term]
            ),
            key=lambda pair: (-pair[0], pair[1]),
        )
        words = [surfaces[term].most_common(1)[0][0] for _, term in scored[:2]]
        title = " and ".join(words) or group[0].title
        titles.append(title[:1].upper() + title[1:])
    return titles


def _mechanism(
    mechanism: _Mechanism, disputed: dict[str, Conflict], questions: Sequence[OpenQuestion]
) -> MapMechanism:
    ruled = sorted(
        (one for one in mechanism.members if one.claim.facet in _RULED),
        key=lambda one: (one.claim.id not in disputed, -one.score),
    )
    rules: list[MapRule] = []
    used: set[str] = set()
    for one in ruled:
        if len(rules) >= _RULES:
            break
        if one.claim.id in used or one.subject in {key(rule.title) for rule in rules}:
            continue
        conflict = disputed.get(one.claim.id)
        claims = tuple(dict.fromkeys((one.claim.id, *(conflict.claims if conflict else ()))))
        used.update(claims)
        rules.append(
            MapRule(title=rule_title(one), claims=claims, unknowns=_unknowns(one, conflict, questions))
        )
    about = tuple(one.claim.id for one in mechanism.members if one.claim.facet not in _RULED)[:4]
    return MapMechanism(title=mechanism.title, claims=about, rules=tuple(rules))


def _unknowns(one: Standing, conflict: Conflict | None, questions: Sequence[OpenQuestion]) -> tuple[str, ...]:
    subject = one.claim.subject
    return tuple(
        question.id
        for question in questions
        if (conflict is not None and question.raised_by == conflict.id)
        or (len(subject) > 1 and re.search(rf"(?<!\w){re.escape(subject)}(?!\w)", question.text))
    )[:3]


def rule_title(one: Standing) -> str:
    """The subject and what is said of it, cut at a word."""
    text = clean(one.claim.text)
    subject = one.claim.subject
    if key(subject) in re.sub(r"[\W_]+", "", text.lower()):
        return _shortened(text)
    return _shortened(f"{subject}: {text}")


def _shortened(text: str) -> str:
    clause = re.split(r"(?<=[\w)])[.;](?:\s|$)", text, maxsplit=1)[0]
    short = cut(clause, _TITLE)
    return short if short == clause else short + " …"
