"""What gates, permits and their ledger must do, in plain Python: written from docs/gates.md, sharing no code with them."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

WAITING = {"open", "deferred"}
YES = {"approve", "choose", "adopt"}
STEPS = {
    "commit": ("started", "committed"),
    "fail": ("started", "failed"),
    "doubt": ("started", "unknown"),
    "void": ("approved claimed", "void"),
    "happened": ("unknown", "committed"),
    "did not": ("unknown", "failed"),
}


@dataclass
class ExpectedGate:
    policy: str
    actions: tuple[str, ...]
    people: int
    expires: datetime | None
    status: str = "open"
    until: datetime | None = None
    yes: list[tuple[str, str, int]] = field(default_factory=list)
    approved: str | None = None
    permit: str | None = None
    claims: int = 0
    again: bool = False
    """Whether its last claim took over what was started."""
    effects: int = 0
    grant: str | None = None
    """The grant that passed it."""

    @property
    def waits(self) -> bool:
        return self.status in WAITING

    def due(self, now: datetime) -> bool:
        return self.expires is not None and self.expires <= now


@dataclass
class ExpectedGrant:
    """Of the one tool and zone there is; `limit` uses until `expires`."""

    limit: int
    expires: datetime
    used: int = 0
    revoked: bool = False

    def in_force(self, now: datetime) -> bool:
        return not self.revoked and self.used < self.limit and self.expires > now


class Oracle:
    """Every method says whether the step is to be taken, and takes it."""

    def __init__(self) -> None:
        self.gates: dict[str, ExpectedGate] = {}
        self.grants: dict[str, ExpectedGrant] = {}
        self.stopped = False

    def covering(self, name: str, now: datetime) -> str | None:
        """The grant that passes a gate: the first given that is in force, for one action that one person decides."""
        gate = self.gates[name]
        alone = gate.policy == "propose" and len(gate.actions) == 1 and gate.people == 1
        if gate.status != "open" or gate.due(now) or not alone:
            return None
        return next((one for one, grant in self.grants.items() if grant.in_force(now)), None)

    def release(self, name: str, now: datetime) -> bool:
        grant, gate = self.covering(name, now), self.gates[name]
        if grant is None:
            return False
        self.grants[grant].used += 1
        gate.status, gate.approved, gate.permit, gate.grant = "passed", gate.actions[0], "approved", grant
        return True

    def revoke(self, name: str) -> bool:
        if self.grants[name].revoked:
            return False
        self.grants[name].revoked = True
        for gate in self.gates.values():
            if gate.grant == name and gate.permit in {"approved", "claimed"}:
                gate.permit = "void"
        return True

    def _lapsed(self, gate: ExpectedGate, now: datetime) -> bool:
        return gate.grant is not None and self.grants[gate.grant].expires <= now

    def decide(self, name: str, kind: str, now: datetime, *, by: str, variant: int, hours: int) -> bool:
        gate = self.gates[name]
        if not gate.waits or gate.due(now) or kind not in self._offered(gate):
            return False
        match kind:
            case "approve" | "choose" | "adopt":
                return self._yes(gate, kind, by, variant)
            case "defer":
                until = now + timedelta(hours=hours)
                if hours <= 0 or gate.due(until):
                    return False
                gate.status, gate.until = "deferred", until
            case "stop":
                gate.status = "cancelled"
                self._stop()
            case _:
                gate.status = {"edit": "superseded", "reject": "rejected"}[kind]
        return True

    def _offered(self, gate: ExpectedGate) -> set[str]:
        always = {"defer", "stop"}
        if gate.policy == "deny":
            return always
        if gate.policy == "draft":
            return always | {"adopt", "edit", "reject"}
        return always | {"approve" if len(gate.actions) == 1 else "choose", "edit", "reject"}

    def _yes(self, gate: ExpectedGate, kind: str, by: str, variant: int) -> bool:
        variant = 0 if kind == "approve" else variant
        if variant >= len(gate.actions):
            return False
        if any(who == by or (how, which) != (kind, variant) for who, how, which in gate.yes):
            return False
        gate.yes.append((by, kind, variant))
        if len(gate.yes) < gate.people:
            gate.status = "open"
        else:
            gate.status, gate.approved, gate.permit = "passed", gate.actions[variant], "approved"
        return True

    def _stop(self) -> None:
        self.stopped = True
        for gate in self.gates.values():
            if gate.waits:
                gate.status = "cancelled"
            if gate.permit in {"approved", "claimed"}:
                gate.permit = "void"

    def critic(self, name: str, word: str, now: datetime) -> bool:
        gate = self.gates[name]
        alone = gate.policy == "allow" and len(gate.actions) == 1 and gate.people == 1
        if gate.status != "open" or gate.due(now) or word != "passed" or not alone:
            return False
        gate.status, gate.approved, gate.permit = "passed", gate.actions[0], "approved"
        return True

    def wake(self, now: datetime) -> None:
        for gate in self.gates.values():
            if gate.waits and gate.due(now):
                gate.status = "expired"
            elif gate.status == "deferred" and gate.until is not None and gate.until <= now:
                gate.status = "open"

    def stale(self, name: str) -> bool:
        gate = self.gates[name]
        if gate.waits:
            gate.status = "stale"
            return True
        if gate.status != "passed" or gate.permit not in {"approved", "claimed", "void"}:
            return False
        gate.status, gate.permit = "stale", "void"
        return True

    def claim(self, name: str, now: datetime) -> bool:
        gate = self.gates[name]
        if gate.permit != "approved" or gate.status != "passed" or self.stopped or self._lapsed(gate, now):
            return False
        gate.permit, gate.claims, gate.again = "claimed", gate.claims + 1, False
        return True

    def take_over(self, name: str, now: datetime, *, idempotent: bool) -> bool:
        gate = self.gates[name]
        free = gate.permit == "claimed" or (gate.permit == "started" and idempotent)
        if not free or gate.status != "passed" or self.stopped or self._lapsed(gate, now):
            return False
        gate.claims, gate.again = gate.claims + 1, gate.permit == "started"
        return True

    def start(self, name: str, claimed: Any) -> bool:
        gate = self.gates[name]
        before = "started" if claimed.again else "claimed"
        if self.stopped or gate.permit != before or gate.claims != claimed.claim:
            return False
        gate.permit = "started"
        return True

    def end(self, name: str, how: str) -> bool:
        gate = self.gates[name]
        before, after = STEPS[how]
        if gate.permit not in before.split():
            return False
        gate.permit = after
        if how == "doubt" and gate.grant is not None:
            self.revoke(gate.grant)
        return True
