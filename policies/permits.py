"""Permits: what a passed gate issues for one digest, once, and the ledger of what became of it."""

from enum import StrEnum
from typing import NewType

from pydantic import BaseModel, ConfigDict

from karkas.policies.actions import Digest
from karkas.policies.errors import KernelError

PermitId = NewType("PermitId", str)


class PermitStatus(StrEnum):
    """`approved → claimed → started → committed | failed | unknown`; `void` was never executed and never will be."""

    APPROVED = "approved"
    CLAIMED = "claimed"
    STARTED = "started"
    COMMITTED = "committed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    VOID = "void"


NEXT: dict[PermitStatus, frozenset[PermitStatus]] = {
    PermitStatus.APPROVED: frozenset({PermitStatus.CLAIMED, PermitStatus.VOID}),
    PermitStatus.CLAIMED: frozenset({PermitStatus.STARTED, PermitStatus.VOID}),
    PermitStatus.STARTED: frozenset({PermitStatus.COMMITTED, PermitStatus.FAILED, PermitStatus.UNKNOWN}),
    PermitStatus.UNKNOWN: frozenset({PermitStatus.COMMITTED, PermitStatus.FAILED}),
    PermitStatus.COMMITTED: frozenset(),
    PermitStatus.FAILED: frozenset(),
    PermitStatus.VOID: frozenset(),
}


class LedgerError(KernelError):
    """The ledger does not allow this step; the permit was used, or is in doubt."""


def step(before: PermitStatus, after: PermitStatus) -> PermitStatus:
    """Returns `after`, or raises `LedgerError` where the ledger has no such step."""
    if after not in NEXT[before]:
        raise LedgerError(f"a permit that is {before} cannot become {after}")
    return after


class Binding(BaseModel):
    """What a permit binds; all of it is computed again at execution."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Digest
    shown: Digest
    """Of the exact text that was shown to whoever decided."""
    tool_version: Digest
    preconditions: dict[str, str]
    """By name, for example the hash of the file to overwrite."""
    policy_version: Digest


def differences(bound: Binding, now: Binding) -> tuple[str, ...]:
    """What is not as it was approved, in words; empty when all is the same."""
    found = [
        words
        for words, before, after in (
            ("the action is another one", bound.action, now.action),
            ("the tool's code changed", bound.tool_version, now.tool_version),
            ("the policy changed", bound.policy_version, now.policy_version),
        )
        if before != after
    ]
    names = sorted(bound.preconditions.keys() | now.preconditions.keys())
    found += [
        f"{name} changed" for name in names if bound.preconditions.get(name) != now.preconditions.get(name)
    ]
    if bound.shown != now.shown:
        found.append("it would be shown differently now")
    return tuple(found)
