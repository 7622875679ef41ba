"""The ruling on a proposal: the zones that it touches, what their frames say, and what policy makes of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeAlias

from karkas.agents.frame import frame_text, load_frame, rules_for
from karkas.policies.actions import Digest, Proposal, digest_of
from karkas.policies.frames import Frame, FrameNode, Rule
from karkas.policies.gates import POLICY_VERSION, PolicyDecision
from karkas.policies.judging import judge
from karkas.policies.routing import Route, route
from karkas.policies.zones import ZoneName, ZoneState
from karkas.storage import Artifacts
from karkas.workflows.context import Context

Framed: TypeAlias = tuple[dict[ZoneName, Frame], dict[ZoneName, Digest]]
"""The frames of zones, and the artifacts that hold them."""


@dataclass(frozen=True)
class Ruling:
    route: Route
    decision: PolicyDecision
    frames: dict[ZoneName, Frame]
    frame_artifacts: dict[ZoneName, Digest]

    @property
    def version(self) -> Digest:
        """What a permit binds of policy: these rules, this verdict and level, these people, zones and frames."""
        return digest_of(
            {
                "policy": POLICY_VERSION,
                "verdict": self.decision.verdict.value,
                "level": self.route.level.value,
                "approvers": self.decision.approvers,
                "zones": [*sorted(self.route.zones)],
                "frames": {name: str(digest) for name, digest in sorted(self.frame_artifacts.items())},
            }
        )


async def rule_on(context: Context, proposal: Proposal) -> Ruling:
    """Rules on a proposal as things stand now; asked when its gate opens and again before it is executed."""
    touched = [
        (action.tool, context.tools[action.tool].paths(action) if action.tool in context.tools else ())
        for action in (variant.action for variant in proposal.variants)
    ]

    def look() -> tuple[Mapping[str, ZoneState], Route, Framed]:
        states = context.zones()
        way = route(
            states.values(),
            text=proposal.task,
            hearsay="" if proposal.task else proposal.why,
            paths=[path for _, paths in touched for path in paths],
            tools=[tool for tool, _ in touched],
            named=proposal.zones,
        )
        return states, way, _framed(context, way.zones)

    states, way, (frames, artifacts) = await context.at_once(look)
    rules: list[tuple[FrameNode, Rule]] = []
    for frame in frames.values():
        for tool, paths in touched:
            rules += rules_for(frame, tool=tool, paths=paths, task=proposal.task or proposal.why)
    decision = judge(
        proposal.variants,
        route=way,
        states=[states[name] for name in way.zones],
        known_tools=context.tools,
        rules=rules,
    )
    return Ruling(route=way, decision=decision, frames=frames, frame_artifacts=artifacts)


async def frames_of(context: Context, zones: tuple[ZoneName, ...]) -> Framed:
    """The frames in force in these zones, as they were accepted (not as the files on disk may read now)."""
    return await context.at_once(partial(_framed, context, zones))


def _framed(context: Context, zones: tuple[ZoneName, ...]) -> Framed:
    frames: dict[ZoneName, Frame] = {}
    artifacts: dict[ZoneName, Digest] = {}
    for name in zones:
        ground = context.store.zones.ground(name)
        if ground.frame_artifact is not None:
            artifacts[name] = ground.frame_artifact
            frames[name] = _frame(context.store.artifacts, ground.frame_artifact)
    return frames, artifacts


@lru_cache(maxsize=64)
def _frame(artifacts: Artifacts, digest: Digest) -> Frame:
    """Read once, and not for every action again: under one hash there is never another one."""
    return load_frame(artifacts.text(digest))


def recalled(context_frames: dict[ZoneName, Frame]) -> str:
    """The frames as a text for executor and critic."""
    return "\n\n".join(frame_text(frame, None) for frame in context_frames.values())
