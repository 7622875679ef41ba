from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karkas.policies.distillates import Distillate, SourceRank, breaks, part_id

TEXT = "Rank r is 8 by default.\nМасштаб alpha равен 16.\n"
HASH = sha256(TEXT.encode()).hexdigest()


def content(**change: Any) -> dict[str, Any]:
    def claim(name: str, start: int, end: int, **more: Any) -> dict[str, Any]:
        return {
            "id": name,
            "facet": "parameter",
            "subject": name,
            "text": TEXT[start:end],
            "mode": "verbatim",
            "evidence": [{"source": "s-1", "start": start, "end": end, "quote": TEXT[start:end]}],
            "support": {"label": "verbatim", "checked_by": "span-match@1"},
            "confidence": {"level": "low", "why": "one source"},
            **more,
        }

    text = {
        "artifact": HASH,
        "extractor": "text@1",
        "encoding": "utf-8",
        "chars": len(TEXT),
        "sha256": HASH,
    }
    source = {
        "id": "s-1",
        "kind": "file",
        "locator": {"path": "a.txt"},
        "rank": "note",
        "status": "used",
        "bytes": 10,
        "sha256_raw": HASH,
        "text": text,
    }
    return {
        "schema": "karkas.distillate/1",
        "id": "d-1",
        "zone": "lora",
        "engine": {"kind": "extractive", "name": "offline", "version": "1"},
        "honesty": {"abstractive": False, "unsupported_claims": 0, "dropped_claims": 0},
        "run": {"id": "r", "cycles": 1, "stop_reason": "saturated", "budget": {}, "spent": {}},
        "summary": [{"title": "What it is", "claims": ["c-1"]}],
        "sources": [source],
        "claims": [claim("c-1", 0, 23), claim("c-2", 24, 47)],
        "conflicts": [
            {"id": "k-1", "kind": "numeric", "claims": ["c-1", "c-2"], "detector": "n@1", "score": 0.5}
        ],
        "weak_spots": [{"id": "w-1", "kind": "single_source", "claims": ["c-1"], "why": "one"}],
        "open_questions": [{"id": "q-1", "text": "?", "raised_by": "w-1", "would_settle": "docs"}],
        **change,
    }


def broken(data: dict[str, Any], texts: dict[str, str] | None = None) -> list[str]:
    stored = {HASH: TEXT} if texts is None else texts
    return list(breaks(Distillate.model_validate(data), stored.get))


def test_a_sound_distillate_has_no_breaks() -> None:
    assert broken(content()) == []


Spoil = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: d["claims"][0]["evidence"][0].update(start=1, end=24), "the text there is not the quote"),
        (lambda d: d["claims"][0]["evidence"][0].update(quote="Rank r is 9 by default."), "not the quote"),
        (lambda d: d["claims"][0]["evidence"][0].update(end=22), "not as long as the span"),
        (lambda d: d["claims"][0]["evidence"][0].update(start=5, end=5, quote=""), "the quote is empty"),
        (lambda d: d["claims"][0]["evidence"][0].update(start=900, end=923), "the text there is not"),
        (lambda d: d["claims"][0]["evidence"][0].update(source="s-9"), "no such source"),
        (lambda d: d["claims"][0].update(text="Rank r is 9."), "stands in none of its quotes"),
        (lambda d: d["claims"][0].update(text=""), "stands in none of its quotes"),
        (lambda d: d["claims"][0].update(mode="abstractive"), "says that nothing is abstractive"),
        (lambda d: d["claims"][0].update(mode="abstractive"), "has no words of its own"),
        (lambda d: d["claims"][0].update(mode="abstractive"), "cannot be verbatim"),
        (lambda d: d["sources"][0].update(text=None), "the source has no text"),
        (lambda d: d["sources"][0]["text"].update(sha256="0" * 64), "does not have the hash"),
        (lambda d: d["sources"][0]["text"].update(artifact="0" * 64), "is not stored here"),
        (lambda d: d["sources"][0]["text"].update(chars=3), "characters, not 3"),
        (lambda d: d["sources"][0].update(near_duplicate_of="s-7"), "nearly the same as s-7"),
        (lambda d: d["sources"].append(d["sources"][0]), "source s-1 stands 2 times"),
        (lambda d: d["claims"][1].update(id="c-1"), "claim c-1 stands 2 times"),
        (lambda d: d["conflicts"][0].update(claims=["c-1", "c-8"]), "conflict k-1: names claim c-8"),
        (lambda d: d["weak_spots"][0].update(claims=["c-8"]), "weak spot w-1: names claim c-8"),
        (lambda d: d["summary"][0].update(claims=["c-8"]), "names claim c-8"),
    ],
)
def test_each_break_is_named(spoil: Spoil, said: str) -> None:
    data = content()
    spoil(data)
    found = broken(data)
    assert any(said in one for one in found), found


def test_a_text_that_was_changed_after_the_fact_is_found() -> None:
    assert "does not have the hash" in broken(content(), {HASH: TEXT.replace("8", "9")})[0]


@given(st.integers(0, len(TEXT) - 1), st.characters(exclude_categories=["Cs"]))
def test_any_changed_character_of_a_stored_text_is_found(at: int, character: str) -> None:
    changed = TEXT[:at] + character + TEXT[at + 1 :]
    assert bool(broken(content(), {HASH: changed})) == (changed != TEXT)


@given(
    st.lists(st.text(max_size=5), min_size=1, max_size=4),
    st.lists(st.text(max_size=5), min_size=1, max_size=4),
)
def test_ids_derive_from_content_alone(one: list[str], other: list[str]) -> None:
    assert part_id("c", *one) == part_id("c", *one)
    assert (part_id("c", *one) == part_id("c", *other)) == ("\x1f".join(one) == "\x1f".join(other))


def test_code_weighs_most_and_an_unknown_source_least() -> None:
    weights = [rank.weight for rank in SourceRank]
    assert (SourceRank.CODE.weight, SourceRank.UNKNOWN.weight) == (min(weights), max(weights))
