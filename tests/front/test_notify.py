"""Messages: few, short, harmless, and never in anybody's way."""

import asyncio
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from karkas import notify, runner
from karkas.policies.gates import GateKind, PolicyDecision, PolicyVerdict
from karkas.policies.zones import ControlLevel
from karkas.project import Project
from karkas.report.figures import look
from karkas.settings import NotifySettings, Occasion
from karkas.storage import Gate, NewGate, RunStatus

# Apprise imports modules of the standard library that Python is about to drop, and does without them then.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

VARIABLE = "TEST_NOTIFY_URL"


class Inbox(list[dict[str, str]]):
    """What arrived at a service; `code` is what it answers."""

    code = 200
    url = ""


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    """A real service on this machine, which Apprise posts JSON to."""
    inbox = Inbox()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            inbox.append(json.loads(body))
            self.send_response(inbox.code)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is theirs
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    inbox.url = f"json://user:swordfish@127.0.0.1:{server.server_port}/"
    monkeypatch.setenv(VARIABLE, inbox.url)
    yield inbox
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    root = tmp_path / "project"
    Project.init(root).close()
    with Project.open(root) as opened:
        told = NotifySettings(urls=(VARIABLE,))
        opened.settings = opened.settings.model_copy(update={"notify": told})
        yield opened


def opened(project: Project, number: int, *, title: str = "which way?") -> list[Gate]:
    run = project.store.runs.create("act", zone="lab")
    return [
        project.store.gates.open(
            NewGate(
                key=f"{run.id}:{n}",
                run=run.id,
                kind=GateKind.QUESTION,
                zones=("lab",),
                level=ControlLevel.PROPOSE_ONLY,
                policy=PolicyDecision(verdict=PolicyVerdict.PROPOSE, reasons=("a question",)),
                title=title,
                prompt=title,
            )
        )
        for n in range(number)
    ]


def later(project: Project, by: timedelta) -> None:
    now: datetime = project.store.clock() + by
    object.__setattr__(project.store._records, "clock", lambda: now)
    project.store.clock = lambda: now


def sent() -> None:
    """Waits until what is being sent has arrived."""
    for thread in threading.enumerate():
        if thread.name == "karkas notify":
            thread.join()


def test_a_hundred_gates_are_one_message(project: Project, inbox: Inbox) -> None:
    for _ in opened(project, 100):
        notify.soon(project)
    sent()
    (message,) = inbox
    assert message["title"] == "karkas: 100 gates wait"
    assert "waiting: lab 100" in message["message"]


def test_one_message_a_minute_and_what_came_meanwhile_is_in_the_next(project: Project, inbox: Inbox) -> None:
    opened(project, 1)
    notify.soon(project)
    for _ in opened(project, 5):
        notify.soon(project)
    sent()
    assert [one["title"] for one in inbox] == ["karkas: 1 gate waits"]
    later(project, timedelta(seconds=61))
    with Project.open(project.root) as other:  # another worker, after the minute
        other.settings = project.settings
        other.store.clock = project.store.clock
        object.__setattr__(other.store._records, "clock", project.store.clock)
        notify.soon(other)
        sent()
    later(project, timedelta(seconds=61))
    notify.soon(project)
    sent()
    assert [one["title"] for one in inbox] == ["karkas: 1 gate waits", "karkas: 5 gates wait"]


def test_of_many_workers_one_sends(project: Project, inbox: Inbox) -> None:
    opened(project, 3)
    threads = [threading.Thread(target=notify.soon, args=(project,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent()
    assert len(inbox) == 1


def test_what_others_wrote_is_short_and_holds_no_link_no_call_and_no_markup(
    project: Project, inbox: Inbox
) -> None:
    hostile = (
        "@everyone <b>click</b> [here](https://evil.example/approve?g=1) www.evil.example\n\u202e `x` *y*"
        + "z" * 500
    )
    opened(project, 1, title=hostile)
    notify.soon(project)
    sent()
    text = inbox[0]["title"] + inbox[0]["message"]
    assert not set("@<>[]*`\u202e#~|&") & set(text)
    assert "//" not in text
    assert "evil.example" not in text
    assert "click" in text
    assert max(map(len, text.splitlines())) < 120


def test_a_failed_run_is_told_once(project: Project, inbox: Inbox) -> None:
    run = project.store.runs.create("act", zone="lab")
    project.store.runs.set_status(run.id, RunStatus.FAILED, error="https://evil.example")
    notify.soon(project)
    later(project, timedelta(seconds=61))
    notify.soon(project)
    sent()
    (message,) = inbox
    assert message["title"] == "karkas: 1 run failed"
    assert run.id in message["message"]
    assert "evil" not in message["message"]


def test_the_morning_is_sent_with_its_figures(project: Project, inbox: Inbox) -> None:
    opened(project, 2)
    notify.morning(project, look(project, since=project.store.clock() - timedelta(hours=8)))
    (message,) = inbox
    assert message["title"] == "karkas: the morning of project"
    assert "2 gates wait for you" in message["message"]


def test_the_morning_begins_with_what_failed(project: Project, inbox: Inbox) -> None:
    run = project.store.runs.create("act", zone="lab")
    project.store.runs.set_status(run.id, RunStatus.FAILED, error="it broke")
    notify.morning(project, look(project, since=project.store.clock() - timedelta(hours=8)))
    (message,) = inbox
    assert message["title"] == "karkas: the morning of project, 1 run failed"
    assert message["message"].startswith(f"1 run failed: karkas runs show {run.id}")


def test_only_what_was_asked_for_is_told(project: Project, inbox: Inbox) -> None:
    told = NotifySettings(urls=(VARIABLE,), on=(Occasion.FAILED,))
    project.settings = project.settings.model_copy(update={"notify": told})
    opened(project, 1)
    notify.soon(project)
    notify.morning(project, look(project, since=project.store.clock() - timedelta(hours=8)))
    off = project.settings.model_copy(update={"notify": NotifySettings()})
    project.settings = off
    notify.soon(project)
    sent()
    assert inbox == []
    assert project.store.happened.events(notify.EVENT) == []


def test_a_service_that_fails_is_logged_and_hurts_no_run(project: Project, inbox: Inbox) -> None:
    inbox.code = 500
    source = project.root / "a.md"
    source.write_text("# A\n\nA courier is a person who carries parcels. A courier waits 5 minutes.\n")
    run = runner.begin(project, "explore", {"zone": "courier", "sources": [str(source)]}, zone="courier")
    with capture_logs() as logs:
        left = asyncio.run(runner.advance(project, run.id))
        sent()
    assert left.status is RunStatus.PARKED
    assert inbox[0]["title"] == "karkas: 1 gate waits", "the run itself told of its gate"
    (entry,) = (one for one in logs if one["event"] == "notification_not_sent")
    assert "swordfish" not in str(logs)
    assert entry["log_level"] == "warning"


def test_what_keeps_messages_from_being_sent_is_named_without_the_secret(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = NotifySettings(urls=(VARIABLE, "NOT_SET"))
    assert list(notify.troubles(settings, {VARIABLE: inbox.url, "NOT_SET": inbox.url})) == []
    (missing,) = notify.troubles(settings, {VARIABLE: inbox.url})
    assert missing == "the variable NOT_SET is not set; export NOT_SET=..."
    (unknown,) = notify.troubles(NotifySettings(urls=("A",)), {"A": "carrier-pigeon://swordfish"})
    assert unknown.startswith("A is no URL that Apprise knows")
    assert "swordfish" not in unknown
    monkeypatch.setitem(sys.modules, "apprise", None)
    (extra,) = notify.troubles(settings, {})
    assert extra.endswith("pip install 'karkas[notify]'")
