"""The reviewer's answer: conflicts, weak spots, and the questions that follow from both."""

from collections.abc import Sequence

from karkas.server.documents import Document
from karkas.server.offline.conflicts import conflicts
from karkas.server.offline.questions import open_questions
from karkas.server.offline.weak_spots import weak_spots
from karkas.server.questions import Review, Reviewed


def review(question: Review, documents: Sequence[Document]) -> Reviewed:
    found = conflicts(question.claims, documents)
    weak = weak_spots(question.claims, documents, question.today)
    return Reviewed(
        conflicts=tuple(found),
        weak_spots=tuple(weak),
        open_questions=tuple(open_questions(question.claims, found, weak)),
    )
