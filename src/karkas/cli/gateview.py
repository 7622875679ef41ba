"""A gate on the screen: in one line, whole, or as JSON."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from karkas.cli import screen
from karkas.policies.actions import Proposal
from karkas.policies.approvals import FEWEST, MOST
from karkas.policies.gates import possible

if TYPE_CHECKING:
    from karkas.policies.provenance import ArgumentOrigin
    from karkas.project import Project
    from karkas.storage import Gate, ShownVariant

COMMANDS = {
    "approve": "karkas queue approve {gate}",
    "choose": "karkas queue choose {gate} {number}",
    "edit": "karkas queue edit {gate}",
    "adopt": "karkas queue adopt {gate}",
    "reject": 'karkas queue reject {gate} --reason "..." [--revise]',
    "answer": "karkas queue answer {gate} TEXT",
    "defer": "karkas queue defer {gate} WHEN",
    "stop": "karkas queue stop {gate}",
}


BUILT_IN = {"write_file", "edit_file", "run_command"}
"""Tools whose text has a mark of its own on each line that may be somebody's words; a user's preview may have none."""


def proposal_of(project: "Project", gate: "Gate") -> Proposal | None:
    if gate.proposal is None:
        return None
    return Proposal.model_validate(project.store.artifacts.json(gate.proposal))


def row(project: "Project", gate: "Gate") -> tuple[str, ...]:
    return (
        gate.id,
        ", ".join(gate.zones) or "none",
        gate.level.value,
        what(project, gate),
        _state(project, gate),
        gate.run,
    )


def _state(project: "Project", gate: "Gate") -> str:
    """How long it has waited, until when it was put off, or how it ended."""
    if gate.status.waits:
        waited = put_off(gate) or _since(project.store.clock() - gate.opened_at)
        return f"{waited}, {said}" if (said := so_far(gate)) else waited
    return f"{gate.status}, {back}" if (back := taken_back(project, gate)) else gate.status.value


def put_off(gate: "Gate") -> str | None:
    """Until when a deferred gate is put off, in the person's own time."""
    if gate.status.value != "deferred" or gate.deferred_until is None:
        return None
    return f"until {gate.deferred_until.astimezone():%Y-%m-%d %H:%M}"


def so_far(gate: "Gate") -> str | None:
    """Where two people decide: who said what, and that another one is needed."""
    if not gate.approvals:
        return None
    said = "; ".join(f"{one.told} by {one.by}" for one in gate.approvals)
    return f"{len(gate.approvals)} of {MOST}: {said}" if gate.status.waits else said


def taken_back(project: "Project", gate: "Gate") -> str | None:
    """Who took back what was performed under the gate, where somebody did."""
    permit = project.store.ledger.for_gate(gate.id)
    if permit is None:
        return None
    for entry in reversed(project.store.audit.log(subject=f"permit:{permit.id}")):
        if entry.event.startswith("undo_"):
            return f"taken back by {entry.actor}" if entry.event == "undo_done" else None
    return None


def what(project: "Project", gate: "Gate") -> str:
    """What the gate is about, in a few words."""
    proposal = proposal_of(project, gate)
    if gate.kind.value != "action" or proposal is None:
        return {"frame": "frame the zone", "outcome": "did it happen?"}.get(gate.kind.value, gate.prompt)
    action = proposal.variants[0].action
    more = f" ({len(proposal.variants)} variants)" if len(proposal.variants) > 1 else ""
    target = action.args.get("path") or action.args.get("argv") or ""
    return f"{action.tool} {target}{more}".strip()


def print_gate(project: "Project", gate: "Gate") -> None:
    """Everything that a person needs to decide, in the order in which it is needed."""
    proposal = proposal_of(project, gate)
    run = project.store.runs.get(gate.run)
    screen.facts(
        [
            (
                "gate",
                f"{gate.id}, {gate.kind}, {gate.status}{f' by {gate.decided_by}' if gate.decided_by else ''}",
            ),
            *([("put off", until)] if (until := put_off(gate)) else []),
            *([("expires", expires)] if (expires := _expires(gate)) else []),
            *([("approvers", approvers)] if (approvers := _approvers(gate)) else []),
            *([("became", became)] if (became := _became(project, gate)) else []),
            ("zone", ", ".join(gate.zones) or "none that is declared"),
            ("level", _level(gate)),
            (
                "policy",
                [f"{gate.policy.verdict}", *(one for one in gate.policy.reasons if one != gate.level_why)],
            ),
            ("run", f"{run.id}, {run.workflow}{f', {gate.lane}' if gate.lane else ''}"),
            *(
                [
                    ("task", proposal.task or "none was given"),
                    *([("why", proposal.why)] if proposal.why else []),
                    ("proposed by", proposal.proposer),
                ]
                if proposal
                else []
            ),
            *([("reason", gate.reason)] if gate.reason else []),
            *([("asks again", again)] if (again := _superseded(project, gate)) else []),
        ]
    )
    if gate.prompt:
        screen.heading("Question" if gate.kind.value == "question" else "What is asked")
        screen.quote(gate.prompt)
        for choice in gate.choices:
            screen.line(f"  {choice}")
    for name in ("claims", "conflicts", "open_questions"):
        if name in gate.detail:
            screen.say(f"  {name.replace('_', ' ')}: {gate.detail[name]}")
    if proposal is not None and gate.kind.value == "action":
        _print_variants(project, gate, proposal)
        _print_evidence(project, proposal)
    _print_critic(gate)
    _print_commands(gate, proposal)


def _expires(gate: "Gate") -> str | None:
    """Until when a person can decide, in the person's own time."""
    if gate.expires_at is None or not gate.status.waits:
        return None
    return f"{gate.expires_at.astimezone():%Y-%m-%d %H:%M}, and then nothing happens"


def _approvers(gate: "Gate") -> list[str]:
    needed = [f"{MOST} different people must say the same"]
    return [*needed, *([said] if (said := so_far(gate)) else [])] if _by_two(gate) else []


def _by_two(gate: "Gate") -> bool:
    return gate.policy.approvers > FEWEST or bool(gate.approvals)


def _print_commands(gate: "Gate", proposal: Proposal | None) -> None:
    """What can be said at the gate: each command whole, so that it can be copied from the last screen."""
    commands = possible(gate.facts)
    if not commands:
        return
    screen.heading("To decide")
    variants = proposal.variants if proposal is not None and len(gate.variants) > 1 else ()
    for name in commands:
        if gate.kind.value == "frame" and name in {"adopt", "reject"}:
            command = (
                f"karkas frame {gate.zones[0]}" if name == "adopt" else COMMANDS[name].format(gate=gate.id)
            )
            screen.say(f"  {command.removesuffix(' [--revise]')}")
        elif variants and name in {"choose", "adopt"}:
            for number, variant in enumerate(variants, start=1):
                which = f" --variant {number}" if name == "adopt" else ""
                screen.say(f"  {COMMANDS[name].format(gate=gate.id, number=number)}{which}")
                screen.line(f"    {variant.why}")
        else:
            which = " [--variant NUMBER]" if variants and name == "edit" else ""
            screen.say(f"  {COMMANDS[name].format(gate=gate.id)}{which}")


def _level(gate: "Gate") -> str:
    """The level with its reason, which often begins with it."""
    return (
        gate.level_why if gate.level_why.startswith(gate.level.value) else f"{gate.level}: {gate.level_why}"
    )


def _became(project: "Project", gate: "Gate") -> list[str]:
    """What came of a decided gate: the variant, what its action did, and whether that was taken back."""
    permit = project.store.ledger.for_gate(gate.id)
    if permit is None:
        return []
    which = f"variant {permit.variant + 1}, " if len(gate.variants) > 1 else ""
    shown = (permit.result or {}).get("shown")
    said = [f"{which}{permit.status}", permit.reason, str(shown or "").split("\n", 1)[0]]
    return [one for one in (*said, taken_back(project, gate)) if one]


def _print_variants(project: "Project", gate: "Gate", proposal: Proposal) -> None:
    for index, (variant, shown) in enumerate(zip(proposal.variants, gate.variants, strict=True), start=1):
        many = f" {index} of {len(gate.variants)}: {variant.why}" if len(gate.variants) > 1 else ""
        screen.heading(f"Variant{many}" if many else "Action")
        screen.line(f"{variant.action.tool}, {variant.action.effect}, digest {shown.digest[:16]}")
        print_shown(project, shown, tool=variant.action.tool)
        screen.heading("Where its arguments come from")
        for origin in variant.origins:
            print_origin(origin)


def print_origin(origin: "ArgumentOrigin") -> None:
    mark = "   " if origin.grounded else "(!)"
    where = f" ({origin.label})" if origin.label else ""
    screen.line(
        f"{mark} {origin.pointer}: {origin.origin}{where}", style=None if origin.grounded else "yellow"
    )


def print_shown(project: "Project", shown: "ShownVariant", *, tool: str) -> None:
    """The exact text that the permit binds, whole."""
    screen.diff(project.store.artifacts.text(shown.shown), mark="" if tool in BUILT_IN else "  | ")


def _print_evidence(project: "Project", proposal: Proposal) -> None:
    if not proposal.evidence:
        return
    names = source_names(project, proposal)
    screen.heading(f"Evidence ({len(proposal.evidence)} spans)")
    for span in proposal.evidence:
        screen.line(f"{names.get(span.source, span.source)} [{span.start}:{span.end}]")
        screen.quote(span.quote, mark="  > ")


def source_names(project: "Project", proposal: Proposal) -> dict[str, str]:
    """Where each source is from, by its id, as the zones' distillates say."""
    from karkas.agents.distillate import load

    names: dict[str, str] = {}
    for zone in proposal.zones:
        ground = project.store.zones.ground(zone)
        if ground.distillate_artifact is not None:
            found = load(project.store.artifacts.text(ground.distillate_artifact))
            names |= {source.id: next(iter(source.locator.values()), source.id) for source in found.sources}
    return names


def _print_critic(gate: "Gate") -> None:
    if gate.critic is None:
        return
    screen.heading("Critic")
    screen.line(f"{gate.critic.status} ({gate.critic.critic})")
    screen.quote(gate.critic.reason)
    for finding in gate.critic.findings:
        screen.line(f"- {finding.text}")
        if finding.quote:
            screen.quote(finding.quote, mark="  > ")


def _superseded(project: "Project", gate: "Gate") -> str | None:
    """Why an earlier gate of the same action asks again here."""
    earlier = [
        other
        for other in project.store.gates.list(run=gate.run)
        if other.lane == gate.lane and other.opened_at < gate.opened_at and other.id != gate.id
    ]
    if not earlier:
        return None
    last = earlier[-1]
    return f"{last.id} is {last.status}{f': {last.reason}' if last.reason else ''}"


def as_json(project: "Project", gate: "Gate", *, whole: bool = False) -> dict[str, Any]:
    """The gate; `whole` adds the proposal, the exact texts shown, and where its sources are from."""
    found: dict[str, Any] = gate.model_dump(mode="json")
    found["possible"] = list(possible(gate.facts))
    found["what"] = what(project, gate)
    proposal = proposal_of(project, gate)
    if whole and proposal is not None:
        found["proposed"] = proposal.model_dump(mode="json")
        found["shown"] = [project.store.artifacts.text(variant.shown) for variant in gate.variants]
        found["sources"] = source_names(project, proposal)
    return found


def _since(waited: timedelta) -> str:
    minutes = int(waited.total_seconds() // 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h"
    return f"{minutes // (24 * 60)} days"
