from collections.abc import Callable

from karkas.policies.distillates import Claim, SourceRank, WeakSpotKind
from karkas.server.documents import Document
from karkas.server.offline.review import review
from karkas.server.questions import Review, Reviewed

Page = Callable[..., Document]
Claims = Callable[..., list[Claim]]


def _review(known: list[Claim], *documents: Document) -> Reviewed:
    return review(Review(zone="zone", claims=tuple(known), today="2026-11-22"), documents)


def _kinds(found: Reviewed) -> set[WeakSpotKind]:
    return {spot.kind for spot in found.weak_spots}


def test_a_claim_with_an_old_year_is_stale(page: Page, claims: Claims) -> None:
    old = page("The scheduler is not supported for shared jobs as of 2021.", "a.md")
    new = page("The scheduler is not supported for shared jobs as of 2026.", "b.md")
    assert WeakSpotKind.STALE in _kinds(_review(claims(old), old))
    assert WeakSpotKind.STALE not in _kinds(_review(claims(new), new))


def test_claims_of_a_note_alone_are_weak(page: Page, claims: Claims) -> None:
    text = "The scheduler is not supported for jobs that share weights."
    note = page(text, "note.md", rank=SourceRank.NOTE)
    official = page(text, "docs/jobs.md")
    assert WeakSpotKind.LOW_RANK_SOURCE in _kinds(_review(claims(note), note))
    assert WeakSpotKind.LOW_RANK_SOURCE not in _kinds(_review(claims(official), official))


def test_a_subject_of_one_document_alone_is_weak(page: Page, claims: Claims) -> None:
    one = page("The `cache_size` parameter must be at least 4 on every worker.", "a.md")
    other = page("Set `cache_size` to a small number if the worker has little memory.", "b.md")
    assert WeakSpotKind.SINGLE_SOURCE in _kinds(_review(claims(one), one))
    assert WeakSpotKind.SINGLE_SOURCE not in _kinds(_review(claims(one, other), one, other))


def test_a_parameter_that_no_code_uses_lacks_an_example(page: Page, claims: Claims) -> None:
    text = "The `cache_size` parameter must be at least 4; the `cache_size` parameter defaults to 8."
    bare = page(text, "a.md")
    shown = page(text + "\n\n```python\nrun(cache_size=8)\n```", "a.md")
    assert WeakSpotKind.NO_EXAMPLE in _kinds(_review(claims(bare), bare))
    assert WeakSpotKind.NO_EXAMPLE not in _kinds(_review(claims(shown), shown))


def test_every_question_follows_from_a_conflict_or_a_weak_spot(page: Page, claims: Claims) -> None:
    text = "The `gradient_accumulation_steps` option defaults to {} in every training run."
    documents = [page(text.format(n), f"{n}.md", framework="peft") for n in (1, 4)]
    found = _review(claims(*documents), *documents)
    raised = {one.id for one in found.conflicts} | {one.id for one in found.weak_spots}
    assert found.open_questions
    assert {question.raised_by for question in found.open_questions} <= raised
    assert found.open_questions[0].raised_by == found.conflicts[0].id
    assert all(question.would_settle for question in found.open_questions)


def test_the_lists_stay_short(page: Page, claims: Claims) -> None:
    text = "\n\n".join(
        f"The `option_{n}` parameter must be at least {n} on worker_{n} nodes." for n in range(90)
    )
    documents = [page(text, "a.md", rank=SourceRank.NOTE)]
    found = _review(claims(*documents, at_most=90), *documents)
    assert 10 < len(found.weak_spots) <= 42
    assert 5 < len(found.open_questions) <= 25


def test_no_claims_give_nothing() -> None:
    assert _review([]) == Reviewed(conflicts=(), weak_spots=(), open_questions=())
