"""Gates and permits under any order of events: what passes is decided once, and executed once at most."""

import atexit
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from shutil import copytree, rmtree
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, precondition, rule

from karkas.policies.actions import Action, Effect, Proposal, Variant
from karkas.policies.errors import PermitError, VerdictError
from karkas.policies.gates import (
    POLICY_VERSION,
    Adopt,
    Approve,
    Choose,
    CriticReport,
    CriticStatus,
    Defer,
    Edit,
    GateKind,
    GateStatus,
    PolicyDecision,
    PolicyVerdict,
    Reject,
    Stop,
    Verdict,
    possible,
)
from karkas.policies.permits import Binding, LedgerError, PermitStatus
from karkas.policies.zones import ControlLevel
from karkas.storage import Claimed, Gate, NewGate, RunStatus, ShownVariant, Store

START = datetime(2026, 3, 1, tzinfo=UTC)
EDITED = Action(tool="write_file", args={"path": "edited"}, effect=Effect.REVERSIBLE)


@cache
def _made() -> Path:
    folder = Path(mkdtemp())
    atexit.register(rmtree, folder)
    Store.open(folder, create=True).close()
    return folder


class Machine(RuleBasedStateMachine):
    gates = Bundle("gates")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.folder = TemporaryDirectory()
        copytree(_made(), self.folder.name, dirs_exist_ok=True)
        self.store = Store.open(Path(self.folder.name), clock=lambda: self.now)
        self.run = self.store.runs.create("act").id
        self.store.runs.set_status(self.run, RunStatus.RUNNING)
        self.passed: dict[str, str] = {}
        """The action that was approved, by gate."""
        self.executed: Counter[str] = Counter()
        self.ended: set[str] = set()
        self.stopped = False

    def teardown(self) -> None:
        assert self.store.verify() == []
        self.store.close()
        self.folder.cleanup()

    @precondition(lambda self: not self.stopped)
    @rule(
        target=gates,
        key=st.integers(0, 9),
        variants=st.integers(1, 2),
        policy=st.sampled_from([*PolicyVerdict, PolicyVerdict.PROPOSE, PolicyVerdict.ALLOW]),
        expires=st.sampled_from([None, None, 5]),
    )
    def open(self, key: int, variants: int, policy: PolicyVerdict, expires: int | None) -> str:
        actions = [
            Action(tool="write_file", args={"path": f"{key}.{number}"}, effect=Effect.REVERSIBLE)
            for number in range(variants)
        ]
        proposal = Proposal(
            zones=(),
            task="t",
            why="w",
            proposer="executor",
            variants=tuple(Variant(action=one) for one in actions),
        )
        shown = self.store.artifacts.put_text("shown")
        gate = self.store.gates.open(
            NewGate(
                key=str(key),
                run=self.store.runs.get(self.run).id,
                kind=GateKind.ACTION,
                level=ControlLevel.PROPOSE_ONLY,
                policy=PolicyDecision(verdict=policy, reasons=()),
                proposal=self.store.artifacts.put_json(proposal.model_dump(mode="json")),
                variants=tuple(
                    ShownVariant(
                        digest=one.digest,
                        shown=shown,
                        binding=Binding(
                            action=one.digest,
                            shown=shown,
                            tool_version=shown,
                            preconditions={},
                            policy_version=POLICY_VERSION,
                        ),
                    )
                    for one in actions
                ),
                expires_at=self.now + timedelta(hours=expires) if expires else None,
            )
        )
        return gate.id

    @rule(
        gate=gates,
        verdict=st.sampled_from(
            [
                Approve(),
                Choose(variant=1),
                Adopt(),
                Edit(action=EDITED),
                Reject(reason="no"),
                "defer",
                *["yes"] * 9,
            ]
        ),
    )
    def decide(self, gate: str, verdict: Verdict | str) -> None:
        before = self.store.gates.get(gate)
        match verdict:
            case "defer":
                given: Verdict = Defer(until=self.now + timedelta(hours=1))
            case "yes":
                by_kind: dict[str, Verdict] = {
                    "approve": Approve(),
                    "choose": Choose(variant=1),
                    "adopt": Adopt(),
                }
                given = next((by_kind[one] for one in possible(before.facts) if one in by_kind), Approve())
            case _:
                assert not isinstance(verdict, str)
                given = verdict
        try:
            after = self.store.gates.decide(gate, given, by="anna")
        except VerdictError:
            assert self.store.gates.get(gate) == before
            return
        assert before.status.waits
        assert before.policy.verdict is not PolicyVerdict.DENY or isinstance(given, Defer | Reject | Edit)
        if after.status is GateStatus.PASSED:
            self._pass(after, given.variant if isinstance(given, Choose | Adopt) else 0)

    @rule(gate=gates, status=st.sampled_from(CriticStatus))
    def judge(self, gate: str, status: CriticStatus) -> None:
        before = self.store.gates.get(gate)
        report = CriticReport(
            critic="critic", status=status, digests=tuple(one.digest for one in before.variants), reason="r"
        )
        try:
            after = self.store.gates.pass_by_critic(gate, report)
        except (PermitError, VerdictError):
            assert self.store.gates.get(gate) == before
            return
        assert (status, before.policy.verdict) == (CriticStatus.PASSED, PolicyVerdict.ALLOW)
        self._pass(after, 0)

    def _pass(self, gate: Gate, variant: int) -> None:
        assert gate.id not in self.passed
        self.passed[gate.id] = gate.variants[variant].digest

    @rule(target=claims, gate=gates)
    def claim(self, gate: str) -> Any:
        permit = self.store.ledger.for_gate(gate)
        if permit is None:
            assert gate not in self.passed
            return multiple()
        try:
            claimed = self.store.ledger.claim(permit.id, worker="w")
        except PermitError:
            assert permit.status is not PermitStatus.APPROVED or self.stopped
            return multiple()
        assert claimed.action.digest == self.passed[gate]
        return gate, claimed

    @rule(target=claims, gate=gates, idempotent=st.booleans())
    def take_over(self, gate: str, idempotent: bool) -> Any:  # noqa: FBT001
        permit = self.store.ledger.for_gate(gate)
        if permit is None:
            return multiple()
        with self.store.runs.lease(self.run) as lease:
            try:
                claimed = self.store.ledger.reclaim(permit.id, worker="v", lease=lease, idempotent=idempotent)
            except PermitError:
                return multiple()
        assert permit.status is PermitStatus.CLAIMED or idempotent
        return gate, claimed

    @rule(claim=claims)
    def start(self, claim: tuple[str, Claimed]) -> None:
        gate, claimed = claim
        try:
            self.store.ledger.start(claimed)
        except PermitError:
            return
        assert not self.stopped
        assert gate not in self.ended
        self.executed[gate] += not claimed.again

    @rule(gate=gates, how=st.sampled_from(["commit", "fail", "doubt", "void", "happened", "did not"]))
    def end(self, gate: str, how: str) -> None:
        permit, ledger = self.store.ledger.for_gate(gate), self.store.ledger
        if permit is None:
            return
        try:
            match how:
                case "commit":
                    after = ledger.commit(permit.id, {"n": 1})
                case "fail":
                    after = ledger.fail(permit.id, "no")
                case "doubt":
                    after = ledger.doubt(permit.id, "died")
                case "void":
                    after = ledger.void(permit.id, "stale")
                case _:
                    after = ledger.resolve(permit.id, committed=how == "happened", by="anna", reason="looked")
        except LedgerError:
            assert ledger.get(permit.id) == permit
            return
        assert gate not in self.ended
        assert (after.status is PermitStatus.VOID) == (self.executed[gate] == 0)
        if after.status is not PermitStatus.UNKNOWN:
            self.ended.add(gate)

    @rule(gate=gates, chance=st.integers(0, 5))
    def make_stale(self, gate: str, chance: int) -> None:
        if chance < 5:
            return
        permit = self.store.ledger.for_gate(gate)
        try:
            self.store.gates.close(gate, GateStatus.STALE, "changed")
        except (VerdictError, LedgerError):
            return
        assert not self.executed[gate]
        if permit is not None:
            self.ended.add(gate)

    @rule(hours=st.sampled_from([0, 0, 1, 2]))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)
        for gate in self.store.gates.wake_due():
            assert gate.status in {GateStatus.OPEN, GateStatus.EXPIRED}
            assert gate.verdict is None

    @rule(gate=gates, chance=st.integers(0, 30))
    def stop(self, gate: str, chance: int) -> None:
        if chance == 30 and self.store.gates.get(gate).status.waits:
            try:
                self.store.gates.decide(gate, Stop(), by="anna")
            except VerdictError:  # it expired
                return
            self.stopped = True
            permits = [self.store.ledger.for_gate(one) for one in self.passed]
            self.ended |= {one.gate for one in permits if one and one.status is PermitStatus.VOID}

    @invariant()
    def nothing_is_executed_twice_or_without_a_verdict(self) -> None:
        assert all(count == 1 for count in self.executed.values() if count)
        assert {gate for gate, count in self.executed.items() if count} <= self.passed.keys()

    @invariant()
    def a_stopped_run_waits_for_nothing(self) -> None:
        if self.stopped:
            assert not [gate for gate in self.store.gates.list() if gate.status.waits]


Machine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestGatesAndPermits = Machine.TestCase
