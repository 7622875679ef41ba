"""Claims out of documents: every page is read for itself, and what pages say alike becomes one claim."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from karkas.policies.distillates import ClaimMode, Facet
from karkas.policies.errors import ContextTooLongError
from karkas.server.documents import Document
from karkas.server.language.merge import merged
from karkas.server.language.neutral import barred, line, spoken
from karkas.server.language.passages import Page, Passage
from karkas.server.language.prompt import Asking, Number
from karkas.server.offline.subjects import clean
from karkas.server.protocol import Wire
from karkas.server.questions import Citation, Distil, Distilled, DraftClaim

FEWEST, MOST = 3, 24
"""Claims that a page is asked for."""
_SPARE = 1.5
"""So many times more claims are asked for than are wanted: some repeat others, or cannot be proved."""
_CLAIM = 200
"""Tokens that a claim may take."""
_SCOPE = 60
"""Longest value that the document's own scope may have, as in the offline engine."""


class Quoted(Wire):
    passage: Number
    quote: str = Field(min_length=1, max_length=400)


class Condition(Wire):
    key: str = Field(min_length=1, max_length=24)
    value: str = Field(min_length=1, max_length=60)


class Stated(Wire):
    """A claim as a model writes it."""

    facet: Facet
    subject: str = Field(min_length=1, max_length=60)
    scope: Annotated[tuple[Condition, ...], Field(max_length=3)] = ()
    text: str = Field(min_length=1, max_length=320)
    cites: Annotated[tuple[Quoted, ...], Field(min_length=1, max_length=3)]
    importance: int = Field(ge=0, le=10)


class PageClaims(Wire):
    """Whatever comes before a cut is still an answer."""

    partial: ClassVar[bool] = True

    claims: Annotated[tuple[Stated, ...], Field(max_length=MOST)]


async def distil(asking: Asking, question: Distil, documents: Sequence[Document]) -> Distilled:
    """At most `at_most` claims, the most important first; after them those that no quote proves, to be counted."""
    pages = await asking.pages(documents)
    wanted = round(_SPARE * question.at_most / max(len(pages), 1))
    fits = await asking.context() // 4 // _CLAIM
    most = max(FEWEST, min(wanted, fits, MOST))

    async def read(page: Page) -> list[DraftClaim]:
        try:
            asked = await asking.ask(
                "distil",
                PageClaims,
                documents=page.text,
                question=_question(question, most),
                max_tokens=_CLAIM * (most + 1),
            )
        except ContextTooLongError:
            halves = page.halves()
            await asking.caller.note(
                "a page was too long for the model and read in halves"
                if halves
                else "a passage was too long for the model and left out"
            )
            parts = await asking.each(halves, read, what="halves of a page")
            return [claim for part in parts for claim in part or ()]
        return [_draft(one, page) for one in asked.value.claims]

    found = await asking.each(pages, read, what="pages")
    ranked = sorted(
        (-claim.score, place, at, claim)
        for at, claims in enumerate(found)
        for place, claim in enumerate(claims or ())
    )
    proven = [claim for *_, claim in ranked if _proven(claim)]
    unproven = [claim for *_, claim in ranked if not _proven(claim)]
    claims = await merged(asking, proven)
    if len(claims) > question.at_most:
        await asking.caller.note(
            f"summarizer: of {len(claims)} claims the {question.at_most} most important were kept"
        )
    return Distilled(claims=(*claims[: question.at_most], *unproven))


def _proven(claim: DraftClaim) -> bool:
    return any(cite.start is not None for cite in claim.cites)


def _question(question: Distil, most: int) -> str:
    asks = "\n".join(barred(line(query)) for query in question.queries)
    queries = f"\nopen queries\n{asks}" if asks else ""
    return f"zone: {line(question.zone)}{queries}\nWrite at most {most} claims."


def _draft(one: Stated, page: Page) -> DraftClaim:
    cites = tuple(dict.fromkeys(_citation(cite, page) for cite in one.cites))
    text = spoken(one.text)
    copied = any(cite.start is not None and cite.quote == text for cite in cites)
    return DraftClaim(
        facet=one.facet,
        subject=spoken(one.subject) or text[:_SCOPE],
        scope=_scope(one, cites, page),
        text=text,
        mode=ClaimMode.VERBATIM if copied else ClaimMode.ABSTRACTIVE,
        cites=cites,
        score=one.importance / 10,
    )


def _citation(cite: Quoted, page: Page) -> Citation:
    """Without a start where the quote stands nowhere; whoever resolves it drops and counts it."""
    found = page.cite(cite.passage, cite.quote)
    if found is not None:
        return found
    named = page.passages[min(cite.passage, len(page.passages)) - 1]
    return Citation(document=named.document, quote=cite.quote)


def _scope(one: Stated, cites: Sequence[Citation], page: Page) -> dict[str, str]:
    """What the model says of the conditions, and what its place says, which no model overrules."""
    said = {spoken(pair.key).lower(): spoken(pair.value) for pair in one.scope}
    known = {key: value for key, value in said.items() if key and value}
    first = next((cite for cite in cites if cite.start is not None), None)
    if first is None or first.start is None:
        return known
    document = page.documents[first.document]
    title = clean(document.title)[:_SCOPE]
    passage = _around(page, first)
    headings = [clean(heading) for heading in (passage.headings if passage else ())]
    section = next((heading for heading in reversed(headings) if heading and heading != title), "")
    own = {"page": title, "section": section[:_SCOPE]}
    meta = {key: value for key, value in document.meta.items() if len(value) <= _SCOPE}
    return {**known, **{key: value for key, value in {**meta, **own}.items() if value}}


def _around(page: Page, cite: Citation) -> Passage | None:
    assert cite.start is not None
    source = page.documents[cite.document].source
    numbers = page.numbers(source, cite.start, cite.start + len(cite.quote))
    return page.passages[numbers[0] - 1] if numbers else None
