"""The last words: what the log says last of all that an effect may still rest on, so that no claim reads it whole."""

import hmac
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ValidationError
from sqlmodel import Session

from karkas.policies.gates import GateStatus
from karkas.storage.audit import GENESIS, Audit, Noted, hash_of
from karkas.storage.keys import SigningKey

SAVED_EVERY = 256
"""Rows that a process reads at most before it knows what the last one knew; more where more is alive."""
ALIVE_EACH = 4
"""What is alive is written for one row in so many, so that writing it costs each row the same, however much it is."""

NO_RULING = frozenset({"zone_distilled", "zone_stage_set"})
"""What is said of a zone and changes nothing of what may pass in it."""

MAC_BYTES = 32


class _Known(BaseModel):
    """What the log said up to row `seq`, each row of which followed the one before it.

    `words` holds hashes by subject: of a zone or a grant its last row; of a gate that waits its opening and its last
    row; of a permit the opening of its gate and its own last row. What is over, or began before a break of the chain,
    is not in it. `grants` holds their zones.
    """

    seq: int = 0
    hash: str = GENESIS
    words: dict[str, str] = {}
    grants: dict[str, str] = {}

    def hear(self, row: Noted) -> None:
        """Takes the next row. A row that does not follow ends the trust in all that was said before it."""
        sound = row.hash == hash_of(row)
        if not sound or (row.seq, row.prev) != (self.seq + 1, self.hash):
            self.words.clear()
            self.grants.clear()
        self.seq, self.hash = row.seq, row.hash
        if sound:
            self._take(row)

    def _take(self, row: Noted) -> None:
        match row.subject.partition(":")[0]:
            case noun if not row.event.startswith(f"{noun}_"):
                pass
            case "gate":
                self._of_gate(row)
            case "permit":
                self._of_permit(row)
            case "zone":
                self._of_zone(row)
            case "grant":
                self._of_grant(row)
            case _:
                pass

    def _of_gate(self, row: Noted) -> None:
        if row.event == "gate_opened":
            self.words[row.subject] = f"{row.hash} {row.hash}"
        elif row.event == "gate_closed" or (
            row.event == "gate_decided" and _said(row, "status") != GateStatus.DEFERRED
        ):
            self._over(row.subject)
        elif row.subject in self.words:
            opening = self.words[row.subject].partition(" ")[0]
            self.words[row.subject] = f"{opening} {row.hash}"

    def _of_permit(self, row: Noted) -> None:
        if row.event == "permit_issued":
            # It takes its gate's place, so that it stands only where nothing was lost since the gate was opened.
            began = self.words.pop(f"gate:{_said(row, 'gate')}", "")
        else:
            began = self.words.pop(row.subject, "")
        opening = began.partition(" ")[0]
        if opening and row.event not in {"permit_committed", "permit_failed", "permit_void"}:
            self.words[row.subject] = f"{opening} {row.hash}"

    def _of_zone(self, row: Noted) -> None:
        self.words[row.subject] = row.hash
        if row.event not in NO_RULING:
            for grant in [grant for grant, zone in self.grants.items() if zone == row.subject]:
                self._over(grant)

    def _of_grant(self, row: Noted) -> None:
        if row.event == "grant_added":
            self.grants[row.subject] = f"zone:{_said(row, 'zone')}"
        if row.event == "grant_revoked":
            self._over(row.subject)
        elif row.subject in self.grants:
            self.words[row.subject] = row.hash

    def _over(self, subject: str) -> None:
        self.words.pop(subject, None)
        self.grants.pop(subject, None)


class LastWords:
    """Proves that a row is the last on its subject by reading only what came since it was asked before.

    What was read stays in the process, and from time to time in `audit.words` beside the database, under a MAC of the
    signing key. Neither is believed but where the log still holds the row up to which it goes. One that is old, lost or
    of another history costs time only: nothing is refused before all was read from the first row on.

    Rows that karkas did not write are heard like any other, so whoever rests on a row asks `Audit.wrote` as well; it is
    then the very row that was heard, since it has its hash.
    """

    def __init__(self, audit: Audit, key: SigningKey, file: Path) -> None:
        self._audit, self._file = audit, file
        self._secret = key.derived(b"karkas last words")
        self._known: _Known | None = None
        self._saved = 0

    def unlike(self, session: Session, said: Mapping[str, str | None]) -> str | None:
        """Why these are not the last words on their subjects, or None where they are: None in `said` where there is
        none, of a gate and of a permit two hashes. Only within a writing transaction.
        """
        wrong = list(said)
        for known in (self._known or self._load(), _Known()):
            if known is not None and self._go_on(session, known):
                wrong = [subject for subject, hashes in said.items() if known.words.get(subject) != hashes]
                if not wrong:
                    self._keep(known)
                    return None
        self._known = None
        return self._audit.broken(session) or f"of {' and of '.join(wrong)} it says something else"

    def _go_on(self, session: Session, known: _Known) -> bool:
        """Hears all that came since; whether the log still holds what was heard before, and ends as it should."""
        begin, whole = known.seq, known.seq == 0

        def hear(row: Noted) -> None:
            nonlocal whole
            if row.seq > begin:
                known.hear(row)
            else:
                whole = row.hash == known.hash

        return self._audit.follow(session, hear, begin=begin) is None and whole

    def _keep(self, known: _Known) -> None:
        self._known = known
        if known.seq - self._saved < max(SAVED_EVERY, len(known.words) // ALIVE_EACH):
            return
        body = known.model_dump_json().encode()
        draft = self._file.with_name(f"{self._file.name}.{uuid4().hex}")
        try:
            draft.write_bytes(hmac.digest(self._secret, body, "sha256") + body)
            draft.replace(self._file)
        except OSError:  # it only makes the next process quicker
            with suppress(OSError):
                draft.unlink()
        self._saved = known.seq

    def _load(self) -> _Known | None:
        try:
            kept = self._file.read_bytes()
            mac, body = kept[:MAC_BYTES], kept[MAC_BYTES:]
            if not hmac.compare_digest(mac, hmac.digest(self._secret, body, "sha256")):
                return None
            known = _Known.model_validate_json(body)
        except (OSError, ValidationError):
            return None
        self._saved = known.seq
        return known


def _said(row: Noted, name: str) -> Any:
    """A word of a row's data; None where somebody wrote it so that there is none."""
    try:
        data = json.loads(row.data)
    except ValueError:
        return None
    return data.get(name) if isinstance(data, dict) else None
