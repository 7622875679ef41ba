"""Tests of note.py and announce.py, as you would write them beside your own workflow: pytest note_test.py"""

from announce import announce
from note import keep, notes

from karkas import Approve, Reject, Retry, RunStatus, call
from karkas.testing import Bench, Setup, conformance, project

__all__ = ["project"]  # the fixture; pytest finds it by its name


def test_the_note_is_written_once_ada_approved_it(project: Bench) -> None:
    project.declare(notes)
    project.run(keep, title="A title", text="What was learned.")
    assert "+What was learned." in project.shown("write")
    assert project.effects() == ()
    run = project.decide("write", Approve(), by="ada")
    assert run.status is RunStatus.DONE
    assert project.read("notes/a-title.md") == "# A title\n\nWhat was learned.\n"
    (effect,) = project.effects()
    assert (effect.action.tool, effect.by) == ("write_file", "ada")


def test_a_revision_is_a_new_proposal(project: Bench) -> None:
    project.declare(notes)
    project.run(keep, title="A title", text="What was learned.")
    project.decide("write", Reject(reason="louder", retry=Retry.REVISED))
    assert "+WHAT WAS LEARNED." in project.shown("write")


def test_what_a_model_proposes_waits_for_a_person(project: Bench) -> None:
    project.declare(notes)
    script = project.scripted()
    script.propose(call("write_file", path="notes/a.md", content="hello\n"))
    script.judge("pass", "it does what was asked")
    run = project.run("act", zone="notes", task="write hello into notes/a.md")
    assert run.status is RunStatus.PARKED


test_keep_conforms = conformance(
    keep, Setup(perform=True, zones=(notes,), input={"title": "A title", "text": "What was learned."})
)
test_announce_conforms = conformance(announce, Setup(perform=True))
