"""Messages to a person, by Apprise: that gates wait, that runs failed, that the morning's report is there.

Nothing can be decided by a message, and what others wrote is in it only as a short title without links. At most one is
sent a minute, over all processes and hosts of a project: what was sent last is on the record, and each one tells all
that came since. One that cannot be sent is logged, and hurts nothing.
"""

import logging
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import structlog
from pydantic import JsonValue

from karkas.policies.errors import KarkasError
from karkas.policies.gates import GateStatus
from karkas.policies.rendering import visible_line
from karkas.project import Project
from karkas.report.prices import money
from karkas.report.text import first_line, many
from karkas.settings import NotifySettings, Occasion
from karkas.storage import Run, RunStatus, WaitingLine
from karkas.storage.records import SYSTEM

if TYPE_CHECKING:
    from apprise import Apprise

    from karkas.report.figures import Figures

log = structlog.get_logger("karkas.notify")

EVENT, SUBJECT = "notified", "notify"
PAUSE = timedelta(minutes=1)
FIRST = timedelta(days=1)
"""How far back the first message looks."""
TITLE = 80
"""Characters of a title that others may have written."""
FEW = 3
INSTALL = "pip install 'karkas[notify]'"


class Message(NamedTuple):
    title: str
    body: str


def soon(project: Project) -> None:
    """Sends what there is to tell, in a thread, unless a message was sent within the last minute: then a later call
    does. Cheap where there is nothing to tell, so that a worker may call it again and again.
    """
    try:
        message = _news(project)
    except KarkasError as error:
        log.warning("notification_not_sent", error=str(error))
        return
    if message is not None:
        Thread(target=_send, args=(project.settings.notify, message), name="karkas notify").start()


def morning(project: Project, figures: "Figures") -> None:
    """Sends the morning's figures. It waits until a minute has passed since the last message, and for the sending."""
    settings = project.settings.notify
    if not settings.urls or Occasion.MORNING not in settings.on:
        return
    give_up = time.monotonic() + 2 * PAUSE.total_seconds()
    try:
        while not _claimed(project, {"morning": True}) and time.monotonic() < give_up:
            time.sleep(1)
    except KarkasError as error:
        log.warning("notification_not_sent", error=str(error))
        return
    failed = f", {many(len(figures.failed), 'run')} failed" if figures.failed else ""
    title = f"karkas: the morning of {_name(project)}{failed}"
    _send(settings, Message(title, "\n".join(_told(figures))))


def troubles(settings: NotifySettings, environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """What keeps messages from being sent, each with its mend."""
    if not settings.urls:
        return
    try:
        apprise = _apprise()
    except ImportError:
        yield f"Apprise is not installed; {INSTALL}"
        return
    for variable in settings.urls:
        urls = environ.get(variable, "").split()
        if not urls:
            yield f"the variable {variable} is not set; export {variable}=..."
        for number, url in enumerate(urls, start=1):
            # The URL itself is a secret, so it is never shown.
            if apprise.Apprise.instantiate(url) is None:
                which = variable if len(urls) == 1 else f"URL {number} in {variable}"
                yield f"{which} is no URL that Apprise knows; see https://github.com/caronc/apprise/wiki"


def try_out(project: Project) -> bool:
    """Sends a message that says that messages arrive; tells whether every service took it."""
    message = Message("karkas: messages arrive", f"This is a test from {_name(project)}.")
    return _send(project.settings.notify, message)


def _news(project: Project) -> Message | None:
    settings, store = project.settings.notify, project.store
    wanted = {Occasion.GATE, Occasion.FAILED}.intersection(settings.on)
    if not settings.urls or not wanted:
        return None
    now = store.clock()
    last = next(iter(store.audit.log(subject=SUBJECT, limit=1)), None)
    if last is not None and now - last.at < PAUSE:
        return None
    data = last.data if last is not None and isinstance(last.data, dict) else {}
    after, since = int(str(data.get("seq", 0))), now - FIRST
    gates = _gates(project, after, since) if Occasion.GATE in wanted else []
    runs = _failures(project, after, since) if Occasion.FAILED in wanted else []
    if not (gates or runs):
        return None
    if not _claimed(project, {"gates": len(gates), "failed": len(runs)}):
        return None
    return _message(project, gates, runs)


def _claimed(project: Project, data: dict[str, JsonValue]) -> bool:
    """Whether this process is the one that sends now."""
    store = project.store
    return store.note_unless_lately(
        EVENT, SUBJECT, within=PAUSE, actor=SYSTEM, data={**data, "seq": store.waiting.pulse()}
    )


def _gates(project: Project, after: int, since: datetime) -> list[WaitingLine]:
    opened = project.store.happened.events("gate_opened", after=after, since=since)
    new = {entry.subject.removeprefix("gate:") for entry in opened}
    if not new:
        return []
    return [one for one in project.store.waiting.lines() if one.status is GateStatus.OPEN and one.id in new]


def _failures(project: Project, after: int, since: datetime) -> list[Run]:
    moved = project.store.happened.events("run_moved", after=after, since=since)
    names = {
        entry.subject.removeprefix("run:")
        for entry in moved
        if isinstance(entry.data, dict) and entry.data.get("after") == RunStatus.FAILED.value
    }
    found = [project.store.runs.get(name) for name in sorted(names)]
    return [run for run in found if run.status is RunStatus.FAILED]


def _message(project: Project, gates: list[WaitingLine], runs: list[Run]) -> Message:
    heads, lines = [], []
    if gates:
        heads.append(f"{len(gates):,} {'gate waits' if len(gates) == 1 else 'gates wait'}")
        zones = Counter(", ".join(one.zones) or "no zone" for one in gates)
        lines.append(
            "waiting: " + _safe(", ".join(f"{zone} {number}" for zone, number in zones.most_common()))
        )
        if len(gates) == 1:
            lines.append(f"{gates[0].kind}: {_safe(gates[0].title)}")
    if runs:
        heads.append(f"{len(runs):,} {'run' if len(runs) == 1 else 'runs'} failed")
        named = ", ".join(f"{run.id} ({_safe(run.zone or 'no zone')})" for run in runs[:FEW])
        lines.append(f"failed: {named}" + (f" and {len(runs) - FEW:,} more" if len(runs) > FEW else ""))
    lines.append(f"in {_name(project)}: karkas queue, karkas report")
    return Message(f"karkas: {', '.join(heads)}", "\n".join(lines))


def _told(found: "Figures") -> Iterator[str]:
    if first := first_line(found.failed, found.stuck):
        yield first
    claims = sum(zone.new_claims for zone in found.zones)
    done = many(found.performed, "action")
    yield f"{many(len(found.runs), 'run')}, {many(claims, 'new claim')}, {done} performed"
    cost = "" if found.cost is None else f", cost {money(found.cost)}"
    yield f"{found.spent.tokens:,} tokens{cost}"
    yield f"{many(found.waits, 'gate')} {'waits' if found.waits == 1 else 'wait'} for you"
    for number, choice in enumerate(found.choices[:FEW], start=1):
        yield f"{number}. {_safe(choice.what)}"
    yield "karkas queue, karkas report"


def _name(project: Project) -> str:
    return _safe(project.root.name)


def _safe(text: str) -> str:
    """A short line in which no service finds a link, somebody to call, or markup."""
    line = re.sub(r"[^\w .,:;()+=/'-]", " ", visible_line(text))
    line = re.sub(r"\s+", " ", line.replace("//", "/ /")).strip()
    line = re.sub(r"\.(?=\w)", ". ", line).replace("_", "-")
    return line if len(line) <= TITLE else f"{line[:TITLE]}…"


def _send(settings: NotifySettings, message: Message) -> bool:
    """Whether every service took it. Whatever a service or its library does, nothing is raised."""
    try:
        sent = bool(
            _services(settings).notify(
                title=message.title, body=message.body, body_format="text", interpret_escapes=False
            )
        )
    except Exception as error:  # noqa: BLE001
        # Of the error only the type: it may quote a URL with its secret.
        log.warning("notification_not_sent", error=type(error).__name__)
        return False
    if not sent:
        log.warning("notification_not_sent", error="a service did not take it", mend="karkas doctor --notify")
    return sent


def _apprise() -> Any:
    """The library; it says nothing in the log, since it repeats URLs that it does not know, secrets and all."""
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    return apprise


def _services(settings: NotifySettings) -> "Apprise":
    services: Any = _apprise().Apprise()
    for variable in settings.urls:
        services.add(os.environ.get(variable, "").split())
    return cast("Apprise", services)
