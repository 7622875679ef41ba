"""The summary and the drafted map: both made of claims by id, in an order in which a person can read them."""

from collections import Counter
from collections.abc import Callable, Sequence

from karkas.policies.distillates import Facet, SummarySection
from karkas.server.documents import Document
from karkas.server.offline.areas import areas
from karkas.server.offline.cues import pattern
from karkas.server.offline.sections import belongs
from karkas.server.offline.standing import Standing, standings
from karkas.server.offline.subjects import key
from karkas.server.offline.words import overlap, terms
from karkas.server.questions import Compose, Composed

_REPEATS = 0.45
_PER_PAGE = 2
_FLOOR = 0.5
"""Of the best standing: a framework that has nothing good to say in a section is left out there."""
DISAGREEMENT = "Where the sources disagree"
CONFLICTS_SHOWN = 5
_PACKAGES = 12
"""At most so many packages are introduced, even where the section would else be shorter."""
_CONCEPTS = 3
"""Main concepts that are defined beside the packages."""

SECTIONS: tuple[tuple[str, Facet, int], ...] = (
    ("What it is", Facet.DEFINITION, 7),
    ("How the parts fit", Facet.MECHANISM, 7),
    ("What to choose when", Facet.COMPARISON, 7),
    ("Which parameters matter, and their defaults", Facet.PARAMETER, 8),
    ("Limits and traps", Facet.LIMITS, 7),
)


def compose(question: Compose, documents: Sequence[Document]) -> Composed:
    """Sections that would be empty are left out."""
    known = standings(question.claims, question.zone, documents)
    zone = frozenset(terms(question.zone.replace("-", " ")))
    shown: list[Standing] = []
    sections: list[SummarySection] = []
    for title, facet, most in SECTIONS:
        worth = _worth(facet, zone, {one.home for one in known})
        of_facet = [one for one in known if one.claim.facet is facet and belongs(one)]
        picked = _introductions(of_facet, most) if facet is Facet.DEFINITION else []
        room = max(most - len(picked), _CONCEPTS) if picked else most
        told = {one.home for one in picked}
        left = [one for one in of_facet if not (one.home in told and one.subject == key(one.home))]
        picked += pick(left, room, worth, [*shown, *picked])
        shown += picked
        if picked:
            sections.append(SummarySection(title=title, claims=tuple(one.claim.id for one in picked)))
    disputed = dict.fromkeys(claim for one in question.conflicts[:CONFLICTS_SHOWN] for claim in one.claims)
    if disputed:
        sections.append(SummarySection(title=DISAGREEMENT, claims=tuple(disputed)))
    drawn = areas(known, documents, question.conflicts, question.open_questions)
    return Composed(
        summary=tuple(sections),
        areas=drawn,
        by_rule=(*(("summary",) if sections else ()), *(("map",) if drawn else ())),
    )


def _introductions(definitions: Sequence[Standing], most: int) -> list[Standing]:
    """One sentence for each package, the one that speaks of the zone first."""
    best: dict[str, Standing] = {}
    for one in definitions:
        package = one.claim.scope.get("package", "")
        if package and key(package) == one.subject:
            known = best.get(one.home)
            if known is None or (_source_weight(one), one.score, one.claim.id) > (
                _source_weight(known), known.score, known.claim.id
            ):  # fmt: skip
                best[one.home] = one
    return sorted(best.values(), key=lambda one: (-one.fit, -one.score, one.claim.id))[: max(most, _PACKAGES)]


def _source_weight(one: Standing) -> bool:
    return "module" not in one.claim.scope


def _worth(facet: Facet, zone: frozenset[str], homes: set[str]) -> Callable[[Standing], float]:
    """What counts besides a claim's own standing: a definition of the zone itself, a mechanism that joins parts."""

    def definition(one: Standing) -> float:
        subject = frozenset(terms(one.claim.subject))
        names_home = one.subject in {key(home) for home in homes}
        denies = pattern("denial").search(one.claim.text) is not None
        about = 0.5 if subject and subject <= zone else 0.0
        return one.score + about + (0.3 if names_home else 0.0) - 0.15 * denies

    def joining(one: Standing) -> float:
        return one.score + 0.04 * one.joins + 0.2 * one.fit * ("module" in one.claim.scope)

    match facet:
        case Facet.DEFINITION:
            return definition
        case Facet.MECHANISM | Facet.COMPARISON:
            return joining
        case _:
            return lambda one: one.score + 0.25 * one.fit * ("module" in one.claim.scope)


def pick(
    candidates: Sequence[Standing], most: int, worth: Callable[[Standing], float], shown: Sequence[Standing]
) -> list[Standing]:
    """The best, not redundant, balanced over frameworks and pages; the first opens the section."""
    picked: list[Standing] = []
    homes: Counter[str] = Counter()
    pages: Counter[str] = Counter()
    subjects: Counter[str] = Counter()
    left = sorted(candidates, key=lambda one: (-worth(one), one.claim.id))
    floor = _FLOOR * max((one.score for one in left), default=0.0)
    while left and len(picked) < most:
        best = max(left, key=lambda one: worth(one) - 0.07 * homes[one.home] - 0.15 * pages[one.page])
        left.remove(best)
        crowded = pages[best.page] >= _PER_PAGE or subjects[best.subject] > 0
        repeated = any(overlap(best.terms, other.terms) > _REPEATS for other in (*picked, *shown))
        if crowded or repeated or best.score < floor:
            continue
        picked.append(best)
        homes[best.home] += 1
        pages[best.page] += 1
        subjects[best.subject] += 1
    return picked
