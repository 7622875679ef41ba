"""What stands at a gate: all that a person needs to decide, read from the proven gate, in the order it is needed."""

from collections.abc import Iterator
from dataclasses import dataclass

from karkas.policies.actions import Digest, Proposal, Variant, digest_of
from karkas.policies.approvals import MOST
from karkas.policies.errors import KarkasError
from karkas.policies.gates import GateKind
from karkas.policies.verdicts import possible
from karkas.project import Project
from karkas.queue import consequences, grounds
from karkas.queue.blocks import Beside, Block, Command, Facts, Heading, Line, Quote, Shown
from karkas.queue.outcome import became, by_two, put_off, so_far
from karkas.storage import Gate, Run, ShownVariant
from karkas.storage.records import SYSTEM

BUILT_IN = {"write_file", "edit_file", "run_command"}
"""Tools whose text has a mark of its own on each line that may be somebody's words; a user's preview may have none."""

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


@dataclass(frozen=True)
class Sheet:
    """One gate as it was shown. `sight` changes with anything that stands at the gate."""

    gate: Gate
    run: Run
    proposal: Proposal | None
    blocks: tuple[Block, ...]

    @property
    def sight(self) -> Digest:
        return sight_of(self.gate)

    @property
    def possible(self) -> tuple[str, ...]:
        return possible(self.gate.facts)

    @property
    def irreversible(self) -> bool:
        return self.proposal is None or self.proposal.effect.value == "irreversible"


def sight_of(gate: Gate) -> Digest:
    return digest_of(gate.model_dump(mode="json"))


def proposal_of(project: Project, gate: Gate) -> Proposal | None:
    if gate.proposal is None:
        return None
    return Proposal.model_validate(project.store.artifacts.json(gate.proposal))


class Reader:
    """Reads gates of one project."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._sources = grounds.Sources(project.store)

    def read(self, name: str) -> Sheet:
        gate = self._project.store.gates.get(name)
        run = self._project.store.runs.get(gate.run)
        proposal = proposal_of(self._project, gate)
        return Sheet(gate, run, proposal, tuple(self._blocks(gate, run, proposal)))

    def sources(self, proposal: Proposal) -> dict[str, str]:
        """Where each source is from, by its id, as the zones' distillates say."""
        known = self._sources.of(proposal.zones)
        return {name: next(iter(source.locator.values()), name) for name, source in known.items()}

    def _blocks(self, gate: Gate, run: Run, proposal: Proposal | None) -> Iterator[Block]:
        yield Facts(tuple(self._facts(gate, run, proposal)))
        if gate.prompt:
            yield Heading("Question" if gate.kind is GateKind.QUESTION else "What is asked")
            yield Quote(gate.prompt)
            yield from (Line(f"  {choice}") for choice in gate.choices)
        for name in ("claims", "conflicts", "open_questions"):
            if name in gate.detail:
                yield Line(f"  {name.replace('_', ' ')}: {gate.detail[name]}")
        if proposal is not None and gate.kind is GateKind.ACTION:
            yield from self._variants(gate, proposal)
            yield from grounds.evidence(self._sources, proposal)
        yield from _critic(gate)
        yield from consequences.blocks(self._project, gate, run, proposal)
        if gate.kind is GateKind.FRAME:
            yield from self._map(gate)
        yield from commands(gate, proposal)

    def _facts(
        self, gate: Gate, run: Run, proposal: Proposal | None
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        decided = f" by {gate.decided_by}" if gate.decided_by else ""
        yield "gate", (f"{gate.id}, {gate.kind}, {gate.status}{decided}",)
        if until := put_off(gate):
            yield "put off", (until,)
        if expires := _expires(gate):
            yield "expires", (expires,)
        if by_two(gate):
            said = so_far(gate)
            yield "approvers", (f"{MOST} different people must say the same", *([said] if said else []))
        if came := became(self._project, gate):
            yield "became", tuple(came)
        yield "zone", (", ".join(gate.zones) or "none that is declared",)
        yield "level", (_level(gate), *self._fallen(gate))
        why = tuple(one for one in gate.policy.reasons if one != gate.level_why)
        yield "policy", (gate.policy.verdict.value, *why)
        yield "run", (f"{run.id}, {run.workflow}{f', {gate.lane}' if gate.lane else ''}",)
        if proposal is not None:
            yield "task", (proposal.task or "none was given",)
            if proposal.why:
                yield "why", (proposal.why,)
            yield "proposed by", (proposal.proposer,)
        if gate.reason:
            yield "reason", (gate.reason,)
        if again := self._superseded(gate):
            yield "asks again", (again,)

    def _fallen(self, gate: Gate) -> Iterator[str]:
        """Why this is asked at all, where one action took a zone out of autonomy: many gates may have that cause."""
        store = self._project.store
        for zone in gate.zones if gate.status.waits and gate.kind is GateKind.ACTION else ():
            record = store.zones.get(zone)
            falls = [one for one in store.audit.log(subject=f"zone:{zone}") if one.event == "zone_level_fell"]
            if falls and record is not None and record.author == SYSTEM:
                yield f"zone {zone} left autonomy at {falls[-1].at.astimezone():%Y-%m-%d %H:%M}: {record.reason}"
                yield f'to restore it: karkas zone set {zone} --level autonomous --reason "..."'

    def _superseded(self, gate: Gate) -> str | None:
        """Why an earlier gate of the same action asks again here."""
        earlier = [
            other
            for other in self._project.store.gates.list(run=gate.run)
            if other.lane == gate.lane and other.opened_at < gate.opened_at and other.id != gate.id
        ]
        if not earlier:
            return None
        last = earlier[-1]
        return f"{last.id} is {last.status}{f': {last.reason}' if last.reason else ''}"

    def _variants(self, gate: Gate, proposal: Proposal) -> Iterator[Block]:
        columns = []
        for index, (variant, shown) in enumerate(zip(proposal.variants, gate.variants, strict=True), start=1):
            many = f"Variant {index} of {len(gate.variants)}: {variant.why}"
            columns.append(
                (
                    Heading(many if len(gate.variants) > 1 else "Action"),
                    Line(f"{variant.action.tool}, {variant.action.effect}, digest {shown.digest[:16]}"),
                    exact(self._project, variant, shown),
                    *grounds.arguments(variant),
                )
            )
        if len(columns) > 1:
            yield Beside(tuple(columns))
        else:
            yield from columns[0]

    def _map(self, gate: Gate) -> Iterator[Block]:
        """The page of the distillate that is to be framed, as it was when the gate opened."""
        artifact = gate.detail.get("artifact")
        if not isinstance(artifact, str):
            return
        from karkas.agents.distillate import load, to_markdown

        yield Heading(f"The map of zone {gate.zones[0]}")
        try:
            page = to_markdown(load(self._project.store.artifacts.text(Digest(artifact))))
        except KarkasError as error:
            yield Line(f"it cannot be read: {error}")
        else:
            yield Quote(page.rstrip("\n"))


def exact(project: Project, variant: Variant, shown: ShownVariant) -> Shown:
    """The exact text that the permit binds, whole."""
    mark = "" if variant.action.tool in BUILT_IN else "  | "
    return Shown(project.store.artifacts.text(shown.shown), mark=mark)


def _expires(gate: Gate) -> str | None:
    """Until when a person can decide, in the person's own time."""
    if gate.expires_at is None or not gate.status.waits:
        return None
    return f"{gate.expires_at.astimezone():%Y-%m-%d %H:%M}, and then nothing happens"


def _level(gate: Gate) -> str:
    """The level with its reason, which often begins with it."""
    return (
        gate.level_why if gate.level_why.startswith(gate.level.value) else f"{gate.level}: {gate.level_why}"
    )


def _critic(gate: Gate) -> Iterator[Block]:
    if gate.critic is None:
        return
    yield Heading("Critic")
    yield Line(f"{gate.critic.status} ({gate.critic.critic})")
    yield Quote(gate.critic.reason)
    for finding in gate.critic.findings:
        yield Line(f"- {finding.text}")
        if finding.quote:
            yield Quote(finding.quote, mark="  > ")


def commands(gate: Gate, proposal: Proposal | None) -> Iterator[Block]:
    """What can be said at the gate: each command whole, so that it can be copied from the last screen."""
    offered = possible(gate.facts)
    if not offered:
        return
    yield Heading("To decide")
    variants = proposal.variants if proposal is not None and len(gate.variants) > 1 else ()
    for name in offered:
        said = COMMANDS[name].format(gate=gate.id, number="NUMBER")
        if gate.kind is GateKind.FRAME and name == "adopt":
            yield Command(f"karkas frame {gate.zones[0]}")
        elif gate.kind is GateKind.FRAME:
            yield Command(said.removesuffix(" [--revise]"))
        elif variants and name in {"choose", "adopt"}:
            for number, variant in enumerate(variants, start=1):
                which = f" --variant {number}" if name == "adopt" else ""
                yield Command(f"{COMMANDS[name].format(gate=gate.id, number=number)}{which}", why=variant.why)
        else:
            yield Command(f"{said}{' [--variant NUMBER]' if variants and name == 'edit' else ''}")
