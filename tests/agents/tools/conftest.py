from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from karkas.agents.tools import Tool, Workspace
from karkas.policies.actions import Action, Proposal, Variant, digest_of_bytes
from karkas.policies.gates import POLICY_VERSION, GateKind, PolicyDecision, PolicyVerdict
from karkas.policies.permits import Binding
from karkas.policies.verdicts import Approve
from karkas.policies.zones import ControlLevel
from karkas.storage import Claimed, NewGate, ShownVariant, Store

Permitted = Callable[[Tool, Action], Claimed]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with_store = Store.open(tmp_path / "state", create=True)
    yield with_store
    with_store.close()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    root = tmp_path / "project"
    root.mkdir(exist_ok=True)
    (root / "docs").mkdir()
    (root / "docs/a.md").write_text("one\ntwo\nthree\n")
    (root / "karkas.toml").write_text("# settings\n")
    (root / ".karkas").mkdir(exist_ok=True)
    (root / ".karkas/signing.key").write_text("secret")
    (root / ".git").mkdir()
    (root / ".git/config").write_text("[core]\n")
    (root / "zones").mkdir()
    return Workspace(root)


@pytest.fixture
def permitted(store: Store, workspace: Workspace) -> Permitted:
    """Takes an action through a gate that a person passes, and claims its permit."""

    def claim(tool: Tool, action: Action) -> Claimed:
        shown = tool.show(action, workspace)
        binding = Binding(
            action=action.digest,
            shown=digest_of_bytes(shown.encode()),
            tool_version=tool.version,
            preconditions=tool.preconditions(action, workspace),
            policy_version=POLICY_VERSION,
        )
        proposal = Proposal(
            zones=("lora",), task="t", why="w", proposer="executor", variants=(Variant(action=action),)
        )
        run = store.runs.create("act")
        gate = store.gates.open(
            NewGate(
                key=f"{run.id}:{action.digest}",
                run=run.id,
                kind=GateKind.ACTION,
                level=ControlLevel.PROPOSE_ONLY,
                policy=PolicyDecision(verdict=PolicyVerdict.PROPOSE, reasons=("test",)),
                proposal=store.artifacts.put_json(proposal.model_dump(mode="json")),
                variants=(
                    ShownVariant(
                        digest=action.digest, shown=store.artifacts.put_text(shown), binding=binding
                    ),
                ),
            )
        )
        store.gates.decide(gate.id, Approve(), by="anna")
        permit = store.ledger.for_gate(gate.id)
        assert permit is not None
        return store.ledger.claim(permit.id, worker="w1")

    return claim
