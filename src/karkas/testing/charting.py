"""Framing a zone without exploring it: what a test needs before anything may act there."""

import json

from karkas.agents.distillate import dump
from karkas.policies.budgets import StopReason
from karkas.policies.distillates import Distillate, EngineInfo, Honesty, RunInfo
from karkas.policies.frames import Frame, Rule
from karkas.policies.zones import ControlLevel
from karkas.project import Project

AUTHOR = "karkas.testing"


def chart(project: Project, zone: str, *, level: ControlLevel | None = None) -> None:
    """Puts an empty distillate and a frame of one rule on the record, by the store's own methods.

    `level` is the one that holds from then on; without it, the one that follows from the zone's declaration.
    """
    zones, level = project.store.zones, level or project.zone(zone).level
    distillate = Distillate(
        id="d-testing",
        zone=zone,
        engine=EngineInfo(kind="extractive", name="testing", version="1"),
        honesty=Honesty(abstractive=False, unsupported_claims=0, dropped_claims=0),
        run=RunInfo(id="r-testing", cycles=1, stop_reason=StopReason.SATURATED, budget={}, spent={}),
        sources=(),
        claims=(),
    )
    artifact = project.store.artifacts.put_text(dump(distillate))
    zones.set_distillate(
        zone, id=distillate.id, sha256=artifact, artifact=artifact, path="testing.yaml", actor=AUTHOR
    )
    nodes = [
        {"id": "n1", "level": 1, "title": "Everything"},
        {"id": "n1.1", "level": 2, "title": "All of it", "parent": "n1"},
        {"id": "n1.1.1", "level": 3, "title": "Whatever", "parent": "n1.1", "rule": Rule.ALLOW.value},
    ]
    frame = Frame.model_validate(
        {
            "schema": "karkas.frame/1",
            "zone": zone,
            "distillate": {"id": distillate.id, "sha256": artifact},
            "author": AUTHOR,
            "level": level.value,
            "nodes": nodes,
        }
    )
    text = json.dumps(frame.model_dump(mode="json", by_alias=True))
    zones.set_frame(
        zone,
        frame=project.store.artifacts.put_text(text),
        level=level,
        author=AUTHOR,
        distillate_sha256=artifact,
    )
