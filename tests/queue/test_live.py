"""What appears by itself, what others decide, and that no key lands on another gate than the one that is shown."""

import asyncio

import pytest
from textual import events

from karkas.policies.gates import GateStatus
from karkas.policies.verdicts import Approve, Reject
from karkas.project import Project
from karkas.queue.app import QueueApp

from .conftest import Begin, Open, at, queue, said, text, until


async def begun(begin: Begin, name: str, title: str = "disk") -> str:
    return (await asyncio.to_thread(begin, name, title)).id


async def test_new_gates_appear_and_move_nothing_that_is_looked_at(
    begin: Begin, opened: Open, project: Project
) -> None:
    gate = await begun(begin, "text")
    async with opened() as pilot:
        page = queue(pilot).page
        await pilot.press("J", "J", "J")
        await until(pilot, lambda: page.scroll_offset.y == 3)
        before = text(pilot).split("\n")[9:20]
        # Another effect sorts before this one by its age only, so the list above grows and shrinks.
        new = await begun(begin, "mail")
        await until(pilot, lambda: new in queue(pilot).gates.ids)
        assert queue(pilot).gates.gate == gate
        assert text(pilot).split("\n")[9:20] == before


async def test_the_loser_of_two_queues_is_told_by_whom_and_when(
    begin: Begin, opened: Open, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = await begun(begin, "single")
    async with opened() as pilot:
        monkeypatch.setattr(queue(pilot), "_look", lambda: None)
        project.store.gates.decide(gate, Reject(reason="no"), by="bob")
        await pilot.press("a")
        await until(pilot, lambda: "rejected already: decided by bob at" in said(pilot))
    assert project.store.gates.get(gate).status is GateStatus.REJECTED


async def test_what_another_decides_is_told_and_the_text_stays(
    begin: Begin, opened: Open, project: Project
) -> None:
    gate = await begun(begin, "single")
    async with opened() as pilot:
        project.store.gates.decide(gate, Reject(reason="no"), by="bob")
        await until(pilot, lambda: "rejected by bob" in text(pilot))
        assert "ticket (reversible)" in text(pilot)
        await pilot.press("a")
        await until(pilot, lambda: "already; nothing was decided" in said(pilot))


async def test_two_queues_never_decide_one_gate_twice(begin: Begin, opened: Open, project: Project) -> None:
    gate = await begun(begin, "single")
    with Project.open(project.root) as other:
        async with opened() as one, opened(of=other) as two:
            await asyncio.gather(one.press("a"), two.press("a"))
            await until(one, lambda: "passed" in text(one))
            await until(two, lambda: "passed" in text(two))
            await until(one, lambda: not queue(one).works.doing and not queue(two).works.doing)
    events = [entry.event for entry in project.store.audit.log(subject=f"gate:{gate}")]
    assert events.count("gate_decided") == 1
    permit = project.store.ledger.for_gate(gate)
    assert permit is not None
    assert permit.claims == 1


async def test_a_key_that_comes_before_the_next_gate_is_shown_decides_nothing(
    begin: Begin, opened: Open, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await begun(begin, "single"), await begun(begin, "single", "network")
    async with opened() as pilot:
        await at(pilot, first)
        monkeypatch.setattr(queue(pilot), "_read", lambda gate: None)
        await pilot.press("n", "a")
        await until(pilot, lambda: "no gate is shown yet" in said(pilot))
    assert {project.store.gates.get(one).status for one in (first, second)} == {GateStatus.OPEN}


async def test_what_is_typed_ahead_of_a_question_is_never_a_verdict(
    begin: Begin, opened: Open, project: Project
) -> None:
    gate = await begun(begin, "single")
    async with opened() as pilot:
        for key in ("slash", "a", "a", "a"):
            pilot.app.post_message(events.Key(key, "/" if key == "slash" else key))
        await until(pilot, lambda: "List only gates" in text(pilot))
        await pilot.press("escape")
        assert project.store.gates.get(gate).status is GateStatus.OPEN


async def test_a_gate_that_changed_under_the_eyes_is_not_decided(
    begin: Begin, opened: Open, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    from karkas.policies.verdicts import Defer

    gate = await begun(begin, "single")
    async with opened() as pilot:
        monkeypatch.setattr(queue(pilot), "_look", lambda: None)
        later = project.store.clock() + timedelta(hours=1)
        project.store.gates.decide(gate, Defer(until=later), by="bob")
        await pilot.press("a")
        await until(pilot, lambda: "changed since it was shown" in said(pilot) or "shown anew" in said(pilot))
        assert project.store.gates.get(gate).status is GateStatus.DEFERRED
        await until(
            pilot,
            lambda: (sheet := queue(pilot).sheet) is not None and sheet.gate.status is GateStatus.DEFERRED,
        )
        await pilot.press("a")
        await until(pilot, lambda: "has just appeared by itself" in said(pilot))
        await pilot.pause(1.1)
        await pilot.press("a")
        await until(pilot, lambda: "committed" in said(pilot))
    assert project.store.gates.get(gate).verdict == Approve()


async def test_alike_gates_are_approved_at_once_after_their_list_was_shown(
    begin: Begin, opened: Open, project: Project
) -> None:
    gates = [await begun(begin, "single", title) for title in ("disk", "network", "power")]
    other = await begun(begin, "mail")
    async with opened() as pilot:
        for gate in (gates[0], other):
            await at(pilot, gate)
            await pilot.press("space")
        await pilot.press("A")
        await until(pilot, lambda: "not alike" in said(pilot))
        await pilot.press("space")
        for gate in gates[1:]:
            await at(pilot, gate)
            await pilot.press("space")
        assert "A all 3 marked" in text(pilot)
        await pilot.press("A")
        await until(pilot, lambda: "Approve 3 gates at once" in text(pilot))
        assert all(gate in text(pilot) for gate in gates)
        await pilot.press("enter", "escape")
        await until(pilot, lambda: "nothing was decided" in said(pilot))
        assert {project.store.gates.get(gate).status for gate in gates} == {GateStatus.OPEN}
        await pilot.press("A")
        await until(pilot, lambda: "Approve 3 gates at once" in text(pilot))
        await pilot.press("y")
        await until(pilot, lambda: len(project.store.waiting.lines()) == 1)
        await until(pilot, lambda: not queue(pilot).works.doing)
    assert [project.store.gates.get(gate).verdict for gate in gates] == [Approve()] * 3


async def test_leaving_while_a_run_is_at_work_asks_and_loses_nothing(
    project: Project, opened: Open, begin: Begin
) -> None:
    slow = project.root / "slow.py"
    await asyncio.to_thread(
        slow.write_text,
        "import asyncio\n"
        "from karkas import END, START, Workflow, WorkflowState\n\n"
        "async def wait(state):\n    await asyncio.sleep(60)\n\n"
        "flow = Workflow(WorkflowState)\n"
        "flow.add_question('go', lambda state: 'Go on?', choices=('yes',))\n"
        "flow.add_node('wait', wait)\n"
        "flow.add_edge(START, 'go').add_edge('go', 'wait').add_edge('wait', END)\n",
    )

    def ready() -> str:
        from karkas import runner

        run = runner.begin(project, "slow.py:flow", {})
        asyncio.run(runner.advance(project, run.id))
        return run.id

    run = await asyncio.to_thread(ready)
    async with opened() as pilot:
        await pilot.press("w", "1")
        await until(pilot, lambda: project.store.runs.get(run).status.value == "running")
        await pilot.press("q", "enter")
        await until(pilot, lambda: "1 at work" in text(pilot))
        await pilot.press("escape")
        assert pilot.app.is_running
        await pilot.press("q", "l")
        await until(pilot, lambda: not pilot.app.is_running)
    left = project.store.runs.get(run)
    assert (left.status.value, left.reason) == ("queued", "interrupted")


async def test_a_run_that_fails_after_a_decision_is_told(
    begin: Begin, opened: Open, project: Project
) -> None:
    await begun(begin, "single")
    (project.root / "flows.py").write_text("broken = 1\n")
    async with opened() as pilot:
        await pilot.press("a")
        await until(pilot, lambda: "flows.py" in said(pilot))
        assert isinstance(pilot.app, QueueApp)


async def test_what_is_read_while_the_screen_is_left_has_nobody_to_tell(begin: Begin, opened: Open) -> None:
    await begun(begin, "single")
    async with opened() as pilot:
        screen = queue(pilot)
        assert screen.gates.gate is not None
        await screen.page.remove()  # as Textual does it, before it cancels what the screen has begun
        screen._read(screen.gates.gate)
        await pilot.app.workers.wait_for_complete()
