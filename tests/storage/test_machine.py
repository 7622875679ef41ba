"""Gates, permits, grants and ledger under any order of events, against an oracle: two workers, crashes at any statement and
between commit and mirror, clocks that jump, and hands in the database.
"""

import atexit
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, precondition, rule
from sqlalchemy import event

from karkas.policies.actions import Action, Digest, Effect, Proposal, Variant
from karkas.policies.errors import KarkasError, PermitError, VerdictError
from karkas.policies.gates import (
    POLICY_VERSION,
    CriticReport,
    CriticStatus,
    GateKind,
    GateStatus,
    Hold,
    PolicyDecision,
    PolicyVerdict,
)
from karkas.policies.grants import AnyValue, Grant
from karkas.policies.permits import Binding, LedgerError
from karkas.policies.verdicts import Adopt, Approve, Choose, Defer, Edit, Reject, Stop, Verdict
from karkas.policies.zones import ControlLevel
from karkas.storage import Claimed, NewGate, RunStatus, ShownVariant, Store
from karkas.storage.prepared import Prepared

from .oracle import ExpectedGate, ExpectedGrant, Oracle

START = datetime(2026, 3, 1, tzinfo=UTC)
EDITED = Action(tool="write_file", args={"path": "edited"}, effect=Effect.REVERSIBLE)
MEMORY = Path("/dev/shm")
"""Not the disk, where there is this: what is tested here is not whether it keeps."""

MIRROR = 0
FUSES = st.sampled_from([*[None] * 24, MIRROR, *range(1, 25)])
"""At which SQL statement the process dies, or `MIRROR`: after the commit, before the log's last row is mirrored. A
call reads before it writes, so a fuse has to last as long as the longest: a grant's passing of a gate takes 21.
"""

PEOPLE = st.sampled_from(["anna", "anna", "boris"])

NOT_SIGNED = {
    "standing_grant": {"revoked_at", "revoked_by"},
    "gate": {"decided_at"},
    "permit": {"issued_at", "changed_at"},
    "run": {
        "budget",
        "spent",
        "deadline",
        # When and in which order workers take it up, and how often they had to put it back.
        *("key", "due_at", "priority", "tries", "crashes", "crashed_at"),
        "error",
        "result",
        "segment",
        "created_at",
        "changed_at",
        "finished_at",
    },
}
"""Columns on which nothing rests that passes a gate, and which `verify` does not hold against the record."""


class Died(BaseException):
    """The process is gone: no handler of karkas may catch it."""


class Desk:
    """Two workers at one store that is emptied for each example: opening one takes longer than an example."""

    def __init__(self) -> None:
        self.now = START
        self.fuse: int | None = None
        self.folder = TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.root = Path(self.folder.name)
        self.workers = [Store.open(self.root, clock=lambda: self.now, create=True) for _ in range(2)]
        for worker in self.workers:
            for engine in (worker.database._engine, worker.database._writing):
                event.listen(engine, "before_cursor_execute", self._burn)
            worker.database.after_commit.insert(0, self._burn_at_mirror)
        self.burning = patch.object(Prepared, "_execute", self._burns_at(Prepared._execute))
        self.burning.start()
        self.eyes = sqlite3.connect(self.root / "karkas.db")
        self.empty = self.copy()
        atexit.register(self.close)

    def close(self) -> None:
        self.burning.stop()
        self.eyes.close()
        self.empty.close()
        for worker in self.workers:
            worker.close()
        self.folder.cleanup()

    def clear(self) -> None:
        self.now, self.fuse = START, None
        self.put_back(self.empty, b"")

    def copy(self) -> sqlite3.Connection:
        copy = sqlite3.connect(":memory:")
        with closing(sqlite3.connect(self.root / "karkas.db")) as connection:
            connection.backup(copy)
        return copy

    def head(self) -> bytes:
        return (self.root / "audit.head").read_bytes()

    def put_back(self, copy: sqlite3.Connection, head: bytes) -> None:
        with closing(sqlite3.connect(self.root / "karkas.db")) as connection:
            copy.backup(connection)
        (self.root / "audit.head").write_bytes(head)

    @contextmanager
    def by_hand(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.root / "karkas.db")) as connection:
            for name in ("audit_no_UPDATE", "audit_no_DELETE"):
                connection.execute(f"DROP TRIGGER IF EXISTS {name}")
            connection.commit()
            yield connection

    def rows(self) -> list[Any]:
        tables = ("audit", "gate", "permit", "run", "standing_grant")
        return [self.eyes.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables]

    def _burns_at(self, execute: Callable[..., Any]) -> Callable[..., Any]:
        def executed(*given: Any) -> Any:
            self._burn()
            return execute(*given)

        return executed

    def _burn(self, *_: object) -> None:
        if self.fuse is not None and self.fuse != MIRROR:
            self.fuse -= 1
            if self.fuse == 0:
                self.fuse = None
                raise Died

    def _burn_at_mirror(self, _: object) -> None:
        if self.fuse == MIRROR:
            raise Died


@cache
def desk() -> Desk:
    return Desk()


class Machine(RuleBasedStateMachine):
    gates = Bundle("gates")
    claims = Bundle("claims")
    grants = Bundle("grants")

    def __init__(self) -> None:
        super().__init__()
        self.desk = desk()
        self.desk.clear()
        self.workers, self.store = self.desk.workers, self.desk.workers[0]
        self.run = self.store.runs.create("act").id
        self.store.runs.set_status(self.run, RunStatus.RUNNING)
        self.oracle = Oracle()
        self.names: dict[int, str] = {}
        self.earlier = self.desk.copy()

    @property
    def now(self) -> datetime:
        return self.desk.now

    def teardown(self) -> None:
        self.earlier.close()
        assert self.store.verify() == []

    def _try(self, fuse: int | None, call: Callable[[], Any]) -> Any:
        """What the call gives; what it was refused with; or `Died`: before anything was changed, or after all was."""
        before = self.desk.rows() if fuse else None
        self.desk.fuse = fuse
        try:
            return call()
        except (PermitError, VerdictError, LedgerError) as refusal:
            return refusal
        except Died as death:
            if fuse != MIRROR:
                self.desk.fuse = None
                assert self.desk.rows() == before, "a transaction that died left something behind"
            return death
        finally:
            self.desk.fuse = None

    def _took(self, fuse: int | None, result: Any) -> bool | None:
        """Whether the step was taken; None where the process died before it was."""
        if isinstance(result, Died):
            return True if fuse == MIRROR else None
        return not isinstance(result, KarkasError)

    @precondition(lambda self: not self.oracle.stopped)
    @rule(
        target=gates,
        key=st.integers(0, 9),
        variants=st.integers(1, 2),
        policy=st.sampled_from([*PolicyVerdict, PolicyVerdict.PROPOSE, PolicyVerdict.ALLOW]),
        people=st.sampled_from([1, 1, 2]),
        expires=st.sampled_from([None, None, 5]),
        worker=st.integers(0, 1),
        fuse=FUSES,
    )
    def open(
        self,
        *,
        key: int,
        variants: int,
        policy: PolicyVerdict,
        people: int,
        expires: int | None,
        worker: int,
        fuse: int | None,
    ) -> Any:
        actions = [
            Action(tool="write_file", args={"path": f"{key}.{number}"}, effect=Effect.REVERSIBLE)
            for number in range(variants)
        ]
        new = self._new(key, actions, policy, people, expires)
        result = self._try(fuse, lambda: self.workers[worker].gates.open(new))
        if isinstance(result, Died):
            if fuse != MIRROR:
                return multiple()
            result = self.store.gates.open(new)  # whoever comes next with this key gets the gate
        assert not isinstance(result, KarkasError)
        if key in self.names:
            assert result.id == self.names[key]
            return multiple()
        self.names[key] = result.id
        self.oracle.gates[result.id] = ExpectedGate(
            policy=result.policy.verdict.value,
            actions=tuple(one.digest for one in result.variants),
            people=result.policy.approvers,
            expires=result.expires_at,
        )
        return result.id

    def _new(
        self, key: int, actions: list[Action], policy: PolicyVerdict, people: int, expires: int | None
    ) -> NewGate:
        proposal = Proposal(
            zones=("lab",),
            task="t",
            why="w",
            proposer="executor",
            variants=tuple(Variant(action=one) for one in actions),
        )
        shown = self.store.artifacts.put_text("shown")
        return NewGate(
            key=str(key),
            run=self.run,
            kind=GateKind.ACTION,
            zones=("lab",),
            level=ControlLevel.PROPOSE_ONLY,
            policy=PolicyDecision(verdict=policy, reasons=(), approvers=people, holds=(Hold.LEVEL,)),
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

    @rule(
        gate=gates,
        kind=st.sampled_from(["approve", "choose", "adopt", "edit", "reject", "defer", "yes", "yes", "yes"]),
        variant=st.integers(0, 2),
        hours=st.sampled_from([-1, 0, 1]),
        by=PEOPLE,
        worker=st.integers(0, 1),
        fuse=FUSES,
    )
    def decide(
        self, *, gate: str, kind: str, variant: int, hours: int, by: str, worker: int, fuse: int | None
    ) -> None:
        expected = self.oracle.gates[gate]
        if kind == "yes":
            many = len(expected.actions) > 1
            kind = "adopt" if expected.policy == "draft" else "choose" if many else "approve"
            variant = len(expected.actions) - 1
        self._give(gate, kind, by=by, variant=variant, hours=hours, worker=worker, fuse=fuse)

    @rule(gate=gates, worker=st.integers(0, 1), chance=st.integers(0, 30))
    def stop(self, gate: str, worker: int, chance: int) -> None:
        if chance == 30:
            self._give(gate, "stop", by="anna", variant=0, hours=0, worker=worker, fuse=None)

    def _give(
        self, gate: str, kind: str, *, by: str, variant: int, hours: int, worker: int, fuse: int | None
    ) -> None:
        verdicts: dict[str, Verdict] = {
            "approve": Approve(),
            "choose": Choose(variant=variant),
            "adopt": Adopt(variant=variant),
            "edit": Edit(action=EDITED),
            "reject": Reject(reason="no"),
            "defer": Defer(until=self.now + timedelta(hours=hours)),
            "stop": Stop(),
        }
        store = self.workers[worker]
        result = self._try(fuse, lambda: store.gates.decide(gate, verdicts[kind], by=by))
        took = self._took(fuse, result)
        if took is not None:
            expected = self.oracle.decide(gate, kind, self.now, by=by, variant=variant, hours=hours)
            assert took == expected, result

    @rule(gate=gates, word=st.sampled_from([*CriticStatus, CriticStatus.PASSED]), fuse=FUSES)
    def judge(self, gate: str, word: CriticStatus, fuse: int | None) -> None:
        report = CriticReport(
            critic="critic",
            status=word,
            digests=tuple(map(Digest, self.oracle.gates[gate].actions)),
            reason="r",
        )
        result = self._try(fuse, lambda: self.store.gates.pass_by_critic(gate, report))
        took = self._took(fuse, result)
        if took is not None:
            assert took == self.oracle.critic(gate, word.value, self.now), result

    @rule(target=grants, limit=st.integers(1, 2), hours=st.sampled_from([0, 1, 5, 40]), fuse=FUSES)
    def grant(self, limit: int, hours: int, fuse: int | None) -> Any:
        if len(self.oracle.grants) == 4:
            return multiple()
        terms = Grant(
            zone="lab",
            tool="write_file",
            tool_version=self.store.artifacts.put_text("shown"),
            args={"path": AnyValue()},
            limit=limit,
            expires_at=self.now + timedelta(hours=hours),
            reason="r",
            author="anna",
        )
        result = self._try(fuse, lambda: self.store.grants.add(terms))
        if isinstance(result, Died) and fuse == MIRROR:
            (result,) = (one for one in self.store.grants.list() if one.id not in self.oracle.grants)
        if isinstance(result, Died):
            return multiple()
        assert isinstance(result, KarkasError) == (hours == 0), result
        if hours == 0:
            return multiple()
        self.oracle.grants[result.id] = ExpectedGrant(limit=limit, expires=terms.expires_at)
        return result.id

    @rule(gate=gates, worker=st.integers(0, 1), fuse=FUSES)
    def release(self, gate: str, worker: int, fuse: int | None) -> None:
        result = self._try(fuse, lambda: self.workers[worker].grants.release(gate))
        if self._took(fuse, result) is not None:
            passed = result is not None and not isinstance(result, KarkasError)
            assert self.oracle.release(gate, self.now) == passed or isinstance(result, Died), result

    @rule(grant=grants, worker=st.integers(0, 1), fuse=FUSES, chance=st.integers(0, 3))
    def revoke(self, grant: str, worker: int, fuse: int | None, chance: int) -> None:
        if chance:
            return
        result = self._try(fuse, lambda: self.workers[worker].grants.revoke(grant, by="anna", reason="r"))
        took = self._took(fuse, result)
        if took is not None:
            assert took == self.oracle.revoke(grant), result

    @rule(target=claims, gate=gates, worker=st.integers(0, 1), fuse=FUSES)
    def claim(self, gate: str, worker: int, fuse: int | None) -> Any:
        store = self.workers[worker]
        permit = store.ledger.for_gate(gate)
        if permit is None:
            assert self.oracle.gates[gate].permit is None
            return multiple()
        result = self._try(fuse, lambda: store.ledger.claim(permit.id, worker=str(worker)))
        return self._claimed(gate, fuse, result, lambda: self.oracle.claim(gate, self.now))

    @rule(target=claims, gate=gates, worker=st.integers(0, 1), idempotent=st.booleans(), fuse=FUSES)
    def take_over(self, gate: str, worker: int, idempotent: bool, fuse: int | None) -> Any:  # noqa: FBT001
        store = self.workers[worker]
        permit = store.ledger.for_gate(gate)
        if permit is None:
            return multiple()
        with store.runs.lease(self.run) as lease:
            result = self._try(
                fuse,
                lambda: store.ledger.reclaim(
                    permit.id, worker=str(worker), lease=lease, idempotent=idempotent
                ),
            )
        expect = lambda: self.oracle.take_over(gate, self.now, idempotent=idempotent)  # noqa: E731
        return self._claimed(gate, fuse, result, expect)

    def _claimed(self, gate: str, fuse: int | None, result: Any, expect: Callable[[], bool]) -> Any:
        took = self._took(fuse, result)
        if took is None:
            return multiple()
        assert took == expect(), result
        if not isinstance(result, Claimed):
            return multiple()  # refused, or claimed by a worker that is gone
        assert result.action.digest == self.oracle.gates[gate].approved
        return gate, result

    @rule(claim=claims, worker=st.integers(0, 1), fuse=FUSES, reaches=st.booleans())
    def start(self, claim: tuple[str, Claimed], worker: int, fuse: int | None, reaches: bool) -> None:  # noqa: FBT001
        """Begins, and where the worker lives on, has the effect."""
        gate, claimed = claim
        result = self._try(fuse, lambda: self.workers[worker].ledger.start(claimed))
        took = self._took(fuse, result)
        if took is None:
            return
        assert took == self.oracle.start(gate, claimed), result
        if took and reaches and not isinstance(result, Died) and not claimed.again:
            self.oracle.gates[gate].effects += 1

    @rule(
        gate=gates,
        how=st.sampled_from(["commit", "fail", "doubt", "void", "happened", "did not"]),
        worker=st.integers(0, 1),
        fuse=FUSES,
    )
    def end(self, gate: str, how: str, worker: int, fuse: int | None) -> None:
        ledger = self.workers[worker].ledger
        permit = ledger.for_gate(gate)
        if permit is None:
            return
        calls: dict[str, Callable[[], Any]] = {
            "commit": lambda: ledger.commit(permit.id, {"n": 1}),
            "fail": lambda: ledger.fail(permit.id, "no"),
            "doubt": lambda: ledger.doubt(permit.id, "died"),
            "void": lambda: ledger.void(permit.id, "stale"),
        }
        resolve = lambda: ledger.resolve(  # noqa: E731
            permit.id, committed=how == "happened", by="anna", reason="looked"
        )
        result = self._try(fuse, calls.get(how, resolve))
        took = self._took(fuse, result)
        if took is not None:
            assert took == self.oracle.end(gate, how), result

    @rule(gate=gates, chance=st.integers(0, 5), fuse=FUSES)
    def make_stale(self, gate: str, chance: int, fuse: int | None) -> None:
        if chance < 5:
            return
        result = self._try(fuse, lambda: self.store.gates.close(gate, GateStatus.STALE, "changed"))
        took = self._took(fuse, result)
        if took is not None:
            assert took == self.oracle.stale(gate), result

    @rule(hours=st.sampled_from([0, 0, 1, 2, 30, -1, -20]), worker=st.integers(0, 1))
    def wait(self, hours: int, worker: int) -> None:
        """Clocks jump, back too."""
        self.desk.now += timedelta(hours=hours)
        self.workers[worker].gates.wake_due()
        self.oracle.wake(self.now)

    @rule()
    def remember(self) -> None:
        self.earlier.close()
        self.earlier = self.desk.copy()

    @rule(data=st.data(), chance=st.integers(0, 3))
    def tamper(self, data: st.DataObject, chance: int) -> None:
        """Whatever a hand does to the database: it is named, and releases nothing that was not released."""
        if chance:
            return
        kept, head = self.desk.copy(), self.desk.head()
        with self.desk.by_hand() as connection:
            quiet = self._change(connection, data)
        try:
            if not quiet:
                assert self.store.verify() != []
            self._attack()
        finally:
            self.desk.put_back(kept, head)
            kept.close()

    def _change(self, connection: sqlite3.Connection, data: st.DataObject) -> bool:
        """Makes one change, and says whether nothing rests on what was changed, if anything was."""
        how = data.draw(st.sampled_from(["cell", "cell", "cell", "drop", "put back"]))
        if how == "put back":
            before = self.desk.rows()
            for table in ("gate", "permit"):
                columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
                connection.execute(f"DELETE FROM {table}")
                marks = ",".join("?" * len(columns))
                rows = self.earlier.execute(f"SELECT * FROM {table}").fetchall()
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
            connection.commit()
            return self.desk.rows() == before
        table = data.draw(st.sampled_from(["audit", "gate", "permit", "run", "standing_grant"]))
        rows = connection.execute(f"SELECT rowid, * FROM {table} ORDER BY rowid").fetchall()
        if not rows:
            return True
        row = data.draw(st.sampled_from(rows))
        if how == "drop":
            connection.execute(f"DELETE FROM {table} WHERE rowid = ?", row[:1])
            connection.commit()
            return False
        columns = [one[1] for one in connection.execute(f"PRAGMA table_info({table})")]
        at = data.draw(st.integers(0, len(columns) - 1))
        old = row[at + 1]
        others = [one[at + 1] for one in rows]
        words = {
            "status": ["open", "passed", "approved", "claimed", "queued"],
            "decided_by": ["anna", "boris"],
        }
        new = data.draw(st.sampled_from([None, "x", 7, *words.get(columns[at], []), *others]))
        if new == old:
            return True
        try:
            connection.execute(f"UPDATE {table} SET {columns[at]} = ? WHERE rowid = ?", (new, row[0]))
        except sqlite3.IntegrityError:
            return True
        connection.commit()
        (now,) = connection.execute(f"SELECT {columns[at]} FROM {table} WHERE rowid = ?", row[:1]).fetchone()
        # A column of text makes '7' of 7, so that a change may be none.
        return now == old or columns[at] in NOT_SIGNED.get(table, set())

    def _attack(self) -> None:
        """All that can be claimed is what was approved and not used; what was decided is not decided again."""
        for gate, expected in self.oracle.gates.items():
            for call in (self._claim_anew, self._release_anew, self._approve_anew):
                try:
                    call(gate, expected)
                except AssertionError:
                    raise
                except Exception:  # noqa: BLE001  a row that cannot even be read releases nothing either
                    continue

    def _claim_anew(self, gate: str, expected: ExpectedGate) -> None:
        permit = self.store.ledger.for_gate(gate)
        if permit is not None:
            claimed = self.store.ledger.claim(permit.id, worker="thief")
            assert (expected.permit, expected.status) == ("approved", "passed")
            assert claimed.action.digest == expected.approved
            assert not self.oracle.stopped

    def _release_anew(self, gate: str, expected: ExpectedGate) -> None:
        if self.store.grants.release(gate) is not None:
            permit = self.store.ledger.for_gate(gate)
            assert permit is not None
            self.store.ledger.claim(permit.id, worker="thief")
            assert expected.waits, "what was decided is not passed by a grant"
            assert any(grant.in_force(self.now) for grant in self.oracle.grants.values())

    def _approve_anew(self, gate: str, expected: ExpectedGate) -> None:
        many = len(expected.actions) > 1
        self.store.gates.decide(gate, Choose(variant=0) if many else Approve(), by="carla")
        permit = self.store.ledger.for_gate(gate)
        if permit is not None:
            self.store.ledger.claim(permit.id, worker="thief")
            assert expected.waits, "what was decided is not decided again"

    @invariant()
    def one_permit_is_one_effect_and_none_is_without_a_verdict(self) -> None:
        for gate in self.oracle.gates.values():
            assert gate.effects <= 1
            assert not gate.effects or gate.approved is not None

    @invariant()
    def no_grant_is_used_more_often_than_it_was_given(self) -> None:
        query = "SELECT id, used, revoked_at IS NOT NULL FROM standing_grant"
        assert {name: both for name, *both in self.desk.eyes.execute(query)} == {
            name: [one.used, one.revoked] for name, one in self.oracle.grants.items()
        }
        assert all(one.used <= one.limit for one in self.oracle.grants.values())

    @invariant()
    def the_store_is_as_the_oracle_has_it(self) -> None:
        query = (
            "SELECT gate.id, gate.status, permit.status FROM gate LEFT JOIN permit ON permit.gate = gate.id"
        )
        rows = {name: both for name, *both in self.desk.eyes.execute(query) if name in self.oracle.gates}
        assert rows == {name: [one.status, one.permit] for name, one in self.oracle.gates.items()}


Machine.TestCase.settings = settings(
    settings(),
    max_examples=max(settings().max_examples // 2, 1),
    stateful_step_count=25,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TestGatesAndPermits = Machine.TestCase


@pytest.mark.parametrize("fuse", range(1, 6))
def test_the_process_does_die_at_each_statement_of_a_change(fuse: int) -> None:
    desk().clear()
    store = desk().workers[0]
    run = store.runs.create("test")
    before = desk().rows()
    desk().fuse = fuse
    with pytest.raises(Died):
        store.runs.take_up(run.id)
    assert desk().rows() == before
    store.runs.take_up(run.id)
