"""What a permit rests on: every link from the signed decision down to its action, proven before it is claimed."""

from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import bindparam
from sqlmodel import Session, col, select

from karkas.policies.actions import Action
from karkas.policies.errors import PermitError
from karkas.policies.gates import GateKind, GateStatus
from karkas.policies.permits import PermitStatus
from karkas.storage.audit import newest
from karkas.storage.decisions import Gate, permit_terms, read_gate, signed_decision, stored_actions
from karkas.storage.grants import given
from karkas.storage.prepared import Prepared
from karkas.storage.records import Change, Records, look
from karkas.storage.runs import RunStatus
from karkas.storage.tables import GateRow, GrantRow, PermitRow, RunRow

STATUS_AFTER: dict[str, set[PermitStatus]] = {
    "permit_issued": {PermitStatus.APPROVED},
    "permit_reclaimed": {PermitStatus.CLAIMED, PermitStatus.STARTED},
    **{f"permit_{status}": {status} for status in PermitStatus if status is not PermitStatus.APPROVED},
}
"""What a permit's row may say after each event, so that one set back by hand is not used again."""


_STATUS = Prepared(select(RunRow.status).where(col(RunRow.id) == bindparam("run")))


def proven_action(records: Records, change: Change, row: PermitRow) -> Action:
    """The action that the permit is for. Raises `PermitError` where anything between it and what was signed is not as
    it was left.
    """
    gate_row = look(change.session, GateRow, row.gate)
    gate = read_gate(records, gate_row)
    if gate.kind is not GateKind.ACTION or gate.status is not GateStatus.PASSED:
        why = f" ({gate.reason})" if gate.reason else ""
        raise PermitError(f"permit {row.id} releases nothing: its gate {gate.id} is {gate.status}{why}")
    decision = signed_decision(records, gate_row)
    if decision is None or (decision["permit"], decision["run"]) != (permit_terms(row), row.run):
        raise PermitError(
            f"permit {row.id} releases nothing: it is not the one that was signed when gate {gate.id} passed;"
            " `karkas audit verify`"
        )
    if over := lapsed(records, change.session, decision):
        raise PermitError(f"permit {row.id} releases nothing: {over}")
    if other := unlike_its_last(records, change.session, row):
        raise PermitError(f"permit {row.id} releases nothing: {other}; `karkas audit verify`")
    if broken := records.words.unlike(change.session, _grounds(records, change.session, row, gate)):
        raise PermitError(
            f"permit {row.id} releases nothing: the record behind it is broken ({broken}), so it may have been used"
            " already; `karkas audit verify`"
        )
    check_run(change, row)
    # The artifacts are checked against their hashes as they are read.
    action = stored_actions(records.artifacts, gate).variants[row.variant].action
    records.artifacts.get(gate.variants[row.variant].shown)
    return action


def unlike_its_last(records: Records, session: Session, row: PermitRow) -> str | None:
    """How a permit's row differs from the last on the record, so that one set back by hand is not used again."""
    last = newest(session, f"permit:{row.id}", "permit_")
    said = "nothing" if last is None else last.event
    if last is not None and not records.audit.wrote(last):
        said = "a row that karkas did not write"
    if row.status in STATUS_AFTER.get(said, ()):
        return None
    return f"its row says {row.status}, but the last on the record is {said}"


def lapsed(records: Records, session: Session, decision: dict[str, JsonValue] | None) -> str | None:
    """A grant ends for what it passed too and was not begun; being revoked voids the permit itself."""
    verdict = decision["verdict"] if decision else None
    if not isinstance(verdict, dict) or verdict["kind"] != "grant":
        return None
    grant = session.get(GrantRow, verdict["grant"])
    if grant is None or not given(records, grant):
        return f"grant {verdict['grant']}, which passed its gate, was taken away or changed; `karkas audit verify`"
    ended = datetime.fromisoformat(str(grant.terms["expires_at"]))
    if ended > records.clock():
        return None
    return f"grant {grant.id} ended at {ended:%F %H:%M} UTC, before it was begun"


def check_run(change: Change, row: PermitRow) -> None:
    ((status,),) = _STATUS.rows(change.session, run=row.run)
    if RunStatus(status).ended:
        raise PermitError(f"run {row.run} is {status}, so permit {row.id} releases nothing")


def _grounds(records: Records, session: Session, permit: PermitRow, gate: Gate) -> dict[str, str | None]:
    """The rows of the record that a permit rests on: its gate's opening, the last word on it, the last on each zone.

    Not its run and the grant that passed it: stopping the one and revoking the other voids the permit.
    """
    opened = newest(session, f"gate:{gate.id}", "gate_opened")
    last = newest(session, f"permit:{permit.id}", "permit_")
    begun = f"{opened.hash} {last.hash}" if opened and last and records.audit.wrote(opened) else ""
    words = {zone: newest(session, f"zone:{zone}", "zone_") for zone in gate.zones}
    return {
        f"permit:{permit.id}": begun,
        **{f"zone:{zone}": word.hash if word else None for zone, word in words.items()},
    }
