"""The critic: an exact action, or a map, judged by somebody who does not know who proposed it.

Everything that is judged stands behind bars. What is too long for one prompt is judged in parts, and passes only where
every part did. A fault, a budget, a verdict that contradicts itself or answers something else: none of them is a pass.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from karkas.policies.distillates import Claim, Conflict, SourceRank
from karkas.policies.errors import AnswerError
from karkas.server.counting import bytes_of
from karkas.server.documents import Document
from karkas.server.language.listing import headed
from karkas.server.language.neutral import barred, line, neutral, spoken
from karkas.server.language.passages import Page, Passage
from karkas.server.language.prompt import Asking
from karkas.server.language.propose import framed
from karkas.server.protocol import Wire
from karkas.server.questions import Finding, JudgeAction, Judged, JudgeMap

PASS, OBJECT, UNSURE = "pass", "object", "unsure"
PARTS = 12
"""Parts that an action is judged in at most; a longer one is for a person."""
FINDINGS = 6
QUOTES = 3
"""Quotes of a claim that are shown; the first are its best."""
ANSWER = 900
"""Tokens that one judgement may take at first."""
_PIECE = 800
"""Code points of a longer line after which it goes on behind another bar."""
_AGAIN = 3
"""Pieces of the part before that open the next one, so that nothing hides in the cut."""
_CODE = 3
"""Bytes of the code that an answer must bear."""


class Objection(Wire):
    text: str = Field(max_length=300)
    quote: str = Field(max_length=200)


class Judgement(Wire):
    """One part judged. What it found comes before what follows from it.

    Nothing beside it is taken: on a server without structured outputs it may be an objection by another name.
    """

    code: str = Field(max_length=2 * _CODE)
    findings: list[Objection] = Field(max_length=FINDINGS)
    reason: str = Field(max_length=500)
    verdict: Literal["pass", "object", "unsure"]


async def judge_action(asking: Asking, question: JudgeAction) -> Judged:
    """The verdict on exactly the text that is shown, all of it."""
    before = "\n".join(
        (
            "the person's task", neutral(question.task), "end of the task", "",
            "the person's frame", framed(question.frame) or "(none)", "end of the frame", "", "",
        )
    )  # fmt: skip
    pieces = _pieces(question.shown)
    enough = (3 * bytes_of("\n".join(pieces)) + 1) // 2
    room = await asking.room("action", max_tokens=ANSWER, beside=before, enough=enough)
    parts = await asking.portions(pieces, room=room * 2 // 3, most=len(pieces))
    if len(parts) > PARTS:
        return Judged(
            verdict=UNSURE,
            reason=f"it is too long to be judged: {len(parts)} parts, of which at most {PARTS} are judged",
        )
    shown = ["\n".join(pieces[max(part.start - _AGAIN, 0) : part.stop]) for part in parts]
    return await _judge(asking, "action", "the action", shown, before=before, whole=_page(question.shown))


async def judge_map(asking: Asking, question: JudgeMap, documents: Sequence[Document]) -> Judged:
    """The verdict on all claims with their quotes, and on all conflicts."""
    paths = {document.source: document.path for document in documents}
    claims = {claim.id: claim for claim in question.claims}
    items = [
        *(_shown_claim(claim, paths) for claim in question.claims),
        *(_shown_conflict(conflict, claims) for conflict in question.conflicts),
    ]
    if not items:
        return Judged(verdict=UNSURE, reason="the map holds nothing that could be judged")
    room = await asking.room("map", max_tokens=ANSWER)
    parts = await asking.portions(items, room=room, most=len(items))
    shown = ["\n".join(items[at] for at in part) for part in parts]
    return await _judge(asking, "map", "the map", shown, before="", whole=_page("\n".join(_words(question))))


async def _judge(
    asking: Asking, task: str, what: str, shown: Sequence[str], *, before: str, whole: Page
) -> Judged:
    """All parts judged, and one verdict of them: the worst, and never a pass where one is missing."""
    parts = list(enumerate(shown, 1))

    async def judge(part: tuple[int, str]) -> Judged:
        number, text = part
        of = f"{what}, part {number} of {len(parts)}" if len(parts) > 1 else what
        code = await asking.caller.code(f"{before}{of}\n{text}", _CODE)
        asked = await asking.ask(
            task,
            Judgement,
            question=f"{before}{of}\n{text}\nend of {what}\n\nthe code is {code}",
            max_tokens=ANSWER,
        )
        return _judged(asked.value, code, whole)

    if len(parts) == 1:
        return await judge(parts[0])
    found = await asking.each(parts, judge, what=f"parts of {what}")
    judged = [one for one in found if one is not None]
    if not judged:
        raise AnswerError(f"none of the {len(parts)} parts of {what} could be judged")
    return _worst(judged, missing=len(parts) - len(judged), what=what)


def _judged(value: Judgement, code: str, whole: Page) -> Judged:
    findings = tuple(
        Finding(text=text, quote=_standing(one.quote, whole))
        for one in value.findings
        if (text := spoken(one.text))
    )
    reason = spoken(value.reason)
    if value.code.strip().lower() != code:
        return Judged(
            verdict=UNSURE if value.verdict == PASS else value.verdict,
            reason=f"the answer does not bear the code that was asked for; it says: {reason}",
            findings=findings,
        )
    if value.verdict == PASS and value.findings:
        return Judged(
            verdict=UNSURE, reason=f"it passes, and names faults all the same: {reason}", findings=findings
        )
    return Judged(verdict=value.verdict, reason=reason, findings=findings)


def _worst(judged: Sequence[Judged], *, missing: int, what: str) -> Judged:
    verdicts = [one.verdict for one in judged]
    verdict = next((one for one in (OBJECT, UNSURE) if one in verdicts), PASS if not missing else UNSURE)
    reasons = [one.reason for one in judged if one.verdict == verdict and one.reason]
    if missing:
        reasons.append(f"{missing} of {missing + len(judged)} parts of {what} could not be judged")
    return Judged(
        verdict=verdict,
        reason="; ".join(dict.fromkeys(reasons)),
        findings=tuple(dict.fromkeys(finding for one in judged for finding in one.findings)),
    )


def _page(words: str) -> Page:
    document = Document("", "", words, (), SourceRank.UNKNOWN, "", "", "und", "")
    return Page((Passage(0, 0, len(words)),), (document,))


def _standing(quote: str, whole: Page) -> str:
    """The quote in the judged text's own words; empty where it does not stand there."""
    found = whole.cite(1, quote)
    return found.quote if found is not None else ""


def _pieces(text: str) -> list[str]:
    """The text in lines, each behind its bar; one that is too long goes on in the next piece, behind `|+`."""
    return [
        barred(one[at : at + _PIECE]) if at == 0 else f"|+ {neutral(one[at : at + _PIECE])}"
        for one in text.split("\n")
        for at in range(0, max(len(one), 1), _PIECE)
    ]


def _shown_claim(claim: Claim, paths: dict[str, str]) -> str:
    lines = [f"claim, {claim.facet}, support {claim.support.label}", headed(claim), barred(claim.text)]
    for span in claim.evidence[:QUOTES]:
        where = [f"| {line(paths[span.source])}"] if span.source in paths else []
        lines += ["quote", *where, barred(span.quote)]
    return "\n".join(lines)


def _shown_conflict(conflict: Conflict, claims: dict[str, Claim]) -> str:
    lines = [f"conflict, {conflict.kind}, {line(conflict.label)}", barred(conflict.why)]
    for name in conflict.claims:
        if name in claims:
            lines += ["one side", f"| {line(claims[name].subject)}", barred(claims[name].text)]
    return "\n".join(lines)


def _words(question: JudgeMap) -> list[str]:
    return [
        *(
            words
            for claim in question.claims
            for words in (claim.text, *(span.quote for span in claim.evidence))
        ),
        *(conflict.why for conflict in question.conflicts),
    ]
