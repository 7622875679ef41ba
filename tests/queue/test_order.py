"""What stands first in the queue, and what frees the most in the morning."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from karkas.policies.gates import GateId, GateKind, GateStatus
from karkas.queue import order
from karkas.report.choices import choices
from karkas.storage import RunId, WaitingLine

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def line(number: int, **fields: Any) -> WaitingLine:
    plain = WaitingLine(
        id=GateId(f"g-{number}"), run=RunId(f"r-{number}"), kind=GateKind.ACTION, status=GateStatus.OPEN,
        zones=("lab",), level="propose-only", title=f"write_file {number}.md", effect="reversible",
        opened_at=START + timedelta(minutes=number), deferred_until=None, decided_by=None, approvals=0, siblings=1,
    )  # fmt: skip
    return plain._replace(**fields)


def ids(lines: list[WaitingLine]) -> list[list[str]]:
    return [[one.id for one in group.lines] for group in groups(lines)]


def groups(lines: list[WaitingLine]) -> list[order.Group]:
    return order.grouped(lines, Counter(map(order.kind_of, lines)))


def test_what_blocks_most_stands_first_then_what_waits_longest() -> None:
    lines = [
        line(0, status=GateStatus.DEFERRED),
        line(1, siblings=3),
        line(2),
        line(3, effect="irreversible"),
        line(4, kind=GateKind.OUTCOME),
        line(5, kind=GateKind.FRAME, zones=("post",)),
    ]
    assert ids(lines) == [["g-5"], ["g-4"], ["g-2", "g-1"], ["g-3"], ["g-0"]]


def test_a_group_is_of_one_zone_and_one_effect() -> None:
    lines = [line(1), line(2, zones=("post",)), line(3, effect="irreversible"), line(4)]
    assert [group.title for group in groups(lines)] == [
        "lab / reversible (2)", "post / reversible (1)", "lab / irreversible (1)",
    ]  # fmt: skip


def test_a_search_finds_what_stands_in_a_line_whatever_its_case() -> None:
    lines = [line(1), line(2, title="Ticket disk"), line(3, zones=("post",))]
    found = [one.id for one in lines if order.Filter(search="tICKET").keeps(one)]
    assert found == ["g-2"]
    assert [one.id for one in lines if order.Filter(zone="post").keeps(one)] == ["g-3"]


def test_the_decisions_that_free_the_most_come_first() -> None:
    alike = [line(number) for number in range(10, 14)]
    lines = [
        line(1, title="run_command ls", effect="irreversible"),
        *alike,
        line(20, kind=GateKind.FRAME, zones=("post",), title="frame zone post"),
        line(0, status=GateStatus.DEFERRED),
    ]
    found = choices(lines)
    assert [(choice.gate, choice.gates, choice.runs) for choice in found] == [
        ("g-20", 1, 1),
        ("g-10", 4, 4),
        ("g-1", 1, 1),
    ]
    assert "nothing acts in the zone before" in found[0].why
    assert "4 x write_file" in found[1].what
