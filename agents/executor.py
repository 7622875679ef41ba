"""The executor: proposes actions. What it proposes passes a gate before anything is done."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import JsonValue

from karkas.agents.distillate import to_markdown
from karkas.agents.frame import frame_text
from karkas.agents.prompts import instructions
from karkas.agents.tools import ToolBox, Workspace
from karkas.policies.actions import EDITED_BY, Action, Evidence, Proposal, Variant, canonical
from karkas.policies.distillates import Distillate, SourceStatus
from karkas.policies.errors import KarkasError, ModelNeededError, ToolError
from karkas.policies.frames import Frame
from karkas.policies.provenance import ArgumentOrigin, Material, Origin, leaves, trace
from karkas.policies.routing import path_matches
from karkas.policies.zones import ZoneName
from karkas.server.protocol import Engine, Request, Role
from karkas.server.questions import Propose, Proposed, ToolCall

PUBLISHING = re.compile(r"\b(publish|report|map|опубликовать|опубликуй|отч[её]т|карт[аыу])\w*", re.IGNORECASE)
PATH = re.compile(r"(?<![\w/.])((?:[\w.-]+/)*[\w-]+\.(?:md|markdown|txt))\b")


@dataclass(frozen=True)
class Plan:
    """What is to be proposed: one call, or several variants to choose from, why, and on what evidence.

    `materials` are texts that the values may have come from, for their provenance; `by_model` says that a language
    model wrote the calls, and `unfit` says why some of them were left out; `zones` are touched besides those that the
    routing finds.
    """

    calls: tuple[ToolCall, ...]
    why: str
    evidence: tuple[Evidence, ...] = ()
    materials: tuple[Material, ...] = ()
    by_model: bool = False
    proposer: str = ""
    zones: tuple[ZoneName, ...] = ()
    unfit: tuple[str, ...] = ()


def call(tool: str, /, why: str = "", **args: JsonValue) -> ToolCall:
    """One call of a tool, for a proposer to return: `call("write_file", path="notes/a.md", content="...")`.

    `why` is what the person at the gate reads. A tool with a parameter of that name is called by `ToolCall` itself.
    """
    return ToolCall(tool=tool, args=args, why=why)


def draft_proposal(
    plan: Plan,
    *,
    tools: ToolBox,
    zones: tuple[ZoneName, ...],
    task: str,
    materials: Sequence[Material],
    name: str,
) -> Proposal:
    """A plan as a proposal: arguments checked by their tools, the origin of each traced."""
    variants = []
    for call in plan.calls:
        action = _action(call, tools)
        given = {name: value for name, value in action.args.items() if name in call.args}
        origins = (
            *trace(given, materials, by_model=plan.by_model),
            *(
                ArgumentOrigin(pointer=f"/{name}", origin=Origin.TOOL_DEFAULT, label=call.tool)
                for name in action.args
                if name not in given
            ),
        )
        variants.append(Variant(action=action, why=call.why, origins=origins))
    return Proposal(
        zones=zones,
        task=task,
        why=plan.why,
        proposer=plan.proposer or f"workflow/{name}",
        variants=tuple(variants),
        evidence=plan.evidence,
    )


def edited(proposal: Proposal, action: Action, *, by: str) -> Proposal:
    """A person's edit: a new proposal of one new action, whose values are the person's.

    A value that stands there as an agent proposed it keeps its doubtful origin, also where it was moved: the person
    changed something else.
    """
    asked = Material(origin=Origin.TASK, label=f"edited by {by}", text=_leaf_text(action))
    doubtful = {
        canonical(value): origin
        for variant in proposal.variants
        for pointer, value in leaves(variant.action.args)
        for origin in variant.origins
        if origin.pointer == pointer and not origin.grounded
    }
    values = dict(leaves(action.args))
    origins = [
        found.model_copy(update={"pointer": one.pointer})
        if (found := doubtful.get(canonical(values[one.pointer])))
        else one
        for one in trace(action.args, [asked], by_model=False)
    ]
    return proposal.model_copy(
        update={
            "proposer": f"{proposal.proposer}{EDITED_BY}{by}",
            "variants": (
                Variant(
                    action=action,
                    why=f"edited by {by}",
                    origins=tuple(origins),
                ),
            ),
        }
    )


async def propose(
    engine: Engine,
    *,
    zone: ZoneName,
    task: str,
    frame: Frame | None,
    distillate: Distillate | None,
    tools: ToolBox,
    trusted: Sequence[str],
    at_most: int,
    feedback: str,
) -> Plan:
    """Variants of one tool call that would do the task. Without a language model only publishing can be proposed;
    anything else raises `ModelNeededError`.
    """
    recalled = frame_text(frame, distillate) if frame is not None else ""
    if not engine.answers(Propose):
        if frame is None or distillate is None or not PUBLISHING.search(task):
            raise ModelNeededError(
                "without a language model the executor can propose only what is mechanical: publishing a framed"
                f' zone\'s report and map, for example `karkas act {zone} "publish the report to docs/{zone}.md"`,'
                f" or a call that you name yourself: `karkas act {zone} TASK --tool TOOL --args JSON`. To let it"
                " propose this, name a model server under [model] in karkas.toml, then `karkas runs resume RUN`"
            )
        return publish(zone, task, frame, distillate, trusted=trusted, engine=str(engine.info))
    question = Propose(
        zone=zone,
        task=task,
        frame=recalled,
        tools=tuple(tool.spec() for tool in tools.values()),
        at_most=at_most,
        feedback=feedback,
    )
    reply = await engine.ask(
        Request(
            role=Role.EXECUTOR,
            instructions=instructions(Role.EXECUTOR),
            question=question,
            answer=Proposed,
        )
    )
    return Plan(
        calls=reply.value.calls[:at_most],
        why=reply.value.why,
        materials=materials_of(frame, distillate, trusted=trusted),
        by_model=True,
        proposer=f"executor/{reply.engine}",
    )


def doable(plan: Plan, tools: ToolBox, workspace: Workspace) -> Plan:
    """The plan without the calls that their tools cannot take or show as things are: models name files that are not
    there, and one such variant must not cost the others.
    """
    calls, unfit = [], []
    for each in plan.calls:
        try:
            tools[each.tool].show(_action(each, tools), workspace)
        except KarkasError as error:
            unfit.append(f"{each.tool}: {error}")
        else:
            calls.append(each)
    why = plan.why if calls or not unfit else f"what was proposed cannot be done: {unfit[0]}"
    return replace(plan, calls=tuple(calls), why=why, unfit=tuple(unfit))


def publish(
    zone: ZoneName,
    task: str,
    frame: Frame,
    distillate: Distillate,
    *,
    trusted: Sequence[str],
    engine: str,
) -> Plan:
    """The zone's report with its map, or the map alone, as a file in the workspace."""
    named = PATH.search(task)
    path = named.group(1) if named else f"docs/{zone}.md"
    map_text = map_to_markdown(frame)
    report = f"{to_markdown(distillate).rstrip()}\n\n{map_text}"
    ruled = {claim for node in frame.nodes for claim in node.claims}
    evidence = tuple(span for claim in distillate.claims if claim.id in ruled for span in claim.evidence[:1])
    calls = (
        ToolCall(tool="write_file", args={"path": path, "content": report}, why="the report and the map"),
        ToolCall(tool="write_file", args={"path": path, "content": map_text}, why="the map alone"),
    )
    return Plan(
        calls=calls,
        why=f"publishes the framed map of zone {zone} ({distillate.id})",
        evidence=evidence,
        materials=materials_of(frame, distillate, trusted=trusted),
        proposer=f"executor/{engine}",
    )


def named_call(tool: str, args: Mapping[str, object], *, task: str, by: str) -> Plan:
    """A call that a person named outright; its values are the person's."""
    call = ToolCall.model_validate({"tool": tool, "args": dict(args), "why": f"named by {by}"})
    asked = Material(origin=Origin.TASK, label=f"named by {by}", text="\n".join(_strings(call.args)))
    return Plan(calls=(call,), why=task, materials=(asked,), proposer=f"person/{by}")


def materials_of(
    frame: Frame | None, distillate: Distillate | None, *, trusted: Sequence[str]
) -> tuple[Material, ...]:
    """What values may have come from: the frame's own words, and the quotes of the distillate by trust."""
    found = []
    if frame is not None:
        titles = "\n".join(node.title for node in frame.nodes)
        found.append(Material(origin=Origin.FRAME, label=f"the frame by {frame.author}", text=titles))
    if distillate is not None:
        quotes: dict[str, list[str]] = {}
        for claim in distillate.claims:
            for span in claim.evidence:
                quotes.setdefault(span.source, []).append(span.quote)
        for source in distillate.sources:
            if source.status is SourceStatus.USED and source.id in quotes:
                where = next(iter(source.locator.values()), source.id)
                origin = Origin.TRUSTED_SOURCE if is_trusted(where, trusted) else Origin.UNTRUSTED_SOURCE
                found.append(Material(origin=origin, label=where, text="\n".join(quotes[source.id])))
    return tuple(found)


def is_trusted(where: str, trusted: Sequence[str]) -> bool:
    """Whether a zone's owner listed this source (glob over its locator) among its trusted sources."""
    return any(path_matches(where, glob) for glob in trusted)


def map_to_markdown(frame: Frame) -> str:
    """The frame as a nested list, rules marked."""
    lines = [
        f"## Map of zone {frame.zone}",
        "",
        f"Framed by {frame.author}; control level {frame.level}.",
        "",
    ]
    for node in frame.nodes:
        mark = f" **[{node.rule}]**" if node.rule is not None else ""
        lines.append(f"{'  ' * (node.level - 1)}- {node.title}{mark}")
    return "\n".join(lines) + "\n"


def _action(call: ToolCall, tools: ToolBox) -> Action:
    if call.tool not in tools:
        raise ToolError(f"tool {call.tool!r} is not registered; registered: {', '.join(sorted(tools))}")
    return tools[call.tool].action(**call.args)


def _leaf_text(action: Action) -> str:
    return "\n".join(_strings(action.args))


def _strings(args: Mapping[str, object]) -> list[str]:
    return [str(value) if not isinstance(value, bool) else str(value).lower() for _, value in leaves(args)]  # type: ignore[arg-type]
