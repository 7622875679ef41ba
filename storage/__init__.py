"""Storage: runs, gates, permits, zones, artifacts, the audit log and checkpoints, on SQLite or PostgreSQL."""

from karkas.storage.artifacts import Artifacts
from karkas.storage.audit import Audit, AuditEntry
from karkas.storage.checkpoints import open_checkpointer
from karkas.storage.database import worker_name
from karkas.storage.decisions import Gate, NewGate, ShownVariant
from karkas.storage.gates import Gates
from karkas.storage.grants import Grants, StandingGrant
from karkas.storage.journal import Figures
from karkas.storage.keys import SigningKey
from karkas.storage.leases import Lease, LeaseError, LeaseLostError
from karkas.storage.ledger import Claimed, Ledger, Permit
from karkas.storage.nights import Night, NightId
from karkas.storage.runs import Run, RunId, Runs, RunStatus, RunStatusError
from karkas.storage.store import Store
from karkas.storage.waiting import Waiting, WaitingLine
from karkas.storage.workers import BuriedError, Worker, Workers
from karkas.storage.zones import ZoneGround, Zones

__all__ = [
    "Artifacts",
    "Audit",
    "AuditEntry",
    "BuriedError",
    "Claimed",
    "Figures",
    "Gate",
    "Gates",
    "Grants",
    "Lease",
    "LeaseError",
    "LeaseLostError",
    "Ledger",
    "NewGate",
    "Night",
    "NightId",
    "Permit",
    "Run",
    "RunId",
    "RunStatus",
    "RunStatusError",
    "Runs",
    "ShownVariant",
    "SigningKey",
    "StandingGrant",
    "Store",
    "Waiting",
    "WaitingLine",
    "Worker",
    "Workers",
    "ZoneGround",
    "Zones",
    "open_checkpointer",
    "worker_name",
]
