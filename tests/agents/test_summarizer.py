"""Citations become spans or are dropped; what is kept is balanced over the facets."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from karkas.agents.summarizer import confidence, locate, resolve, select
from karkas.policies.actions import Evidence
from karkas.policies.distillates import (
    Claim,
    ClaimMode,
    Confidence,
    Conflict,
    ConflictKind,
    Facet,
    OpenQuestion,
    SourceRank,
    Support,
    SupportLabel,
    WeakSpot,
    WeakSpotKind,
)
from karkas.server.documents import Document
from karkas.server.questions import Citation, DraftClaim, Reviewed

TEXT = "LoRA is a method. LoRA is a method. Its rank is 8."


def document(text: str = TEXT, source: str = "s-1") -> Document:
    return Document(
        source=source,
        title="T",
        text=text,
        blocks=(),
        rank=SourceRank.OFFICIAL_DOCS,
        kind="file",
        path="t.md",
        lang="en",
        sha256=f"hash of {source}",
    )


def draft(text: str, *cites: Citation, **changed: Any) -> DraftClaim:
    given = {"facet": Facet.DEFINITION, "subject": "LoRA", "mode": ClaimMode.VERBATIM, "score": 0.5}
    return DraftClaim.model_validate({**given, "text": text, "cites": cites, **changed})


def claim(name: str, facet: Facet) -> Claim:
    return Claim(
        id=name,
        facet=facet,
        subject=name,
        text="x",
        mode=ClaimMode.VERBATIM,
        evidence=(Evidence(source="s-1", start=0, end=1, quote="x"),),
        support=Support(label=SupportLabel.VERBATIM, checked_by="test"),
        confidence=Confidence(level="low", why="test"),
    )


def test_a_quote_becomes_a_span_where_the_engine_says_that_it_starts() -> None:
    span = locate(Citation(document=0, quote="LoRA is a method.", start=18), [document()])
    assert span == Evidence(source="s-1", start=18, end=35, quote="LoRA is a method.")


def test_without_a_start_only_a_quote_that_stands_once_is_found() -> None:
    assert locate(Citation(document=0, quote="Its rank is 8."), [document()]) is not None
    assert locate(Citation(document=0, quote="LoRA is a method."), [document()]) is None


def test_an_invented_or_misplaced_quote_is_dropped_and_counted() -> None:
    good = draft("Its rank is 8.", Citation(document=0, quote="Its rank is 8."))
    invented = draft("Its rank is 9.", Citation(document=0, quote="Its rank is 9."))
    elsewhere = draft("Its rank is 8.", Citation(document=7, quote="Its rank is 8."))
    moved = draft("LoRA is", Citation(document=0, quote="LoRA is", start=3))
    silent = draft("Its rank is 8.")
    reworded = draft("Its rank is always 8.", Citation(document=0, quote="Its rank is 8."))
    found = resolve([good, invented, elsewhere, moved, silent, reworded], [document()])
    assert [one.text for one in found.claims] == ["Its rank is 8."]
    assert found.dropped == 5


def test_an_abstractive_claim_may_reword_but_is_not_called_supported() -> None:
    found = resolve(
        [draft("Rank: 8", Citation(document=0, quote="Its rank is 8."), mode=ClaimMode.ABSTRACTIVE)],
        [document()],
    )
    assert found.claims[0].support.label is SupportLabel.UNCLEAR


@given(st.text(max_size=40), st.integers(-5, 60))
def test_a_span_always_holds_its_quote(quote: str, start: int) -> None:
    span = locate(Citation(document=0, quote=quote, start=start), [document()])
    assert span is None or TEXT[span.start : span.end] == span.quote == quote


def test_the_same_claims_get_the_same_ids_in_another_order() -> None:
    drafts = [
        draft("Its rank is 8.", Citation(document=0, quote="Its rank is 8.")),
        draft("LoRA is a method.", Citation(document=0, quote="LoRA is a method.", start=0)),
    ]
    ids = {one.id for one in resolve(drafts, [document()]).claims}
    assert ids == {one.id for one in resolve(drafts[::-1], [document()]).claims}


def test_confidence_grows_with_sources_and_their_rank() -> None:
    levels = [
        confidence([SourceRank.NOTE], 1).level,
        confidence([SourceRank.OFFICIAL_DOCS], 1).level,
        confidence([SourceRank.OFFICIAL_DOCS, SourceRank.NOTE], 2).level,
    ]
    assert levels == ["low", "medium", "high"]


def test_no_facet_crowds_out_another_and_claims_of_conflicts_stay() -> None:
    many = [claim(f"d{n}", Facet.DEFINITION) for n in range(20)] + [claim("limit", Facet.LIMITS)]
    disputed = [claim("low1", Facet.PARAMETER), claim("low2", Facet.PARAMETER)]
    conflict = Conflict(
        id="k", kind=ConflictKind.NUMERIC, claims=("low1", "low2"), detector="test", score=0.9
    )
    scores = {one.id: 0.9 for one in many} | {"low1": 0.0, "low2": 0.0}
    review = Reviewed(
        conflicts=(conflict,),
        weak_spots=(
            WeakSpot(id="w1", kind=WeakSpotKind.SINGLE_SOURCE, claims=("limit", "d19"), why=""),
            WeakSpot(id="w2", kind=WeakSpotKind.SINGLE_SOURCE, claims=("d19",), why=""),
        ),
        open_questions=(
            OpenQuestion(id="q1", text="?", raised_by="w1", would_settle=""),
            OpenQuestion(id="q2", text="?", raised_by="w2", would_settle=""),
        ),
    )
    kept, left = select([*many, *disputed], scores, review, at_most=8)
    names = {one.id for one in kept}
    assert {"limit", "low1", "low2"} <= names
    assert len(kept) <= 10
    assert [spot.claims for spot in left.weak_spots] == [("limit",)], "what is said of kept claims stays"
    assert [question.id for question in left.open_questions] == ["q1"]
