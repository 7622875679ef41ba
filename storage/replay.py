"""The record replayed: what it says of each row, so that one that was set back, changed or taken away is named."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, TypeAlias

from pydantic import JsonValue
from sqlmodel import Session, col, select

from karkas.policies.gates import GateStatus
from karkas.policies.permits import PermitStatus
from karkas.storage.audit import kept
from karkas.storage.decisions import approval_signatures
from karkas.storage.records import PREFIXES, RowT
from karkas.storage.tables import AuditRow, GateRow, GrantRow, PermitRow, RunRow, ZoneRow, storable

Said: TypeAlias = dict[str, Any]
"""Columns of a row, as the record has them; none for a row that was dropped."""


def breaks(session: Session) -> Iterator[str]:
    """Names every gate, permit, run, zone and grant whose row is not what its last words on the record made of it."""
    said = _said(session)
    rows: Iterator[GateRow | PermitRow | RunRow] = chain(
        _rows(session, GateRow), _rows(session, PermitRow), _rows(session, RunRow)
    )
    for row in rows:
        noun = PREFIXES[type(row)][1]
        told = said.pop(f"{noun}:{row.id}", None)
        if told is None:
            yield f"{noun} {row.id}: nothing on the record says that there is such a row"
        else:
            yield from _differing(f"{noun} {row.id}", told, row)
    for name in session.exec(select(ZoneRow.name)):
        said.pop(f"zone:{name}", None)
    for name in session.exec(select(GrantRow.id)):
        said.pop(f"grant:{name}", None)
    for subject, told in said.items():
        if told:
            yield f"{subject.replace(':', ' ', 1)}: it is on the record, but its row was taken away"


def _rows(session: Session, table: type[RowT]) -> Iterator[RowT]:
    yield from session.exec(select(table).execution_options(yield_per=1000))


def _said(session: Session) -> dict[str, Said]:
    said: dict[str, Said] = {}
    for row in session.exec(select(AuditRow).order_by(col(AuditRow.seq)).execution_options(yield_per=1000)):
        if not row.event.startswith(f"{row.subject.partition(':')[0]}_"):
            continue
        before = said.get(row.subject, {})
        try:
            told = _told(_Word(row.event, row.at, row.actor, json.loads(row.data), before))
        except (ValueError, KeyError, TypeError):
            continue  # the row itself was changed, which `Audit.verify` names
        if row.event == "zone_dropped":
            said[row.subject] = {}
        elif told:
            said[row.subject] = before | told
    return said


@dataclass(frozen=True)
class _Word:
    """One row of the record, and what the earlier ones made of its subject."""

    event: str
    at: str
    actor: str
    data: Any
    before: Said


def _decided(word: _Word) -> Said:
    verdict = word.data["verdict"]
    where = {"critic": verdict.get("report"), "grant": word.data}.get(verdict["kind"], verdict)
    return {"status": word.data["status"], "reason": where.get("reason", ""), "decided_by": word.actor}


def _closed(word: _Word) -> Said:
    undecided = word.before.get("status") in {GateStatus.OPEN, GateStatus.DEFERRED}
    return _ended(word) | ({"decided_by": word.actor} if undecided else {})


def _ended(word: _Word) -> Said:
    return {"status": word.data["status"], "reason": word.data["reason"]}


def _finished(word: _Word) -> Said:
    outcome = {name: word.data[name] for name in ("result", "undo") if name in word.data}
    return {"status": word.event.removeprefix("permit_"), "reason": word.data["reason"], **outcome}


UNDECIDED: Said = {"status": GateStatus.OPEN, "reason": "", "decided_by": None}

TOLD: dict[str, Callable[[_Word], Said]] = {
    "gate_opened": lambda word: {
        "status": GateStatus.OPEN,
        "opened_at": datetime.fromisoformat(word.at),
        "superseded_by": None,
        "reason": "",
        "decided_by": None,
        "approvals": [],
    },
    "gate_reopened": lambda _: UNDECIDED,
    "gate_approved": lambda word: UNDECIDED | {"approvals": word.data["approvals"]},
    "gate_decided": _decided,
    "gate_passed_by_critic": _decided,
    "gate_passed_by_grant": _decided,
    "gate_closed": _closed,
    "gate_superseded": lambda word: {"superseded_by": word.data["by"]},
    "permit_issued": lambda word: {
        "gate": word.data["gate"],
        "status": PermitStatus.APPROVED,
        "claims": 0,
        "worker": None,
        "result": None,
        "undo": None,
        "reason": "",
    },
    "permit_claimed": lambda word: {
        "status": PermitStatus.CLAIMED,
        "claims": word.data["claim"],
        "worker": word.actor,
    },
    "permit_reclaimed": lambda word: {"claims": word.data["claim"], "worker": word.actor},
    "permit_started": lambda _: {"status": PermitStatus.STARTED},
    "permit_committed": _finished,
    "permit_failed": _finished,
    "permit_unknown": _finished,
    "permit_void": _finished,
    "run_created": lambda _: {"status": "queued", "reason": ""},
    "run_moved": lambda word: {"status": word.data["after"], "reason": word.data["reason"]},
}
"""What an event makes of the columns of its subject's row."""


def _told(word: _Word) -> Said:
    told = TOLD.get(word.event)
    if told is not None:
        return told(word)
    return {"here": True} if word.event.startswith("zone_") or word.event == "grant_added" else {}


def _differing(name: str, told: Said, row: GateRow | PermitRow | RunRow) -> Iterator[str]:
    for column, value in told.items():
        stands: JsonValue | datetime = getattr(row, column)
        if column == "approvals" and isinstance(row, GateRow):
            stands = approval_signatures(row)
        now, then = _plain(stands), _plain(value)
        if now != then:
            yield f"{name}: its row was changed outside karkas: {column} is {now}, on the record {then}"


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return storable(value) if isinstance(value, str) else kept(value)
