"""What a gate's page says beside the action: why it is asked at all."""

from karkas.policies.rendering import visible_line
from karkas.policies.zones import ControlLevel, LevelChange
from karkas.project import Project
from karkas.queue.blocks import Facts
from karkas.queue.standing import Reader
from karkas.storage import Gate

from .conftest import Begin

AUTONOMOUS = ControlLevel.AUTONOMOUS


def level(project: Project, gate: Gate) -> str:
    (facts,) = (block for block in Reader(project).read(gate.id).blocks if isinstance(block, Facts))
    return visible_line("; ".join(dict(facts.pairs)["level"]))


def test_a_gate_of_a_zone_that_left_autonomy_says_why_and_how_to_restore_it(
    project: Project, begin: Begin
) -> None:
    first = begin("single")
    assert "left autonomy" not in level(project, first)
    zones = project.store.zones
    raised = LevelChange(
        before=ControlLevel.PROPOSE_ONLY,
        after=AUTONOMOUS,
        author="ada",
        by_person=True,
        reason="known by now",
    )
    zones.set_level("lab", raised, declared=ControlLevel.PROPOSE_ONLY)
    with zones._records.change() as change:
        assert zones.fall(change, "lab", why="the action of gate g-1 ended in doubt")
    told = level(project, begin("single", "network"))
    assert f"zone lab left autonomy at {project.store.clock().astimezone():%Y-%m-%d}" in told
    assert "the action of gate g-1 ended in doubt" in told
    assert 'karkas zone set lab --level autonomous --reason "..."' in told
    zones.set_level("lab", raised.model_copy(update={"author": "bob"}), declared=ControlLevel.PROPOSE_ONLY)
    assert "left autonomy" not in level(project, first)
