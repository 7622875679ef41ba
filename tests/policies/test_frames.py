from typing import Any

import pytest
from pydantic import ValidationError

from karkas.policies.distillates import Distillate
from karkas.policies.frames import Frame, check_frame

PIN = "a" * 64


def distillate() -> Distillate:
    def claim(name: str) -> dict[str, Any]:
        return {
            "id": name,
            "facet": "limits",
            "subject": "r",
            "text": "x",
            "mode": "verbatim",
            "evidence": [{"source": "s-1", "start": 0, "end": 1, "quote": "x"}],
            "support": {"label": "verbatim", "checked_by": "span-match@1"},
            "confidence": {"level": "low", "why": "one source"},
        }

    return Distillate.model_validate(
        {
            "id": "d-1",
            "zone": "lora",
            "engine": {"kind": "extractive", "name": "offline", "version": "1"},
            "honesty": {"abstractive": False, "unsupported_claims": 0, "dropped_claims": 0},
            "run": {"id": "r", "cycles": 1, "stop_reason": "saturated", "budget": {}, "spent": {}},
            "sources": [],
            "claims": [claim("c-1"), claim("c-2"), claim("c-3")],
            "conflicts": [
                {"id": "k-1", "kind": "numeric", "claims": ["c-1", "c-2"], "detector": "n@1", "score": 0.5},
                {
                    "id": "k-2",
                    "kind": "numeric",
                    "claims": ["c-3", "c-2"],
                    "detector": "n@1",
                    "score": 0.5,
                    "label": "resolved",
                },
            ],
            "open_questions": [{"id": "q-1", "text": "?", "raised_by": "w-1", "would_settle": "docs"}],
        }
    )


def frame(**change: Any) -> Frame:
    return Frame.model_validate(
        {
            "schema": "karkas.frame/1",
            "zone": "lora",
            "distillate": {"id": "d-1", "sha256": PIN},
            "author": "Ada",
            "level": "propose-only",
            "nodes": [
                {"id": "n1", "level": 1, "title": "Adapters"},
                {"id": "n1.1", "level": 2, "title": "Rank", "parent": "n1", "claims": ["c-3"]},
                rule(claims=["c-1"], unknowns=["q-1"]),
            ],
            "decisions": [{"conflict": "k-1", "verdict": "c-1", "reason": "measured"}],
            **change,
        }
    )


def rule(**change: Any) -> dict[str, Any]:
    return {"id": "n1.1.1", "level": 3, "title": "Raise r", "parent": "n1.1", "rule": "ask", **change}


AREA = {"id": "n1", "level": 1, "title": "Adapters"}
MECHANISM = {"id": "n1.1", "level": 2, "title": "Rank", "parent": "n1"}


def test_a_sound_frame_has_no_faults() -> None:
    assert check_frame(frame(), distillate(), PIN) == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"zone": "other"}, "the frame is for zone other"),
        ({"distillate": {"id": "d-1", "sha256": "b" * 64}}, "read what changed, then pin the new hash"),
        ({"distillate": {"id": "d-2", "sha256": PIN}}, "names distillate d-2"),
        ({"nodes": [AREA, AREA]}, "'n1' stands 2 times"),
        ({"nodes": [AREA, {**AREA, "id": "n2", "parent": "n1"}]}, "must have no parent"),
        ({"nodes": [AREA, {**MECHANISM, "parent": "n7"}]}, "needs a parent of level 1"),
        ({"nodes": [AREA, {**MECHANISM, "parent": None}]}, "needs a parent of level 1"),
        ({"nodes": [AREA, MECHANISM, rule(parent="n1")]}, "needs a parent of level 2, but n1 is of level 1"),
        ({"nodes": [AREA, MECHANISM, rule(parent="n1.1.1")]}, "but n1.1.1 is of level 3"),
        ({"nodes": [AREA, MECHANISM, rule(rule=None)]}, "needs `rule: allow | ask | forbid`"),
        ({"nodes": [AREA, {**MECHANISM, "rule": "ask"}]}, "must be of level 3"),
        ({"nodes": [{**AREA, "claims": ["c-9"]}]}, "names claim c-9"),
        ({"nodes": [{**AREA, "unknowns": ["q-9"]}]}, "names question q-9"),
        ({"decisions": []}, "conflict k-1 (numeric) stands under a rule and is not decided"),
        ({"nodes": [AREA, MECHANISM, rule(claims=["c-3"])]}, "conflict k-2 (numeric) stands under a rule"),
        ({"decisions": [{"conflict": "k-9", "verdict": "both", "reason": "x"}]}, "is not a conflict"),
        (
            {"decisions": [{"conflict": "k-1", "verdict": "c-3", "reason": "x"}]},
            "must be one of c-1, c-2, both",
        ),
        (
            {"decisions": [{"conflict": "k-1", "verdict": one, "reason": "x"} for one in ("c-1", "c-2")]},
            "k-1 is decided 2 times",
        ),
    ],
)
def test_each_fault_is_named_with_its_mend(change: dict[str, Any], said: str) -> None:
    faults = check_frame(frame(**change), distillate(), PIN)
    assert any(said in fault for fault in faults), faults


@pytest.mark.parametrize("verdict", ["c-1", "c-2", "both", "neither"])
def test_a_conflict_is_decided_for_one_claim_both_or_neither(verdict: str) -> None:
    decided = frame(decisions=[{"conflict": "k-1", "verdict": verdict, "reason": "measured"}])
    assert check_frame(decided, distillate(), PIN) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"author": " "},
        {"level": "wild"},
        {"nodes": []},
        {"nodes": [{**AREA, "title": "\t"}]},
        {"nodes": [{**AREA, "level": 4}]},
        {"nodes": [AREA, MECHANISM, rule(rule="maybe")]},
        {"decisions": [{"conflict": "k-1", "verdict": "c-1", "reason": " "}]},
        {"surprise": 1},
    ],
)
def test_what_is_no_frame_at_all_does_not_parse(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        frame(**change)


def test_decisions_that_are_all_commented_out_are_none() -> None:
    assert frame(decisions=None).decisions == ()
