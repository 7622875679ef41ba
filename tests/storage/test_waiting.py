"""The list of what waits: the lines say what the gates say, in one query."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from karkas.policies.actions import Effect
from karkas.policies.gates import GateKind, GateStatus
from karkas.policies.verdicts import Approve, Defer
from karkas.storage import Gate, Run, Store

OpenGate = Callable[..., Gate]
Later = Callable[[timedelta], datetime]


def test_a_line_says_what_its_gate_says(store: Store, open_gate: OpenGate, run: Run, advance: Later) -> None:
    gate = open_gate("a.md", title="write_file a.md", effect=Effect.IRREVERSIBLE)
    advance(timedelta(minutes=1))
    question = open_gate(kind=GateKind.QUESTION, prompt="Go on?", title="Go on?", zones=())
    first, second = store.waiting.lines()
    assert (first.id, first.run, first.kind, first.status) == (gate.id, run.id, gate.kind, gate.status)
    assert (first.zones, first.level, first.title, first.effect) == (
        gate.zones, gate.level.value, gate.title, "irreversible",
    )  # fmt: skip
    assert first.opened_at == gate.opened_at
    assert (first.siblings, second.siblings) == (2, 2)
    assert (second.id, second.zones, second.effect) == (question.id, (), "")


def test_a_gate_of_an_older_karkas_has_no_title(store: Store, open_gate: OpenGate) -> None:
    open_gate("a.md")
    (line,) = store.waiting.lines()
    assert line.title == ""


def test_what_was_decided_is_listed_apart_and_the_last_first(
    store: Store, open_gate: OpenGate, advance: Later
) -> None:
    first, second, third = open_gate("a.md"), open_gate("b.md"), open_gate("c.md")
    store.gates.decide(first.id, Approve(), by="ada")
    later = advance(timedelta(minutes=1))
    store.gates.decide(second.id, Approve(), by="bob")
    store.gates.decide(third.id, Defer(until=later + timedelta(hours=1)), by="ada")
    assert [(line.id, line.decided_by) for line in store.waiting.decided()] == [
        (second.id, "bob"),
        (first.id, "ada"),
    ]
    (line,) = store.waiting.lines()
    assert (line.id, line.status) == (third.id, GateStatus.DEFERRED)
    assert line.deferred_until == later + timedelta(hours=1)


def test_lines_can_be_narrowed_to_a_zone_and_a_run(store: Store, open_gate: OpenGate, run: Run) -> None:
    open_gate("a.md")
    other = open_gate("b.md", zones=("other", "lora"))
    assert [line.id for line in store.waiting.lines(zone="other")] == [other.id]
    assert len(store.waiting.lines(zone="lora")) == 2
    assert len(store.waiting.lines(zone="lora", limit=1)) == 1
    assert len(store.waiting.lines(run=run.id)) == 2
    assert store.waiting.lines(run="r-none") == []


def test_the_pulse_changes_with_every_row_of_the_record(store: Store, open_gate: OpenGate) -> None:
    before = store.waiting.pulse()
    assert store.waiting.pulse() == before
    open_gate("a.md")
    assert store.waiting.pulse() > before


def test_the_last_word_of_a_person_and_what_was_performed_since(
    store: Store, open_gate: OpenGate, advance: Later, permitted: Callable[..., Any]
) -> None:
    assert store.waiting.last_word("anna") is None
    permit = permitted("a.md")
    said = store.waiting.last_word("anna")
    assert said is not None
    assert said == store.clock()
    advance(timedelta(hours=1))
    claimed = store.ledger.claim(permit.id, worker="w")
    store.ledger.start(claimed)
    store.ledger.commit(claimed.permit_id, {})
    assert store.waiting.performed(said) == 1
    assert store.waiting.performed(store.clock() + timedelta(seconds=1)) == 0
    assert store.waiting.last_word("anna") == said


def test_runs_that_moved_since_then(store: Store, run: Run, advance: Later) -> None:
    since = advance(timedelta(hours=1))
    assert store.runs.list(changed_since=since) == []
    later = store.runs.create("act")
    assert [one.id for one in store.runs.list(changed_since=since)] == [later.id]
