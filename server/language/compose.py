"""The summary and the drafted map: a model names claims by number, and whatever else it says is thrown away."""

import asyncio
from collections.abc import Sequence

from karkas.server.documents import Document
from karkas.server.language.mapping import draw
from karkas.server.language.prompt import Asking
from karkas.server.language.summary import summarize
from karkas.server.offline.compose import compose as composed_by_rule
from karkas.server.questions import Compose, Composed


async def compose(asking: Asking, question: Compose, documents: Sequence[Document]) -> Composed:
    """Where the model gives no summary or no map of use, that part is the offline engine's, and noted."""
    if not question.claims:
        return Composed(summary=(), areas=())
    summary = await summarize(asking, question)
    areas = await draw(asking, question)
    if summary and areas:
        return Composed(summary=summary, areas=areas)
    missing = [name for name, part in (("summary", summary), ("map", areas)) if not part]
    await asking.caller.note(
        f"summarizer: the model gave no usable {' and '.join(missing)}, so it was drawn by rule from the claims"
    )
    by_rule = await asyncio.to_thread(composed_by_rule, question, documents)
    return Composed(
        summary=summary or by_rule.summary,
        areas=areas or by_rule.areas,
        by_rule=tuple(part for part in by_rule.by_rule if part in missing),
    )
