"""Frames: drafted out of a composed map for a person to edit, read back, applied to actions, and told to agents."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

from karkas.agents.distillate import notation
from karkas.agents.distillate.places import Places, limits
from karkas.policies.distillates import Claim, Conflict, Distillate
from karkas.policies.errors import FrameError
from karkas.policies.frames import DistillateRef, Frame, FrameNode, Rule
from karkas.policies.rendering import visible_line
from karkas.policies.routing import EVERYWHERE, path_touches, topic_in
from karkas.policies.zones import ControlLevel
from karkas.server.questions import MapArea, MapRule

MAX_TOPICS = 4
_DETAILS = ("rule", "tools", "paths", "topics", "claims", "unknowns")


def draft(
    distillate: Distillate, sha256: str, areas: Sequence[MapArea], *, author: str, level: ControlLevel
) -> Frame:
    """The composed map as a frame in which every rule says `ask`; conflicts are left for the person to decide.

    A drafted rule names the subjects of its claims as its `topics`, so that it holds for tasks that touch them.
    """
    return Frame(
        zone=distillate.zone,
        distillate=DistillateRef(id=distillate.id, sha256=sha256),
        author=author,
        level=level,
        nodes=tuple(_Draft(distillate).nodes(areas)),
    )


def draft_text(
    distillate: Distillate, sha256: str, areas: Sequence[MapArea], *, author: str, level: ControlLevel
) -> str:
    """The drafted frame as YAML for an editor: it teaches what to decide and shows what the claims say."""
    frame = draft(distillate, sha256, areas, author=author, level=level)
    claims = {claim.id: claim for claim in distillate.claims}
    places = Places(distillate.sources)
    head: dict[str, notation.Plain] = {
        "schema": frame.schema_,
        "zone": frame.zone,
        "distillate": frame.distillate.model_dump(),
        "author": frame.author,
    }
    lines = [
        *_comment(_HELP.format(zone=frame.zone)),
        "",
        *(f"{name}: {notation.inline(value)}" for name, value in head.items()),
        "",
        *_comment(_LEVELS),
        f"level: {frame.level}",
        "",
        *_comment(_NODES),
        "nodes:",
    ]
    for node in frame.nodes:
        lines += [""] if node.level < 3 else []  # noqa: PLR2004
        lines += _node_lines(node)
        for one in node.claims:
            lines += _wrapped(_said(claims[one], places), "  # ") if one in claims else []
    ruled = {one for node in frame.nodes if node.rule is not None for one in node.claims}
    lines += ["", *_comment(_DECISIONS), "decisions:"]
    for conflict in sorted(distillate.conflicts, key=lambda one: not ruled & set(one.claims)):
        lines += ["", *_undecided(conflict, claims, places, must=bool(ruled & set(conflict.claims)))]
    return "\n".join(lines) + "\n"


def load_frame(data: str | bytes) -> Frame:
    """The frame in a file's content; `FrameError` names the line of what is wrong."""
    return notation.read(data, Frame, FrameError, what="frame")


def rules_for(frame: Frame, *, tool: str, paths: Iterable[str], task: str) -> list[tuple[FrameNode, Rule]]:
    """The rules that hold for an action, in the frame's order; the strictest of them counts.

    A rule holds where each of its selectors (`tools`, `paths`, `topics`) is met; one without any holds for every
    action in the zone. Where a rule selects by path and the action does not tell what it touches, or may touch
    anything, the rule cannot be ruled out, so it asks.
    """
    paths = tuple(paths)
    bounded = [path for path in paths if path != EVERYWHERE]
    found = []
    for node in frame.nodes:
        if node.rule is None:
            continue
        by_tool = not node.tools or any(fnmatchcase(tool.casefold(), one.casefold()) for one in node.tools)
        by_topic = not node.topics or any(topic_in(topic, task) for topic in node.topics)
        if not by_tool or not by_topic:
            continue
        if not node.paths or any(path_touches(path, glob) for path in bounded for glob in node.paths):
            found.append((node, node.rule))
        elif (not paths or EVERYWHERE in paths) and node.rule is not Rule.ALLOW:
            found.append((node, Rule.ASK))
    return found


def frame_text(frame: Frame, distillate: Distillate | None) -> str:
    """The frame as plain text for executors, critics and prompts; with what its claims say where they are at hand."""
    if distillate is not None:
        return _text(frame, distillate)
    return _text_alone(frame)  # pyright: ignore[reportArgumentType]  # frozen: pydantic gives it its hash


@lru_cache(maxsize=64)
def _text_alone(frame: Frame) -> str:
    """Every action in a zone is ruled on and judged by it, and it cannot change."""
    return _text(frame, None)


def _text(frame: Frame, distillate: Distillate | None) -> str:
    claims = {claim.id: claim for claim in distillate.claims} if distillate else {}
    questions = {one.id: one.text for one in distillate.open_questions} if distillate else {}
    places = Places(distillate.sources if distillate else ())
    lines = [f"Zone {frame.zone}, framed by {visible_line(frame.author)}; control level {frame.level}."]
    for node in frame.nodes:
        pad = "  " * (node.level - 1)
        mark = f"[{node.rule}] " if node.rule is not None else ""
        selectors = (("tools", node.tools), ("paths", node.paths), ("topics", node.topics))
        only = "; ".join(f"{name}: {', '.join(values)}" for name, values in selectors if values)
        lines.append(visible_line(f"{pad}- {mark}{node.title}{f' ({only})' if only else ''}"))
        lines += [f"{pad}    {_said(claims[one], places)}" for one in node.claims if one in claims]
        lines += [
            visible_line(f"{pad}    not known: {questions[one]}") for one in node.unknowns if one in questions
        ]
    for decision in frame.decisions:
        lines.append(
            visible_line(f"Decided on {decision.conflict}: {decision.verdict}, since {decision.reason}")
        )
        lines += [f"    {_said(claims[decision.verdict], places)}"] if decision.verdict in claims else []
    return "\n".join(lines) + "\n"


class _Draft:
    """Turns a composed map into nodes; what an engine named and the distillate does not hold is left out."""

    def __init__(self, distillate: Distillate) -> None:
        self.zone = distillate.zone
        self.subjects = {claim.id: claim.subject.strip() for claim in distillate.claims}
        self.questions = {question.id for question in distillate.open_questions}

    def nodes(self, areas: Sequence[MapArea]) -> Iterator[FrameNode]:
        for i, area in enumerate(areas or (MapArea(title=self.zone),), 1):
            top = f"n{i}"
            yield FrameNode(id=top, level=1, title=_title(area.title))
            for j, mechanism in enumerate(area.mechanisms, 1):
                middle = f"{top}.{j}"
                yield FrameNode(
                    id=middle,
                    level=2,
                    title=_title(mechanism.title),
                    parent=top,
                    claims=self._known(mechanism.claims),
                )
                for k, rule in enumerate(mechanism.rules, 1):
                    yield self._rule(rule, f"{middle}.{k}", middle)

    def _rule(self, rule: MapRule, name: str, parent: str) -> FrameNode:
        claims = self._known(rule.claims)
        topics = dict.fromkeys(self.subjects[one] for one in claims if self.subjects[one])
        return FrameNode(
            id=name,
            level=3,
            title=_title(rule.title),
            parent=parent,
            claims=claims,
            unknowns=tuple(one for one in rule.unknowns if one in self.questions),
            topics=tuple(topics)[:MAX_TOPICS],
            rule=Rule.ASK,
        )

    def _known(self, claims: Iterable[str]) -> tuple[str, ...]:
        return tuple(one for one in claims if one in self.subjects)


def _title(title: str) -> str:
    return " ".join(title.split()) or "untitled"


def _node_lines(node: FrameNode) -> list[str]:
    """The node in flow style, on two lines where one would be too long."""
    kept = ("id", "level", "title", "parent")
    given: dict[str, notation.Plain] = node.model_dump(mode="json")
    head = {name: given.pop(name) for name in kept}
    rest = {name: given[name] for name in _DETAILS if given[name] not in ([], None)}
    line = f"- {notation.inline(head | rest)}"
    if len(line) <= notation.WIDTH or not rest:
        return [line]
    return [f"- {notation.inline(head)[:-1]},", f"   {notation.inline(rest)[1:]}"]


def _undecided(conflict: Conflict, claims: dict[str, Claim], places: Places, *, must: bool) -> Iterator[str]:
    weight = "must be decided, a rule stands on it" if must else "under no rule: decide it or leave it"
    yield from _wrapped(
        visible_line(f"{conflict.id}, {conflict.kind} ({weight}): {conflict.why}".rstrip(" :"))
    )
    if conflict.reviewer:
        judged = f"step {conflict.label} of 10" if conflict.label.isdecimal() else conflict.label
        yield from _wrapped(visible_line(f"{judged}: {conflict.reviewer}"), "#   ")
    for one in conflict.claims:
        yield from _wrapped(_said(claims[one], places), "#   ") if one in claims else ()
    choice = f"{' | '.join(conflict.claims)} | both | neither"
    yield visible_line(f'# - {{conflict: {conflict.id}, verdict: {choice}, reason: "..."}}')


def _said(claim: Claim, places: Places) -> str:
    where = ", ".join(dict.fromkeys(places.path(span.source) for span in claim.evidence))
    held = "".join(f"; {limit}" for limit in limits(claim.scope))
    return visible_line(f"{claim.id}: “{' '.join(claim.text.split())}” ({where}{held})")


def _wrapped(line: str, head: str = "# ") -> list[str]:
    """One line as comment lines; the editor shows them whole."""
    return textwrap.wrap(
        line,
        notation.WIDTH,
        initial_indent=head,
        subsequent_indent=f"{head}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _comment(text: str) -> list[str]:
    return [f"# {line}".rstrip() for line in text.strip().splitlines()]


_HELP = """
The frame of zone {zone}: your map of it. Agents act by this map, not by their own idea of the zone.

It was drafted out of the distillate; now make it yours: rename, move, delete, add. When you save and close, it is
checked; a file that has a fault, or an empty one, decides nothing.
"""

_LEVELS = """
How far agents may go in this zone from now on:
  autonomous    agents act; a critic agent is the gate, irreversible effects still ask you
  propose-only  agents offer variants, you choose
  draft-only    agents write a draft, you edit and adopt it
"""

_NODES = """
Three levels: 1 an area, 2 a mechanism in it, 3 a rule for agents. Each rule says one of
  allow   nothing more than the zone's level asks for
  ask     a person decides, even in an autonomous zone
  forbid  no agent does it
A rule holds for an action when every selector that it has is met:
  tools: [write_file, run_*]     the tool's name
  paths: ["src/train/**"]        a file that the action touches
  topics: [learning rate, r]     words of the task
A rule without selectors holds for every action in the zone. Several rules hold: the strictest counts.
`claims` are what the rule rests on, `unknowns` the open questions about it.
"""

_DECISIONS = """
Where the sources disagree. Every conflict on which a rule stands needs your decision: take away the `# ` in front of
its last line, keep one verdict (a claim's id, both, or neither) and say why.
"""
