"""What a distillate does not speak of, in its own words: sources that were not read, parts that no model drew."""

from karkas.policies.budgets import StopReason
from karkas.policies.distillates import NotCovered, SourceStatus
from karkas.server.questions import Composed
from karkas.workflows.corpus import Corpus

NAMED = 5
"""Sources that one line of `not_covered` names; it counts the rest."""


def not_covered(corpus: Corpus, stop: StopReason, *, partly_read: bool) -> tuple[NotCovered, ...]:
    """What the distillate does not speak of: sources that were not read, in words."""
    found = []
    if stop in {StopReason.BUDGET, StopReason.DEADLINE, StopReason.STOPPED, StopReason.SATURATED}:
        found.append(NotCovered(topic="sources not reached", why=f"the exploration ended first: {stop}"))
    if partly_read:
        found.append(
            NotCovered(
                topic="parts of the sources read last", why=f"{stop} while the language model read them"
            )
        )
    reasons: dict[str, list[str]] = {}
    for record in corpus.records:
        if record.status in {SourceStatus.SKIPPED, SourceStatus.UNREADABLE}:
            where = next(iter(record.locator.values()), record.id)
            reasons.setdefault(f"{record.status}: {record.reason}", []).append(where)
    found += [
        NotCovered(
            topic=", ".join(places[:NAMED])
            + (f" and {len(places) - NAMED} more" if len(places) > NAMED else ""),
            why=why,
        )
        for why, places in sorted(reasons.items())
    ]
    return tuple(found)


def drawn_by_rule(composed: Composed, *, why: str | None) -> tuple[NotCovered, ...]:
    """What the language model left to the offline engine, whichever of the two noticed; a reader should know."""
    if not composed.by_rule:
        return ()
    topic = f"{' and '.join(composed.by_rule)} in the language model's own order"
    return (NotCovered(topic=topic, why=f"drawn by rule from the claims{f': {why}' if why else ''}"),)
