"""What changed between two distillates of one zone, in words: what the owner of a stale frame has to read again."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from karkas.agents.distillate.places import source_path
from karkas.policies.distillates import Claim, Distillate, SourceRecord
from karkas.policies.rendering import visible_line


class _Named(Protocol):
    @property
    def id(self) -> str: ...


PartT = TypeVar("PartT", bound=_Named)


def diff(old: Distillate, new: Distillate) -> list[str]:
    """What changed, one line a change: engine, sources, claims, conflicts, questions, weak spots."""
    return [visible_line(line) for line in _changes(old, new)]


def _changes(old: Distillate, new: Distillate) -> Iterator[str]:
    if str(old.engine) != str(new.engine):
        yield f"made by {new.engine}, before by {old.engine}"
    yield from _sources(old.sources, new.sources)
    yield from _claims(old, new)
    gone, added, _ = _sorted(old.conflicts, new.conflicts)
    yield from (f"conflict gone: {one.id} ({one.kind}) {one.why}".rstrip() for one in gone)
    yield from (f"new conflict: {one.id} ({one.kind}) {one.why}".rstrip() for one in added)
    yield from _labels(old, new)
    gone_questions, new_questions, _ = _sorted(old.open_questions, new.open_questions)
    yield from (f"question no longer open: {one.id} {one.text}" for one in gone_questions)
    yield from (f"new open question: {one.id} {one.text}" for one in new_questions)
    gone_spots, new_spots, _ = _sorted(old.weak_spots, new.weak_spots)
    yield from (f"no longer a weak spot: {one.id} ({one.kind}) {one.why}" for one in gone_spots)
    yield from (f"new weak spot: {one.id} ({one.kind}) {one.why}" for one in new_spots)


def _sources(old: Sequence[SourceRecord], new: Sequence[SourceRecord]) -> Iterator[str]:
    before, after = ({source_path(one): one for one in side} for side in (old, new))
    yield from (f"source gone: {path}" for path in before if path not in after)
    yield from (f"new source: {path} ({one.status})" for path, one in after.items() if path not in before)
    for path in before.keys() & after.keys():
        one, other = before[path], after[path]
        if one.sha256_raw != other.sha256_raw:
            yield f"source changed: {path}"
        elif one.status is not other.status:
            yield f"source {path} was {one.status}, is {other.status}"


def _claims(old: Distillate, new: Distillate) -> Iterator[str]:
    gone, added, kept = _sorted(old.claims, new.claims)
    by_topic = {_topic(claim): claim for claim in added}
    reworded = {_topic(claim) for claim in gone} & by_topic.keys()
    for claim in gone:
        if _topic(claim) in reworded:
            other = by_topic[_topic(claim)]
            yield f"claim {claim.id} on {claim.subject} reworded as {other.id}: {claim.text!r} → {other.text!r}"
        else:
            yield f"claim gone: {claim.id} on {claim.subject}: {claim.text!r}"
    said = {by_topic[topic].id for topic in reworded}
    yield from (f"new claim: {one.id} on {one.subject}: {one.text!r}" for one in added if one.id not in said)
    for before, after in kept:
        if before.text != after.text:
            yield f"claim {after.id} on {after.subject} reads otherwise: {before.text!r} → {after.text!r}"
        if before.support.label is not after.support.label:
            yield f"claim {after.id} was {before.support.label}, is {after.support.label}"


def _labels(old: Distillate, new: Distillate) -> Iterator[str]:
    for before, after in _sorted(old.conflicts, new.conflicts)[2]:
        if (before.label, before.person) != (after.label, after.person):
            yield f"conflict {after.id} was {before.label}, is {after.label}"


def _topic(claim: Claim) -> tuple[object, ...]:
    return claim.facet, claim.subject, tuple(sorted(claim.scope.items()))


def _sorted(
    old: Iterable[PartT], new: Iterable[PartT]
) -> tuple[list[PartT], list[PartT], list[tuple[PartT, PartT]]]:
    """What is gone, what is new, and the pairs that stayed, by id and in the order of the files."""
    before, after = ({one.id: one for one in side} for side in (old, new))
    return (
        [one for name, one in before.items() if name not in after],
        [one for name, one in after.items() if name not in before],
        [(one, after[name]) for name, one in before.items() if name in after],
    )
