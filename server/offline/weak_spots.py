"""Weak spots: claims that a person should not lean on yet, and why."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from karkas.policies.distillates import Claim, ClaimMode, Facet, SourceRank, WeakSpot, WeakSpotKind, part_id
from karkas.server.documents import BlockKind, Document
from karkas.server.offline.cues import pattern
from karkas.server.offline.prominence import prominence, prominence_of
from karkas.server.offline.subjects import key

_AT_MOST = {
    WeakSpotKind.STALE: 10,
    WeakSpotKind.LOW_RANK_SOURCE: 10,
    WeakSpotKind.SINGLE_SOURCE: 14,
    WeakSpotKind.NO_EXAMPLE: 8,
}
_SHOWN = 2
"""Claims that a weak spot names; its words count all of them."""
_STALE_YEARS = 2
_WEIGHTY = {SourceRank.CODE, SourceRank.OFFICIAL_DOCS, SourceRank.PACKAGE_DOCS, SourceRank.README}
_LEANED_ON = (Facet.PARAMETER, Facet.LIMITS, Facet.COMPARISON)


def weak_spots(claims: Sequence[Claim], documents: Sequence[Document], today: str) -> list[WeakSpot]:
    """What is old, what comes from weak sources, what only one source says, what nobody shows; the best known first."""
    by_source = {document.source: document for document in documents}
    known = prominence(documents)
    claims = sorted(claims, key=lambda claim: -round(prominence_of(claim.subject, known), 2))
    found: list[WeakSpot] = []
    for kind, spots in (
        (WeakSpotKind.STALE, _stale(claims, by_source, today)),
        (WeakSpotKind.LOW_RANK_SOURCE, _low_rank(claims, by_source)),
        (WeakSpotKind.SINGLE_SOURCE, _single_source(claims, by_source)),
        (WeakSpotKind.NO_EXAMPLE, _no_example(claims, documents)),
    ):
        for number, (about, why) in enumerate(spots):
            if number >= _AT_MOST[kind]:
                break
            ids = tuple(claim.id for claim in about[:_SHOWN])
            found.append(WeakSpot(id=part_id("w", kind, *sorted(ids)), kind=kind, claims=ids, why=why))
    return found


def _stale(
    claims: Sequence[Claim], by_source: dict[str, Document], today: str
) -> Iterator[tuple[list[Claim], str]]:
    year = int(today[:4])
    for claim in claims:
        stated = pattern("dated").search(claim.text)
        document = by_source.get(claim.evidence[0].source)
        modified = document.modified if document is not None else None
        if stated and stated.group(1) and year - int(stated.group(1)) >= _STALE_YEARS:
            yield (
                [claim],
                f"{claim.subject}: it speaks of {stated.group(1)}; check that it still holds",
            )
        elif stated and not stated.group(1):
            since = f"its source is of {modified[:10]}" if modified else "its source bears no date"
            yield (
                [claim],
                f"{claim.subject}: it says “{stated.group().lower()}”, and {since}; check that it still holds",
            )
        elif modified and modified[:4].isdigit() and year - int(modified[:4]) >= _STALE_YEARS:
            yield [claim], f"{claim.subject}: its source is of {modified[:10]}"


def _low_rank(claims: Sequence[Claim], by_source: dict[str, Document]) -> Iterator[tuple[list[Claim], str]]:
    groups: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        ranks = [by_source[span.source].rank for span in claim.evidence if span.source in by_source]
        if ranks and not _WEIGHTY & set(ranks):
            groups[claim.evidence[0].source].append(claim)
    for source, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        document = by_source[source]
        yield (
            group,
            f"{_counted(len(group))} on {document.path} alone, a source of rank {document.rank}",
        )


def _counted(number: int) -> str:
    return f"{number} claims rest" if number > 1 else "1 claim rests"


def _single_source(
    claims: Sequence[Claim], by_source: dict[str, Document]
) -> Iterator[tuple[list[Claim], str]]:
    """Subjects that a person would act on (parameters, limits, choices) and that only one document speaks of."""
    groups: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        groups[key(claim.subject)].append(claim)
    lone = [
        group
        for group in groups.values()
        if len({span.source for claim in group for span in claim.evidence}) == 1
        and any(claim.facet in _LEANED_ON for claim in group)
        and group[0].mode is not ClaimMode.CODE
    ]
    for group in lone:
        document = by_source.get(group[0].evidence[0].source)
        where = document.path if document else group[0].evidence[0].source
        counted = (
            f"{len(group)} claims on it come" if len(group) > 1 else f"the {group[0].facet} claim on it comes"
        )
        silent = (
            "; no documentation that was read speaks of it"
            if document and document.rank is SourceRank.CODE
            else ""
        )
        yield group, f"{group[0].subject}: {counted} from {where} alone{silent}"


def _no_example(claims: Sequence[Claim], documents: Sequence[Document]) -> Iterator[tuple[list[Claim], str]]:
    code = "\n".join(
        document.text[block.start : block.end]
        for document in documents
        for block in document.blocks
        if block.kind is BlockKind.CODE
    )
    seen: set[str] = set()
    for claim in claims:
        name = claim.subject.rsplit(".", 1)[-1]
        if (
            claim.facet not in {Facet.PARAMETER, Facet.PROCEDURE}
            or claim.mode is ClaimMode.CODE
            or name in seen
        ):
            continue
        if re.fullmatch(r"[A-Za-z]\w*_\w+|[A-Z][a-z]+[A-Z]\w+", name) and name not in code:
            seen.add(name)
            yield [claim], f"{claim.subject}: no code example in the sources read uses it"
