"""`karkas grant`: actions that a person lets happen in advance, within bounds that are shown first."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from karkas.cli.options import JsonOption, ProjectOption, ReasonOption, open_project, room
from karkas.policies.errors import UsageError
from karkas.policies.grants import MOST_USES

if TYPE_CHECKING:
    from karkas.policies.grants import Grant, Pattern
    from karkas.project import Project
    from karkas.storage import Gate, StandingGrant

app = room("Let a narrow class of actions happen without asking you each time; see and revoke that.")

GrantArgument = Annotated[str, typer.Argument(metavar="GRANT", help="The grant's id, or its beginning.")]
ZoneOption = Annotated[str, typer.Option("--zone", metavar="ZONE", help="The one zone that it touches.")]
ToolOption = Annotated[str, typer.Option("--tool", metavar="TOOL", help="The tool.")]
ArgOption = Annotated[
    list[str] | None,
    typer.Option(
        "--arg",
        metavar="NAME=PATTERN",
        help="What an argument may be; each needs one. A glob for paths and texts, JSON for others, * for anything.",
    ),
]
CountOption = Annotated[
    int, typer.Option("--count", min=1, max=MOST_USES, help="How often it may be used at most.")
]
ExpiresOption = Annotated[
    str, typer.Option("--expires", metavar="WHEN", help="Until when: 7d, 12h, 2026-11-23T07:00.")
]


@app.command()
def add(
    *,
    zone: ZoneOption,
    tool: ToolOption,
    arg: ArgOption = None,
    count: CountOption,
    expires: ExpiresOption,
    reason: ReasonOption,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing back; for scripts.")] = False,
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Grant calls of one tool in one propose-only zone in advance. It shows which past gates it would have passed; then
    you type a word.

    A grant stands in for you alone: it passes nothing that a frame, the tool's effect, a doubtful value, a critic or a
    second person holds back. Setting, framing or tightening the zone ends it.

    \b
    Examples:
      karkas grant add --zone docs --tool write_file --arg 'path=docs/**' --arg 'content=*' \\
          --count 20 --expires 7d --reason "the nightly reports"
    """
    from karkas.cli import confirming, screen

    with open_project(project) as opened:
        terms = _terms(opened, zone, tool, arg or [], count=count, expires=expires, reason=reason)
        if not json:
            _show_terms(terms)
            _show_judged(_judged(opened, terms))
        if not yes:
            confirming.typed("grant", to="let these happen without asking you")
        added = opened.store.grants.add(terms)
    if json:
        screen.as_json(as_json(added))
    else:
        screen.say(f"grant {added.id}: in force; `karkas grant revoke {added.id}` ends it")


@app.command()
def preview(
    *,
    zone: ZoneOption,
    tool: ToolOption,
    arg: ArgOption = None,
    count: CountOption = MOST_USES,
    expires: ExpiresOption = "7d",
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="As of `grant add`.")] = "preview",
    json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Show which past gates such a grant would have passed, and why not the others. It grants nothing.

    \b
    Examples:
      karkas grant preview --zone docs --tool write_file --arg 'path=docs/**' --arg 'content=*'
    """
    from karkas.cli import screen

    with open_project(project) as opened:
        terms = _terms(opened, zone, tool, arg or [], count=count, expires=expires, reason=reason)
        judged = _judged(opened, terms)
    if json:
        told = [{"gate": gate.id, "would_pass": why is None, "why": why} for gate, _, why in judged]
        screen.as_json({"terms": terms.model_dump(mode="json"), "gates": told})
        return
    _show_terms(terms)
    _show_judged(judged)


@app.command("list")
def list_(*, json: JsonOption = False, project: ProjectOption = None) -> None:
    """List the grants, the newest first, with what is left of them.

    \b
    Examples:
      karkas grant list
    """
    from karkas.cli import screen

    with open_project(project) as opened:
        grants = opened.store.grants.list()
    if json:
        screen.as_json([as_json(grant) for grant in grants])
    elif not grants:
        screen.say("nothing is granted in advance")
    else:
        screen.table(
            ("grant", "zone", "tool", "used", "until", "by", "state"),
            [
                (
                    grant.id,
                    grant.terms.zone,
                    grant.terms.tool,
                    f"{grant.used} of {grant.terms.limit}",
                    _local(grant.terms.expires_at),
                    grant.terms.author,
                    grant.ended or "in force",
                )
                for grant in grants
            ],
        )


@app.command()
def show(grant: GrantArgument, *, json: JsonOption = False, project: ProjectOption = None) -> None:
    """Show a grant: its terms, whether it is in force, and each use.

    \b
    Examples:
      karkas grant show s-4f2a
    """
    from karkas.cli import screen

    with open_project(project) as opened:
        found = opened.store.grants.get(grant)
        log = opened.store.audit.log(subject=f"grant:{found.id}")
    uses = [entry for entry in log if entry.event == "grant_used"]
    if json:
        screen.as_json(as_json(found) | {"uses": [entry.data for entry in uses]})
        return
    screen.facts(
        [
            ("grant", f"{found.id}, {found.ended or 'in force'}"),
            ("used", f"{found.used} of {found.terms.limit}"),
        ]
    )
    _show_terms(found.terms)
    for entry in uses:
        data = entry.data if isinstance(entry.data, dict) else {}
        screen.line(f"  {_local(entry.at)}  use {data.get('use')}: gate {data.get('gate')}")


@app.command()
def revoke(
    grant: GrantArgument, *, reason: ReasonOption, json: JsonOption = False, project: ProjectOption = None
) -> None:
    """Revoke a grant at once; what it let pass and was not begun yet does not happen either.

    \b
    Examples:
      karkas grant revoke s-4f2a --reason "the reports moved"
    """
    from karkas.cli import screen
    from karkas.project import person

    with open_project(project) as opened:
        revoked = opened.store.grants.revoke(grant, by=person(), reason=reason)
    if json:
        screen.as_json(as_json(revoked))
    else:
        screen.say(f"grant {revoked.id}: {revoked.ended}")


def as_json(grant: "StandingGrant") -> dict[str, Any]:
    found: dict[str, Any] = grant.model_dump(mode="json")
    return found


def _terms(
    project: "Project", zone: str, tool: str, args: list[str], *, count: int, expires: str, reason: str
) -> "Grant":
    from karkas.cli import times
    from karkas.policies.grants import Grant
    from karkas.policies.zones import ControlLevel
    from karkas.project import person

    state, box = project.zone(zone), project.tools()
    if state.level is not ControlLevel.PROPOSE_ONLY or state.approvers > 1 or not state.may_act:
        raise UsageError(
            f"a grant stands in for the one person that a propose-only zone asks; {zone} is {state.level},"
            f" {state.stage}, with approvers = {state.approvers}: `karkas zone show {zone}`"
        )
    if not reason.strip():
        raise UsageError("a grant needs a reason, for the record")
    return Grant(
        zone=zone,
        tool=tool,
        tool_version=box[tool].version,
        args=_patterns(box[tool].grant_kinds(), tool, args),
        limit=count,
        expires_at=times.future(expires, now=project.store.clock().astimezone()),
        reason=reason,
        author=person(),
    )


def _patterns(kinds: dict[str, str], tool: str, args: list[str]) -> "dict[str, Pattern]":
    """The patterns by argument. Every argument of the tool needs one: what is not said is not granted."""
    given: dict[str, str] = {}
    for one in args:
        name, equals, text = one.partition("=")
        if not equals or not text or name not in kinds or name in given:
            raise UsageError(
                f"--arg {one}: say NAME=PATTERN, once for each argument of {tool}: {', '.join(kinds)}"
            )
        given[name] = text
    if missing := [name for name in kinds if name not in given]:
        raise UsageError(
            f"each argument of {tool} needs a pattern; missing: {', '.join(missing)}"
            f" (--arg '{missing[0]}=*' lets it be anything)"
        )
    return {name: _pattern(kinds[name], name, text) for name, text in given.items()}


def _pattern(kind: str, name: str, text: str) -> "Pattern":
    import json

    from karkas.policies.grants import AnyValue, ExactValue, PathGlob, TextGlob

    if text == "*":
        return AnyValue()
    match kind:
        case "path":
            return PathGlob(glob=text)
        case "text":
            return TextGlob(glob=text)
        case _:
            try:
                return ExactValue(value=json.loads(text))
            except ValueError as error:
                raise UsageError(f"--arg {name}: {text!r} is not JSON ({error}), nor *") from error


def _judged(project: "Project", terms: "Grant") -> "list[tuple[Gate, str, str | None]]":
    from karkas.cli import gateview

    gates = project.store.gates.list(zone=terms.zone)
    return [
        (gate, gateview.what(project, gate), why) for gate, why in project.store.grants.judged(terms, gates)
    ]


def _show_terms(terms: "Grant") -> None:
    from karkas.cli import screen

    screen.facts(
        [
            ("zone", terms.zone),
            ("tool", terms.tool),
            ("arguments", [f"{name}: {_told(pattern)}" for name, pattern in terms.args.items()] or "none"),
            ("count", f"{terms.limit} at most"),
            ("until", _local(terms.expires_at)),
            ("reason", f"{terms.reason} ({terms.author})"),
        ]
    )


def _told(pattern: "Pattern") -> str:
    import json

    from karkas.policies.grants import AnyValue, ExactValue

    match pattern:
        case AnyValue():
            return "anything"
        case ExactValue(value=value):
            return f"exactly {json.dumps(value, ensure_ascii=False)}"
        case _:
            return f"{pattern.kind} {pattern.glob}"


def _show_judged(judged: "list[tuple[Gate, str, str | None]]") -> None:
    from karkas.cli import screen

    if not judged:
        screen.say("no past gate of this zone and tool; nothing can be foreseen from them")
        return
    would = sum(why is None for _, _, why in judged)
    screen.heading(f"It would have passed {would} of {screen.counted(len(judged), 'past gate')}")
    screen.table(
        ("gate", "what", "became", "the grant"),
        [
            (gate.id, what, gate.status.value, "would have passed it" if why is None else f"would not: {why}")
            for gate, what, why in judged
        ],
    )


def _local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"
